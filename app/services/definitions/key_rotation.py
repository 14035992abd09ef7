"""Encrypt anew what is sealed, with the newest key: after it the older keys are needed no more.

Opens short transactions, one per chunk of secrets.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from sqlalchemy.orm import Session

from app.db import audit
from app.db import secrets as rows
from app.db.engine import Database
from app.errors import Sealed
from app.sealing import Sealer
from app.services.definitions.signing_secrets import signing_purpose
from app.services.definitions.team_brokers import broker_purpose

CHUNK: Final = 200  # in one transaction


@dataclass(slots=True)
class SealedValues:
    """How many values there are, by the key they open with; `unreadable` says what no key opens."""

    newest: int = 0
    older: int = 0
    unreadable: list[str] = field(default_factory=list)

    def anew(self, sealer: Sealer, sealed: bytes, *, purpose: str) -> bytes | None:
        """Count a value. The same, sealed with the newest key, where that is another."""
        try:
            again = sealer.with_newest(sealed, purpose=purpose)
        except Sealed:
            self.unreadable.append(purpose)
            return None
        if again is None:
            self.newest += 1
        else:
            self.older += 1
        return again


def look(database: Database, sealer: Sealer) -> SealedValues:
    """Which keys are needed. Changes nothing."""
    return _walk(database.read, sealer, writes=False)


def reseal(database: Database, sealer: Sealer, *, actor: str, now: datetime) -> SealedValues:
    """Encrypt with the newest key what an older one opens; `older` counts those. What no key opens is left alone."""
    done = _walk(database.write, sealer, writes=True)
    if done.older:
        detail = {"resealed": done.older, "unreadable": done.unreadable}
        with database.write() as session:
            audit.record(session, actor=actor, action="secrets.resealed", subject="secrets", now=now, detail=detail)
    return done


def _walk(opened: Callable[[], AbstractContextManager[Session]], sealer: Sealer, *, writes: bool) -> SealedValues:
    found = SealedValues()
    with opened() as session:
        for one in rows.all_brokers(session, lock=writes):
            again = found.anew(sealer, one.broker_sealed or b"", purpose=broker_purpose((one.team, one.name)))
            if again is not None and writes:
                one.broker_sealed = again
    after = None
    while True:
        with opened() as session:
            chunk = rows.all_signing(session, after=after, limit=CHUNK, lock=writes)
            for row in chunk:
                again = found.anew(sealer, row.sealed, purpose=signing_purpose((row.team, row.destination)))
                if again is not None and writes:
                    row.sealed = again
            if len(chunk) < CHUNK:
                return found
            after = chunk[-1].id

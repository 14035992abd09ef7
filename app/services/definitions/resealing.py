"""Encrypt sealed values anew with the newest key, so that older keys can be removed.

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
AT_MOST: Final = 500  # values that are tried for a report


@dataclass(slots=True)
class SealedValues:
    """Numbers of values by the key that opens them. `unreadable`: the purposes of those that none opens."""

    newest: int = 0
    older: int = 0
    unreadable: list[str] = field(default_factory=list)

    def anew(self, sealer: Sealer, sealed: bytes, *, purpose: str) -> bytes | None:
        """Count a value. Returns it sealed with the newest key, or None where that is not needed or not possible."""
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


def unreadable(session: Session, sealer: Sealer) -> list[str]:
    """The purposes of values in force that no present key opens. The newest AT_MOST secrets and brokers are tried.

    Raises ConfigurationError where there are values and no key.
    """
    sealed = [
        (broker_purpose((row.team, row.name)), row.broker_sealed or b"")
        for row in rows.brokers_in_force(session, limit=AT_MOST)
    ]
    sealed += [
        (signing_purpose((secret.team, secret.destination)), secret.sealed)
        for secret in rows.newest_standing(session, limit=AT_MOST)
    ]
    found = []
    for purpose, value in sealed:
        try:
            sealer.open(value, purpose=purpose)
        except Sealed:
            found.append(purpose)
    return list(dict.fromkeys(found))


def count(database: Database, sealer: Sealer) -> SealedValues:
    """Count sealed values by key, without changing any."""
    return _walk(database.read, sealer, writes=False)


def reseal(database: Database, sealer: Sealer, *, actor: str, now: datetime) -> SealedValues:
    """Encrypt the values of older keys with the newest one. Values that no key opens are left alone."""
    done = _walk(database.write, sealer, writes=True)
    if done.older:
        detail = {"resealed": done.older, "unreadable": done.unreadable}
        with database.write() as session:
            audit.record(session, actor=actor, action="secrets.resealed", subject="secrets", now=now, detail=detail)
    return done


def _walk(opened: Callable[[], AbstractContextManager[Session]], sealer: Sealer, *, writes: bool) -> SealedValues:
    found = SealedValues()
    with opened() as session:
        for row in rows.all_brokers(session, lock=writes):
            again = found.anew(sealer, row.broker_sealed or b"", purpose=broker_purpose((row.team, row.name)))
            if again is not None and writes:
                row.broker_sealed = again
    after = None
    while True:
        with opened() as session:
            chunk = rows.all_signing(session, after=after, limit=CHUNK, lock=writes)
            for secret in chunk:
                purpose = signing_purpose((secret.team, secret.destination))
                again = found.anew(sealer, secret.sealed, purpose=purpose)
                if again is not None and writes:
                    secret.sealed = again
            if len(chunk) < CHUNK:
                return found
            after = chunk[-1].id

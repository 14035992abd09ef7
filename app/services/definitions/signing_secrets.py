"""Signing secrets of HTTP destinations: made here, shown once, stored encrypted, rotated with an overlap (promise 10).

During the overlap every delivery is signed with the new and the old secrets, so that teams can switch at any time.
"""

import secrets
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy.orm import Session

from app.db import audit, destinations
from app.db import secrets as rows
from app.db.models import Destination, DestinationSecret
from app.domain.definitions import DestinationKey
from app.domain.standard_webhooks import SECRET_BYTES, read_secret, write_secret
from app.errors import Conflict, InvalidInput, NotFound, Sealed
from app.ids import SECRET, new_id, parse, show
from app.sealing import Sealer
from app.telemetry import get_logger
from app.wording import counted

OVERLAP: Final = timedelta(hours=24)
LONGEST_OVERLAP: Final = timedelta(days=30)
MOST_LIVE: Final = 5  # each signs every delivery
ENDED_KEPT: Final = timedelta(days=30)

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class IssuedSecret:
    """A new secret. `value` (`whsec_…`) is in memory only. `replaced`: secrets that end with the overlap."""

    id: UUID
    value: str = field(repr=False)
    replaced: tuple[UUID, ...] = ()
    overlap_ends_at: datetime | None = None


def rotate(
    session: Session,
    sealer: Sealer,
    *,
    team: str,
    destination: str,
    actor: str,
    now: datetime,
    overlap: timedelta = OVERLAP,
    value: str | None = None,
) -> IssuedSecret:
    """Give an HTTP destination a new secret, or its first one; the secrets in force sign until the overlap ends.

    `value`: a `whsec_…` made elsewhere; else one is made here. Raises NotFound, InvalidInput, and Conflict for Celery
    destinations or with MOST_LIVE secrets in force.
    """
    _require_http(session, team=team, destination=destination)
    if not timedelta(0) <= overlap <= LONGEST_OVERLAP:
        raise InvalidInput(f"an overlap takes at most {LONGEST_OVERLAP.days} days")
    secret = write_secret(secrets.token_bytes(SECRET_BYTES) if value is None else read_secret(value))
    rows.forget_ended(session, team=team, destination=destination, before=now - ENDED_KEPT)
    before = tuple(row.id for row in rows.live(session, [(team, destination)], now=now))
    ends_at = now + overlap if before else None
    if overlap and len(before) >= MOST_LIVE:
        raise Conflict(
            f"{team}/{destination} has {counted(len(before), 'secret')} in force: end one first,"
            " or rotate without an overlap",
            found={"secrets": [show(SECRET, secret_id) for secret_id in before]},
        )
    rows.end(session, before, at=now + overlap)
    row = DestinationSecret(id=new_id(), team=team, destination=destination, created_at=now)
    row.sealed = sealer.seal(secret, purpose=signing_purpose((team, destination)))
    rows.add(session, row)
    detail = {"id": show(SECRET, row.id), "overlap_ends_at": ends_at.isoformat() if ends_at else None}
    action = "destination.secret_rotated" if before else "destination.secret_made"
    audit.record(session, actor=actor, action=action, subject=f"{team}/{destination}", now=now, detail=detail)
    return IssuedSecret(row.id, secret, before, ends_at)


def expire(session: Session, secret_id: str, *, team: str, destination: str, actor: str, now: datetime) -> UUID:
    """End a secret at once, such as a leaked one. Raises NotFound, and Conflict for the only one in force."""
    _require_http(session, team=team, destination=destination)
    wanted = parse(SECRET, secret_id)
    known = [row.id for row in rows.live(session, [(team, destination)], now=now)]
    if wanted not in known:
        raise NotFound(f"secret in force of {team}/{destination}", secret_id)
    if known == [wanted]:
        raise Conflict(f"it is the only secret of {team}/{destination}: rotate it with an overlap of 0 instead")
    rows.end(session, [wanted], at=now)
    detail = {"id": show(SECRET, wanted)}
    audit.record(
        session,
        actor=actor,
        action="destination.secret_expired",
        subject=f"{team}/{destination}",
        now=now,
        detail=detail,
    )
    return wanted


def listed(session: Session, *, team: str, destination: str) -> list[DestinationSecret]:
    """A destination's secrets without their values, newest first. Raises NotFound, Conflict."""
    _check_http(destinations.get(session, team=team, destination=destination), team=team, destination=destination)
    return rows.of_destination(session, team=team, destination=destination)


@dataclass(slots=True)
class Keyring:
    """Destinations' signing keys. Each secret is decrypted once per process."""

    sealer: Sealer
    _opened: dict[UUID, bytes] = field(default_factory=dict, init=False, repr=False)

    def of(
        self, session: Session, keys: Collection[DestinationKey], *, now: datetime
    ) -> Mapping[DestinationKey, tuple[bytes, ...]]:
        """The keys in force, newest first; empty for a destination without any that can be decrypted."""
        found: dict[DestinationKey, list[bytes]] = defaultdict(list)
        for row in rows.live(session, keys, now=now):
            key = self._open(row)
            if key is not None:
                found[row.team, row.destination].append(key)
        return {key: tuple(found[key]) for key in keys}

    def _open(self, row: DestinationSecret) -> bytes | None:
        if row.id not in self._opened:
            try:
                text = self.sealer.open(row.sealed, purpose=signing_purpose((row.team, row.destination)))
            except Sealed as closed:
                log.error("secret_unreadable", id=show(SECRET, row.id), problem=str(closed))
                return None
            self._opened[row.id] = read_secret(text)
        return self._opened[row.id]


def signing_purpose(key: DestinationKey) -> str:
    """The purpose that a signing secret is sealed for."""
    return f"signing secret of {key[0]}/{key[1]}"


def _require_http(session: Session, *, team: str, destination: str) -> None:
    """Lock the destination, so that changes of its secrets happen one at a time. Raises NotFound, Conflict."""
    found = destinations.lock(session, team=team, destination=destination)
    _check_http(found, team=team, destination=destination)


def _check_http(found: Destination | None, *, team: str, destination: str) -> None:
    if found is None or found.retired_at is not None:
        raise NotFound("destination in force", f"{team}/{destination}")
    if found.kind != "http":
        raise Conflict(f"{team}/{destination} takes jobs over Celery, which are not signed")

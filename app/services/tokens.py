"""API tokens: created, checked and revoked. The secret is shown once and not stored.

`authenticate` opens its own short transactions; the others take a session.
"""

import hashlib
import hmac
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy.orm import Session

from app.db import audit, teams
from app.db import tokens as rows
from app.db.engine import Database
from app.db.models import ApiToken
from app.db.tokens import NewToken
from app.domain.access import OF_TEAMS, Access, Scope
from app.errors import Conflict, InvalidInput, NotFound
from app.ids import TOKEN, new_id, parse, show

PREFIX: Final = "wl_"
SECRET_BYTES: Final = 32
SECRET_LENGTH: Final = len(PREFIX) + 43  # base64 of 32 bytes, without padding
MAX_NAME: Final = 100
LONGEST: Final = timedelta(days=3650)
USE_NOTED_EVERY: Final = timedelta(minutes=10)  # a write for each call would be its costliest part


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A new token. `secret` is in memory only."""

    row: NewToken
    secret: str

    def __repr__(self) -> str:
        return f"Issued({self.row.name!r}, secret hidden)"

    @property
    def shown(self) -> dict[str, Any]:
        """The token with its secret, for the one answer that has it."""
        return {
            "id": show(TOKEN, self.row.id),
            "name": self.row.name,
            "scopes": list(self.row.scopes),
            "team": self.row.team,
            "expires_at": self.row.expires_at.isoformat(timespec="seconds"),
            "token": self.secret,
        }


def issue(
    session: Session,
    name: str,
    *,
    scopes: Collection[Scope],
    team: str | None,
    lifetime: timedelta,
    actor: str,
    now: datetime,
) -> IssuedToken:
    """Create a token of these scopes, with a team for that team's rows only. Raises InvalidInput, NotFound,
    Conflict.
    """
    _check(name, scopes, team, lifetime)
    if team is not None:
        owner = teams.get(session, team)
        if owner is None or owner.retired_at is not None:
            raise NotFound("team", team)
    secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    row = NewToken(new_id(), name, digest(secret), tuple(sorted(scopes)), team, now + lifetime)
    if not rows.add(session, row, now=now):
        raise Conflict(f"there is a token {name!r} already: revoke it first, or take another name")
    detail = {"name": name, "scopes": list(row.scopes), "team": team, "expires_at": row.expires_at.isoformat()}
    audit.record(session, actor=actor, action="token.created", subject=show(TOKEN, row.id), now=now, detail=detail)
    return IssuedToken(row, secret)


def find(session: Session, name_or_id: str) -> ApiToken:
    """The live token of this name, or any of this `tok_…` id. Raises NotFound."""
    found = rows.live_by_name(session, name_or_id)
    if found is None and name_or_id.startswith(f"{TOKEN}_"):
        found = rows.get(session, parse(TOKEN, name_or_id))
    if found is None:
        raise NotFound("token", name_or_id)
    return found


def revoke(session: Session, name_or_id: str, *, actor: str, now: datetime) -> ApiToken:
    """End a token at once, by its name or its `tok_…` id. Raises NotFound."""
    found = find(session, name_or_id)
    if found.revoked_at is not None:
        raise NotFound("live token", name_or_id)
    rows.revoke(session, found, now=now)
    subject = show(TOKEN, found.id)
    audit.record(session, actor=actor, action="token.revoked", subject=subject, now=now, detail={"name": found.name})
    return found


def authenticate(database: Database, secret: str, *, now: datetime) -> Access | None:
    """The rights of this secret's token; None where it is unknown, revoked or expired.

    The lookup uses a hash, which no caller can choose, so its timing reveals nothing about existing secrets.
    """
    if not is_token(secret):
        return None
    wanted = digest(secret)
    with database.read() as session:
        found = rows.live_by_hash(session, wanted)
    if found is None or not hmac.compare_digest(found.hash, wanted) or found.expires_at <= now:
        return None
    if found.last_used_at is None or now - found.last_used_at >= USE_NOTED_EVERY:
        with database.write() as session:
            rows.note_use(session, found.id, now=now)
    return Access(f"token:{found.name}", frozenset(scope for scope in Scope if scope in found.scopes), found.team)


def is_token(text: str) -> bool:
    """Whether a text has a token's form."""
    return len(text) == SECRET_LENGTH and text.startswith(PREFIX)


def digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _check(name: str, scopes: Collection[Scope], team: str | None, lifetime: timedelta) -> None:
    if not name.isprintable() or not 0 < len(name.strip()) == len(name) <= MAX_NAME:
        raise InvalidInput(f"a token's name has 1 to {MAX_NAME} printable characters, without blanks around it")
    if team is None and not scopes:
        raise InvalidInput("a token has scopes or belongs to one team: give --scope, --team or both")
    if team is not None and not set(scopes) <= OF_TEAMS:
        raise InvalidInput(f"a team's token reads anyway, and may have one scope beside: {', '.join(OF_TEAMS)}")
    if not timedelta(0) < lifetime <= LONGEST:
        raise InvalidInput(f"a token lives for at least a second and at most {LONGEST.days} days")

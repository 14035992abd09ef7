"""Statements on API tokens. Only the SHA-256 of a secret is stored."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.db.models import ApiToken
from app.ids import TOKEN, show


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token to be stored. `hash`: SHA-256 of the whole secret. A team's token is for that team's rows only."""

    id: UUID
    name: str
    hash: bytes
    scopes: tuple[str, ...]
    team: str | None
    expires_at: datetime


def add(session: Session, token: NewToken, *, now: datetime) -> bool:
    """Add a token. False where a live one has that name."""
    row = ApiToken(
        id=token.id,
        name=token.name,
        hash=token.hash,
        scopes=list(token.scopes),
        team=token.team,
        created_at=now,
        expires_at=token.expires_at,
    )
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError:
        return False
    return True


def get(session: Session, token_id: UUID) -> ApiToken | None:
    """The token of this id, revoked ones included."""
    return session.get(ApiToken, token_id)


def live_by_hash(session: Session, digest: bytes) -> ApiToken | None:
    """The token of this hash, unless it was revoked. The caller checks its expiry."""
    return session.scalar(select(ApiToken).where(ApiToken.hash == digest, ApiToken.revoked_at.is_(None)))


def live_by_name(session: Session, name: str) -> ApiToken | None:
    return session.scalar(select(ApiToken).where(ApiToken.name == name, ApiToken.revoked_at.is_(None)))


def newest(
    session: Session, *, limit: int, before: UUID | None = None, team: str | None = None, revoked: bool
) -> list[ApiToken]:
    """Tokens, newest first; revoked ones on request. before: the id that they continue after."""
    statement = select(ApiToken).order_by(ApiToken.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(ApiToken.id < before)
    if team is not None:
        statement = statement.where(ApiToken.team == team)
    return list(session.scalars(statement if revoked else statement.where(ApiToken.revoked_at.is_(None))))


def live_names_of(session: Session, *, team: str, now: datetime, limit: int = 5) -> list[str]:
    """Names of some of a team's tokens that are neither revoked nor expired."""
    live = (ApiToken.team == team) & ApiToken.revoked_at.is_(None) & (ApiToken.expires_at > now)
    return list(session.scalars(select(ApiToken.name).where(live).order_by(ApiToken.name).limit(limit)))


def note_use(session: Session, token_id: UUID, *, now: datetime) -> None:
    session.execute(update(ApiToken).where(ApiToken.id == token_id).values(last_used_at=now))


def revoke(session: Session, row: ApiToken, *, now: datetime) -> None:
    row.revoked_at = now
    session.flush()


def shown(row: ApiToken, *, now: datetime) -> dict[str, Any]:
    """A token in its public form."""
    return {
        "id": show(TOKEN, row.id),
        "name": row.name,
        "scopes": row.scopes,
        "team": row.team,
        "created_at": row.created_at.isoformat(timespec="seconds"),
        "expires_at": row.expires_at.isoformat(timespec="seconds"),
        "expired": row.expires_at <= now,
        "last_used_at": row.last_used_at.isoformat(timespec="minutes") if row.last_used_at else None,
        "revoked_at": row.revoked_at.isoformat(timespec="seconds") if row.revoked_at else None,
    }

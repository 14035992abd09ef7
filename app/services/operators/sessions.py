"""Sessions of operators: begun at sign-in, found by a cookie's secret, ended.

`authenticate` opens its own short transactions; the others take a session.
"""

import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy.orm import Session

from app.db import audit, operator_sessions
from app.db import operators as rows
from app.db.engine import Database
from app.db.models import Operator, OperatorSession
from app.domain.access import Access
from app.domain.team_portal import Look
from app.ids import OPERATOR, new_id, show
from app.services.operators.secrets import SESSION, digest, has_form, new_secret

SEEN_NOTED_EVERY: Final = timedelta(minutes=1)  # a write for each request would be its costliest part
MAX_BROWSER: Final = 200


@dataclass(frozen=True, slots=True)
class Lives:
    """The lives of a session: without being used, and at most."""

    idle: timedelta = timedelta(hours=12)
    longest: timedelta = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Visitor:
    """A browser that signs in, as it is noted."""

    address: str
    browser: str


@dataclass(frozen=True, slots=True)
class Portal:
    """A session of a team's portal. origin: of the pages that may embed it; None for none."""

    team: str
    look: Look
    origin: str | None
    expires_at: datetime
    is_embedded: bool  # its link is for pages that embed it


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A session that lives: its id, its operator's name, and the rights. One of a portal has no operator."""

    session_id: UUID
    operator_id: UUID | None
    name: str
    local: bool  # nothing is to be ended at the identity provider
    access: Access
    portal: Portal | None = None


def begin(
    session: Session, row: Operator, *, method: str, visitor: Visitor, lives: Lives, now: datetime, former: str | None
) -> str:
    """The secret of a new session. method: `password`, `link` or `oidc`. former: the secret that the browser had."""
    if former is not None and has_form(former, SESSION):
        operator_sessions.end(session, digest(former))
    operator_sessions.prune(session, now=now, seen_before=now - lives.idle)
    secret = new_secret(SESSION)
    operator_sessions.add(
        session,
        OperatorSession(
            id=new_id(),
            hash=digest(secret),
            operator_id=row.id,
            method=method,
            address=visitor.address,
            browser=noted_browser(visitor),
            created_at=now,
            seen_at=now,
            expires_at=now + lives.longest,
        ),
    )
    rows.change(session, row, signed_in_at=now)
    detail = {"name": row.name, "method": method, "address": visitor.address}
    actor, subject = f"operator:{row.name}", show(OPERATOR, row.id)
    audit.record(session, actor=actor, action="operator.signed_in", subject=subject, now=now, detail=detail)
    return secret


def noted_browser(visitor: Visitor) -> str:
    """The browser's User-Agent as a session keeps it."""
    return "".join(character for character in visitor.browser if character.isprintable())[:MAX_BROWSER]


def authenticate(
    database: Database, secret: str, *, lives: Lives, now: datetime, is_use: bool = True
) -> SignedIn | None:
    """The live session of this secret, with the rights that its operator has now; None where there is none.

    is_use: note that it was used, which keeps it from ending for being idle.
    """
    if not has_form(secret, SESSION):
        return None
    wanted = digest(secret)
    with database.read() as session:
        found = operator_sessions.live(session, wanted)
    if found is None:
        return None
    row, operator = found
    over = row.expires_at <= now or now - row.seen_at >= lives.idle or now - row.created_at >= lives.longest
    if over or not hmac.compare_digest(row.hash, wanted):
        return None
    if is_use and now - row.seen_at >= SEEN_NOTED_EVERY:
        with database.write(durable=False) as session:
            operator_sessions.note_seen(session, row.id, now=now)
    access = rows.rights_of(operator).access(operator.name)
    return SignedIn(row.id, operator.id, operator.name, operator.issuer is None, access)


def end(session: Session, secret: str, *, now: datetime) -> None:
    """End the session of this secret, if there is one."""
    operator_id = operator_sessions.end(session, digest(secret)) if has_form(secret, SESSION) else None
    row = rows.get(session, operator_id) if operator_id is not None else None
    if row is not None:
        actor, subject = f"operator:{row.name}", show(OPERATOR, row.id)
        detail = {"name": row.name, "sessions": 1}
        audit.record(session, actor=actor, action="operator.signed_out", subject=subject, now=now, detail=detail)

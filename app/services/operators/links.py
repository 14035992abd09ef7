"""Links with which an operator sets a password: for one use, within a bounded time. All functions take a session."""

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.orm import Session

from app.db import audit, operator_sessions
from app.db import operators as rows
from app.db.models import Operator
from app.errors import Conflict, InvalidInput
from app.ids import OPERATOR, show
from app.services.operators.secrets import LINK, digest, has_form, new_secret

LIFE: Final = timedelta(hours=24)
LONGEST: Final = timedelta(days=7)
PATH: Final = "/console/welcome"  # the link's page


def issue(session: Session, row: Operator, *, life: timedelta = LIFE, actor: str, now: datetime) -> str:
    """The secret of a new link, which takes the place of the former one. Raises InvalidInput, Conflict."""
    if not timedelta(minutes=1) <= life <= LONGEST:
        raise InvalidInput(f"a link lives for a minute at least and {LONGEST.days} days at most")
    if row.issuer is not None:
        raise Conflict(f"{row.name} signs in at the identity provider and has no password here")
    if row.disabled_at is not None:
        raise Conflict(f"{row.name} is disabled: `waylink operator enable {row.name}` first")
    secret = new_secret(LINK)
    rows.put_link(session, row.id, digest(secret), now=now, expires_at=now + life)
    detail = {"name": row.name, "expires_at": (now + life).isoformat(timespec="seconds")}
    audit.record(
        session, actor=actor, action="operator.link_made", subject=show(OPERATOR, row.id), now=now, detail=detail
    )
    return secret


def of_secret(session: Session, secret: str, *, now: datetime) -> Operator | None:
    """The operator of a link; None where it was used, has expired or never was."""
    return rows.of_link(session, digest(secret), now=now) if has_form(secret, LINK) else None


def use(session: Session, secret: str, password_hash: str, *, now: datetime) -> Operator | None:
    """Set the password, which ends all sessions, and spend the link. None where the link is not there any more."""
    row = of_secret(session, secret, now=now)
    if row is None or not rows.take_link(session, digest(secret)):
        return None
    set_password(session, row, password_hash, now=now)
    return row


def set_password(session: Session, row: Operator, password_hash: str, *, now: datetime) -> None:
    """Store a new password's hash, and end all sessions and links."""
    rows.change(session, row, password_hash=password_hash)
    rows.drop_links(session, row.id)
    ended = operator_sessions.end_all(session, row.id)
    detail = {"name": row.name, "sessions_ended": ended}
    actor, subject = f"operator:{row.name}", show(OPERATOR, row.id)
    audit.record(session, actor=actor, action="operator.password_set", subject=subject, now=now, detail=detail)

"""Statements on operators and the links with which they set a password."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.db.models import Operator, OperatorLink
from app.domain.access import Rights, Role
from app.ids import OPERATOR, show


@dataclass(frozen=True, slots=True)
class Identity:
    """A subject of the identity provider: `subject` is unique and lasting for its issuer (OpenID Connect Core, 2)."""

    issuer: str
    subject: str


def add(
    session: Session, operator_id: UUID, *, name: str, rights: Rights, now: datetime, identity: Identity | None = None
) -> Operator | None:
    """Add an operator. None where there is one of that name or identity."""
    row = Operator(
        id=operator_id,
        name=name,
        role=str(rights.role),
        team=rights.team,
        credentials=rights.credentials,
        issuer=identity.issuer if identity else None,
        subject=identity.subject if identity else None,
        created_at=now,
    )
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError:
        return None
    return row


def by_name(session: Session, name: str) -> Operator | None:
    return session.scalar(select(Operator).where(Operator.name == name))


def get(session: Session, operator_id: UUID) -> Operator | None:
    return session.get(Operator, operator_id)


def by_identity(session: Session, identity: Identity) -> Operator | None:
    """The operator of this subject, locked: sign-ins of one person side by side take turns."""
    fitting = (Operator.issuer == identity.issuer) & (Operator.subject == identity.subject)
    return session.scalar(select(Operator).where(fitting).with_for_update())


def all_operators(session: Session) -> list[Operator]:
    """Operators by name."""
    return list(session.scalars(select(Operator).order_by(Operator.name)))


def locked_rulers(session: Session) -> list[UUID]:
    """Enabled operators of the role `operator`, locked: two removals side by side must not both leave the other."""
    statement = select(Operator.id).where(Operator.role == Role.OPERATOR, Operator.disabled_at.is_(None))
    return list(session.scalars(statement.order_by(Operator.id).with_for_update()))


def any_signed_in(session: Session) -> bool:
    """Whether an operator has ever signed in."""
    return session.scalar(select(Operator.id).where(Operator.signed_in_at.is_not(None)).limit(1)) is not None


def names_of_team(session: Session, *, team: str, limit: int = 5) -> list[str]:
    """Names of some operators of a team."""
    return list(
        session.scalars(select(Operator.name).where(Operator.team == team).order_by(Operator.name).limit(limit))
    )


def count(session: Session) -> int:
    return session.scalar(select(func.count()).select_from(Operator)) or 0


def change(session: Session, row: Operator, **values: Any) -> None:
    """Set columns of an operator, in the row and in the database."""
    for name, value in values.items():
        setattr(row, name, value)
    session.flush()


def remove(session: Session, operator_id: UUID) -> None:
    """Delete an operator, with links and sessions."""
    session.execute(delete(Operator).where(Operator.id == operator_id))


def rights_of(row: Operator) -> Rights:
    return Rights(Role(row.role), row.team, row.credentials)


def shown(row: Operator) -> dict[str, Any]:
    """An operator in its public form."""
    return {
        "id": show(OPERATOR, row.id),
        "name": row.name,
        "role": row.role,
        "team": row.team,
        "credentials": row.credentials,
        "signs_in_by": "identity provider" if row.issuer else "password" if row.password_hash else None,
        "created_at": row.created_at.isoformat(timespec="seconds"),
        "signed_in_at": row.signed_in_at.isoformat(timespec="seconds") if row.signed_in_at else None,
        "disabled_at": row.disabled_at.isoformat(timespec="seconds") if row.disabled_at else None,
    }


def put_link(session: Session, operator_id: UUID, digest: bytes, *, now: datetime, expires_at: datetime) -> None:
    """Add a link, in place of the operator's former one."""
    session.execute(delete(OperatorLink).where(OperatorLink.operator_id == operator_id))
    session.add(OperatorLink(hash=digest, operator_id=operator_id, created_at=now, expires_at=expires_at))


def of_link(session: Session, digest: bytes, *, now: datetime) -> Operator | None:
    """The enabled operator of a link that has not expired."""
    live = (OperatorLink.hash == digest) & (OperatorLink.expires_at > now) & Operator.disabled_at.is_(None)
    return session.scalar(select(Operator).join(OperatorLink, OperatorLink.operator_id == Operator.id).where(live))


def take_link(session: Session, digest: bytes) -> bool:
    """Delete a link. False where another transaction has: a link works once."""
    taken = session.scalar(delete(OperatorLink).where(OperatorLink.hash == digest).returning(OperatorLink.operator_id))
    return taken is not None


def drop_links(session: Session, operator_id: UUID) -> None:
    session.execute(delete(OperatorLink).where(OperatorLink.operator_id == operator_id))

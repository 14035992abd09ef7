"""Statements on notifications: a row for each channel with its message under way, and one per channel and check."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.db import bulk
from app.db.models import NotificationChannel, NotificationCheck
from app.domain.notifying import Watched
from app.domain.status import Level

LISTED: Final = 1000  # checks of a list
_FACTS: Final = ("name", "value", "cause", "repair")


@dataclass(frozen=True, slots=True)
class Claimed:
    """A message that this process may send until its lease ends. attempts: with this one."""

    channel: str
    message_id: str
    message: dict[str, Any]
    attempts: int


@dataclass(frozen=True, slots=True)
class ListedCheck:
    """A check that a channel knows."""

    channel: str
    watched: Watched


def channels(session: Session) -> dict[str, NotificationChannel]:
    """All channels that were ever looked at for, by name."""
    return {row.name: row for row in session.scalars(select(NotificationChannel).order_by(NotificationChannel.name))}


def lock(session: Session, name: str, *, now: datetime) -> NotificationChannel:
    """The row of a channel, locked; made where there is none."""
    nothing = {"name": name, "looked_at": now, "attempts": 0, "next_at": now, "failures": 0}
    session.execute(bulk.insert_for(session, NotificationChannel).values(**nothing).on_conflict_do_nothing())
    found = select(NotificationChannel).where(NotificationChannel.name == name).with_for_update()
    return session.scalars(found, execution_options={"populate_existing": True}).one()


def watched(session: Session, channel: str) -> dict[str, Watched]:
    """The checks that a channel knows, by id."""
    rows = session.scalars(select(NotificationCheck).where(NotificationCheck.channel == channel))
    return {row.check_id: _watched(row) for row in rows}


def listed(session: Session) -> list[ListedCheck]:
    """The checks of all channels, at most LISTED of them."""
    order = NotificationCheck.channel, NotificationCheck.check_id
    rows = session.scalars(select(NotificationCheck).order_by(*order).limit(LISTED))
    return [ListedCheck(row.channel, _watched(row)) for row in rows]


def save(session: Session, channel: str, rows: Iterable[Watched]) -> None:
    """Write the checks of a channel over what it knew of them."""
    for row in sorted(rows, key=lambda row: row.id):
        values = {
            "channel": channel,
            "check_id": row.id,
            "level": row.level,
            "since": row.since,
            "well_since": row.well_since,
            "told": row.told,
            "facts": {name: getattr(row, name) for name in _FACTS},
        }
        statement = bulk.insert_for(session, NotificationCheck).values(values)
        changed = {name: statement.excluded[name] for name in ("level", "since", "well_since", "told", "facts")}
        session.execute(statement.on_conflict_do_update(index_elements=["channel", "check_id"], set_=changed))


def forget(session: Session, channel: str, ids: Collection[str]) -> None:
    """Delete checks of a channel."""
    if ids:
        mine = NotificationCheck.channel == channel, NotificationCheck.check_id.in_(ids)
        session.execute(delete(NotificationCheck).where(*mine).execution_options(synchronize_session=False))


def prune(session: Session, *, configured: Collection[str], before: datetime) -> None:
    """Delete channels that are not configured, and that no process has looked at since then."""
    old = NotificationChannel.looked_at < before, NotificationChannel.name.not_in(configured)
    for name in session.scalars(select(NotificationChannel.name).where(*old)).all():
        for statement in (
            delete(NotificationCheck).where(NotificationCheck.channel == name),
            delete(NotificationChannel).where(NotificationChannel.name == name),
        ):
            session.execute(statement.execution_options(synchronize_session=False))


def due(session: Session, names: Collection[str], *, now: datetime) -> list[str]:
    """The channels with a message to be sent now, as far as can be told without a lock."""
    waiting = NotificationChannel.message_id.is_not(None), NotificationChannel.next_at <= now
    mine = NotificationChannel.name.in_(names)
    return list(session.scalars(select(NotificationChannel.name).where(mine, *waiting)))


def claim(session: Session, name: str, *, now: datetime, until: datetime) -> Claimed | None:
    """Lease the message of a channel; None where another process has it, or there is none."""
    is_due = NotificationChannel.message_id.is_not(None), NotificationChannel.next_at <= now
    found = select(NotificationChannel).where(NotificationChannel.name == name, *is_due)
    row = session.scalar(found.with_for_update(skip_locked=True))
    if row is None or row.message_id is None:
        return None
    row.attempts, row.next_at = row.attempts + 1, until
    return Claimed(name, row.message_id, dict(row.message or {}), row.attempts)


def claimed_row(session: Session, claimed: Claimed) -> NotificationChannel | None:
    """The locked row of a channel, where its message and attempt are still those that were claimed."""
    mine = NotificationChannel.message_id == claimed.message_id, NotificationChannel.attempts == claimed.attempts
    found = select(NotificationChannel).where(NotificationChannel.name == claimed.channel, *mine)
    return session.scalar(found.with_for_update())


def _watched(row: NotificationCheck) -> Watched:
    facts = {name: str(row.facts.get(name, "")) for name in _FACTS}
    return Watched(
        id=row.check_id,
        level=_level(row.level) or Level.RED,
        since=row.since,
        well_since=row.well_since,
        told=_level(row.told),
        **facts,
    )


def _level(text: str | None) -> Level | None:
    """A stored level; None for none, and for a text that is no level."""
    return Level(text) if text in {str(level) for level in Level} else None

"""Checks of the notifications themselves: whether each channel takes them, and whether any process looks."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.orm import Session

from app.db import notifications as rows
from app.db import ticks
from app.db.models import NotificationChannel
from app.domain.notifying import RED_AFTER, Channel
from app.domain.status import Check, CheckKind, Level
from app.services.status.wording import moment

STANDS_STILL: Final = timedelta(minutes=2)  # without a look


@dataclass(frozen=True, slots=True)
class Notified:
    """channels: by name. looked_at: when any process last looked at the checks; None: none has yet."""

    channels: Mapping[str, NotificationChannel]
    looked_at: datetime | None


def read(session: Session) -> Notified:
    """Read a row per channel."""
    return Notified(rows.channels(session), ticks.last(session, ticks.NOTIFICATIONS))


def checks(found: Notified, channels: Sequence[Channel], *, now: datetime) -> Iterator[Check]:
    """Judge them; nothing where no channel is configured."""
    if not channels:
        return
    if found.looked_at is not None and now - found.looked_at > STANDS_STILL:
        cause = f"no process has looked at the checks since {moment(found.looked_at)}, so nobody is told"
        yield Check(CheckKind.NOTIFICATIONS, Level.RED, "stands still", cause, "waylink web")
    for channel in channels:
        yield _channel_check(channel, found.channels.get(channel.name))


def _channel_check(channel: Channel, row: NotificationChannel | None) -> Check:
    kind, name = CheckKind.NOTIFICATIONS, channel.name
    repair = f"waylink notify test {name}"
    if channel.fault:
        return Check(kind, Level.RED, "not usable", channel.fault, repair, subject=name)
    if row is None or row.failures < RED_AFTER:
        told = f"the last one was taken {moment(row.sent_at)}" if row and row.sent_at else "none was sent yet"
        return Check(kind, Level.OK, str(channel.kind), told, subject=name)
    since = moment(row.failing_since) if row.failing_since else "a while"
    cause = f"notifications cannot be sent since {since}, {row.failures} attempts failed: {row.error or 'no cause'}"
    return Check(kind, Level.RED, "failing", cause, repair, subject=name)

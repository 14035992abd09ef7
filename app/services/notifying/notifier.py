"""Looks at the checks of the status, and tells channels what has changed; of several processes one looks at a time.

What is to be told is a message in the channel's row, committed before it is sent: claimed, sent, recorded. One message
of a channel is under way at a time, so that they come in order, and all that has changed meanwhile is in the next one.
Opens short transactions; none is open while a message is sent.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy.orm import Session

from app.db import notifications as rows
from app.db import ticks
from app.db.engine import Database
from app.db.models import NotificationChannel
from app.db.notifications import Claimed
from app.deadlines import NOTIFICATION_LEASE
from app.domain.notifying import ATTEMPTS, ChangeState, Channel, judge, wait_after
from app.domain.status import Check, CheckKind, Level
from app.ids import new_id, show
from app.services.notifying import messages
from app.services.notifying.courier import Courier, Sent
from app.telemetry import NOTIFICATIONS, get_logger

EVERY: Final = timedelta(seconds=15)  # between two looks of all processes
FORGOTTEN: Final = timedelta(days=1)  # after which a channel that is not configured any more is
MESSAGE: Final = "msg"  # the prefix of a message's id

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Notifier:
    """channels: as they are configured now. look: makes the report of the status. installation: its name."""

    database: Database
    channels: Callable[[], Sequence[Channel]]
    look: Callable[[], Sequence[Check]]
    courier: Courier
    clock: Callable[[], datetime]
    installation: str

    def run(self) -> None:
        """Look at the checks if it is time, then send what is due. Raises the errors of the database."""
        channels = self.channels()
        if self._takes_turn():
            self._look(channels)
        for channel in channels:
            while self._send_next(channel):
                pass

    def _takes_turn(self) -> bool:
        now = self.clock()
        with self.database.read() as session:  # on SQLite a write would wait for other writers
            last = ticks.last(session, ticks.NOTIFICATIONS)
        if last is not None and last > now - EVERY:
            return False
        with self.database.write(durable=False) as session:
            return ticks.take(session, ticks.NOTIFICATIONS, now=now, every=EVERY)

    def _look(self, channels: Sequence[Channel]) -> None:
        now = self.clock()
        checks = self.look()
        if any(check.kind is CheckKind.DATABASE and check.level is Level.RED for check in checks):
            return  # what is in the database was not seen: nothing of it is known to be well
        with self.database.write() as session:
            for channel in sorted(channels, key=lambda channel: channel.name):
                self._note(session, channel, checks, now)
            rows.prune(session, configured=[channel.name for channel in channels], before=now - FORGOTTEN)

    def _note(self, session: Session, channel: Channel, checks: Sequence[Check], now: datetime) -> None:
        """Write what a channel knows by now, and its next message if none is under way."""
        row = rows.lock(session, channel.name, now=now)
        if row.looked_at > now:
            return  # a process that stood still has looked at what was so before
        row.looked_at = now
        known = rows.watched(session, channel.name)
        telling = {change["id"] for change in _changes(row) if change["state"] != ChangeState.RECOVERED}
        judged = judge(known, checks, channel.rules, channel=channel.name, now=now, telling=telling)
        rows.save(session, channel.name, [one for one in judged.kept if known.get(one.id) != one])
        rows.forget(session, channel.name, judged.gone)
        if judged.changes and row.message_id is None and channel.place is not None:
            row.message_id, row.attempts = show(MESSAGE, new_id()), 0
            row.message = messages.changed(self.installation, checks, judged.changes, now=now)

    def _send_next(self, channel: Channel) -> bool:
        """Send the message that is due, if there is one. True: it was sent."""
        if channel.place is None:
            return False
        now = self.clock()
        with self.database.read() as session:
            if not rows.due(session, [channel.name], now=now):
                return False
        with self.database.write() as session:
            claimed = rows.claim(session, channel.name, now=now, until=now + NOTIFICATION_LEASE)
        if claimed is None:
            return False
        sent = self.courier.send(channel, claimed.message, message_id=claimed.message_id)
        self._record(channel, claimed, sent)
        return sent.taken

    def _record(self, channel: Channel, claimed: Claimed, sent: Sent) -> None:
        NOTIFICATIONS.labels(channel.name, "sent" if sent.taken else "failed").inc()
        now = self.clock()
        with self.database.write() as session:
            row = rows.claimed_row(session, claimed)
            if row is None:
                return  # its lease had ended, and another process has sent it, with the same id
            if sent.taken:
                _told(session, row)
                note_taken(row, now=now)
            else:
                _failed(row, sent, now=now)
                log.warning(
                    "notification_not_sent",
                    channel=channel.name,
                    problem=sent.text,
                    attempt=claimed.attempts,
                    then="another message follows" if row.message_id is None else "it is tried again",
                )


def note_taken(row: NotificationChannel, *, now: datetime) -> None:
    """Write that the channel works: what waits for it is due at once."""
    row.failures, row.failing_since, row.error, row.sent_at, row.next_at = 0, None, None, now, now


def _told(session: Session, row: NotificationChannel) -> None:
    """Write what the channel knows by the message that it has taken."""
    known, changes = rows.watched(session, row.name), _changes(row)
    told = {change["id"]: change["state"] for change in changes if change["state"] != ChangeState.RECOVERED}
    # One that is red again by now begins anew with the next look.
    rows.forget(session, row.name, [change["id"] for change in changes if change["state"] == ChangeState.RECOVERED])
    rows.save(
        session, row.name, [replace(known[id_], told=Level(level)) for id_, level in told.items() if id_ in known]
    )
    row.message_id, row.message, row.attempts = None, None, 0


def _failed(row: NotificationChannel, sent: Sent, *, now: datetime) -> None:
    """Write the failure. After ATTEMPTS the message is dropped: the next look makes one of what is so by then."""
    row.failures, row.failing_since, row.error = row.failures + 1, row.failing_since or now, sent.text
    row.next_at = now + wait_after(row.failures, gone=sent.gone)
    if row.attempts >= ATTEMPTS:
        row.message_id, row.message, row.attempts = None, None, 0


def _changes(row: NotificationChannel) -> list[dict[str, Any]]:
    """The changes in the message under way."""
    data = (row.message or {}).get("data") if row.message_id is not None else None
    return list(data.get("changes", ())) if isinstance(data, dict) else []

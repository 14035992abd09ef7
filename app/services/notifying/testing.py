"""Test messages: whether a channel takes one, and what it answers. Opens short transactions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.db import audit, notifications
from app.db.engine import Database
from app.domain.notifying import Channel
from app.errors import NotFound
from app.ids import new_id, show
from app.services.notifying import messages
from app.services.notifying.courier import Courier
from app.services.notifying.notifier import MESSAGE, note_taken


@dataclass(frozen=True, slots=True)
class ChannelTester:
    """channels: as they are configured now. installation: its name."""

    channels: Callable[[], Sequence[Channel]]
    courier: Courier
    clock: Callable[[], datetime]
    installation: str

    def chosen(self, name: str | None) -> list[Channel]:
        """The channel of this name, or all. Raises NotFound."""
        channels = list(self.channels())
        if name is not None:
            channels = [channel for channel in channels if channel.name == name]
            if not channels:
                raise NotFound("channel", name)
        return channels

    def test(self, database: Database, channel: Channel, *, actor: str) -> dict[str, Any]:
        """Send a test message, and write that the channel works where it is taken. Returns what was answered."""
        with database.write() as session:
            audit.record(session, actor=actor, action="notification.tested", subject=channel.name, now=self.clock())
        document = messages.test_message(self.installation, now=self.clock())
        sent = self.courier.send(channel, document, message_id=show(MESSAGE, new_id()))
        if sent.taken:
            with database.write() as session:
                row = notifications.channels(session).get(channel.name)
                if row is not None:
                    note_taken(notifications.lock(session, channel.name, now=self.clock()), now=self.clock())
        return {
            "channel": channel.name,
            "kind": str(channel.kind),
            "taken": sent.taken,
            "answer": sent.text,
            "latency_ms": sent.latency_ms,
        }

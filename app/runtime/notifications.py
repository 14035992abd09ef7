"""Notifications from settings: their channels, what sends to them, and the thread of a process that does."""

import os
import socket
from collections.abc import Callable, Sequence
from functools import partial
from urllib.parse import urlsplit

from app.clock import utc_now
from app.config import channel_sources
from app.config.settings import Settings
from app.db.engine import connect
from app.deadlines import STATEMENT
from app.domain.notifying import Channel
from app.domain.status import Check
from app.outbound.mail import mail_tls
from app.runtime.wiring import sender_of
from app.services.notifying.background import NotifyingThread
from app.services.notifying.courier import Courier
from app.services.notifying.notifier import Notifier
from app.services.notifying.testing import ChannelTester


def channels_of(settings: Settings) -> list[Channel]:
    """The channels of waylink.toml, with their secrets as variables and files have them now."""
    return channel_sources.channels_of(settings.file.notify, os.environ, allowed=settings.destination_ranges)


def tester_of(settings: Settings) -> ChannelTester:
    """The sender of test messages."""
    return ChannelTester(partial(channels_of, settings), courier_of(settings), utc_now, installation_name(settings))


def courier_of(settings: Settings) -> Courier:
    """The sender of messages."""
    return Courier(partial(sender_of, settings), partial(mail_tls, settings.destination_ca_file), utc_now)


def installation_name(settings: Settings) -> str:
    """The name of this installation in messages."""
    if settings.file.notify.installation is not None:
        return settings.file.notify.installation
    url = settings.console_url or settings.public_url
    return (urlsplit(url).netloc if url else "") or socket.gethostname()


def notifying(settings: Settings, look: Callable[[], Sequence[Check]]) -> tuple[NotifyingThread, ...]:
    """The thread of a process that notifies, with a database connection of its own; none without channels."""
    if not settings.file.notify.channels:
        return ()
    notifier = Notifier(
        database=connect(settings.database, pool_size=1, statement_seconds=STATEMENT.total_seconds()),
        channels=partial(channels_of, settings),
        look=look,
        courier=courier_of(settings),
        clock=utc_now,
        installation=installation_name(settings),
    )
    return (NotifyingThread(notifier),)

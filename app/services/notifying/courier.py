"""Sends one message over one channel, and says what the other side answered."""

import asyncio
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec

from app.domain.notifying import Channel, ChannelKind, Endpoint, Mailbox
from app.domain.retrying import AnswerClass, classify, problem_of
from app.domain.scrub import scrub
from app.outage_causes import of_connection
from app.outbound.mail import send_mail
from app.outbound.sending import HttpSender, HttpTarget
from app.services.notifying import messages
from app.telemetry import get_logger

HTTP_SECONDS: Final = 15.0
EXCERPT: Final = 200  # characters of an answer's body

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Sent:
    """taken: the other side accepted the message. text: its answer, or why there is none. gone: it wants no more."""

    taken: bool
    text: str
    latency_ms: int
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Courier:
    """Sends, in calls that take half a minute at most. sender: makes an HTTP sender, for one event loop."""

    sender: Callable[[], HttpSender]
    mail_tls: Callable[[], ssl.SSLContext]
    clock: Callable[[], datetime]

    def send(self, channel: Channel, document: Mapping[str, Any], *, message_id: str) -> Sent:
        """Send it. Whatever fails is an answer; no text has an address or a secret of the channel."""
        started = time.monotonic()
        try:
            taken, text, gone = self._send(channel, document, message_id)
        except OSError as failed:  # such as a file of authorities that is gone
            taken, text, gone = False, f"nothing was sent: {of_connection(failed)}", False
        except Exception:
            log.exception("notifications_fault", channel=channel.name, then="it is tried again")
            taken, text, gone = False, "nothing was sent: a fault of Waylink's, which is in its log", False
        return Sent(taken, text, round((time.monotonic() - started) * 1000), gone)

    def _send(self, channel: Channel, document: Mapping[str, Any], message_id: str) -> tuple[bool, str, bool]:
        place = channel.place
        if isinstance(place, Mailbox):
            mail = messages.email(document, place, message_id=message_id, now=self.clock())
            answer = send_mail(place, mail, self.mail_tls())
            return answer.taken, answer.text, False
        if isinstance(place, Endpoint):
            body = messages.slack(document) if channel.kind is ChannelKind.SLACK else document
            return asyncio.run(self._post(place, msgspec.json.encode(body), message_id))
        return False, channel.fault, False

    async def _post(self, place: Endpoint, body: bytes, message_id: str) -> tuple[bool, str, bool]:
        target = HttpTarget(place.url, [place.key] if place.key else [], HTTP_SECONDS, unsigned=place.key is None)
        sender = self.sender()
        try:
            answer = await sender.send(target, message_id=message_id, body=body)
        finally:
            await sender.aclose()
        kind = classify(answer)
        text = problem_of(answer) or f"answered {answer.status}"
        excerpt = scrub(" ".join((answer.excerpt or "").split()), limit=EXCERPT)
        return kind is AnswerClass.ACCEPTED, f"{text}: {excerpt}" if excerpt else text, kind is AnswerClass.GONE

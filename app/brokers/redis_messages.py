"""Celery messages for Redis, written from a template instead of by kombu, which takes most of a delivery's time.

A template is kombu's own message of the same queue and task, cut at the task's id, its arguments, the delivery tag and
the trace, where there is one.
It is used once it has written another message exactly as kombu does; otherwise kombu writes all messages.
"""

import re
import uuid
from binascii import b2a_base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from app.brokers.messages import CONTENT_ENCODING, CONTENT_TYPE, PERSISTENT, Message, as_json, body_of, task_message
from app.telemetry import get_logger

if TYPE_CHECKING:
    import celery

MOST_TEMPLATES: Final = 1000
_MARK: Final = "waylink-template"
_TRACE_MARK: Final = "waylink-trace-of-template"
_SAFE_ID: Final = re.compile(r"[0-9a-z_-]+", re.ASCII)  # the same in JSON

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Template:
    """The parts of a message's text, between the values of `fields`: indexes into (task id, body, tag, trace)."""

    key: str  # of the Redis list
    parts: Sequence[str]
    fields: Sequence[int]

    def text(self, message: Message, tag: str) -> str:
        """The text of a message, with this delivery tag."""
        body = b2a_base64(body_of(message.kwargs), newline=False).decode()
        values = message.task_id, body, tag, message.traceparent or ""
        text = [self.parts[0]]
        for place, part in zip(self.fields, self.parts[1:], strict=True):
            text += values[place], part
        return "".join(text)


@dataclass(slots=True)
class RedisMessages:
    """Sends messages to one Redis broker. Threads share its templates; two may make the same one."""

    app: "celery.Celery"
    _templates: dict[tuple[str, str, bool], Template | None] = field(default_factory=dict, init=False)

    def send(self, channel: Any, messages: Sequence[Message]) -> list[Message]:
        """Send those with a template, with one command for each queue. Returns the others, for kombu to send."""
        lists: dict[str, list[str]] = {}
        others = []
        for message in messages:
            template = self._template(channel, message)
            if template is None:
                others.append(message)
            else:
                lists.setdefault(template.key, []).append(template.text(message, str(uuid.uuid4())))
        if lists:
            with channel.conn_or_acquire() as client, client.pipeline(transaction=False) as pipeline:
                for key, texts in lists.items():
                    pipeline.lpush(key, *texts)
                pipeline.execute()
        return others

    def _template(self, channel: Any, message: Message) -> Template | None:
        traced = message.traceparent is not None
        if message.expires is not None or not _SAFE_ID.fullmatch(message.task_id):
            return None
        if traced and not _SAFE_ID.fullmatch(message.traceparent or ""):
            return None
        named = message.queue, message.task, traced
        try:
            return self._templates[named]
        except KeyError:  # not asked for with `in`, since another thread may clear them in between
            if len(self._templates) >= MOST_TEMPLATES:
                self._templates.clear()
            template = self._templates[named] = self._checked(channel, message)
            return template

    def _checked(self, channel: Any, message: Message) -> Template | None:
        """The template, if it writes this message as kombu does."""
        trace = None if message.traceparent is None else _TRACE_MARK
        marked = Message(message.queue, message.task, _MARK, {_MARK: _MARK}, traceparent=trace)
        key, text = self._as_kombu_writes(channel, marked)
        marks = _MARK, b2a_base64(body_of(marked.kwargs), newline=False).decode(), _tag_in(text), _TRACE_MARK
        for place, mark in enumerate(marks):
            text = text.replace(mark, f"\0{place}\0")  # JSON text holds no NUL
        found = text.split("\0")
        template = Template(key, found[::2], [int(place) for place in found[1::2]])
        key, text = self._as_kombu_writes(channel, message)
        if template.key == key and template.text(message, _tag_in(text)) == text:
            return template
        log.warning("message_template_differs", queue=message.queue, task=message.task, then="kombu writes messages")
        return None

    def _as_kombu_writes(self, channel: Any, message: Message) -> tuple[str, str]:
        """The Redis list of the message, and its text."""
        built = task_message(self.app, message)
        properties = {**built.properties, "delivery_mode": PERSISTENT}
        prepared = channel.prepare_message(
            as_json(built.body), 0, CONTENT_TYPE, CONTENT_ENCODING, built.headers, properties
        )
        command = _Command()
        channel.basic_publish(prepared, exchange="", routing_key=message.queue, _publish_batch=command)
        key, text = command.arguments
        return key, text


class _Command:
    """Stands for kombu's batch, and keeps the command that would be added to it."""

    arguments: tuple[str, str]

    def add(self, _name: str, key: str, text: str) -> None:
        self.arguments = key, text


def _tag_in(text: str) -> str:
    tag: str = msgspec.json.decode(text)["properties"]["delivery_tag"]
    return tag

"""Spans of events in a worker: `confirm`, asking Nango; `apply`, the transaction; in it `route`, the matching.

An event whose trace is not sampled costs next to nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

from opentelemetry.trace import Span, SpanKind

from app.db.bulk import Row
from app.domain import canary
from app.domain.traceparent import is_sampled
from app.ids import EVENT, show
from app.services.events.pending_event import PendingEvent
from app.traces.spans import SECOND, Attributes, Spans, fail, header, now, of_batch

P = ParamSpec("P")
T = TypeVar("T")


class EventSpans:
    """The spans of a worker's events. Used by the one thread that processes them."""

    def __init__(self, spans: Spans) -> None:
        self._spans = spans

    def claimed(self, pending: Sequence[PendingEvent]) -> None:
        """Begin a trace for events without one: those of Waylink's own, and those stored while traces were off."""
        for item in pending:
            if item.traceparent is None and item.event.environment != canary.ENVIRONMENT:
                at = int(item.event.received_at.timestamp() * SECOND)
                attributes = _attributes(item) | {"waylink.origin": item.event.origin}
                item.traceparent = header(self._spans.add("receive", None, attributes, at=at, until=max(at, now())))

    def asked(self, pending: Sequence[PendingEvent], *, since: int) -> None:
        """Add the spans of events whose connections Nango was asked for together, since then."""
        until, first = now(), None
        for item in _sampled(pending):
            attributes = of_batch(_attributes(item), pending) | {"waylink.answer": item.answer}
            span = self._spans.add(
                "confirm", item.traceparent, attributes, at=since, until=until, kind=SpanKind.CLIENT, with_=first
            )
            first = first or span

    def applying(self, pending: Sequence[PendingEvent]) -> "Applying":
        """Begin the spans of a transaction."""
        return Applying(self._spans, pending)


class Applying:
    """The spans of one transaction, as a context that ends those that are open as failed."""

    def __init__(self, spans: Spans, pending: Sequence[PendingEvent]) -> None:
        self._spans = spans
        self._open: dict[UUID, Span] = {}
        self._routed: dict[UUID, tuple[int, int]] = {}  # begin and end of the matching
        first: Span | None = None
        for item in _sampled(pending):
            attributes = of_batch(_attributes(item), pending)
            kind = SpanKind.CONSUMER
            span = spans.begin("apply", item.traceparent, attributes, kind=kind, with_=first)
            self._open[item.event.id] = span
            first = first or span

    def __enter__(self) -> "Applying":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failed: BaseException | None, trace: TracebackType | None
    ) -> None:
        for span in self._open.values():
            fail(span, "lease_lost" if kind is None else kind.__name__)
            span.end()

    def timed(self, event_id: UUID, work: Callable[P, T]) -> Callable[P, T]:
        """The same work, whose time is that of the event's span `route`."""

        def run(*arguments: P.args, **options: P.kwargs) -> T:
            began = now()
            try:
                return work(*arguments, **options)
            finally:
                self._routed[event_id] = began, now()

        return run

    def committed(self, changes: Sequence[Row], jobs: Sequence[Mapping[str, Any]]) -> None:
        """End the spans of events by the changes of their rows. jobs: the rows that were made."""
        if not self._open:
            return
        made: dict[UUID, int] = {}
        for job in jobs:
            made[job["event_id"]] = made.get(job["event_id"], 0) + 1
        for row in changes:
            span = self._open.pop(row["id"], None)
            if span is None:
                continue
            state, kind = str(row.get("state", "received")), str(row["type"])
            span.set_attributes({"waylink.event.type": kind, "waylink.event.state": state})
            if (routed := self._routed.get(row["id"])) is not None:
                facts = {"waylink.event.id": show(EVENT, row["id"]), "waylink.jobs": made.get(row["id"], 0)}
                self._spans.add("route", header(span), facts, at=routed[0], until=routed[1])
            span.end()


def _sampled(pending: Sequence[PendingEvent]) -> list[PendingEvent]:
    return [item for item in pending if item.traceparent is not None and is_sampled(item.traceparent)]


def _attributes(item: PendingEvent) -> Attributes:
    return {
        "waylink.event.id": show(EVENT, item.event.id),
        "waylink.event.type": str(item.notice.type),
        "waylink.environment": item.event.environment,
    }

"""Spans of Waylink: begun at a time, under a parent that is a `traceparent`, with ids as attributes and no content."""

import time
from collections.abc import Sequence
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    set_span_in_context,
)

from app.domain.traceparent import in_form

SECOND: Final = 1_000_000_000  # nanoseconds, in which OpenTelemetry counts

Attributes = dict[str, Any]


class Spans:
    """Begins spans. Those of one process go to one collector."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def begin(
        self,
        name: str,
        parent: str | None,
        attributes: Attributes,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        remote: bool = False,
        at: int | None = None,
        with_: Span | None = None,
    ) -> Span:
        """A span that began at `at`, or begins now.

        parent: a `traceparent`; None: the span is the first of a new trace. remote: it came in, and does not decide
        whether its trace is sampled. with_: the first span of the same transaction or commit, which is linked to.
        """
        links = () if with_ is None else (Link(with_.get_span_context()),)
        return self._tracer.start_span(name, _context(parent, remote=remote), kind, attributes, links, start_time=at)

    def add(
        self,
        name: str,
        parent: str | None,
        attributes: Attributes,
        *,
        at: int,
        until: int,
        kind: SpanKind = SpanKind.INTERNAL,
        with_: Span | None = None,
    ) -> Span:
        """A span that is over."""
        span = self.begin(name, parent, attributes, kind=kind, at=at, with_=with_)
        span.end(until)
        return span


def header(span: Span) -> str:
    """The `traceparent` of what follows from a span."""
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags & 3:02x}"


def fail(span: Span, problem: str) -> None:
    """Mark a span as failed. problem: a kind of error, never its text, which may quote a body."""
    span.set_attribute("error.type", problem)
    span.set_status(Status(StatusCode.ERROR))


def now() -> int:
    """The time, in nanoseconds since 1970."""
    return time.time_ns()


def of_batch(attributes: Attributes, batch: Sequence[object]) -> Attributes:
    """Attributes of a span beside others of one transaction or commit."""
    return attributes | {"waylink.batch.size": len(batch)}


def _context(parent: str | None, *, remote: bool) -> Context:
    given = in_form(parent) if parent is not None else None
    if given is None:
        return Context()
    _, trace, span, flags = given.split("-")
    context = SpanContext(int(trace, 16), int(span, 16), is_remote=remote, trace_flags=TraceFlags(int(flags, 16)))
    return set_span_in_context(NonRecordingSpan(context), Context())

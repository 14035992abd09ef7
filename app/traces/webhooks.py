"""Spans of webhooks: `receive` from arrival to answer, and in it `store`, the wait for the commit and the commit."""

from collections.abc import Sequence
from uuid import UUID

from opentelemetry.trace import Span, SpanKind

from app.db.ingest import NewDelivery
from app.ids import EVENT, show
from app.services.events.intake import Receipt
from app.traces.spans import SECOND, Spans, fail, header, now, of_batch


class WebhookSpans:
    """The spans of the webhooks that a web process holds, by delivery. Used by its event loop alone."""

    def __init__(self, spans: Spans) -> None:
        self._spans = spans
        self._open: dict[UUID, tuple[Span, int]] = {}  # with the time at which it began to wait for its commit

    def begin(self, delivery: NewDelivery, *, seconds: float) -> NewDelivery:
        """Begin the span of a webhook that arrived so many seconds ago. Returns the delivery with its own trace."""
        at = now()
        attributes = {"waylink.environment": delivery.environment}
        span = self._spans.begin(
            "receive",
            delivery.traceparent,
            attributes,
            kind=SpanKind.SERVER,
            remote=True,
            at=at - int(seconds * SECOND),
        )
        self._open[delivery.event_id] = span, at
        return delivery._replace(traceparent=header(span))

    def stored(self, deliveries: Sequence[NewDelivery], receipts: Sequence[Receipt]) -> None:
        """End the spans of a commit's webhooks, which are answered."""
        until, first = now(), None
        for delivery, receipt in zip(deliveries, receipts, strict=True):
            opened = self._open.pop(delivery.event_id, None)
            if opened is None:  # it was given up before, or is a canary
                continue
            span, since = opened
            if not span.is_recording():
                continue
            facts = {"waylink.event.id": show(EVENT, receipt.event_id)}
            span.set_attributes(facts | {"waylink.duplicate": receipt.duplicate})
            added = self._spans.add(
                "store", header(span), of_batch(facts, deliveries), at=since, until=until, with_=first
            )
            first = first or added
            span.end()

    def lost(self, delivery_id: UUID) -> None:
        """End the span of a webhook that could not be stored."""
        opened = self._open.pop(delivery_id, None)
        if opened is not None:
            fail(opened[0], "not_stored")
            opened[0].end()

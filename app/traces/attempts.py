"""Spans of attempts to deliver: `deliver`, whose `traceparent` goes to the team."""

from collections.abc import Iterable
from uuid import UUID

from opentelemetry.trace import Span, SpanKind

from app.db.destinations import DeliveryTarget
from app.db.jobs import ClaimedJob
from app.domain import canary
from app.domain.retrying import AnswerClass, classify
from app.domain.traceparent import is_sampled
from app.ids import EVENT, JOB, show
from app.services.delivery.in_flight import AttemptResult
from app.traces.spans import SECOND, Spans, fail, header


class AttemptSpans:
    """The spans of the attempts that a worker process has in flight. Used by the deliverer's thread alone."""

    def __init__(self, spans: Spans) -> None:
        self._spans = spans
        self._open: dict[tuple[UUID, int], Span] = {}  # by job and number of the attempt

    def begin(self, job: ClaimedJob, target: DeliveryTarget, parent: str | None) -> str | None:
        """Begin the span of an attempt, if its trace is sampled. Returns the team's `traceparent`.

        parent: that of the event.
        """
        if target.kind == canary.KIND or (parent is not None and not is_sampled(parent)):
            return parent
        attributes = {
            "waylink.job.id": show(JOB, job.id),
            "waylink.event.id": show(EVENT, job.event_id),
            "waylink.route": job.route,
            "waylink.team": job.team,
            "waylink.destination": job.destination,
            "waylink.attempt": job.attempts,
        }
        kind = SpanKind.PRODUCER if target.kind == "celery" else SpanKind.CLIENT
        span = self._spans.begin("deliver", parent, attributes, kind=kind)
        self._open[job.id, job.attempts] = span
        return header(span)

    def ended(self, results: Iterable[AttemptResult]) -> None:
        """End the spans of attempts that have a result."""
        for result in results:
            job, answer = result.attempt.job, result.answer
            span = self._open.pop((job.id, job.attempts), None)
            if span is None:
                continue
            if answer.status is not None:
                span.set_attribute("http.response.status_code", answer.status)
            outcome = None if result.interrupted else classify(answer)
            span.set_attribute("waylink.outcome", "interrupted" if outcome is None else str(outcome))
            if outcome is not AnswerClass.ACCEPTED:
                fail(span, "interrupted" if outcome is None else str(answer.status or outcome))
            span.end(int(result.started_at.timestamp() * SECOND + answer.latency_ms * 1e6))

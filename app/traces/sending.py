"""Spans on their way to a collector: OTLP over HTTP, in batches, by a thread that nothing waits for.

Where the collector is, and how spans are sampled, is said by OpenTelemetry's own variables (`OTEL_EXPORTER_OTLP_…`,
`OTEL_TRACES_SAMPLER`, `OTEL_BSP_…`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_SERVICE_NAME`), which its SDK reads.
"""

import logging
import os
import threading
from collections.abc import Sequence
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.environment_variables import (
    OTEL_BSP_MAX_QUEUE_SIZE,
    OTEL_TRACES_SAMPLER,
    OTEL_TRACES_SAMPLER_ARG,
)
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler, TraceIdRatioBased

from app.telemetry import SPANS, get_logger

STOP_SECONDS: Final = 3.0  # for the last spans at the end of a process
QUEUE: Final = 8192  # spans that wait, of some batches of events; further ones are dropped

log = get_logger(__name__)


class Counted(SpanExporter):
    """Another exporter, whose spans are counted. The first failure is logged, until one succeeds."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._away = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            result = self._exporter.export(spans)
        except Exception:  # noqa: BLE001 - no error of a client may end the thread that sends; its text may hold a URL
            self._lost("a fault of the client that sends them")
            result = SpanExportResult.FAILURE
        else:
            if result is SpanExportResult.SUCCESS:
                self._away = False
            else:
                self._lost("the collector did not take them")
        SPANS.labels("sent" if result is SpanExportResult.SUCCESS else "lost").inc(len(spans))
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)

    def _lost(self, problem: str) -> None:
        if not self._away:
            log.warning("spans_lost", problem=problem, then="later ones are sent once it takes them")
        self._away = True


class Provider:
    """The SDK's provider of one process, whose end is bounded."""

    def __init__(self, exporter: SpanExporter, *, kind: str, version: str) -> None:
        size = None if os.environ.get(OTEL_BSP_MAX_QUEUE_SIZE) else QUEUE  # None: the SDK reads the variable
        # Not at the interpreter's end, where nothing bounds it.
        self._provider = TracerProvider(sampler(), _resource(kind, version), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(Counted(exporter), max_queue_size=size))
        self.tracer = self._provider.get_tracer("waylink", version)

    def close(self, *, within: float = STOP_SECONDS) -> None:
        """Send what waits, for some seconds at most: a collector that is away holds up no end of a process."""
        ending = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        ending.start()
        ending.join(within)
        if ending.is_alive():
            log.warning("spans_lost", problem=f"not sent within {within:g} s of the stop", then="the process ends")


def to_collector() -> SpanExporter:
    """The exporter that the variables describe. It connects when it first sends."""
    # It logs each failed batch, with the text of its library; `spans_lost` says it once.
    logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)
    return OTLPSpanExporter()


def sampler() -> Sampler:
    """The sampler of traces that begin here or come in with a webhook; the spans after that follow its decision.

    What came in does not decide: its flag is not signed, and says how many spans its sender pays for, and not how many
    are made here.
    """
    begins = _of_variables()
    return ParentBased(begins, remote_parent_sampled=begins, remote_parent_not_sampled=begins)


def _of_variables() -> Sampler:
    """By `OTEL_TRACES_SAMPLER`; the prefix `parentbased_` is what `sampler` is in any case."""
    name = os.environ.get(OTEL_TRACES_SAMPLER, "").strip().lower().removeprefix("parentbased_")
    if name == "traceidratio":
        return TraceIdRatioBased(_ratio(os.environ.get(OTEL_TRACES_SAMPLER_ARG, "")))
    return ALWAYS_OFF if name == "always_off" else ALWAYS_ON


def _ratio(text: str) -> float:
    try:
        ratio = float(text)
    except ValueError:
        return 1.0
    return ratio if 0.0 <= ratio <= 1.0 else 1.0


def _resource(kind: str, version: str) -> Resource:
    """The process that the spans are of. What the variables say goes first."""
    ours = {"service.name": "waylink", "service.version": version, "waylink.process": kind}
    return Resource.create({**ours, **OTELResourceDetector().detect().attributes})

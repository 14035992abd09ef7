"""The traces of one process: the spans of each stage, and their way to the collector."""

from opentelemetry.sdk.trace.export import SpanExporter

from app.traces.attempts import AttemptSpans
from app.traces.events import EventSpans
from app.traces.sending import Provider, to_collector
from app.traces.spans import Spans
from app.traces.webhooks import WebhookSpans


class ProcessTraces:
    """Made once per process, before its work begins; `close` sends the last spans.

    kind: of the process, as an attribute of its resource. exporter: instead of the collector of the variables.
    """

    def __init__(self, kind: str, version: str, exporter: SpanExporter | None = None) -> None:
        self._provider = Provider(exporter or to_collector(), kind=kind, version=version)
        spans = Spans(self._provider.tracer)
        self.webhooks, self.events, self.attempts = WebhookSpans(spans), EventSpans(spans), AttemptSpans(spans)

    def close(self) -> None:
        """Send what waits, for a few seconds at most."""
        self._provider.close()

"""Traces: what decides on sampling, what a failing collector costs, and that nothing is loaded while they are off."""

import os
import subprocess
import sys
import threading

import pytest
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from app.config import checks
from app.config.loading import load
from app.domain.traceparent import in_form
from app.errors import ConfigurationError
from app.telemetry import SPANS
from app.traces.process import ProcessTraces
from app.traces.sending import Counted, Provider
from app.traces.spans import Spans, fail, header

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, NOT_SAMPLED = f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00"


class Made:
    """Spans of a process, and what of them was exported."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = Provider(self.exporter, kind="web", version="1.2.3")
        self.spans = Spans(self.provider.tracer)

    def begin(self, parent: str | None, *, remote: bool = False) -> str:
        """A span that is over; the header of what follows from it."""
        span = self.spans.begin("work", parent, {"waylink.environment": "default"}, remote=remote)
        span.end()
        return header(span)

    def exported(self):
        self.provider.close(within=60)
        return self.exporter.get_finished_spans()


@pytest.fixture
def sampling(monkeypatch):
    def set_to(name: str | None, argument: str | None = None) -> Made:
        for variable, value in (("OTEL_TRACES_SAMPLER", name), ("OTEL_TRACES_SAMPLER_ARG", argument)):
            if value is None:
                monkeypatch.delenv(variable, raising=False)
            else:
                monkeypatch.setenv(variable, value)
        return Made()

    return set_to


@pytest.mark.parametrize("incoming", [SAMPLED, NOT_SAMPLED])
@pytest.mark.parametrize(
    ("sampler", "argument", "sampled"),
    [
        (None, None, True),
        ("always_on", None, True),
        ("parentbased_always_on", None, True),
        ("always_off", None, False),
        ("parentbased_always_off", None, False),
        ("traceidratio", "0", False),
        ("parentbased_traceidratio", "1", True),
        ("traceidratio", "nonsense", True),
        ("traceidratio", "7", True),
        ("nonsense", None, True),
    ],
)
def test_the_flag_of_what_comes_in_does_not_decide(sampling, incoming, sampler, argument, sampled):
    made = sampling(sampler, argument)
    ours = made.begin(incoming, remote=True)
    assert ours == in_form(ours)
    assert ours[3:35] == TRACE
    assert SPAN not in ours
    assert ours.endswith("-01") == sampled
    assert len(made.exported()) == sampled


@pytest.mark.parametrize("sampler", ["always_on", "always_off"])
def test_the_stages_after_the_first_follow_its_decision(sampling, sampler):
    made = sampling(sampler)
    assert made.begin(SAMPLED).endswith("-01")
    assert made.begin(NOT_SAMPLED).endswith("-00")
    [span] = made.exported()
    assert (span.context.trace_id, span.parent.span_id) == (int(TRACE, 16), int(SPAN, 16))


@pytest.mark.parametrize("parent", [None, "", "nonsense", "0" * 55, SAMPLED + "\n", SAMPLED.upper()])
def test_what_is_no_trace_begins_a_new_one(sampling, parent):
    made = sampling(None)
    assert in_form(made.begin(parent))[3:35] != TRACE
    [span] = made.exported()
    assert span.parent is None


def test_the_process_is_named_and_the_variables_go_first(sampling, monkeypatch):
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.version=9,deployment.environment=test")
    made = sampling(None)
    made.begin(None)
    [span] = made.exported()
    shown = span.resource.attributes
    assert (shown["service.name"], shown["service.version"], shown["waylink.process"]) == ("waylink", "9", "web")
    assert shown["deployment.environment"] == "test"


def test_a_failure_has_a_kind_and_no_text(sampling):
    made = sampling(None)
    span = made.spans.begin("work", None, {})
    fail(span, "ValueError")
    span.end()
    [span] = made.exported()
    assert (span.status.is_ok, span.status.description, dict(span.attributes)) == (
        False,
        None,
        {"error.type": "ValueError"},
    )
    assert not span.events


class Away(SpanExporter):
    """A collector that fails in this way."""

    def __init__(self, how) -> None:
        self.how = how

    def export(self, spans):
        return self.how(spans)


def _raises(_spans):
    raise OSError("https://user:hunter2@collector.example is away")


def counted(outcome: str) -> float:
    return SPANS.labels(outcome)._value.get()


@pytest.mark.parametrize("how", [_raises, lambda _spans: SpanExportResult.FAILURE])
def test_lost_spans_are_counted_and_told_once_and_their_error_is_not_quoted(how, caplog, monkeypatch):
    lines = []
    monkeypatch.setattr("app.traces.sending.log.warning", lambda *words, **facts: lines.append((words, facts)))
    away = Away(how)
    exporter = Counted(away)
    lost, sent = counted("lost"), counted("sent")
    assert [exporter.export([object()] * 3) for _ in range(2)] == [SpanExportResult.FAILURE] * 2
    assert counted("lost") - lost == 6
    assert [words for words, _ in lines] == [("spans_lost",)]
    assert "hunter2" not in str(lines)
    away.how = lambda _spans: SpanExportResult.SUCCESS
    assert exporter.export([object()]) is SpanExportResult.SUCCESS
    assert counted("sent") - sent == 1
    away.how = how
    exporter.export([object()])
    assert len(lines) == 2


def test_the_end_of_a_process_does_not_wait_for_a_collector_that_hangs(sampling):
    asked, free = threading.Event(), threading.Event()

    def hang(_spans):
        asked.set()
        free.wait()
        return SpanExportResult.SUCCESS

    provider = Provider(Away(hang), kind="io", version="1")
    Spans(provider.tracer).begin("work", None, {}).end()
    try:
        provider.close(within=0.1)
        assert asked.wait(60)
        assert not free.is_set()
    finally:
        free.set()


def test_more_spans_than_the_queue_holds_take_no_further_memory(monkeypatch):
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "600")
    exporter, asked, free = InMemorySpanExporter(), threading.Event(), threading.Event()

    def hold(spans):
        asked.set()
        free.wait()
        return exporter.export(spans)

    provider = Provider(Away(hold), kind="io", version="1")
    spans = Spans(provider.tracer)
    for _ in range(5000):
        spans.begin("work", None, {}).end()
    assert asked.wait(60)
    free.set()
    provider.close(within=60)
    assert 600 <= len(exporter.get_finished_spans()) < 5000


def test_the_traces_of_a_process_send_the_last_spans_at_its_end(sampling):
    exporter = InMemorySpanExporter()
    traces = ProcessTraces("web", "1", exporter)
    traces.webhooks._spans.begin("receive", None, {}).end()
    traces.close()
    assert [span.name for span in exporter.get_finished_spans()] == ["receive"]


def test_traces_without_the_extra_are_refused_at_the_start(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(checks, "_OF_TRACES", ("opentelemetry-sdk", "no-such-distribution"))
    for name in [name for name in os.environ if name.startswith(("WAYLINK_", "NANGO_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WAYLINK_NANGO_SIGNING_KEYS", "k")
    assert load().traces is False
    monkeypatch.setenv("WAYLINK_TRACES", "true")
    with pytest.raises(ConfigurationError) as refused:
        load()
    [problem] = refused.value.problems
    assert problem.where == "WAYLINK_TRACES"
    assert "no-such-distribution" in problem.what
    assert "pip install 'waylink[traces]'" in problem.what


WITHOUT_THE_EXTRA = """
import sys
from importlib.abc import MetaPathFinder

class Missing(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in {"opentelemetry", "google"}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
import app.main, app.cli.main, workers.celery, workers.__main__
from app.config.loading import load
app.main.create_app(load())
assert not [name for name in sys.modules if name.startswith("app.traces")]
"""


def test_while_traces_are_off_no_process_needs_opentelemetry(tmp_path):
    """Neither web, nor a worker, nor a command imports it. redis-py does where it is installed, and does not use it."""
    variables = {"WAYLINK_DATA_DIR": str(tmp_path), "WAYLINK_NANGO_SIGNING_KEYS": "k", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_THE_EXTRA],
        env=variables, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr

"""Structured logs and metrics. Values that look like a secret are hidden (promise 7)."""

import logging
import re
import sys
from collections.abc import Sequence
from typing import Any, Final

import structlog
from prometheus_client import Counter, Gauge
from structlog.typing import EventDict, Processor, WrappedLogger

from app.domain.metric_counts import Kind, Shape
from app.domain.traceparent import trace_id
from app.histograms import DEFAULT_BUCKETS, Histogram

_SECRET_NAMES: Final = re.compile(
    r"token|secret|passw|passphrase|authorization|cookie|credential|(api|signing|private)[_-]?key", re.I
)
_CHATTY: Final = (
    "httpx", "httpcore", "alembic", "celery.beat", "celery.worker", "celery.app.trace", "urllib3", "uvicorn.error"
)  # fmt: skip
_URL: Final = re.compile(r"://([^\s/]++)")
CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")

# The metrics of a process, by their shape
METRICS: Final[dict[Shape, Counter | Gauge | Histogram]] = {}


def _counter(name: str, text: str, labels: Sequence[str] = ()) -> Counter:
    metric = Counter(name, text, labels)
    METRICS[Shape(name.removesuffix("_total"), Kind.COUNTER, tuple(labels))] = metric
    return metric


def _gauge(name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
    metric = Gauge(name, text, labels)
    METRICS[Shape(name, Kind.GAUGE, tuple(labels))] = metric
    return metric


def _histogram(
    name: str, text: str, labels: Sequence[str] = (), *, buckets: Sequence[float] = DEFAULT_BUCKETS
) -> Histogram:
    metric = Histogram(name, text, labels, buckets=buckets)
    METRICS[metric.shape] = metric
    return metric


WEBHOOKS = _counter("waylink_webhooks_total", "Webhook requests by environment and answer.", ["environment", "answer"])
SENDER_FAILURES = _gauge(
    "waylink_sender_failures", "Refusals of the last 10 s that Nango's breaker may count.", ["environment"]
)
STORING = _gauge("waylink_storing", "1 while webhooks are stored as they should be, 0 while they are held or refused.")
WEBHOOK_KEYS = _counter(
    "waylink_webhook_keys_total", "Verified webhooks by the name of the key that signed them.", ["environment", "key"]
)
STORE_SECONDS = _histogram(
    "waylink_store_seconds", "From verified to committed, seconds, of the oldest request of each commit."
)
INGEST_SECONDS = _histogram(
    "waylink_ingest_seconds",
    "From a webhook's arrival to its answer, seconds, of those that were stored.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
BATCH_SIZES = _histogram(
    "waylink_batch_size",
    "Webhooks of a commit (stored), events of a transaction (processed).",
    ["work"],
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500),
)
EVENTS = _counter("waylink_events_total", "Events processed, by type and state.", ["type", "state"])
ROUTES_UNDECIDED = _counter(
    "waylink_routes_undecided_total",
    "Times that a route came to no decision on an event, for it would take too much work, by team.",
    ["team"],
)
JOBS = _counter(
    "waylink_jobs_total", "Attempts to deliver by team, destination and outcome.", ["team", "destination", "outcome"]
)
ATTEMPT_SECONDS = _histogram(
    "waylink_handover_seconds",
    "From the start of an attempt to its answer or failure, by team and destination, seconds.",
    ["team", "destination"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30),
)
WEBHOOK_TO_JOB_SECONDS = _histogram(
    "waylink_webhook_to_job_seconds",
    "From an event's receipt to the acceptance of its job, by team and destination, seconds; backfills left out.",
    ["team", "destination"],
    buckets=(0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 43_200),
)
DESTINATION_CHANGES = _counter(
    "waylink_destination_changes_total",
    "Changes of a destination's state: failing, recovered, disabled.",
    ["team", "destination", "change"],
)
JOBS_DISCARDED = _counter(
    "waylink_jobs_discarded_total",
    "Jobs given up, by team, destination and whose fault.",
    ["team", "destination", "fault"],
)
DIRECTORY_QUERIES = _counter(
    "waylink_directory_queries_total", "Questions to the application's database, by outcome.", ["query", "outcome"]
)
REFRESHES = _counter(
    "waylink_refreshes_total",
    "Token refreshes by integration and outcome.",
    ["environment", "integration", "outcome"],
)
REFRESHES_KEPT = _counter(
    "waylink_refreshes_kept_total", "Connections that fell back from fresh to alive, or returned.", ["change"]
)
REFRESHES_MISSED = _counter(
    "waylink_refreshes_missed_total", "Planned refreshes for which Nango was asked after their deadline.", ["keeps"]
)
REFRESH_PAUSES = _counter(
    "waylink_refresh_pauses_total",
    "Pauses of integrations' refreshes that began or ended, by cause.",
    ["cause", "change"],
)
API_REQUESTS = _counter("waylink_api_requests_total", "Calls of the REST API.", ["method", "path", "status"])
SIGN_INS = _counter("waylink_sign_ins_total", "Attempts of operators to sign in.", ["method", "outcome"])
RECONCILIATIONS = _counter(
    "waylink_reconciliations_total",
    "Comparisons with Nango's list, by environment and outcome.",
    ["environment", "outcome"],
)
RECONCILED = _counter(
    "waylink_reconciled_total", "Differences that became events, by environment and type.", ["environment", "type"]
)
HEAL_SECONDS = _histogram(
    "waylink_heal_seconds",
    "From Nango's creation of a connection whose webhook was missed to its event being processed, seconds.",
    buckets=(60, 120, 300, 600, 1200, 1800, 3600, 7200, 14_400, 43_200, 86_400),
)
NANGO_CALLS = _counter(
    "waylink_nango_calls_total", "Calls to Nango by account, priority and outcome.", ["account", "priority", "outcome"]
)
CONNECTIONS_CLOSED = _counter("waylink_connections_closed_total", "Connections that web closed, by cause.", ["cause"])
UNREADABLE_VALUES = _counter(
    "waylink_unreadable_values_total", "Values of the database that could not be read, by column.", ["column"]
)
ANSWERS_LOST = _counter(
    "waylink_answers_lost_total", "Webhooks whose answer was not written whole, or not 202: Nango sends them again."
)
SPANS = _counter("waylink_spans_total", "Spans of traces that were sent to the collector, or lost.", ["outcome"])
NOTIFICATIONS = _counter(
    "waylink_notifications_total", "Attempts to send a notification, by channel and outcome.", ["channel", "outcome"]
)
HINTS_LOST = _counter("waylink_hints_lost_total", "Messages the internal broker did not take; the sweep sends them.")


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger that takes an event name and facts: `log.info("event_stored", event="evt_…")`."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def is_debugging() -> bool:
    """Whether lines about single events and jobs are logged: to make and drop them would cost more than the rest."""
    return logging.getLogger().isEnabledFor(logging.DEBUG)


def trace_of(traceparent: str | None) -> dict[str, str]:
    """The fact `trace_id` of a log line; none without a trace."""
    return {} if traceparent is None else {"trace_id": trace_id(traceparent)}


def configure_logs(*, style: str, level: str) -> None:
    """Send all logs, those of libraries included, to standard error in one form."""
    text = style == "console" or (style == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
    ]
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        if text
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # A line per request to Nango, per task or per tick would bury the rest, and httpx's contain tag filters.
    for chatty in _CHATTY:
        logging.getLogger(chatty).setLevel(logging.WARNING)


def redact(_logger: WrappedLogger, _method: str, fields: EventDict) -> EventDict:
    """Hide values under names of secrets, passwords in URLs, and control characters that could forge a line."""
    # Names that begin with an underscore are structlog's own and never printed.
    return {name: value if name.startswith("_") else _redacted(name, value) for name, value in fields.items()}


def _redacted(name: str, value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if _SECRET_NAMES.search(name):
        return "[hidden]"
    if isinstance(value, dict):
        return {escape_control(str(key)): _redacted(str(key), item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_redacted(name, item) for item in value]
    return escape_control(_URL.sub(_without_password, str(value)))


def _without_password(url: re.Match[str]) -> str:
    """The URL without its password, which ends at the last @: some passwords contain one."""
    user, colon, rest = url[1].partition(":")
    _, at, host = rest.rpartition("@")
    return f"://{user}:[hidden]@{host}" if colon and at and "@" not in user else url[0]


def escape_control(text: str) -> str:
    """Control and direction-changing characters as visible escapes; new lines and tabs stay."""
    return CONTROL.sub(lambda match: match.group().encode("unicode_escape").decode(), text)

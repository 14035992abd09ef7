"""Lines of the log about single events, at the level `debug`: one per event and stage, with its ids."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from app.db.bulk import Row
from app.ids import EVENT, JOB, show
from app.services.events.pending_event import PendingEvent
from app.telemetry import get_logger, is_debugging, trace_of

log = get_logger(__name__)


class WrittenRows(NamedTuple):
    """The rows of a transaction: changes of its events, further events, and jobs."""

    changes: Sequence[Row] = ()
    events: Sequence[dict[str, Any]] = ()
    jobs: Sequence[dict[str, Any]] = ()


NOTHING: Final = WrittenRows()


def asked(pending: Sequence[PendingEvent]) -> None:
    """Nango was asked for the connections of these events."""
    if is_debugging():
        for item in pending:
            ids = {"event_id": show(EVENT, item.event.id), **trace_of(item.traceparent)}
            log.debug("event_asked", answer=item.answer, **ids)


def applied(pending: Sequence[PendingEvent], written: WrittenRows) -> None:
    """The transaction of these events is committed."""
    if not is_debugging():
        return
    traces = {item.event.id: item.traceparent for item in pending}
    traces |= {row["id"]: row["traceparent"] for row in written.events}
    for row in written.changes:
        facts = {"type": row["type"], "state": str(row.get("state", "received"))}
        log.debug("event_applied", event_id=show(EVENT, row["id"]), **facts, **trace_of(traces.get(row["id"])))
    for job in written.jobs:
        ids = {"event_id": show(EVENT, job["event_id"]), "job_id": show(JOB, job["id"])}
        log.debug("job_made", **ids, route=job["route"], team=job["team"], **trace_of(traces.get(job["event_id"])))

"""Queues and processes: what waits for each destination, at which rate it leaves, and which process works on what."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from starlette.responses import Response

from app.domain.figures import FigureName, Step
from app.services.metrics import figure_points
from app.web.api import processes, queues
from app.web.api.endpoint import Call
from app.web.api.processes import ProcessesQuery, ProcessRow
from app.web.api.queues import DestinationQueue, Queues, QueuesQuery
from app.web.console.figure_times import short
from app.web.console.serving import ConsoleContext, Visit

RATED: Final = timedelta(minutes=15)
ALIVE: Final = ("running", "standing_still")


@dataclass(frozen=True, slots=True)
class ShownQueue:
    """A destination's queue. rate: jobs that it took, per minute. oldest_seconds: since when its first job is due; None
    where none is. made_before: a time before which that job was made.
    """

    queue: DestinationQueue
    rate: float
    oldest_seconds: float | None
    made_before: str | None


async def show_queues(context: ConsoleContext, visit: Visit) -> Response:
    """Queues of all destinations, or of the team's, and for others than teams the internal queues and processes."""
    found: dict[str, Any] = await context.rows.run(partial(_read, visit.call(context)))
    return visit.page("queues.html", minutes=int(RATED.total_seconds() // 60), **found)


def _read(call: Call) -> dict[str, Any]:
    now = call.context.clock()
    found: Queues = queues.list_queues.run(call, query=QueuesQuery())
    rates = _rates(call, now)
    shown = [
        ShownQueue(
            queue,
            rates.get((queue.team, queue.destination), 0.0),
            _age(queue.oldest_due_at, now),
            _next_minute(queue.oldest_due_at),
        )
        for queue in found.destinations
    ]
    return {"internal": found.internal, "destinations": shown, **_processes(call)}


def _processes(call: Call) -> dict[str, Any]:
    """Processes that report, and the number of those that do no more; none for a team."""
    if call.team is not None:
        return {"processes": None, "ended": 0}
    rows: list[ProcessRow] = processes.list_processes.run(call, query=ProcessesQuery()).data
    shown = [row for row in rows if row.state in ALIVE or (row.state == "silent" and not row.replaced)]
    return {"processes": shown, "ended": len(rows) - len(shown)}


def _rates(call: Call, now: datetime) -> dict[tuple[str, str], float]:
    """Completed jobs per minute by destination, of the last RATED."""
    since = Step.MINUTE.start(now - RATED)
    with call.context.database.read() as session:
        points = figure_points.read(session, FigureName.JOBS, Step.MINUTE, since=since, until=now)
    counts: dict[tuple[str, str], float] = defaultdict(float)
    for point in points:
        labels = point["labels"]
        if labels["outcome"] == "completed":
            counts[labels["team"], labels["destination"]] += point["value"]
    return {key: count / (RATED / timedelta(minutes=1)) for key, count in counts.items()}


def _next_minute(at: str | None) -> str | None:
    return short(datetime.fromisoformat(at) + timedelta(minutes=1)) if at is not None else None


def _age(at: str | None, now: datetime) -> float | None:
    if at is None:
        return None
    seconds = (now - datetime.fromisoformat(at)).total_seconds()
    return seconds if seconds >= 0 else None

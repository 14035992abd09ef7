"""The stages of an event as a waterfall: what waited and what was worked on, on one scale for all of them.

Time in which nothing was worked on is drawn shorter than it was.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

from app.web.api.shapes import EventRecord, JobRecord

WIDTH: Final = 1000.0  # of the scale
LEAST: Final = 4.0  # width of a bar that took no time
SHORTEST: Final = 0.05  # seconds of waiting that are drawn in full, whatever was worked


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage from `at` to `until`; None: it is not over. works: something was done, and it did not only wait."""

    name: str
    at: datetime
    until: datetime | None
    works: bool
    detail: str = ""
    link: str | None = None


@dataclass(frozen=True, slots=True)
class Bar:
    """A stage with its place on the scale, and its seconds."""

    stage: Stage
    x: float
    width: float
    seconds: float


def stages(event: EventRecord, jobs: Sequence[JobRecord]) -> list[Stage]:
    """The stages of an event and of its jobs, in the order of time for each."""
    received = datetime.fromisoformat(event.received_at)
    processed = datetime.fromisoformat(event.processed_at) if event.processed_at else None
    found = [Stage("Received and stored", received, received, works=True, detail=_arrival(event))]
    found.append(Stage("Processed", received, processed, works=False, detail=_processing(event)))
    for job in jobs:
        found += _of_job(job)
    return found


def bars(found: Sequence[Stage], *, now: datetime) -> list[Bar]:
    """The stages on one scale."""
    place = _scale(found, now)
    return [
        Bar(each, place(each.at), max(place(each.until or now) - place(each.at), LEAST), _seconds(each, now))
        for each in found
    ]


def _of_job(job: JobRecord) -> Iterator[Stage]:
    to, since = f"{job.team}/{job.destination}", datetime.fromisoformat(job.created_at)
    link = f"/console/jobs/{job.id}"
    for attempt in job.attempt_log:
        began = datetime.fromisoformat(attempt.started_at)
        yield Stage(f"Waited for {to}", since, max(began, since), works=False, link=link)
        since = began + timedelta(milliseconds=attempt.latency_ms)
        told = [attempt.outcome, str(attempt.status or ""), attempt.error or "", attempt.response_excerpt or ""]
        yield Stage(
            f"Attempt {attempt.number}", began, since, works=True, detail=" ".join(filter(None, told)), link=link
        )
    if job.finished_at is None:
        parked = f", parked: {job.blocked_by}" if job.blocked_by else ""
        yield Stage(f"Waits for {to}", since, None, works=False, detail=f"{job.state}{parked}", link=link)


def _arrival(event: EventRecord) -> str:
    if event.origin != "webhook":
        return f"by Waylink: {event.origin}"
    more = f", and {event.duplicates} times again" if event.duplicates else ""
    return f"webhook with a valid signature{more}"


def _processing(event: EventRecord) -> str:
    if event.failure:
        return f"failed: {event.failure.replace('_', ' ')}"
    if event.state == "received":
        return event.problem or "it waits for a worker"
    looked = {True: "confirmed by Nango", False: "not confirmed by Nango", None: "not looked up at Nango"}
    tries = f", after {event.looks} looks" if event.looks else ""
    return looked[event.confirmed] + tries


def _seconds(stage: Stage, now: datetime) -> float:
    return max(0.0, ((stage.until or now) - stage.at).total_seconds())


def _scale(found: Sequence[Stage], now: datetime) -> Callable[[datetime], float]:
    """The place of a moment. Idle time counts up to the length of all the work."""
    moments = sorted({moment for each in found for moment in (each.at, each.until or now)})
    worked = sum(_seconds(each, now) for each in found if each.works)
    places, total = {moments[0]: 0.0}, 0.0
    for start, end in pairwise(moments):
        seconds = (end - start).total_seconds()
        at_work = any(each.works and each.at <= start and (each.until or now) >= end for each in found)
        total += seconds if at_work else min(seconds, max(worked, SHORTEST))
        places[end] = total
    return lambda moment: places[moment] / total * (WIDTH - LEAST) if total else 0.0

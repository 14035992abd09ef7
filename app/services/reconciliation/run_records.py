"""What a reconciliation run writes, each in a short transaction that only whoever holds the run may make."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Final, TypeVar
from uuid import UUID

from sqlalchemy.orm import Session

from app.db import differences, reconciliations
from app.db.differences import OpenDifference, Settled, Sighting
from app.db.engine import Database
from app.db.reconciliations import Run
from app.deadlines import BATCH, RECONCILE_LEASE
from app.domain.own_event import OwnEvent
from app.domain.reconciling import DIFFERENCES, TOLD_BY_WEBHOOK, Stage, Trigger
from app.domain.states import EventState, Origin
from app.services import internal_events
from app.services.reconciliation.diff import Found
from app.telemetry import HEAL_SECONDS, RECONCILED

Value = TypeVar("Value")

CHUNK: Final = BATCH  # rows in one transaction: on SQLite it has to stay under 100 ms
SAMPLES: Final = 10  # of each type that a report names


class LeaseLostError(Exception):
    """Somebody else works on the run by now: what was done since counts for nothing."""


@dataclass(frozen=True, slots=True)
class RunRecords:
    """Each method raises LeaseLostError where the run is no longer ours, and has written nothing then."""

    database: Database
    clock: Callable[[], datetime]

    @contextmanager
    def holding(self, run: Run) -> Iterator[Session]:
        """A transaction of whoever holds the run."""
        with self.database.write() as session:
            if not reconciliations.holds(session, run):
                raise LeaseLostError
            yield session

    def record(self, before: Run, after: Run) -> Run:
        with self.holding(before) as session:
            reconciliations.save(session, after)
        return after

    def note(self, run: Run, found: Sequence[Found]) -> None:
        """Keep first sights until they are looked at again. A dry run keeps nothing."""
        if run.dry_run:
            return
        for some in _chunks(found):
            sightings = [Sighting(one.key, one.type, one.since) for one in some]
            with self.holding(run) as session:
                differences.add(session, run.environment, sightings, now=self.clock())

    def tell(self, run: Run, judged: Mapping[OpenDifference, OwnEvent | None]) -> tuple[Run, list[UUID]]:
        """Make events of what is still there, and forget the rest. Answers the events' ids, too."""
        made: list[UUID] = []
        for some in _chunks(judged.items()):
            told = {one.id: event for one, event in some if event is not None}
            kinds = Counter(str(event.type) for event in told.values())
            missed = sum(count for kind, count in kinds.items() if kind in TOLD_BY_WEBHOOK)
            after = self.going_on(
                run,
                counted=add_up(run.counted, kinds),
                missed_by_webhook=run.missed_by_webhook + (0 if run.trigger == Trigger.IMPORT else missed),
            )
            with self.holding(run) as session:
                made += self._make_events(session, run.environment, told)
                differences.drop(session, [one.id for one, event in some if event is None])
                reconciliations.save(session, after)
            run = after
            for kind, count in kinds.items():
                RECONCILED.labels(run.environment, kind).inc(count)
        return run, made

    def _make_events(self, session: Session, environment: str, told: Mapping[UUID, OwnEvent]) -> list[UUID]:
        found, now = list(told.values()), self.clock()
        made = internal_events.store(session, found, environment=environment, origin=Origin.RECONCILE, now=now)
        differences.become_events(session, dict(zip(told, made, strict=True)))
        return made

    def account(self, run: Run) -> Run:
        """Take the events that have come to an end into the report."""
        over = None
        while over is None or len(over) == CHUNK:
            with self.holding(run) as session:
                over = differences.settled(session, run.environment, limit=CHUNK)
                if not over:
                    break
                took = [] if run.trigger == Trigger.IMPORT else list(_heal_seconds(over))
                processed = sum(one.state == EventState.PROCESSED for one in over)
                run = self.going_on(
                    run,
                    healed=run.healed + processed,
                    unhealed=run.unhealed + len(over) - processed,
                    heal_count=run.heal_count + len(took),
                    heal_seconds_sum=run.heal_seconds_sum + sum(took),
                    heal_seconds_max=max([run.heal_seconds_max, *took]),
                )
                differences.drop(session, [one.id for one in over])
                reconciliations.save(session, run)
            for seconds in took:
                HEAL_SECONDS.observe(seconds)
        return run

    def drop_absences(self, run: Run, shown: Iterable[tuple[str, str]]) -> None:
        """These are in Nango's list after all: it moved while it was read."""
        with self.holding(run) as session:
            differences.drop_absences(session, run.environment, list(shown))

    def forget(self, run: Run, *, absences: bool, others: bool) -> None:
        """Drop what is noted and has not become an event."""
        gone = CHUNK
        while gone == CHUNK:
            with self.holding(run) as session:
                gone = differences.drop_open(session, run.environment, absences=absences, others=others, limit=CHUNK)

    # How a run goes on

    def going_on(self, run: Run, **changes: Any) -> Run:
        """A result: the lease begins anew, and no claim or call was in vain."""
        kept = None if run.failures else run.problem
        fresh = {"attempts": 0, "failures": 0, "problem": kept, "next_at": self.clock() + RECONCILE_LEASE}
        return replace(run, **{**fresh, **changes})

    def paused(self, run: Run, seconds: float) -> Run:
        """Waiting is a result, too."""
        return replace(run, attempts=0, holder=None, next_at=self.clock() + timedelta(seconds=seconds))

    def entered(self, run: Run, stage: Stage, **changes: Any) -> Run:
        return replace(run, stage=stage, stage_since=self.clock(), **changes)


def add_up(before: Mapping[str, int], more: Mapping[str, int]) -> dict[str, int]:
    """Counts by type, in the order in which they are told of."""
    return {str(kind): count for kind in DIFFERENCES if (count := before.get(kind, 0) + more.get(kind, 0))}


def sampled(samples: Mapping[str, Sequence[Any]], found: Iterable[Found]) -> dict[str, list[Any]]:
    """The samples of a report with those that there is room for."""
    taken = {kind: list(some) for kind, some in samples.items()}
    for one in found:
        some = taken.setdefault(str(one.type), [])
        if len(some) < SAMPLES:
            integration, connection_id = one.key
            some.append({"integration": integration, "connection_id": connection_id, "why": one.why})
    return taken


def _heal_seconds(over: Iterable[Settled]) -> Iterator[float]:
    for one in over:
        if one.state == EventState.PROCESSED and one.since is not None and one.processed_at is not None:
            yield (one.processed_at - one.since).total_seconds()


def _chunks(values: Iterable[Value]) -> Iterator[list[Value]]:
    rest = iter(values)
    while some := list(islice(rest, CHUNK)):
        yield some

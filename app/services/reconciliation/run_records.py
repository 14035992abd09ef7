"""Writes of a reconciliation run, each in a short transaction that requires the run's lease."""

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
from app.db.differences import FinishedDifference, OpenDifference, Sighting
from app.db.engine import Database
from app.db.reconciliations import Run
from app.deadlines import BATCH, RECONCILE_LEASE
from app.domain.own_event import OwnEvent
from app.domain.reconciling import DIFFERENCES, SENT_BY_WEBHOOK, Stage, Trigger
from app.domain.states import EventState, Origin
from app.services import own_events
from app.services.reconciliation.diff import NewDifference
from app.telemetry import HEAL_SECONDS, RECONCILED

Value = TypeVar("Value")

CHUNK: Final = BATCH  # rows per transaction: on SQLite it must stay under 100 ms
SAMPLES: Final = 10  # of each type in a report


class LeaseLostError(Exception):
    """Another process has taken over the run: the unit of work since the last record is discarded."""


@dataclass(frozen=True, slots=True)
class RunRecords:
    """Writes of runs. Each method raises LeaseLostError, having written nothing, where the run's lease is lost."""

    database: Database
    clock: Callable[[], datetime]

    @contextmanager
    def holding(self, run: Run) -> Iterator[Session]:
        """A transaction in which the run's lease is held."""
        with self.database.write() as session:
            if not reconciliations.holds(session, run):
                raise LeaseLostError
            yield session

    def record(self, before: Run, after: Run) -> Run:
        with self.holding(before) as session:
            reconciliations.save(session, after)
        return after

    def record_new(self, run: Run, new: Sequence[NewDifference]) -> None:
        """Store new differences for the second check; a dry run stores nothing."""
        if run.dry_run:
            return
        for chunk in _chunks(new):
            sightings = [Sighting(difference.key, difference.type, difference.since) for difference in chunk]
            with self.holding(run) as session:
                differences.add(session, run.environment, sightings, now=self.clock())

    def store_events(self, run: Run, checked: Mapping[OpenDifference, OwnEvent | None]) -> tuple[Run, list[UUID]]:
        """Store the events of persisting differences, and delete the others. Returns the run and the events' ids."""
        made: list[UUID] = []
        for chunk in _chunks(checked.items()):
            events = {difference.id: event for difference, event in chunk if event is not None}
            kinds = Counter(str(event.type) for event in events.values())
            missed = sum(count for kind, count in kinds.items() if kind in SENT_BY_WEBHOOK)
            after = self.progressed(
                run,
                counted=added_counts(run.counted, kinds),
                missed_by_webhook=run.missed_by_webhook + (0 if run.trigger == Trigger.IMPORT else missed),
            )
            with self.holding(run) as session:
                made += self._make_events(session, run.environment, events)
                differences.drop(session, [difference.id for difference, event in chunk if event is None])
                reconciliations.save(session, after)
            run = after
            for kind, count in kinds.items():
                RECONCILED.labels(run.environment, kind).inc(count)
        return run, made

    def _make_events(self, session: Session, environment: str, events: Mapping[UUID, OwnEvent]) -> list[UUID]:
        own, now = list(events.values()), self.clock()
        made = own_events.store(session, own, environment=environment, origin=Origin.RECONCILE, now=now)
        differences.become_events(session, dict(zip(events, made, strict=True)))
        return made

    def count_finished(self, run: Run) -> Run:
        """Count the differences whose events are finished in the report, and delete them."""
        finished = None
        while finished is None or len(finished) == CHUNK:
            with self.holding(run) as session:
                finished = differences.finished(session, run.environment, limit=CHUNK)
                if not finished:
                    break
                took = [] if run.trigger == Trigger.IMPORT else list(_heal_seconds(finished))
                processed = sum(difference.state == EventState.PROCESSED for difference in finished)
                run = self.progressed(
                    run,
                    healed=run.healed + processed,
                    unhealed=run.unhealed + len(finished) - processed,
                    heal_count=run.heal_count + len(took),
                    heal_seconds_sum=run.heal_seconds_sum + sum(took),
                    heal_seconds_max=max([run.heal_seconds_max, *took]),
                )
                differences.drop(session, [difference.id for difference in finished])
                reconciliations.save(session, run)
            for seconds in took:
                HEAL_SECONDS.observe(seconds)
        return run

    def drop_absences(self, run: Run, shown: Iterable[tuple[str, str]]) -> None:
        """Delete absences of connections that a later page shows: rows moved while the list was read."""
        with self.holding(run) as session:
            differences.drop_absences(session, run.environment, list(shown))

    def drop_open(self, run: Run, *, absences: bool, others: bool) -> None:
        """Delete differences without an event: absences, others, or both."""
        gone = CHUNK
        while gone == CHUNK:
            with self.holding(run) as session:
                gone = differences.drop_open(session, run.environment, absences=absences, others=others, limit=CHUNK)

    # Changes of a run

    def progressed(self, run: Run, **changes: Any) -> Run:
        """The run after a result: a fresh lease, and zero attempts and failures."""
        kept = None if run.failures else run.problem
        fresh = {"attempts": 0, "failures": 0, "problem": kept, "next_at": self.clock() + RECONCILE_LEASE}
        return replace(run, **{**fresh, **changes})

    def paused(self, run: Run, seconds: float) -> Run:
        """The run without a holder, due again after so many seconds; its attempts are zero again."""
        return replace(run, attempts=0, holder=None, next_at=self.clock() + timedelta(seconds=seconds))

    def entered(self, run: Run, stage: Stage, **changes: Any) -> Run:
        """The run at the begin of a stage."""
        return replace(run, stage=stage, stage_since=self.clock(), **changes)


def added_counts(before: Mapping[str, int], more: Mapping[str, int]) -> dict[str, int]:
    """The sums of counts by type, in the order of DIFFERENCES."""
    return {str(kind): count for kind in DIFFERENCES if (count := before.get(kind, 0) + more.get(kind, 0))}


def sampled(samples: Mapping[str, Sequence[Any]], new: Iterable[NewDifference]) -> dict[str, list[Any]]:
    """A report's samples with further ones, SAMPLES of each type at most."""
    result = {kind: list(entries) for kind, entries in samples.items()}
    for difference in new:
        entries = result.setdefault(str(difference.type), [])
        if len(entries) < SAMPLES:
            integration, connection_id = difference.key
            entries.append({"integration": integration, "connection_id": connection_id, "why": difference.why})
    return result


def _heal_seconds(finished: Iterable[FinishedDifference]) -> Iterator[float]:
    for difference in finished:
        since, processed_at = difference.since, difference.processed_at
        if difference.state == EventState.PROCESSED and since is not None and processed_at is not None:
            yield (processed_at - since).total_seconds()


def _chunks(values: Iterable[Value]) -> Iterator[list[Value]]:
    rest = iter(values)
    while chunk := list(islice(rest, CHUNK)):
        yield chunk

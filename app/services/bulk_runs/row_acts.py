"""The acts of runs on a chunk of rows: which rows are next, and what is done with them in one transaction.

Opens short transactions that only read, to match events against routes before the transaction that writes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, Protocol, TypeVar
from uuid import UUID

import msgspec
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.db import event_actions as event_rows
from app.db import job_actions as job_rows
from app.db.bulk_runs import Run, Unchanged
from app.db.engine import Database
from app.db.event_actions import EventFilters
from app.db.job_actions import JobFilters
from app.deadlines import BATCH
from app.domain.bulk_runs import OF_JOBS, BulkAct, RowResult
from app.domain.job_actions import JobAction, why_left_alone
from app.domain.states import JobState
from app.errors import Conflict, InvalidInput, NotFound
from app.services.routing import replays
from app.services.routing.cache import RouteCache
from app.services.routing.replays import Matching, Routes

Cursor = tuple[datetime | None, UUID]  # a row by its id, and by its time where rows are walked in the order of one
Chosen = TypeVar("Chosen")

CHUNK: Final = 1000  # rows of one transaction on PostgreSQL; on SQLite, where it has to stay under 100 ms, BATCH
REPLAYED: Final = 10  # events of one transaction: each has its own statements
GONE: Final = "it is not stored any more"


@dataclass(frozen=True, slots=True)
class Taken:
    """The result of a chunk. changed: ids of rows. due: ids of jobs or events that are due by it, for hints."""

    changed: Sequence[UUID]
    unchanged: Sequence[Unchanged]
    due: Sequence[UUID]


class NotNowError(Exception):
    """A row whose turn cannot come now: the run goes on with it after so many seconds.

    is_try: it may have been asked for, so that the next turn is one more try.
    """

    def __init__(self, why: str, *, seconds: float, is_try: bool = False) -> None:
        self.seconds, self.is_try = seconds, is_try
        super().__init__(why)


class RowAct(Protocol):
    """An act of a run."""

    def chunk_size(self, database: Database) -> int:
        """The number of rows of one transaction."""
        ...

    def page(self, session: Session, after: Cursor | None, *, limit: int) -> list[Cursor]:
        """The next matching rows behind the cursor, not locked."""
        ...

    def prepare(self, database: Database, ids: Sequence[UUID]) -> None:
        """Compute or ask what `take` needs, with no transaction open. Raises NotNowError."""
        ...

    def lock(self, session: Session) -> None:
        """Take the locks of the transaction that come before those of rows, the run's own included."""
        ...

    def take(self, session: Session, ids: Sequence[UUID], now: datetime) -> Taken:
        """Act on the rows, those that have changed meanwhile left alone."""
        ...


class ReplayedEvents(msgspec.Struct, frozen=True, kw_only=True):
    """The events of a replay, and how each is replayed."""

    filters: EventFilters
    routes: Routes = Routes.NOW
    again: bool = False


def written(chosen: JobFilters | EventFilters | msgspec.Struct) -> str:
    """The filter of a run as it is stored."""
    return msgspec.json.encode(chosen).decode()


def act_of(run: Run, routes: RouteCache) -> RowAct:
    """The act of a run. Raises InvalidInput for a filter that cannot be read."""
    match BulkAct(run.act):
        case BulkAct.RETRY_EVENTS:
            return RetriedEvents(replace(read_filter(run, EventFilters), as_of=run.created_at))
        case BulkAct.REPLAY_EVENTS:
            wanted = read_filter(run, ReplayedEvents)
            return EventReplays(replace(wanted.filters, as_of=run.created_at), wanted, routes)
        case act:
            action = next(action for action, of_jobs in OF_JOBS.items() if of_jobs is act)
            return ActOnJobs(action, replace(read_filter(run, JobFilters), as_of=run.created_at))


def read_filter(run: Run, kind: type[Chosen]) -> Chosen:
    """The filter as it was stored. Raises InvalidInput."""
    try:
        return msgspec.json.decode(run.chosen, type=kind)
    except (msgspec.DecodeError, UnicodeEncodeError) as unreadable:
        raise InvalidInput(f"its filter cannot be read: {unreadable}") from None


@dataclass(frozen=True, slots=True)
class ActOnJobs:
    """Retry, cancel or redeliver jobs."""

    action: JobAction
    filters: JobFilters

    def chunk_size(self, database: Database) -> int:
        return BATCH if database.is_sqlite else CHUNK

    def page(self, session: Session, after: Cursor | None, *, limit: int) -> list[Cursor]:
        return job_rows.page(session, self.filters, after=after, limit=limit)

    def prepare(self, database: Database, ids: Sequence[UUID]) -> None:
        pass

    def lock(self, session: Session) -> None:
        pass

    def take(self, session: Session, ids: Sequence[UUID], now: datetime) -> Taken:
        changed = job_rows.take(session, self.action, ids, now=now)
        left = sorted(set(ids) - set(changed))
        states = {job.id: JobState(job.state) for job in job_rows.get_many(session, left)} if left else {}
        why = {job_id: why_left_alone(self.action, states[job_id]) if job_id in states else GONE for job_id in left}
        unchanged = [Unchanged(job_id, RowResult.LEFT_ALONE, why[job_id]) for job_id in left]
        return Taken(changed, unchanged, () if self.action is JobAction.CANCEL else changed)


@dataclass(frozen=True, slots=True)
class RetriedEvents:
    """Process failed events again."""

    filters: EventFilters

    def chunk_size(self, database: Database) -> int:
        return BATCH if database.is_sqlite else CHUNK

    def page(self, session: Session, after: Cursor | None, *, limit: int) -> list[Cursor]:
        last = after[1] if after is not None else None
        found = event_rows.page(session, self.filters, failed=True, after=last, limit=limit)
        return [(None, event_id) for event_id in found]

    def prepare(self, database: Database, ids: Sequence[UUID]) -> None:
        pass

    def lock(self, session: Session) -> None:
        pass

    def take(self, session: Session, ids: Sequence[UUID], now: datetime) -> Taken:
        changed = event_rows.revive(session, ids, now=now)
        left = sorted(set(ids) - set(changed))
        unchanged = [Unchanged(event_id, RowResult.LEFT_ALONE, "it is not failed any more") for event_id in left]
        return Taken(changed, unchanged, changed)


@dataclass(slots=True)
class EventReplays:
    """Give stored events to the routes once more."""

    filters: EventFilters
    wanted: ReplayedEvents
    routes: RouteCache
    _matching: dict[UUID, Matching] = field(default_factory=dict, init=False)
    _problems: dict[UUID, Unchanged] = field(default_factory=dict, init=False)

    def chunk_size(self, database: Database) -> int:
        return REPLAYED

    def page(self, session: Session, after: Cursor | None, *, limit: int) -> list[Cursor]:
        last = after[1] if after is not None else None
        found = event_rows.page(session, self.filters, failed=False, after=last, limit=limit)
        return [(None, event_id) for event_id in found]

    def prepare(self, database: Database, ids: Sequence[UUID]) -> None:
        """Match the events, with no transaction open."""
        self._matching, self._problems = {}, {}
        current = self.routes.current(database)
        for event_id in ids:
            try:
                self._matching[event_id] = replays.match(database, event_id, self.wanted.routes, current)
            except (Conflict, NotFound) as refused:
                self._leave(event_id, RowResult.LEFT_ALONE, str(refused))
            except DBAPIError:
                raise
            except Exception as fault:  # noqa: BLE001 - one event's document must not stop the others
                self._leave(event_id, RowResult.FAILED, f"it could not be matched: {type(fault).__name__}")

    def lock(self, session: Session) -> None:
        pass

    def take(self, session: Session, ids: Sequence[UUID], now: datetime) -> Taken:
        changed: list[UUID] = []
        due: list[UUID] = []
        for event_id in ids:
            matching = self._matching.get(event_id)
            if matching is None:
                continue
            try:
                done = replays.carry_out(session, matching, again=self.wanted.again, now=now)
            except (Conflict, NotFound) as refused:  # before anything was written
                self._leave(event_id, RowResult.LEFT_ALONE, str(refused))
                continue
            due += done.due
            if done.due:
                changed.append(event_id)
            else:
                why = next((step.why for step in done.steps if step.why), None) or "no route matches"
                self._leave(event_id, RowResult.LEFT_ALONE, why)
        return Taken(changed, list(self._problems.values()), due)

    def _leave(self, event_id: UUID, result: RowResult, why: str) -> None:
        self._problems[event_id] = Unchanged(event_id, result, why)

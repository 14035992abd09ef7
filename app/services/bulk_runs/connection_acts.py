"""The acts of runs on connections: renewals, tags, links and deletions, those at Nango one connection at a time.

What a row takes at Nango is done with no transaction open, within the account's request budget and behind all more
urgent calls. A worker that was stopped may have asked already: its successor asks so that nothing is done twice.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
from sqlalchemy.orm import Session

from app.db import owner_locks, refresh_pauses, refreshes
from app.db.bulk_runs import Run, Unchanged
from app.db.engine import Database
from app.db.read import chosen_connections
from app.db.read.chosen_connections import ConnectionFilters
from app.deadlines import MAX_CLAIMS
from app.domain.budget import Priority
from app.domain.bulk_runs import BulkAct, RowResult
from app.domain.refreshing.facts import IntegrationKey
from app.domain.routing import RouteSet
from app.domain.states import ConnectionStatus, RefreshOutcome
from app.errors import Conflict, NangoRateLimited, NangoUnavailable, NotFound, WaylinkError
from app.services.bulk_runs.row_acts import GONE, Cursor, NotNowError, RowAct, Taken, read_filter, written
from app.services.bulk_runs.showing import shown_filter
from app.services.connections import credentials, deletion, tags
from app.services.connections.operations import Operations
from app.services.linking import by_hand
from app.services.nango_clients import NangoClients
from app.services.policy import Policy
from app.services.routing.cache import RouteCache

UNLINKED: Final = 10  # connections of one transaction
LONGEST_WHY: Final = 300  # characters
AWAY: Final = 15.0  # seconds until Nango is asked again about a connection
CUT_OFF: Final = "a worker was stopped while Nango was asked to renew it, and has not renewed it: refresh it again"
_RENEWED: Final = frozenset({RefreshOutcome.RENEWED, RefreshOutcome.FIRST_SEEN, RefreshOutcome.NO_EXPIRY})


class ConnectionsWanted(msgspec.Struct, frozen=True, kw_only=True):
    """The connections of a run, with the tags that it adds, or the keys of those that it removes."""

    filters: ConnectionFilters
    add_tags: dict[str, str] = {}
    remove_tags: list[str] = []

    @property
    def audited(self) -> dict[str, Any]:
        """The same for the audit: of tags the keys alone, since their values name people."""
        shown = shown_filter(written(self))
        return {name: sorted(value) if isinstance(value, dict) else value for name, value in shown.items()}


@dataclass(frozen=True, slots=True)
class ConnectionActs:
    """The acts of runs on connections, with what they need."""

    database: Database
    policy: Policy
    clients: NangoClients
    routes: RouteCache
    clock: Callable[[], datetime]

    def __call__(self, run: Run) -> RowAct:
        """The act of a run. Raises InvalidInput for a filter that cannot be read."""
        wanted = read_filter(run, ConnectionsWanted)
        filters = replace(wanted.filters, as_of=run.created_at)
        if run.act == BulkAct.UNLINK_CONNECTIONS:
            return Unlinks(filters, self.policy, self.routes, actor=run.actor, reason=run.reason)
        operations = Operations(self.database, self.policy, self.clients, self.clock, Priority.REFRESH)
        return ActsAtNango(BulkAct(run.act), wanted, filters, operations, run)


def _page(session: Session, filters: ConnectionFilters, after: Cursor | None, limit: int) -> list[Cursor]:
    last = after[1] if after is not None else None
    return [(None, ref) for ref in chosen_connections.page(session, filters, after=last, limit=limit)]


@dataclass(slots=True)
class Unlinks:
    """Close links."""

    filters: ConnectionFilters
    policy: Policy
    routes: RouteCache
    actor: str
    reason: str | None
    _current: RouteSet | None = field(default=None, init=False)

    def chunk_size(self, _database: Database) -> int:
        return UNLINKED

    def page(self, session: Session, after: Cursor | None, *, limit: int) -> list[Cursor]:
        return _page(session, self.filters, after, limit)

    def prepare(self, database: Database, _ids: Sequence[UUID]) -> None:
        self._current = self.routes.current(database)

    def lock(self, session: Session) -> None:
        owner_locks.begin_linking(session, supersedes=self.policy.supersedes_any)

    def take(self, session: Session, ids: Sequence[UUID], now: datetime) -> Taken:
        changed: list[UUID] = []
        unchanged: list[Unchanged] = []
        told = {"reason": self.reason, "actor": self.actor}
        assert self._current is not None  # noqa: S101 - `prepare` comes before
        for ref in ids:
            try:
                by_hand.close_link(session, self._current, self.policy, ref, now=now, **told)  # type: ignore[arg-type]
                changed.append(ref)
            except (Conflict, NotFound) as refused:
                unchanged.append(_left(ref, GONE if isinstance(refused, NotFound) else str(refused)))
        return Taken(changed, unchanged, ())


@dataclass(slots=True)
class ActsAtNango:
    """Renew, tag or delete connections, one at a time."""

    act: BulkAct
    wanted: ConnectionsWanted
    filters: ConnectionFilters
    operations: Operations
    run: Run
    _asked: set[UUID] = field(default_factory=set, init=False)
    _left: dict[UUID, Unchanged] = field(default_factory=dict, init=False)

    def chunk_size(self, _database: Database) -> int:
        return 1

    def page(self, session: Session, after: Cursor | None, *, limit: int) -> list[Cursor]:
        return _page(session, self.filters, after, limit)

    def prepare(self, _database: Database, ids: Sequence[UUID]) -> None:
        """Ask Nango. Raises NotNowError."""
        self._left = {}
        for ref in ids:
            # Of the first row of a claim that is not the run's first, a former worker may have asked already.
            is_again = not self._asked and self.run.attempts > 1
            if (left := self._answered(ref, is_again=is_again)) is not None:
                self._left[ref] = left
            self._asked.add(ref)

    def lock(self, _session: Session) -> None:
        pass

    def take(self, _session: Session, ids: Sequence[UUID], _now: datetime) -> Taken:
        """Count what was done; the events that follow are stored already."""
        due, self.operations.stored[:] = list(self.operations.stored), []
        return Taken([ref for ref in ids if ref not in self._left], list(self._left.values()), due)

    def _answered(self, ref: UUID, *, is_again: bool) -> Unchanged | None:
        """The reason why the connection is as it was; None: the act is done."""
        tries = 1 if self._asked else self.run.attempts
        try:
            return self._ask(ref, is_again=is_again)
        except NotFound:
            return _left(ref, GONE)
        except NangoRateLimited as held:
            raise NotNowError(str(held), seconds=max(held.retry_after, 1.0)) from None
        except (NangoUnavailable, Conflict) as refused:
            is_passing = isinstance(refused, NangoUnavailable) or refused.retry_after is not None
            if is_passing and tries < MAX_CLAIMS:
                raise NotNowError(str(refused), seconds=AWAY, is_try=True) from None
            return _failed(ref, str(refused)) if is_passing else _left(ref, str(refused))
        except WaylinkError as failed:
            return _failed(ref, str(failed))

    def _ask(self, ref: UUID, *, is_again: bool) -> Unchanged | None:
        operations, actor = self.operations, self.run.actor
        match self.act:
            case BulkAct.REFRESH_CONNECTIONS:
                return self._refresh(ref, is_again=is_again)
            case BulkAct.ADD_TAGS:
                done = tags.add_tags(operations, ref, self.wanted.add_tags, actor=actor)
                return None if done.changed or is_again else _left(ref, "it has these tags already")
            case BulkAct.REMOVE_TAGS:
                done = tags.remove_tags(operations, ref, self.wanted.remove_tags, actor=actor)
                return None if done.changed or is_again else _left(ref, "it has none of these tags")
            case _:
                if is_again and operations.find(ref).status == ConnectionStatus.DELETED:
                    return None
                deletion.delete(operations, ref, actor=actor, reason=self.run.reason)
                return None

    def _refresh(self, ref: UUID, *, is_again: bool) -> Unchanged | None:
        """A forced call never follows one whose outcome is not known: a plain one looks (promise 1)."""
        connection = self.operations.find(ref)
        with self.operations.database.read() as session:
            if refreshes.is_renewed_since(session, ref, self.run.created_at):
                return None
            if IntegrationKey(connection.environment, connection.integration) in refresh_pauses.current(session):
                return _left(ref, "renewals of its integration are paused")
        done = credentials.refresh(self.operations, ref, actor=self.run.actor, forced=not is_again)
        if done.outcome in _RENEWED:
            return None
        return _failed(ref, CUT_OFF) if is_again else _left(ref, "nothing can renew its credentials")


def _left(ref: UUID, why: str) -> Unchanged:
    return Unchanged(ref, RowResult.LEFT_ALONE, why[:LONGEST_WHY])


def _failed(ref: UUID, why: str) -> Unchanged:
    return Unchanged(ref, RowResult.FAILED, why[:LONGEST_WHY])

"""Lookups of a batch's connections in Nango's list, in few calls; no transaction is open meanwhile.

The list refreshes nothing and returns no credentials (Nango contract: List connections). A few connections are looked
up by id. Those of a burst of creations are found together on the newest pages, which serve the following batches too.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import httpx

from app.db.connections import ConnectionKey
from app.domain.budget import FLOORED
from app.domain.confirming import Absent, LookupResult, Snapshot, Unavailable
from app.domain.linking import EndUser
from app.errors import InvalidInput, NangoError, NangoInvalidRequest, NangoRateLimited
from app.nango.client import MAX_LIMIT, NangoClient
from app.nango.types import ConnectionDetail, ConnectionPage, ListedConnection
from app.telemetry import get_logger

ONE_BY_ONE: Final = 3  # up to so many connections are looked up by id without trying the newest page first
WORTH_A_PAGE: Final = 100  # so many creations never wait for more of them
PAGE_EVERY: Final = 1.5  # seconds between two pages while fewer creations than that wait
BURST: Final = 5.0  # seconds after a page; a few creations, too, are sought on a page then
MAX_PAGES: Final = 5  # large ones for one batch: a backlog of 10,000 creations is seen
WORTH_PAGES: Final = 20  # so many other connections are sought on large pages, too, before each is looked up by id
PAGE_SERVES: Final = 10.0  # seconds for which a page confirms what it agrees with
SLACK: Final = timedelta(seconds=10)  # between a creation in Nango and the receipt of its webhook, clocks included
UNASKABLE: Final = 60.0  # seconds until a request that Nango refused is repeated
HELD_UP: Final = 1.0  # seconds; a call that failed after a longer wait has delayed all other events
REST: Final = 4  # Nango is not asked for so many times as long: most of a worker's time is for other events

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A connection to look up.

    created_tags: those of its creation's webhook, where only that is to be confirmed; else None. Only such a connection
    is sought on the newest pages, and an earlier page that shows just these tags confirms it: a later change has an
    event of its own, with a fresh lookup.
    patient: it had few lookups, so that its absence from the newest pages may be a lag.
    confirms: its event is not applied before the lookup. Others, which only may name a connection, come last.
    """

    received_at: datetime
    created_tags: Mapping[str, str] | None = None
    patient: bool = False
    confirms: bool = True


@dataclass(slots=True)
class _Newest:
    """Rows of an environment's newest pages of the last PAGE_SERVES seconds; times are of the monotonic clock."""

    rows: dict[ConnectionKey, tuple[float, ListedConnection]] = field(default_factory=dict)
    asked_at: float = float("-inf")
    waited: dict[ConnectionKey, float] = field(default_factory=dict)

    @property
    def age(self) -> float:
        return time.monotonic() - self.asked_at

    def has_to_wait(self, created: Sequence[ConnectionKey]) -> bool:
        """True where these few creations wait, once, for the next page, which will show them with later ones."""
        if self.age >= PAGE_EVERY or len(created) >= WORTH_A_PAGE or not self.waited.keys().isdisjoint(created):
            self._forget_waiting(created)
            return False
        self.waited |= dict.fromkeys(created, time.monotonic())
        return True

    def keep(self, environment: str, page: ConnectionPage) -> None:
        now = self.asked_at = time.monotonic()
        self.rows = {key: kept for key, kept in self.rows.items() if now - kept[0] < PAGE_SERVES}
        # Another worker may have claimed them next, so that they do not come back to this one.
        self.waited = {key: since for key, since in self.waited.items() if now - since < PAGE_SERVES}
        self.rows |= {
            ConnectionKey(environment, row.integration, row.connection_id): (now, row) for row in page.connections
        }

    def take(self, wanted: Mapping[ConnectionKey, Wanted]) -> dict[ConnectionKey, LookupResult]:
        """Take out the rows that confirm these. A row confirms once: the next lookup may be for a new generation."""
        now = time.monotonic()
        taken = {key: self.rows.pop(key) for key in wanted if key in self.rows}
        self._forget_waiting(taken)
        return {
            key: snapshot_of(row)
            for key, (asked_at, row) in taken.items()
            if now - asked_at < PAGE_SERVES and row.tags == wanted[key].created_tags
        }

    def _forget_waiting(self, keys: Iterable[ConnectionKey]) -> None:
        for key in keys:
            self.waited.pop(key, None)


@dataclass(slots=True)
class _Caller:
    """Calls one environment's Nango for one batch, until the batch's deadline `ends_at`.

    A call that fails after a long wait delays the worker's other events. So Nango is not asked for REST times as long,
    by `rests`, and only its own events wait.
    """

    client: NangoClient
    environment: str
    ends_at: float
    rests: dict[str, tuple[float, str]]

    @property
    def resting(self) -> Unavailable | None:
        until, why = self.rests.get(self.environment, (0.0, ""))
        left = until - time.monotonic()
        return Unavailable(f"{why}; left alone for a while", retry_after=left) if left > 0 else None

    def ask(self, call: Callable[..., ConnectionPage]) -> ConnectionPage | Unavailable:
        """Raises NangoInvalidRequest and InvalidInput, where only this request is wrong."""
        if (resting := self.resting) is not None:
            return resting
        began = time.monotonic()
        if self.ends_at - began < 1:
            return Unavailable("no time left in this batch to ask Nango")
        try:
            return call(timeout=self.ends_at - began)
        except NangoRateLimited as limited:
            return Unavailable(str(limited), retry_after=max(limited.retry_after, FLOORED))
        except NangoInvalidRequest:
            raise
        except (NangoError, httpx.HTTPError) as failed:
            log.warning("nango_not_asked", environment=self.environment, problem=str(failed))
            took = time.monotonic() - began
            if took >= HELD_UP:
                self.rests[self.environment] = (time.monotonic() + REST * took, str(failed))
            return Unavailable(str(failed))


class Lookups:
    """Looks up connections for one process, which keeps the newest pages of each environment for a moment."""

    def __init__(self) -> None:
        self._newest: dict[str, _Newest] = {}
        self._rests: dict[str, tuple[float, str]] = {}

    def look_up(
        self, client: NangoClient, environment: str, wanted: Mapping[ConnectionKey, Wanted], *, ends_at: float
    ) -> dict[ConnectionKey, LookupResult]:
        """Look up each connection in Nango's list. Never raises: a failed lookup is Unavailable.

        ends_at: of the monotonic clock; the environments of one batch share one deadline.
        """
        newest = self._newest.setdefault(environment, _Newest())
        results = newest.take(wanted)
        in_order = sorted(wanted.items(), key=lambda item: (not item[1].confirms, item[0]))
        missing = {key: want for key, want in in_order if key not in results}
        created = [key for key, want in missing.items() if want.created_tags is not None]
        if newest.has_to_wait(created):
            # All are due with the next page; a time of its own for each would take more pages.
            why = "one of many new connections, which are asked for together"
            together = Unavailable(why, retry_after=PAGE_EVERY - newest.age)
            results |= dict.fromkeys(created, together)
            missing = {key: want for key, want in missing.items() if key not in results}
            created = []
        caller = _Caller(client, environment, ends_at, self._rests)
        if len(missing) > ONE_BY_ONE or (created and newest.age < BURST):
            results |= _on_pages(caller, missing, newest)
            newest.take(missing)
            missing = {key: want for key, want in missing.items() if key not in results}
        return results | _by_id(caller, list(missing))


def _on_pages(
    caller: _Caller, wanted: Mapping[ConnectionKey, Wanted], newest: _Newest
) -> dict[ConnectionKey, LookupResult]:
    """Look up on the newest pages, the first one small. Leaves out the connections to look up by id."""
    results: dict[ConnectionKey, LookupResult] = {}
    asked: list[ConnectionPage] = []
    size = min(MAX_LIMIT, 50 + 2 * len(wanted))
    environment = caller.environment
    while True:
        number = max(len(asked) - 1, 0)  # the small page is the beginning of the first large one
        try:
            page = caller.ask(partial(caller.client.list_connections, limit=size, page=number))
        except NangoInvalidRequest as refused:
            page = Unavailable(str(refused))
        if isinstance(page, Unavailable):
            return results | dict.fromkeys(wanted.keys() - results.keys(), page)
        asked.append(page)
        newest.keep(environment, page)
        shown = {(environment, row.integration, row.connection_id): row for row in page.connections}
        results |= {key: snapshot_of(shown[key]) for key in wanted.keys() & shown.keys()}
        hidden = {(environment, row.integration, row.connection_id): row.problem for row in page.unreadable}
        results |= {key: _not_read(key, hidden[key]) for key in wanted.keys() & hidden.keys()}
        missing = {key: want for key, want in wanted.items() if key not in results}
        created = {key: want for key, want in missing.items() if want.created_tags is not None}
        if page.size < size or len(asked) > MAX_PAGES:
            break
        # A provider's outage breaks many connections of any age; only creations are known to be new.
        if len(missing) - len(created) < WORTH_PAGES and not _may_follow(created, page):
            break
        size = MAX_LIMIT
    if len(created) <= ONE_BY_ONE:
        return results
    # So many at once are a lagging replica's: the next lookup will find them, and later ones go by id.
    return results | {key: Absent(asked[-1].observed_at) for key, want in created.items() if want.patient}


def _may_follow(created: Mapping[ConnectionKey, Wanted], page: ConnectionPage) -> bool:
    """Whether further pages may show some of them: the last page is not older than all of them."""
    if len(created) <= ONE_BY_ONE:
        return False
    oldest = page.connections[-1].created_at if page.connections else None
    return oldest is None or oldest >= min(want.received_at for want in created.values()) - SLACK


def _by_id(caller: _Caller, keys: Sequence[ConnectionKey]) -> dict[ConnectionKey, LookupResult]:
    results: dict[ConnectionKey, LookupResult] = {}
    for position, key in enumerate(keys):
        try:
            page = caller.ask(partial(caller.client.list_connections, connection_id=key.connection_id))
        except (InvalidInput, NangoInvalidRequest) as refused:
            # A forwarded body (Nango contract: Forwarded webhooks) can name an id that Nango refuses. It must not keep
            # the others from being looked up.
            results[key] = Unavailable(str(refused), retry_after=UNASKABLE, refused=True)
            continue
        if isinstance(page, Unavailable):
            return results | dict.fromkeys(keys[position:], page)
        found = [row for row in page.connections if row.integration == key.integration]
        if found:
            results[key] = snapshot_of(found[0])
        else:
            problem = page.may_hide(key.integration, key.connection_id)
            results[key] = Absent(page.observed_at) if problem is None else _not_read(key, problem)
    return results


def _not_read(key: ConnectionKey, problem: str) -> Unavailable:
    """Unavailable, for a listed connection whose row cannot be read: it is not absent."""
    environment, integration, connection_id = key
    names = {"environment": environment, "integration": integration, "connection_id": connection_id}
    log.warning("nango_row_unreadable", **names, problem=problem)
    return Unavailable(f"Nango's list shows it in a form that cannot be read: {problem}", retry_after=UNASKABLE)


def snapshot_of(connection: ListedConnection | ConnectionDetail) -> Snapshot:
    """Make the snapshot of a connection from Nango's answer; credentials are left out."""
    return Snapshot(
        nango_id=connection.id,
        tags=connection.tags,
        end_user=_end_user(connection),
        provider=connection.provider,
        auth_failing=connection.auth_errors,
        observed_at=connection.observed_at,
    )


def _end_user(connection: ListedConnection | ConnectionDetail) -> EndUser | None:
    end_user = connection.end_user
    if end_user is None:
        return None
    organization = end_user.organization
    return EndUser(
        id=end_user.id,
        email=end_user.email,
        display_name=end_user.display_name,
        organization_id=organization.id if organization else None,
        organization_name=organization.display_name if organization else None,
    )

"""Look the connections of a batch up in Nango's list, in as few calls as will do: no transaction is open meanwhile.

The list serves (Nango contract: List connections): it refreshes nothing and returns no credentials. A few connections
are asked for by id. Those of a burst of creations are found together on its newest pages, which serve the batches that
follow, too.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import httpx

from app.db.connections import Key
from app.domain.budget import FLOORED
from app.domain.confirming import Absent, LookupResult, Snapshot, Unavailable
from app.domain.linking import EndUser
from app.errors import InvalidInput, NangoError, NangoInvalidRequest, NangoRateLimited
from app.nango.client import MAX_LIMIT, NangoClient
from app.nango.types import ConnectionDetail, ConnectionPage, ListedConnection
from app.telemetry import get_logger

ONE_BY_ONE: Final = 3  # up to this many connections are asked for by id without trying the newest page first
WORTH_A_PAGE: Final = 100  # so many creations are never kept waiting for more of them
PAGE_EVERY: Final = 1.5  # seconds; fewer creations than that wait until so long after a page for the next one
BURST: Final = 5.0  # seconds after a page; a few creations, too, are sought on a page then
MAX_PAGES: Final = 5  # large ones for one batch: a backlog of 10,000 creations is seen
WORTH_PAGES: Final = 20  # so many others are sought on large pages, too, before each is asked for by its id
PAGE_SERVES: Final = 10.0  # seconds for which a page confirms what it agrees with
SLACK: Final = timedelta(seconds=10)  # between a creation in Nango and the receipt of its webhook, clocks included
UNASKABLE: Final = 60.0  # seconds until a question that Nango refused is asked again
HELD_UP: Final = 1.0  # seconds; a call that failed after a longer wait has kept everybody else's events waiting
REST: Final = 4  # times as long Nango is left alone then: most of a worker's time is for what needs no look

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A connection to look up.

    created_tags: what its creation's webhook carries, where that is all there is to confirm; else None. Only such a
    connection is sought among the newest, and an earlier page that shows just these tags confirms it: whatever
    happens to it later has an event of its own, with a fresh look.
    patient: it was looked for rarely enough that its absence from the newest pages may pass for a lag.
    confirms: its event is not acted on before. What only might name a connection is asked about behind all that does.
    """

    received_at: datetime
    created_tags: Mapping[str, str] | None = None
    patient: bool = False
    confirms: bool = True


@dataclass(slots=True)
class _Newest:
    """What one environment's newest pages showed within the last moments; times are on the monotonic clock."""

    rows: dict[Key, tuple[float, ListedConnection]] = field(default_factory=dict)
    asked_at: float = float("-inf")
    waited: dict[Key, float] = field(default_factory=dict)

    @property
    def age(self) -> float:
        return time.monotonic() - self.asked_at

    def has_to_wait(self, created: Sequence[Key]) -> bool:
        """Few of a burst wait, once, for more to come: the next page will show them all."""
        if self.age >= PAGE_EVERY or len(created) >= WORTH_A_PAGE or not self.waited.keys().isdisjoint(created):
            self._forget_waiting(created)
            return False
        self.waited |= dict.fromkeys(created, time.monotonic())
        return True

    def keep(self, environment: str, page: ConnectionPage) -> None:
        now = self.asked_at = time.monotonic()
        self.rows = {key: kept for key, kept in self.rows.items() if now - kept[0] < PAGE_SERVES}
        # Another worker may have claimed them next: they never come back to this one.
        self.waited = {key: since for key, since in self.waited.items() if now - since < PAGE_SERVES}
        self.rows |= {(environment, one.integration, one.connection_id): (now, one) for one in page.connections}

    def take(self, wanted: Mapping[Key, Wanted]) -> dict[Key, LookupResult]:
        """Those that an earlier page confirms. It does so once: the next one to ask may mean a new generation."""
        now = time.monotonic()
        taken = {key: self.rows.pop(key) for key in wanted if key in self.rows}
        self._forget_waiting(taken)
        return {
            key: snapshot_of(one)
            for key, (asked_at, one) in taken.items()
            if now - asked_at < PAGE_SERVES and one.tags == wanted[key].created_tags
        }

    def _forget_waiting(self, keys: Iterable[Key]) -> None:
        for key in keys:
            self.waited.pop(key, None)


@dataclass(slots=True)
class _Line:
    """The way to one environment's Nango for one batch, which ends when the batch's time is over.

    A call that fails after a long wait holds up whatever else the worker has to do. So Nango rests for some times as
    long, by `rests`, and its events wait without anybody waiting for them.
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
        """Raises NangoInvalidRequest and InvalidInput: only this question is wrong, others may be answered."""
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
    """Looks connections up for one process, which remembers the newest pages of each environment."""

    def __init__(self) -> None:
        self._newest: dict[str, _Newest] = {}
        self._rests: dict[str, tuple[float, str]] = {}

    def look_up(
        self, client: NangoClient, environment: str, wanted: Mapping[Key, Wanted], *, ends_at: float
    ) -> dict[Key, LookupResult]:
        """What Nango's list shows of each connection. Never raises: what could not be asked is Unavailable.

        ends_at: on the monotonic clock; the environments of one batch share one deadline.
        """
        newest = self._newest.setdefault(environment, _Newest())
        looks = newest.take(wanted)
        in_order = sorted(wanted.items(), key=lambda item: (not item[1].confirms, item[0]))
        missing = {key: one for key, one in in_order if key not in looks}
        created = [key for key, one in missing.items() if one.created_tags is not None]
        if newest.has_to_wait(created):
            # All are due with the next page, which shows them; each after a time of its own would be more pages.
            why = "one of many new connections, which are asked for together"
            together = Unavailable(why, retry_after=PAGE_EVERY - newest.age)
            looks |= dict.fromkeys(created, together)
            missing = {key: one for key, one in missing.items() if key not in looks}
            created = []
        line = _Line(client, environment, ends_at, self._rests)
        if len(missing) > ONE_BY_ONE or (created and newest.age < BURST):
            looks |= _on_pages(line, missing, newest)
            newest.take(missing)
            missing = {key: one for key, one in missing.items() if key not in looks}
        return looks | _by_id(line, list(missing))


def _on_pages(line: _Line, wanted: Mapping[Key, Wanted], newest: _Newest) -> dict[Key, LookupResult]:
    """What the newest pages show, the first one small. Leaves out what has to be asked for by id."""
    looks: dict[Key, LookupResult] = {}
    asked: list[ConnectionPage] = []
    size = min(MAX_LIMIT, 50 + 2 * len(wanted))
    environment = line.environment
    while True:
        number = max(len(asked) - 1, 0)  # the small page is the beginning of the first large one
        try:
            page = line.ask(partial(line.client.list_connections, limit=size, page=number))
        except NangoInvalidRequest as refused:
            page = Unavailable(str(refused))
        if isinstance(page, Unavailable):
            return looks | dict.fromkeys(wanted.keys() - looks.keys(), page)
        asked.append(page)
        newest.keep(environment, page)
        shown = {(environment, one.integration, one.connection_id): one for one in page.connections}
        looks |= {key: snapshot_of(shown[key]) for key in wanted.keys() & shown.keys()}
        hidden = {(environment, row.integration, row.connection_id): row.problem for row in page.unreadable}
        looks |= {key: _not_read(key, hidden[key]) for key in wanted.keys() & hidden.keys()}
        missing = {key: one for key, one in wanted.items() if key not in looks}
        created = {key: one for key, one in missing.items() if one.created_tags is not None}
        if page.size < size or len(asked) > MAX_PAGES:
            break
        # An outage of a provider breaks many connections of any age; only creations are known to be new.
        if len(missing) - len(created) < WORTH_PAGES and not _may_follow(created, page):
            break
        size = MAX_LIMIT
    if len(created) <= ONE_BY_ONE:
        return looks
    # So many at once are a lagging replica's: the next look will find them. The later ones ask for each by its id.
    return looks | {key: Absent(asked[-1].observed_at) for key, one in created.items() if one.patient}


def _may_follow(created: Mapping[Key, Wanted], page: ConnectionPage) -> bool:
    """Whether further pages may show enough of them: they are not older than all of them."""
    if len(created) <= ONE_BY_ONE:
        return False
    oldest = page.connections[-1].created_at if page.connections else None
    return oldest is None or oldest >= min(one.received_at for one in created.values()) - SLACK


def _by_id(line: _Line, keys: Sequence[Key]) -> dict[Key, LookupResult]:
    looks: dict[Key, LookupResult] = {}
    for position, key in enumerate(keys):
        try:
            page = line.ask(partial(line.client.list_connections, connection_id=key[2]))
        except (InvalidInput, NangoInvalidRequest) as refused:
            # Whoever can have a body signed (Nango contract: Forwarded webhooks) can name an id that Nango will not be
            # asked about. It must not keep those behind it from being asked about.
            looks[key] = Unavailable(str(refused), retry_after=UNASKABLE, refused=True)
            continue
        if isinstance(page, Unavailable):
            return looks | dict.fromkeys(keys[position:], page)
        found = [one for one in page.connections if one.integration == key[1]]
        if found:
            looks[key] = snapshot_of(found[0])
        else:
            problem = page.may_hide(key[1], key[2])
            looks[key] = Absent(page.observed_at) if problem is None else _not_read(key, problem)
    return looks


def _not_read(key: Key, problem: str) -> Unavailable:
    """A connection whose row is there and cannot be read is not absent: nothing was learnt of it."""
    environment, integration, connection_id = key
    names = {"environment": environment, "integration": integration, "connection_id": connection_id}
    log.warning("nango_row_unreadable", **names, problem=problem)
    return Unavailable(f"Nango's list shows it in a form that cannot be read: {problem}", retry_after=UNASKABLE)


def snapshot_of(one: ListedConnection | ConnectionDetail) -> Snapshot:
    """What Nango showed, as judgement takes it: nothing of credentials."""
    return Snapshot(
        nango_id=one.id,
        tags=one.tags,
        end_user=_end_user(one),
        provider=one.provider,
        auth_failing=one.auth_errors,
        observed_at=one.observed_at,
    )


def _end_user(one: ListedConnection | ConnectionDetail) -> EndUser | None:
    end_user = one.end_user
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

"""A page of Nango's list beside our records: what differs at the first look, and what still does at the second.

Opens short transactions that only read.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from app.db import differences as rows
from app.db.differences import ConnectionKey, OpenDifference
from app.db.engine import Database
from app.domain.confirming import Absent
from app.domain.event import EventError, EventType
from app.domain.own_event import OwnEvent
from app.domain.reconciling import DIFFERENCES, Known, compare, describe, is_missing
from app.nango.types import ConnectionPage, ListedConnection
from app.services.events.lookups import snapshot_of
from app.telemetry import get_logger

CHUNK: Final = 2000  # of our connections read at once: a page that shows few may stand beside many of ours

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """A difference, at the first look. `since`: Nango's `created`, for connections we did not know."""

    key: ConnectionKey
    type: EventType
    why: str
    since: datetime | None = None


def shown_by(page: ConnectionPage) -> dict[ConnectionKey, ListedConnection]:
    return {(one.integration, one.connection_id): one for one in page.connections}


def name_unreadable(environment: str, page: ConnectionPage) -> str | None:
    """Name the rows of a page that cannot be read, in the log; what a run's report says of them, None of none."""
    for row in page.unreadable:
        log.warning(
            "nango_row_unreadable",
            environment=environment,
            integration=row.integration,
            connection_id=row.connection_id,
            problem=row.problem,
        )
    if not page.unreadable:
        return None
    first = page.unreadable[0]
    name = f"{first.integration}/{first.connection_id}"
    return f"Nango's list has rows that cannot be read, such as {name}: {first.problem}"


def first_look(
    database: Database, environment: str, page: ConnectionPage, *, least: int | None, below: int | None, now: datetime
) -> Iterator[list[Found]]:
    """What differs in a page, in lists of a bounded length. No transaction stays open between them.

    [least, below) are the Nango ids that the page stands for: ours within it that the page does not show are missing.
    The list goes by `created` (Nango contract: List connections), which is the order of the ids but for moments;
    whoever is taken for missing because of that is shown by another page, and found again at the second look at the
    latest.
    """
    shown, first = shown_by(page), below
    ours: dict[ConnectionKey, Known] = {}
    while True:
        with database.read() as session:
            chunk = rows.span(session, environment, least=least, below=below, limit=CHUNK)
        ours |= {known.key: known for known in chunk if known.key in shown}
        unseen = [known for known in chunk if known.key not in shown and page.may_hide(*known.key) is None]
        if missing := _missing(unseen, page.observed_at, now):
            yield missing
        if len(chunk) < CHUNK:
            break
        below = chunk[-1].nango_id
    with database.read() as session:
        ours |= rows.known(session, environment, shown.keys() - ours.keys())
    found: list[Found] = []
    for key, one in shown.items():
        if first is not None and one.id >= first:
            continue  # of an earlier page, which this one overlaps, or newer than the run
        snapshot, known = snapshot_of(one), ours.get(key)
        for kind in compare(snapshot, known, created_at=one.created_at, now=now):
            since = one.created_at if kind is EventType.CONNECTION_CREATED else None
            found.append(Found(key, kind, describe(kind, snapshot, known), since))
    yield found


def never_shown(database: Database, environment: str, *, observed_at: datetime, now: datetime) -> Iterator[list[Found]]:
    """After the last page: ours that only a webhook told of, and the list did not show."""
    after = None
    while True:
        with database.read() as session:
            chunk = rows.without_generation(session, environment, after=after, limit=CHUNK)
        yield _missing([known for _, known in chunk], observed_at, now)
        if len(chunk) < CHUNK:
            return
        after = chunk[-1][0]


def second_look(
    opened: Collection[OpenDifference],
    shown: Mapping[ConnectionKey, ListedConnection],
    ours: Mapping[ConnectionKey, Known],
    *,
    observed_at: Mapping[ConnectionKey, datetime],
    hidden: Collection[ConnectionKey] = (),
    now: datetime,
) -> dict[OpenDifference, OwnEvent | None]:
    """The event of each difference that is still there, None for those that are gone.

    shown: those of Nango's that were found; who is not among them was asked for and is absent. observed_at: when each
    was asked for. hidden: those whose rows are there and cannot be read, of which nothing is known.
    """
    readable = [one for one in opened if one.key not in hidden]
    told = {one: _still(one, shown.get(one.key), ours.get(one.key), observed_at[one.key], now) for one in readable}
    return dict.fromkeys(opened) | told


def _still(
    difference: OpenDifference,
    listed: ListedConnection | None,
    known: Known | None,
    observed_at: datetime,
    now: datetime,
) -> OwnEvent | None:
    if difference.type not in DIFFERENCES:
        return None  # another release noted it
    kind, (integration, connection_id) = EventType(difference.type), difference.key
    if listed is None:
        if kind is not EventType.CONNECTION_DELETED or known is None:
            return None
        if not is_missing(known, observed_at=observed_at, now=now):
            return None
        gone = Absent(observed_at, again=True)
        return OwnEvent(type=kind, integration=integration, connection_id=connection_id, lookup=gone)
    snapshot = snapshot_of(listed)
    if kind not in compare(snapshot, known, created_at=listed.created_at, now=now):
        return None
    error = None
    if kind is EventType.CONNECTION_REFRESH_FAILED:
        logs = ", ".join(each.log_id for each in listed.errors if each.type == "auth" and each.log_id)
        error = EventError(
            "auth", f"Nango shows an auth error; its log: {logs}" if logs else describe(kind, snapshot, known)
        )
    return OwnEvent(type=kind, integration=integration, connection_id=connection_id, error=error, lookup=snapshot)


def _missing(ours: Collection[Known], observed_at: datetime, now: datetime) -> list[Found]:
    gone = EventType.CONNECTION_DELETED
    return [
        Found(known.key, gone, describe(gone, None, known))
        for known in ours
        if is_missing(known, observed_at=observed_at, now=now)
    ]

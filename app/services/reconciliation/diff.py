"""Differences between a page of Nango's list and the stored connections: first check, and second check.

Opens short, read-only transactions.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from app.db import differences as rows
from app.db.differences import ConnectionName, OpenDifference
from app.db.engine import Database
from app.domain.confirming import Absent
from app.domain.event import EventError, EventType
from app.domain.own_event import OwnEvent
from app.domain.reconciling import DIFFERENCES, RecordedConnection, compare, describe, is_missing
from app.nango.types import ConnectionPage, ListedConnection
from app.services.events.lookups import snapshot_of
from app.telemetry import get_logger

CHUNK: Final = 2000  # stored connections per read: a short page may stand for a span that holds many of them

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class NewDifference:
    """A difference at the first check. why: a text for reports. since: Nango's `created`, of unknown connections."""

    key: ConnectionName
    type: EventType
    why: str
    since: datetime | None = None


def shown_by(page: ConnectionPage) -> dict[ConnectionName, ListedConnection]:
    """The page's connections by name."""
    return {(listed.integration, listed.connection_id): listed for listed in page.connections}


def report_unreadable(environment: str, page: ConnectionPage) -> str | None:
    """Log a page's unreadable rows. Returns the problem for the run's report, or None."""
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


def first_check(
    database: Database, environment: str, page: ConnectionPage, *, least: int | None, below: int | None, now: datetime
) -> Iterator[list[NewDifference]]:
    """Compare a page with the stored connections; yields lists of bounded length, with no transaction open in between.

    [least, below): the Nango ids that the page stands for; stored connections of this span that it lacks are missing.
    The list is ordered by `created` (Nango contract: List connections), which may differ from the order of ids for
    connections of the same moment; one that is wrongly counted as missing is found by the second check.
    """
    shown, first = shown_by(page), below
    ours: dict[ConnectionName, RecordedConnection] = {}
    while True:
        with database.read() as session:
            chunk = rows.span(session, environment, least=least, below=below, limit=CHUNK)
        ours |= {recorded.key: recorded for recorded in chunk if recorded.key in shown}
        unseen = [recorded for recorded in chunk if recorded.key not in shown and page.may_hide(*recorded.key) is None]
        if missing := _missing(unseen, page.observed_at, now):
            yield missing
        if len(chunk) < CHUNK:
            break
        below = chunk[-1].nango_id
    with database.read() as session:
        ours |= rows.recorded(session, environment, shown.keys() - ours.keys())
    differences: list[NewDifference] = []
    for key, listed in shown.items():
        if first is not None and listed.id >= first:
            continue  # of an earlier page, which this one overlaps, or newer than the run
        snapshot, recorded = snapshot_of(listed), ours.get(key)
        for kind in compare(snapshot, recorded, created_at=listed.created_at, now=now):
            since = listed.created_at if kind is EventType.CONNECTION_CREATED else None
            differences.append(NewDifference(key, kind, describe(kind, snapshot, recorded), since))
    yield differences


def never_listed(
    database: Database, environment: str, *, observed_at: datetime, now: datetime
) -> Iterator[list[NewDifference]]:
    """Missing connections without a Nango id, known from webhooks only; call after the last page."""
    after = None
    while True:
        with database.read() as session:
            chunk = rows.without_generation(session, environment, after=after, limit=CHUNK)
        yield _missing([recorded for _, recorded in chunk], observed_at, now)
        if len(chunk) < CHUNK:
            return
        after = chunk[-1][0]


def second_check(
    opened: Collection[OpenDifference],
    shown: Mapping[ConnectionName, ListedConnection],
    ours: Mapping[ConnectionName, RecordedConnection],
    *,
    observed_at: Mapping[ConnectionName, datetime],
    hidden: Collection[ConnectionName] = (),
    now: datetime,
) -> dict[OpenDifference, OwnEvent | None]:
    """Compare again. Returns the event of each difference that persists, None for the others.

    shown: Nango's connections that the calls returned; others were requested and are absent. observed_at: time of the
    call for each. hidden: connections whose rows cannot be read, so that their differences are dropped.
    """
    readable = [difference for difference in opened if difference.key not in hidden]
    persisting = {
        difference: _event(
            difference, shown.get(difference.key), ours.get(difference.key), observed_at[difference.key], now
        )
        for difference in readable
    }
    return dict.fromkeys(opened) | persisting


def _event(
    difference: OpenDifference,
    listed: ListedConnection | None,
    recorded: RecordedConnection | None,
    observed_at: datetime,
    now: datetime,
) -> OwnEvent | None:
    if difference.type not in DIFFERENCES:
        return None  # recorded by another release
    kind, (integration, connection_id) = EventType(difference.type), difference.key
    if listed is None:
        if kind is not EventType.CONNECTION_DELETED or recorded is None:
            return None
        if not is_missing(recorded, observed_at=observed_at, now=now):
            return None
        gone = Absent(observed_at, again=True)
        return OwnEvent(type=kind, integration=integration, connection_id=connection_id, lookup=gone)
    snapshot = snapshot_of(listed)
    if kind not in compare(snapshot, recorded, created_at=listed.created_at, now=now):
        return None
    error = None
    if kind is EventType.CONNECTION_REFRESH_FAILED:
        logs = ", ".join(error.log_id for error in listed.errors if error.type == "auth" and error.log_id)
        error = EventError(
            "auth", f"Nango shows an auth error; its log: {logs}" if logs else describe(kind, snapshot, recorded)
        )
    return OwnEvent(type=kind, integration=integration, connection_id=connection_id, error=error, lookup=snapshot)


def _missing(ours: Collection[RecordedConnection], observed_at: datetime, now: datetime) -> list[NewDifference]:
    gone = EventType.CONNECTION_DELETED
    return [
        NewDifference(recorded.key, gone, describe(gone, None, recorded))
        for recorded in ours
        if is_missing(recorded, observed_at=observed_at, now=now)
    ]

"""Comparison of one connection of Nango's list with its stored record (promise 6). No I/O.

A difference counts when it was seen twice, a minute or more apart. By then changes have passed the pipeline, and have
reached the replica that serves the list (Nango contract: List connections).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from app.domain.confirming import Snapshot, is_previous
from app.domain.event import EventType
from app.domain.refreshing.outcomes import OWN_ERRORS, TOKEN_EXPIRED
from app.domain.states import ConnectionStatus

YOUNG: Final = timedelta(minutes=5)  # younger connections are left to their webhook
RECHECK_AFTER: Final = timedelta(seconds=60)  # from the first check to the second

# In the order of reports.
DIFFERENCES: Final = (
    EventType.CONNECTION_CREATED,
    EventType.CONNECTION_TAGS_CHANGED,
    EventType.CONNECTION_REFRESH_FAILED,
    EventType.CONNECTION_RECOVERED,
    EventType.CONNECTION_DELETED,
)
# Nango sends no webhook for a change of tags (Nango contract: Tag replacement), so none was missed.
SENT_BY_WEBHOOK: Final = frozenset(DIFFERENCES) - {EventType.CONNECTION_TAGS_CHANGED}

# More absences than this, if they are more than half of all stored connections, need an operator's consent: the API key
# of another environment, or a new installation of Nango, gives the same picture.
FEW_ABSENCES: Final = 20
NOT_LIVING: Final = frozenset({ConnectionStatus.UNCONFIRMED, ConnectionStatus.DELETED})


class Trigger(StrEnum):
    """The cause of a run."""

    SCHEDULE = "schedule"
    DEMAND = "demand"  # requested by the API or a command
    IMPORT = "import"  # the environment's first: connections from before Waylink, of which no webhook was missed


class Stage(StrEnum):
    """The stage of a run."""

    LISTING = "listing"  # first check, page by page
    CHECKING = "checking"  # second check of the differences, a minute later
    SETTLING = "settling"  # waiting until its events are processed
    DONE = "done"  # finished, with an `outcome`


class RunOutcome(StrEnum):
    COMPLETED = "completed"  # `problem` names the rows that could not be read, if any
    FAILED = "failed"  # with a `problem`; the next run starts from the beginning


@dataclass(frozen=True, slots=True)
class RecordedConnection:
    """A stored connection: the columns that are compared with Nango's list. Columns: models.Connection."""

    integration: str
    connection_id: str
    nango_id: int | None
    announced_nango_id: int | None
    status: str
    tags: Mapping[str, str]
    last_error_type: str | None
    observed_at: datetime | None
    errors_seen_at: datetime | None
    created_at: datetime

    @property
    def key(self) -> tuple[str, str]:
        return self.integration, self.connection_id

    @property
    def failing(self) -> bool:
        """Whether it has an error that Nango's list shows."""
        if self.status == ConnectionStatus.NEEDS_RECONNECT:
            return self.last_error_type != TOKEN_EXPIRED  # otherwise Nango gave up refreshing it
        return self.last_error_type not in {None, *OWN_ERRORS}


def compare(
    snapshot: Snapshot, recorded: RecordedConnection | None, *, created_at: datetime | None, now: datetime
) -> tuple[EventType, ...]:
    """The types of the events that the record lacks. created_at: Nango's, None where unreadable."""
    if created_at is not None and now - created_at < YOUNG:
        return ()
    if recorded is None:
        return (EventType.CONNECTION_CREATED,)
    if _is_older(snapshot, recorded, now=now):
        return ()
    if not recorded.nango_id == recorded.announced_nango_id == snapshot.nango_id:
        return (EventType.CONNECTION_CREATED,)  # a new generation, or one whose creation was never announced
    if recorded.status in NOT_LIVING:
        return (EventType.CONNECTION_CREATED,)
    kinds = []
    if dict(snapshot.tags) != dict(recorded.tags):
        kinds.append(EventType.CONNECTION_TAGS_CHANGED)
    if recorded.errors_seen_at is None or snapshot.observed_at >= recorded.errors_seen_at:
        if snapshot.auth_failing and not recorded.failing:
            kinds.append(EventType.CONNECTION_REFRESH_FAILED)
        if recorded.failing and not snapshot.auth_failing:
            kinds.append(EventType.CONNECTION_RECOVERED)
    return tuple(kinds)


def is_missing(recorded: RecordedConnection, *, observed_at: datetime, now: datetime) -> bool:
    """Whether a stored connection that Nango's list lacks may be deleted. observed_at: time of the list."""
    if recorded.status == ConnectionStatus.DELETED or now - recorded.created_at < YOUNG:
        return False
    return recorded.observed_at is None or recorded.observed_at < observed_at


def too_many(*, missing: int, shown: int) -> bool:
    """Whether so many connections are missing that another cause than deletions is likely.

    shown: stored connections that the list has. Its other connections may belong to another environment.
    """
    return missing > 1 and (not shown or (missing > FEW_ABSENCES and missing > shown))


def describe(kind: EventType, snapshot: Snapshot | None, recorded: RecordedConnection | None) -> str:
    """The difference as a text for reports. Without values of tags, which may be personal data."""
    match kind, snapshot, recorded:
        case EventType.CONNECTION_CREATED, Snapshot(), None:
            return "we know no such connection"
        case EventType.CONNECTION_CREATED, Snapshot(), RecordedConnection() if recorded.nango_id != snapshot.nango_id:
            return f"Nango's id is {snapshot.nango_id}, ours {recorded.nango_id}"
        case EventType.CONNECTION_CREATED, Snapshot(), RecordedConnection() if recorded.status in NOT_LIVING:
            return f"ours is {recorded.status}"
        case EventType.CONNECTION_CREATED, Snapshot(), RecordedConnection():
            return "we were told of a re-authorization, and never of the creation"
        case EventType.CONNECTION_TAGS_CHANGED, Snapshot(), RecordedConnection():
            keys = sorted(snapshot.tags.keys() | recorded.tags.keys())
            return "tags that differ: " + ", ".join(
                key for key in keys if snapshot.tags.get(key) != recorded.tags.get(key)
            )
        case EventType.CONNECTION_REFRESH_FAILED, _, _:
            return "Nango shows an auth error"
        case EventType.CONNECTION_RECOVERED, _, _:
            return "Nango shows no auth error any more"
    return "Nango does not show it"


def _is_older(snapshot: Snapshot, recorded: RecordedConnection, *, now: datetime) -> bool:
    """Whether the record is newer than the snapshot."""
    if recorded.observed_at is not None and snapshot.observed_at < recorded.observed_at:
        return True
    if recorded.nango_id is None or snapshot.nango_id > recorded.nango_id:
        return False
    # The list's replica may show a deleted connection, or an earlier generation, for a while.
    just_deleted = recorded.status == ConnectionStatus.DELETED and (
        recorded.observed_at is not None and now - recorded.observed_at < YOUNG
    )
    return just_deleted or is_previous(snapshot, nango_id=recorded.nango_id, observed_at=recorded.observed_at)

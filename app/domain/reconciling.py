"""How Nango's list and our records differ, one connection at a time (promise 6). What a webhook would have told.

A difference counts when it was seen twice, a minute or more apart: what is on its way through the pipeline, or on its
way to the replica that serves the list (Nango contract: List connections), is gone by then.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from app.domain.confirming import Snapshot, is_previous
from app.domain.event import EventType
from app.domain.refresh import OWN_ERRORS, TOKEN_EXPIRED
from app.domain.states import ConnectionStatus

YOUNG: Final = timedelta(minutes=5)  # connections younger than this are left to their webhook
APART: Final = timedelta(seconds=60)  # between the two looks that make a difference count

# In this order they are told of. Nango announces no change of tags (Nango contract: Tag replacement): no webhook was
# missed there.
DIFFERENCES: Final = (
    EventType.CONNECTION_CREATED,
    EventType.CONNECTION_TAGS_CHANGED,
    EventType.CONNECTION_REFRESH_FAILED,
    EventType.CONNECTION_RECOVERED,
    EventType.CONNECTION_DELETED,
)
TOLD_BY_WEBHOOK: Final = frozenset(DIFFERENCES) - {EventType.CONNECTION_TAGS_CHANGED}

# More absences than this, and more than half of all that we know, are believed only when an operator says so: an API
# key of another environment, or a Nango that was set up anew, looks just like that.
FEW_ABSENCES: Final = 20


NOT_LIVING: Final = frozenset({ConnectionStatus.UNCONFIRMED, ConnectionStatus.DELETED})


class Trigger(StrEnum):
    """What made a run start."""

    SCHEDULE = "schedule"  # its time had come
    DEMAND = "demand"  # a person asked
    IMPORT = "import"  # the environment's first: what is there was made before Waylink, no webhook was missed


class Stage(StrEnum):
    """How far a run is."""

    LISTING = "listing"  # going through Nango's list, page by page
    CHECKING = "checking"  # looking a second time at what differed, a minute later
    SETTLING = "settling"  # waiting until its events are processed
    DONE = "done"  # over; `outcome` says how


class RunOutcome(StrEnum):
    COMPLETED = "completed"  # went through; `problem` names what was left out, if anything
    FAILED = "failed"  # given up, with a problem; the next run begins anew


@dataclass(frozen=True, slots=True)
class Known:
    """What we know of a connection, as far as Nango's list can differ from it."""

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
        """With an error that Nango's list shows."""
        if self.status == ConnectionStatus.NEEDS_RECONNECT:
            return self.last_error_type != TOKEN_EXPIRED  # else Nango gave it up
        return self.last_error_type not in {None, *OWN_ERRORS}


def compare(
    snapshot: Snapshot, known: Known | None, *, created_at: datetime | None, now: datetime
) -> tuple[EventType, ...]:
    """The events that our record lacks, given what Nango's list shows. `created_at`: Nango's, None where unreadable."""
    if created_at is not None and now - created_at < YOUNG:
        return ()
    if known is None:
        return (EventType.CONNECTION_CREATED,)
    if _is_older(snapshot, known, now=now):
        return ()
    if not known.nango_id == known.announced_nango_id == snapshot.nango_id:
        return (EventType.CONNECTION_CREATED,)  # a new generation, or one of which only a re-authorization was told
    if known.status in NOT_LIVING:
        return (EventType.CONNECTION_CREATED,)
    found = []
    if dict(snapshot.tags) != dict(known.tags):
        found.append(EventType.CONNECTION_TAGS_CHANGED)
    if known.errors_seen_at is None or snapshot.observed_at >= known.errors_seen_at:
        if snapshot.auth_failing and not known.failing:
            found.append(EventType.CONNECTION_REFRESH_FAILED)
        if known.failing and not snapshot.auth_failing:
            found.append(EventType.CONNECTION_RECOVERED)
    return tuple(found)


def is_missing(known: Known, *, observed_at: datetime, now: datetime) -> bool:
    """Whether a connection of ours that Nango's list did not show may be deleted. `observed_at`: of the list."""
    if known.status == ConnectionStatus.DELETED or now - known.created_at < YOUNG:
        return False
    return known.observed_at is None or known.observed_at < observed_at


def too_many(*, missing: int, shown: int) -> bool:
    """Whether so many connections are absent that something else than deletions is likely.

    shown: those that we knew of and the list has. What else it has may be somebody else's, and proves nothing.
    """
    return missing > 1 and (not shown or (missing > FEW_ABSENCES and missing > shown))


def describe(kind: EventType, snapshot: Snapshot | None, known: Known | None) -> str:
    """Why, for a person: no tag's value, which may be about somebody."""
    match kind, snapshot, known:
        case EventType.CONNECTION_CREATED, Snapshot(), None:
            return "we know no such connection"
        case EventType.CONNECTION_CREATED, Snapshot(), Known() if known.nango_id != snapshot.nango_id:
            return f"Nango's id is {snapshot.nango_id}, ours {known.nango_id}"
        case EventType.CONNECTION_CREATED, Snapshot(), Known() if known.status in NOT_LIVING:
            return f"ours is {known.status}"
        case EventType.CONNECTION_CREATED, Snapshot(), Known():
            return "we were told of a re-authorization, and never of the creation"
        case EventType.CONNECTION_TAGS_CHANGED, Snapshot(), Known():
            keys = sorted(snapshot.tags.keys() | known.tags.keys())
            return "tags that differ: " + ", ".join(
                key for key in keys if snapshot.tags.get(key) != known.tags.get(key)
            )
        case EventType.CONNECTION_REFRESH_FAILED, _, _:
            return "Nango shows an auth error"
        case EventType.CONNECTION_RECOVERED, _, _:
            return "Nango shows no auth error any more"
    return "Nango does not show it"


def _is_older(snapshot: Snapshot, known: Known, *, now: datetime) -> bool:
    """What we know is newer than this view."""
    if known.observed_at is not None and snapshot.observed_at < known.observed_at:
        return True
    if known.nango_id is None or snapshot.nango_id > known.nango_id:
        return False
    # One that we saw deleted, the list's replica may go on showing for a while; as the generation before.
    just_deleted = known.status == ConnectionStatus.DELETED and (
        known.observed_at is not None and now - known.observed_at < YOUNG
    )
    return just_deleted or is_previous(snapshot, nango_id=known.nango_id, observed_at=known.observed_at)

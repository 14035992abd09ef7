"""Bulk runs: acts on all rows that match a filter, which workers carry out in chunks. Their acts and states."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from app.domain.job_actions import JobAction


class BulkAct(StrEnum):
    """The act of a run on each of its rows."""

    RETRY_JOBS = "jobs.retry"
    CANCEL_JOBS = "jobs.cancel"
    REDELIVER_JOBS = "jobs.redeliver"
    RETRY_EVENTS = "events.retry"
    REPLAY_EVENTS = "events.replay"
    REFRESH_CONNECTIONS = "connections.refresh"
    ADD_TAGS = "connections.add_tags"
    REMOVE_TAGS = "connections.remove_tags"
    UNLINK_CONNECTIONS = "connections.unlink"
    DELETE_CONNECTIONS = "connections.delete"

    @property
    def noun(self) -> str:
        """The noun of its rows: `job`, `event` or `connection`."""
        return self.partition(".")[0].removesuffix("s")

    @property
    def audited(self) -> str:
        """The action's name in the audit, such as `job.retried`."""
        return _AUDITED[self]

    @property
    def asks_nango(self) -> bool:
        """Whether each of its rows takes calls to Nango, which workers make."""
        return self in _AT_NANGO


_AUDITED: Final[Mapping[BulkAct, str]] = {
    BulkAct.RETRY_JOBS: "job.retried",
    BulkAct.CANCEL_JOBS: "job.cancelled",
    BulkAct.REDELIVER_JOBS: "job.redelivered",
    BulkAct.RETRY_EVENTS: "event.retried",
    BulkAct.REPLAY_EVENTS: "event.replayed",
    BulkAct.REFRESH_CONNECTIONS: "connection.refreshed",
    BulkAct.ADD_TAGS: "tags.added",
    BulkAct.REMOVE_TAGS: "tags.removed",
    BulkAct.UNLINK_CONNECTIONS: "connection.unlinked",
    BulkAct.DELETE_CONNECTIONS: "connection.deleted",
}
_AT_NANGO: Final = frozenset(
    {BulkAct.REFRESH_CONNECTIONS, BulkAct.ADD_TAGS, BulkAct.REMOVE_TAGS, BulkAct.DELETE_CONNECTIONS}
)
OF_CONNECTIONS: Final = (*_AT_NANGO, BulkAct.UNLINK_CONNECTIONS)
OF_JOBS: Final[Mapping[JobAction, BulkAct]] = {
    JobAction.RETRY: BulkAct.RETRY_JOBS,
    JobAction.CANCEL: BulkAct.CANCEL_JOBS,
    JobAction.REDELIVER: BulkAct.REDELIVER_JOBS,
}


class BulkState(StrEnum):
    WAITING = "waiting"  # for a worker
    RUNNING = "running"  # a worker has its lease, or had it when it was killed
    PAUSED = "paused"  # by a person, until it is resumed
    CANCELLED = "cancelled"  # by a person: what was done stays done
    DONE = "done"
    FAILED = "failed"  # it came to no end by itself; its problem says why


class RowResult(StrEnum):
    """The result for a row that was not changed."""

    LEFT_ALONE = "left_alone"  # its state does not allow the act, or no longer
    FAILED = "failed"


class Change(StrEnum):
    """A change of a run's state by a person."""

    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"


UNFINISHED: Final = (BulkState.WAITING, BulkState.RUNNING, BulkState.PAUSED)
AT_WORK: Final = (BulkState.WAITING, BulkState.RUNNING)  # a worker has to carry it on
TAKES: Final[Mapping[Change, tuple[BulkState, ...]]] = {
    Change.PAUSE: AT_WORK,
    Change.RESUME: (BulkState.PAUSED,),
    Change.CANCEL: UNFINISHED,
}
LEADS_TO: Final[Mapping[Change, BulkState]] = {
    Change.PAUSE: BulkState.PAUSED,
    Change.RESUME: BulkState.WAITING,
    Change.CANCEL: BulkState.CANCELLED,
}
PAST: Final[Mapping[Change, str]] = {
    Change.PAUSE: "paused",
    Change.RESUME: "resumed",
    Change.CANCEL: "cancelled",
}

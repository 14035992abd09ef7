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

    @property
    def noun(self) -> str:
        """The noun of its rows: `job` or `event`."""
        return self.partition(".")[0].removesuffix("s")

    @property
    def audited(self) -> str:
        """The action's name in the audit, such as `job.retried`."""
        return _AUDITED[self]


_AUDITED: Final[Mapping[BulkAct, str]] = {
    BulkAct.RETRY_JOBS: "job.retried",
    BulkAct.CANCEL_JOBS: "job.cancelled",
    BulkAct.REDELIVER_JOBS: "job.redelivered",
    BulkAct.RETRY_EVENTS: "event.retried",
    BulkAct.REPLAY_EVENTS: "event.replayed",
}
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

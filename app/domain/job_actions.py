"""Actions on jobs: the states that each takes, and why it leaves jobs in other states alone.

Actions are idempotent: a repeated one finds nothing to do. A job keeps its id through all of them.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from app.domain.states import JobState


class JobAction(StrEnum):
    RETRY = "retry"  # deliver now, and restart the schedule
    CANCEL = "cancel"  # never deliver
    REDELIVER = "redeliver"  # deliver again what was accepted and then lost


TAKES: Final[Mapping[JobAction, tuple[JobState, ...]]] = {
    JobAction.RETRY: (JobState.DISCARDED, JobState.CANCELLED, JobState.RETRYABLE),
    JobAction.CANCEL: (JobState.AVAILABLE, JobState.RETRYABLE),
    JobAction.REDELIVER: (JobState.COMPLETED,),
}
PAST: Final[Mapping[JobAction, str]] = {
    JobAction.RETRY: "retried",
    JobAction.CANCEL: "cancelled",
    JobAction.REDELIVER: "redelivered",
}
BY_FILTER: Final[Mapping[JobAction, tuple[JobState, ...]]] = {**TAKES, JobAction.RETRY: (JobState.DISCARDED,)}

_IN_FLIGHT: Final = "it is on its way already"
_OVER: Final = "it is over"
_LEFT_ALONE: Final[Mapping[tuple[JobAction, JobState], str]] = {
    (JobAction.RETRY, JobState.AVAILABLE): _IN_FLIGHT,
    (JobAction.RETRY, JobState.RUNNING): _IN_FLIGHT,
    (JobAction.RETRY, JobState.COMPLETED): "it was taken: redeliver hands it over again",
    (JobAction.CANCEL, JobState.RUNNING): "a worker is handing it over, which cannot be called back",
    (JobAction.CANCEL, JobState.COMPLETED): _OVER,
    (JobAction.CANCEL, JobState.DISCARDED): _OVER,
    (JobAction.CANCEL, JobState.CANCELLED): "it is cancelled already",
    (JobAction.REDELIVER, JobState.AVAILABLE): _IN_FLIGHT,
    (JobAction.REDELIVER, JobState.RUNNING): _IN_FLIGHT,
    (JobAction.REDELIVER, JobState.RETRYABLE): "it was not taken yet, and is tried again by itself",
    (JobAction.REDELIVER, JobState.DISCARDED): "it was never taken: retry it",
    (JobAction.REDELIVER, JobState.CANCELLED): "it was never taken: retry it",
}
_AS_WANTED: Final = frozenset({_IN_FLIGHT, _LEFT_ALONE[JobAction.CANCEL, JobState.CANCELLED]})


def why_left_alone(action: JobAction, state: JobState) -> str:
    """The reason why an action does nothing with a job in `state`; for a state that it takes, a change meanwhile."""
    return _LEFT_ALONE.get((action, state), "it changed meanwhile")


def is_as_wanted(action: JobAction, state: JobState) -> bool:
    """True if a job in `state` already is as the action would leave it."""
    return _LEFT_ALONE.get((action, state)) in _AS_WANTED

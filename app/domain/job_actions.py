"""What people do with jobs: which states an act takes, and why it leaves the others alone.

An act that was done already finds nothing to do, so that twice is once. Whatever is done, a job keeps its id.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from app.domain.states import JobState


class JobAct(StrEnum):
    RETRY = "retry"  # hand it over now, and begin the schedule anew
    CANCEL = "cancel"  # stop it
    REDELIVER = "redeliver"  # hand over again what was accepted and then lost


TAKES: Final[Mapping[JobAct, tuple[JobState, ...]]] = {
    JobAct.RETRY: (JobState.DISCARDED, JobState.CANCELLED, JobState.RETRYABLE),
    JobAct.CANCEL: (JobState.AVAILABLE, JobState.RETRYABLE),
    JobAct.REDELIVER: (JobState.COMPLETED,),
}
PAST: Final[Mapping[JobAct, str]] = {
    JobAct.RETRY: "retried",
    JobAct.CANCEL: "cancelled",
    JobAct.REDELIVER: "redelivered",
}
BY_FILTER: Final[Mapping[JobAct, tuple[JobState, ...]]] = {**TAKES, JobAct.RETRY: (JobState.DISCARDED,)}

_UNDER_WAY: Final = "it is on its way already"
_OVER: Final = "it is over"
_LEFT_ALONE: Final[Mapping[tuple[JobAct, JobState], str]] = {
    (JobAct.RETRY, JobState.AVAILABLE): _UNDER_WAY,
    (JobAct.RETRY, JobState.RUNNING): _UNDER_WAY,
    (JobAct.RETRY, JobState.COMPLETED): "it was taken: redeliver hands it over again",
    (JobAct.CANCEL, JobState.RUNNING): "a worker is handing it over, which cannot be called back",
    (JobAct.CANCEL, JobState.COMPLETED): _OVER,
    (JobAct.CANCEL, JobState.DISCARDED): _OVER,
    (JobAct.CANCEL, JobState.CANCELLED): "it is cancelled already",
    (JobAct.REDELIVER, JobState.AVAILABLE): _UNDER_WAY,
    (JobAct.REDELIVER, JobState.RUNNING): _UNDER_WAY,
    (JobAct.REDELIVER, JobState.RETRYABLE): "it was not taken yet, and is tried again by itself",
    (JobAct.REDELIVER, JobState.DISCARDED): "it was never taken: retry it",
    (JobAct.REDELIVER, JobState.CANCELLED): "it was never taken: retry it",
}
_AS_WANTED: Final = frozenset({_UNDER_WAY, _LEFT_ALONE[JobAct.CANCEL, JobState.CANCELLED]})


def why_left_alone(act: JobAct, state: JobState) -> str:
    """Why an act does nothing with a job in that state. A state that it takes has changed meanwhile."""
    return _LEFT_ALONE.get((act, state), "it changed meanwhile")


def is_as_wanted(act: JobAct, state: JobState) -> bool:
    """Whether a job in that state already is what the act would have made of it."""
    return _LEFT_ALONE.get((act, state)) in _AS_WANTED

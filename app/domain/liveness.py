"""Whether processes live and do their work, by what they reported."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

STALE_SECONDS: Final = 20.0  # without a sign of life; processes report every 5 s, and one batch of events takes 10 s


class ProcessKind(StrEnum):
    WEB = "web"
    EVENTS = "events"
    IO = "io"
    BEAT = "beat"


class Work(StrEnum):
    """Kinds of work whose last time a process reports."""

    STORED = "stored"  # web: a webhook, a canary or a probe
    PROCESSED = "processed"  # events: an event
    DELIVERED = "delivered"  # io: a job's attempt was recorded; events: of a job that left at once
    REFRESHED = "refreshed"  # io: a refresh was carried out
    RECONCILED = "reconciled"  # io: the task that works on reconciliations ended
    SWEPT = "swept"  # io: the search for due rows ended
    PRUNED = "pruned"  # io: old rows were deleted, if there were any
    TICKED = "ticked"  # Beat: the broker took a tick


class ProcessState(StrEnum):
    RUNNING = "running"
    STANDING_STILL = "standing_still"  # it reports, and its main loop does not answer
    SILENT = "silent"  # it does not report: killed, frozen, or cut off from the database
    STOPPED = "stopped"  # ended cleanly


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """The facts that are known of one process. Times in seconds before now, by the database's clock."""

    id: UUID
    kind: ProcessKind
    host: str
    started: float
    seen: float  # its main loop answered
    written: float  # it reported
    stopped_at: datetime | None

    @property
    def state(self) -> ProcessState:
        if self.stopped_at is not None:
            return ProcessState.STOPPED
        if self.written >= STALE_SECONDS:
            return ProcessState.SILENT
        return ProcessState.STANDING_STILL if self.seen >= STALE_SECONDS else ProcessState.RUNNING


def replaced(sightings: Sequence[Sighting]) -> frozenset[UUID]:
    """Silent processes that another of their kind has taken the place of: each was started after the last report of
    the one that it replaces, and replaces one.
    """
    found: set[UUID] = set()
    for kind in ProcessKind:
        alike = [sighting for sighting in sightings if sighting.kind is kind]
        successors = sorted(
            (one for one in alike if one.state in {ProcessState.RUNNING, ProcessState.STANDING_STILL}),
            key=lambda one: one.started,
            reverse=True,
        )
        silent = [one for one in alike if one.state is ProcessState.SILENT]
        for gone in sorted(silent, key=lambda one: one.written, reverse=True):
            later = [one for one in successors if one.started < gone.written]
            same_host = [one for one in later if one.host == gone.host]
            if later:
                successors.remove((same_host or later)[0])
                found.add(gone.id)
    return frozenset(found)

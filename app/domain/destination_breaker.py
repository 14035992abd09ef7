"""A destination's circuit breaker: parks its jobs after failures, probes with one job, and releases all on success.

Failures are answers of the class FAILED (`retrying.classify`): timeouts, no connection, 5xx, 429, redirects, and 4xx
about the endpoint (401, 404, …). Other 4xx are about the job, and show that the endpoint works.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

WINDOW: Final = timedelta(seconds=60)  # in which attempts are counted
MIN_FAILURES: Final = 5  # fewer never open the breaker
SHARE: Final = 0.5  # this share of failures in a window opens the breaker
PROBE_WAITS: Final = (
    timedelta(seconds=10),
    timedelta(seconds=30),
    timedelta(minutes=1),
    timedelta(minutes=2),
    timedelta(minutes=5),
)
JITTER: Final = 0.2  # at most this share is added to a wait


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthState:
    """The breaker is open while `failing_since` is set; the next probe is due at `probe_at`."""

    window_at: datetime  # the beginning of the window of `succeeded` and `failed`
    succeeded: int = 0
    failed: int = 0
    failing_since: datetime | None = None
    probe_at: datetime | None = None
    probes: int = 0  # probes that failed in a row
    last_succeeded_at: datetime | None = None
    last_failed_at: datetime | None = None
    last_error: str | None = None
    paced_to: datetime | None = None  # of the rate limit, see `pacing`; unused by the breaker

    def is_probe_due(self, now: datetime) -> bool:
        return self.failing_since is not None and self.probe_at is not None and self.probe_at <= now


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Counts of a destination's attempts since the last update. `retry_after`: the longest one."""

    succeeded: int = 0
    failed: int = 0
    error: str | None = None
    probe: bool | None = None  # True if the last probe succeeded; None without a probe
    retry_after: timedelta | None = None

    def __add__(self, later: "Tally") -> "Tally":
        return Tally(
            succeeded=self.succeeded + later.succeeded,
            failed=self.failed + later.failed,
            error=later.error or self.error,
            probe=self.probe if later.probe is None else later.probe,
            retry_after=max((wait for wait in (self.retry_after, later.retry_after) if wait is not None), default=None),
        )

    @property
    def is_urgent(self) -> bool:
        """True if it may move the breaker, and is applied at once; successes alone can wait for the next poll."""
        return bool(self.failed) or self.probe is not None


def next_health(health: HealthState, tally: Tally, *, now: datetime, chance: float) -> HealthState:
    """The state after a tally. `chance`: a random number in [0, 1).

    While the breaker is open only probes count: other attempts were in flight when it opened, and show nothing newer.
    """
    seen = _seen(health, tally, now)
    if health.failing_since is not None:
        if tally.probe is None:
            return seen
        if tally.probe:
            return replace(seen, window_at=now, succeeded=0, failed=0, failing_since=None, probe_at=None, probes=0)
        probes = health.probes + 1
        return replace(seen, probes=probes, probe_at=_probe_at(probes, tally, now, chance))
    counted = _counted(seen, tally, now)
    if _fails(counted):
        return replace(counted, failing_since=now, probes=0, probe_at=_probe_at(0, tally, now, chance))
    return counted


def _seen(health: HealthState, tally: Tally, now: datetime) -> HealthState:
    if tally.succeeded:
        health = replace(health, last_succeeded_at=now)
    if tally.failed:
        health = replace(health, last_failed_at=now, last_error=tally.error)
    return health


def _counted(health: HealthState, tally: Tally, now: datetime) -> HealthState:
    """The state with the tally counted in its window.

    A window ends after WINDOW, but not while it has failures only: five in a row also open the breaker of a
    destination that gets one job an hour.
    """
    if now >= health.window_at + WINDOW and (health.succeeded or not health.failed):
        health = replace(health, window_at=now, succeeded=0, failed=0)
    return replace(health, succeeded=health.succeeded + tally.succeeded, failed=health.failed + tally.failed)


def _fails(health: HealthState) -> bool:
    return health.failed >= MIN_FAILURES and health.failed >= SHARE * (health.failed + health.succeeded)


def _probe_at(probes: int, tally: Tally, now: datetime, chance: float) -> datetime:
    wait = PROBE_WAITS[min(probes, len(PROBE_WAITS) - 1)] * (1 + JITTER * chance)
    return now + max(wait, tally.retry_after or timedelta(0))

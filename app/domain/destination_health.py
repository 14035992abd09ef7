"""A destination's circuit breaker: when its jobs are parked, when one of them tries again, when all are released.

What counts as a failure says `retrying.judge`: time-outs, no connection, 5xx, 429, redirects and such 4xx as tell of
the endpoint (401, 404, …). Other 4xx are about their job, and show that the endpoint works.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

WINDOW: Final = timedelta(seconds=60)  # in which hand-overs are counted
MIN_FAILURES: Final = 5  # fewer say nothing
SHARE: Final = 0.5  # of the hand-overs of a window: that many failures open the breaker
PROBE_WAITS: Final = (
    timedelta(seconds=10),
    timedelta(seconds=30),
    timedelta(minutes=1),
    timedelta(minutes=2),
    timedelta(minutes=5),
)
JITTER: Final = 0.2  # at most this share is added to a wait


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """The breaker is open while `failing_since` is set. Then one job tries again at `probe_at`."""

    window_at: datetime  # since when the two are counted
    succeeded: int = 0
    failed: int = 0
    failing_since: datetime | None = None
    probe_at: datetime | None = None
    probes: int = 0  # those that failed in a row
    last_succeeded_at: datetime | None = None
    last_failed_at: datetime | None = None
    last_error: str | None = None
    paced_to: datetime | None = None  # with a rate limit, see `pacing`; the breaker does not look at it

    def probes_now(self, now: datetime) -> bool:
        """Whether it is time that one job tries."""
        return self.failing_since is not None and self.probe_at is not None and self.probe_at <= now


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What came of a destination's hand-overs since it was judged last. `wish`: the longest Retry-After."""

    succeeded: int = 0
    failed: int = 0
    error: str | None = None
    probe: bool | None = None  # whether a probe succeeded; None without one
    wish: timedelta | None = None

    def __add__(self, later: "Tally") -> "Tally":
        return Tally(
            succeeded=self.succeeded + later.succeeded,
            failed=self.failed + later.failed,
            error=later.error or self.error,
            probe=self.probe if later.probe is None else later.probe,
            wish=max((one for one in (self.wish, later.wish) if one is not None), default=None),
        )

    @property
    def is_news(self) -> bool:
        """Whether it may move the breaker: not where all went well, which can be told now and then."""
        return bool(self.failed) or self.probe is not None


def judge(health: Health, tally: Tally, *, now: datetime, chance: float) -> Health:
    """`chance` is a random number in [0, 1).

    While the breaker is open only a probe decides: what was under way when it opened says nothing of later.
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


def _seen(health: Health, tally: Tally, now: datetime) -> Health:
    if tally.succeeded:
        health = replace(health, last_succeeded_at=now)
    if tally.failed:
        health = replace(health, last_failed_at=now, last_error=tally.error)
    return health


def _counted(health: Health, tally: Tally, now: datetime) -> Health:
    """A window ends after its time, but not while nothing else than failures is in it: five of them in a row open the
    breaker of a destination that gets one job an hour, too.
    """
    if now >= health.window_at + WINDOW and (health.succeeded or not health.failed):
        health = replace(health, window_at=now, succeeded=0, failed=0)
    return replace(health, succeeded=health.succeeded + tally.succeeded, failed=health.failed + tally.failed)


def _fails(health: Health) -> bool:
    return health.failed >= MIN_FAILURES and health.failed >= SHARE * (health.failed + health.succeeded)


def _probe_at(probes: int, tally: Tally, now: datetime, chance: float) -> datetime:
    wait = PROBE_WAITS[min(probes, len(PROBE_WAITS) - 1)] * (1 + JITTER * chance)
    return now + max(wait, tally.wish or timedelta(0))

"""Outages of a provider: when an integration's refreshes are paused, and when some of them probe whether it is over.

An outage is seen by the share of an integration's connections that begin to fail within a window. Nango names no cause
of a refused renewal (Nango contract: Failed refreshes), so that one failure may be the connection's or the provider's;
half of all connections at once are the provider's, or come from the integration's own configuration.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from app.domain.refreshing.outcomes import REFUSALS
from app.domain.states import RefreshOutcome

WINDOW: Final = timedelta(minutes=10)
FEWEST: Final = 5  # connections that begin to fail within a window
SHARE: Final = 0.5  # of the connections that were renewed or began to fail within it
FIRST_PROBE: Final = timedelta(minutes=1)  # after the pause began; each further interval is twice as long
LONGEST_PROBE: Final = timedelta(minutes=30)
PROBES: Final = 3  # refreshes of one round: one connection alone may fail for a reason of its own
OPERATOR_HOLD: Final = timedelta(minutes=30)  # until a plan that an operator's pause holds is looked at again
RELEASED_EACH_MINUTE: Final = 500  # held plans, after a pause
SHORTEST_RELEASE: Final = timedelta(minutes=2)
LONGEST_RELEASE: Final = timedelta(minutes=30)


class PauseCause(StrEnum):
    OUTAGE = "outage"  # most connections of the integration began to fail at once; ends when a probe is answered
    OPERATOR = "operator"  # a person paused it; ends when a person resumes it


@dataclass(frozen=True, slots=True)
class Tally:
    """Connections whose provider renewed them, and connections that began to fail."""

    renewed: int = 0
    failed: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.renewed + other.renewed, self.failed + other.failed)

    def __bool__(self) -> bool:
        return self.renewed > 0 or self.failed > 0


@dataclass(frozen=True, slots=True)
class Window:
    """Counts of an integration, each over one WINDOW: the present one, which began at `began_at`, and the former."""

    began_at: datetime
    present: Tally = Tally()
    former: Tally = Tally()


@dataclass(frozen=True, slots=True)
class Share:
    """Connections that began to fail, of those that were renewed or began to fail, within about one WINDOW."""

    failed: int
    of: int

    @property
    def is_outage(self) -> bool:
        return self.failed >= FEWEST and self.failed >= SHARE * self.of


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """A paused integration. probes: rounds of probes that began; probe_at: the next one's time, None for a person's."""

    cause: PauseCause
    paused_at: datetime
    probes: int = 0
    probe_at: datetime | None = None


def tally(outcome: RefreshOutcome, *, was_forced: bool, failing_before: bool) -> Tally:
    """The evidence of one answer on the provider. failing_before: the connection was failing before the call.

    Such a connection says nothing new by failing on. Nor does an answer for which Nango did not ask the provider, or
    none of Nango's.
    """
    if outcome in REFUSALS or outcome is RefreshOutcome.PROVIDER_DOWN:
        return Tally(failed=0 if failing_before else 1)
    # Nango has asked the provider for what it answered a forced call (Nango contract: Forced refreshes).
    asked = was_forced and outcome in {RefreshOutcome.FIRST_SEEN, RefreshOutcome.NO_EXPIRY}
    return Tally(renewed=1 if asked or outcome is RefreshOutcome.RENEWED else 0)


def counted(window: Window | None, seen: Tally, *, now: datetime) -> Window:
    """The window with these results. None: nothing was counted before."""
    if window is None or now - window.began_at >= 2 * WINDOW:
        return Window(now, seen)
    if now - window.began_at >= WINDOW:
        return Window(window.began_at + WINDOW, seen, window.present)
    return replace(window, present=window.present + seen)


def share(window: Window, *, now: datetime) -> Share:
    """The share over the last WINDOW, with the former count by the part of it that the last WINDOW still covers."""
    left = min(max(1 - (now - window.began_at) / WINDOW, 0.0), 1.0)
    failed = window.present.failed + window.former.failed * left
    return Share(round(failed), round(failed + window.present.renewed + window.former.renewed * left))


def begun(*, now: datetime) -> Pause:
    """The pause for an outage that is seen now."""
    return Pause(cause=PauseCause.OUTAGE, paused_at=now, probe_at=now + FIRST_PROBE)


def may_probe(pause: Pause, *, now: datetime) -> bool:
    """Whether the next round of probes may begin."""
    return pause.probe_at is not None and pause.probe_at <= now


def probing(pause: Pause, *, now: datetime) -> Pause:
    """The pause as a round of probes begins: the next one follows after twice the interval."""
    return replace(pause, probes=pause.probes + 1, probe_at=now + _interval(pause.probes + 1))


def held_until(pause: Pause, *, now: datetime, turn: float) -> datetime:
    """The time at which a held plan is looked at again. turn: the connection's share of the spread, in [0, 1)."""
    if pause.probe_at is None:
        return now + OPERATOR_HOLD * (1 + turn)
    return max(pause.probe_at, now) + _interval(pause.probes) * turn


def release_over(held: int) -> timedelta:
    """The time over which the plans that a pause held become due after it, so that their provider meets no herd."""
    wanted = timedelta(minutes=held / RELEASED_EACH_MINUTE)
    return min(max(wanted, SHORTEST_RELEASE), LONGEST_RELEASE)


def _interval(probes: int) -> timedelta:
    return min(FIRST_PROBE * float(2 ** min(probes, 10)), LONGEST_PROBE)

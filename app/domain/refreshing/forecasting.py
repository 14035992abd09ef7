"""The forecast of refreshes: how many calls each minute, hour and day brings, and which deadlines pass before a turn.

Connections are carried forward one by one (`carrying`); of many, some stand for the others.
"""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from statistics import median
from typing import Final

from app.domain.refreshing.carrying import DeadClock, Lapse, Looks, Standing, WhyLapsing, looks
from app.domain.refreshing.clocks import NANGO_MARGIN
from app.domain.refreshing.policy import RefreshPolicy

HOURS: Final = 24  # whole hours, from the next one on
DAYS: Final = 30
_MINUTES: Final = (HOURS + 1) * 60  # from the beginning of this hour
_DAY: Final = 86_400.0
HORIZON: Final = timedelta(days=DAYS)
STEPS: Final = 20_000  # calls that are planned one by one because hours hold them back, of one integration


@dataclass(frozen=True, slots=True)
class LapseCount:
    """So many connections of an integration, the first one at `first_at`."""

    integration: str
    clock: DeadClock
    why: WhyLapsing
    count: float
    first_at: datetime


@dataclass(slots=True)
class Tally:
    """The calls of one integration's connections. minutes: from the beginning of the hour of `now` on."""

    integration: str
    now: datetime
    connections: float = 0
    calls: float = 0
    forced: float = 0
    minutes: "array[float]" = field(default_factory=lambda: array("d", bytes(8 * _MINUTES)))
    days: list[float] = field(default_factory=lambda: [0.0] * DAYS)
    daily: float = 0  # calls of each day after the first one, beside those in `days`
    lapses: dict[tuple[DeadClock, WhyLapsing], tuple[float, datetime]] = field(default_factory=dict)

    def add(self, found: Looks, weight: float) -> None:
        """Count these calls, `weight` times."""
        end = min((found.ends - self.now).total_seconds(), DAYS * _DAY)
        at = (found.begins - self.now).total_seconds()
        if at >= end:
            return
        every = found.every.total_seconds() if found.every is not None else end - at
        calls = -(-(end - at) // every) * weight
        self.calls += calls
        self.forced += calls if found.forced else 0
        if every >= _DAY:
            for number in range(int(-(-(end - at) // every))):
                self._add_one(at + number * every, weight)
            return
        # The first day call by call; those after it are taken to be even.
        minutes, into_hour = self.minutes, (self.now - hour_of(self.now)).total_seconds()
        moment, shown, first_day = at + into_hour, min(end + into_hour, _MINUTES * 60), _DAY + into_hour
        while moment < shown:
            minutes[int(moment // 60)] += weight
            if moment < first_day:
                self.days[0] += weight
            moment += every
        if at < _DAY and end == DAYS * _DAY:
            self.daily += _DAY / every * weight
            return
        for day in range(1, DAYS):
            span = min(end, (day + 1) * _DAY) - max(day * _DAY, at)
            self.days[day] += max(span, 0) / every * weight

    def _add_one(self, at: float, weight: float) -> None:
        self.days[int(at // _DAY)] += weight
        if (minute := int((at + (self.now - hour_of(self.now)).total_seconds()) // 60)) < _MINUTES:
            self.minutes[minute] += weight

    def note(self, lapse: Lapse, weight: float) -> None:
        count, first_at = self.lapses.get((lapse.clock, lapse.why), (0.0, lapse.at))
        self.lapses[lapse.clock, lapse.why] = (count + weight, min(first_at, lapse.at))


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """The calls of an environment's connections, as far as they can be foreseen.

    carried: how many of the connections were carried forward, each for `weight` of them. hours: the
    rest of this hour, then whole ones. days: each of 24 hours, from `now` on. overdue: plans that are due already.
    """

    now: datetime
    connections: int
    carried: int
    weight: float
    overdue: float
    tallies: tuple[Tally, ...]

    @property
    def minutes(self) -> list[float]:
        """The calls of each minute, from the beginning of this hour on."""
        return [sum(of) for of in zip(*(tally.minutes for tally in self.tallies), strict=True)] or [0.0] * _MINUTES

    @property
    def hours(self) -> list[float]:
        return hours_in(self.minutes)

    @property
    def days(self) -> list[float]:
        listed = [sum(of) for of in zip(*(tally.days for tally in self.tallies), strict=True)] or [0.0] * DAYS
        daily = sum(tally.daily for tally in self.tallies)
        return [listed[0], *(calls + daily for calls in listed[1:])]

    @property
    def lapses(self) -> list[LapseCount]:
        """The deadlines that pass before a turn, the earliest first."""
        found = [
            LapseCount(tally.integration, clock, why, count, first_at)
            for tally in self.tallies
            for (clock, why), (count, first_at) in tally.lapses.items()
        ]
        return sorted(found, key=lambda one: (one.first_at, one.integration))


def forecast(
    standings: Sequence[Standing],
    policies: Mapping[tuple[str, str | None], RefreshPolicy | None],
    *,
    connections: int,
    weight: float,
    now: datetime,
    budget: float | None,
    paused: Iterable[str] = (),
) -> Forecast:
    """Carry these connections forward, each for `weight` of all `connections`.

    policies: by integration and provider. budget: calls per minute with which what is overdue is made up for. paused:
    integrations.
    """
    lives, thinned = usual_lives(standings), _thinned(standings, policies)
    tallies: dict[str, Tally] = {}
    overdue, held = 0.0, frozenset(paused)
    for standing in standings:
        if (tally := tallies.get(standing.integration)) is None:
            tally = tallies[standing.integration] = Tally(standing.integration, now)
        tally.connections += weight
        policy = policies[standing.integration, standing.provider]
        if policy is None or standing.integration in held:
            why = WhyLapsing.DISABLED if policy is None else WhyLapsing.PAUSED
            _note_unserved(tally, standing, why, weight, now)
            continue
        one_in = thinned.get(standing.integration, 1)
        if round(tally.connections / weight) % one_in:
            continue
        if standing.due_at is not None and standing.due_at <= now:
            overdue += weight * one_in
            standing = replace(standing, due_at=now + _made_up(overdue, budget))  # noqa: PLW2901
        life = _life(standing, lives.get(standing.integration), policy)
        for found in looks(standing, policy, now=now, until=now + HORIZON, life=life):
            if isinstance(found, Looks):
                tally.add(found, weight * one_in)
            elif found.at < now + HORIZON:
                tally.note(found, weight * one_in)
    ordered = tuple(tallies[name] for name in sorted(tallies))
    return Forecast(
        now=now,
        connections=connections,
        carried=len(standings),
        weight=weight,
        overdue=overdue,
        tallies=ordered,
    )


def usual_lives(standings: Iterable[Standing]) -> dict[str, timedelta]:
    """The median life of the tokens of each integration."""
    known: dict[str, list[float]] = {}
    for standing in standings:
        if (life := standing.life) is not None:
            known.setdefault(standing.integration, []).append(life.total_seconds())
    return {integration: timedelta(seconds=median(lives)) for integration, lives in known.items()}


def _life(standing: Standing, usual: timedelta | None, policy: RefreshPolicy) -> timedelta | None:
    """The life of its tokens. When one was issued is known to Nango's margin only: the usual life goes first."""
    own = standing.life
    if usual is not None and (own is None or abs(own - usual) <= NANGO_MARGIN):
        return usual
    return own or (policy.lives.access.span if policy.lives.access else None)


def hour_of(at: datetime) -> datetime:
    """The beginning of its hour."""
    return at.replace(minute=0, second=0, microsecond=0)


def hours_in(minutes: Sequence[float]) -> list[float]:
    return [sum(minutes[begin : begin + 60]) for begin in range(0, len(minutes), 60)]


def _note_unserved(tally: Tally, standing: Standing, why: WhyLapsing, weight: float, now: datetime) -> None:
    """Note the next deadline of a connection that has no turn."""
    for clock, at in ((DeadClock.TOKEN, standing.expires_at), (DeadClock.GRANT, standing.facts.grant_expires_at)):
        if at is not None and now < at < now + HORIZON:
            tally.note(Lapse(at, clock, why), weight)
            return


def _made_up(ahead: float, budget: float | None) -> timedelta:
    return timedelta(minutes=ahead / budget) if budget else timedelta(0)


def _thinned(
    standings: Sequence[Standing], policies: Mapping[tuple[str, str | None], RefreshPolicy | None]
) -> dict[str, int]:
    """Of each integration whose hours are limited, that one in so many of its connections is carried forward."""
    steps: dict[str, float] = {}
    for standing in standings:
        policy = policies[standing.integration, standing.provider]
        if policy is not None and policy.hours is not None:
            life = standing.life or timedelta(days=1)
            steps[standing.integration] = steps.get(standing.integration, 0) + HORIZON / max(life, timedelta(minutes=1))
    return {name: max(1, round(count / STEPS)) for name, count in steps.items()}

"""Fates of the connections of a simulated world, by cohort."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

from app.domain.event import EventType
from app.domain.refreshing.policy import RefreshPolicy
from app.sandbox import grants
from app.sandbox.grants import Lapse, Renewing
from bench.refresh_lives import DAY, NANGO, WAYLINK, Cohort, policies
from bench.refresh_memory import StoredConnection
from bench.refresh_world import SimulatedConnection, SimulatedWorld


class Fate(StrEnum):
    ALIVE = "alive"
    REVOKED = "revoked"  # by its end user
    ENDED = "ended"  # by the provider, whatever is done
    LOST = "lost"  # of disuse, or since its renewal came too late
    GIVEN_UP = "given up"  # by Nango, after four failing days, though the grant lives


OURS_TO_LOSE: Final = frozenset({Fate.LOST, Fate.GIVEN_UP})


@dataclass(frozen=True, slots=True)
class Fates:
    """Of one cohort. expired: the share of the time in which a token lay expired; None where Nango knows no expiry."""

    counts: Mapping[Fate, float]
    expired: float | None


@dataclass(frozen=True, slots=True)
class Rate:
    """Calls per connection and day, and a day divided by the life less the policy's margin.

    Calls that repeat a refused one are left out.
    """

    measured: float
    expected: float

    @property
    def ratio(self) -> float:
        return self.measured / self.expected


def fate(connection: SimulatedConnection, now: datetime) -> Fate:
    rules, grant = connection.rules, connection.grant
    lapsed_at = grants.deadline(rules, grant)
    revoked_at = connection.revoked_at
    if revoked_at is not None and revoked_at <= now and (lapsed_at is None or revoked_at <= lapsed_at):
        return Fate.REVOKED
    over = grants.lapse(rules, grant, now=now)
    if over is Lapse.GRANT_LIFE or (over is Lapse.REFRESH_LIFE and not rules.rotates):
        return Fate.ENDED
    if over is not None:
        return Fate.LOST
    if rules.renews is Renewing.NEVER and grant.expires_at is not None and grant.expires_at <= now:
        return Fate.ENDED
    return Fate.GIVEN_UP if connection.exhausted_at is not None else Fate.ALIVE


def fates(world: SimulatedWorld) -> dict[str, Fates]:
    """Of each cohort, in connections that the carried out ones stand for."""
    return {cohort.name: _fates(cohort, _of(world, cohort), world.ends_at) for cohort in world.cohorts}


def count(found: Mapping[str, Fates], which: Collection[Fate]) -> float:
    return sum(each.counts.get(one, 0.0) for each in found.values() for one in which)


def expired_share(world: SimulatedWorld) -> float:
    """The share of the time in which tokens lay expired that Nango knows the expiry of, and can renew."""
    shares = [
        (cohort.count, share)
        for cohort in world.cohorts
        if (share := _expired(cohort, _of(world, cohort), world.ends_at)) is not None
    ]
    return sum(weight * share for weight, share in shares) / sum(weight for weight, _ in shares)


def told(world: SimulatedWorld, stored: Mapping[UUID, StoredConnection]) -> tuple[float, float]:
    """Connections whose end no renewal moved, and those of them that `token.expiring` announced."""
    ends = announced = 0.0
    for connection in world.connections.values():
        if fate(connection, world.ends_at) is Fate.ENDED:
            ends += connection.cohort.weight
            if EventType.TOKEN_EXPIRING in stored[connection.ref].told:
                announced += connection.cohort.weight
    return ends, announced


def rates(world: SimulatedWorld) -> dict[str, Rate]:
    """Of each cohort whose tokens or grants are renewed on and on."""
    known = policies(world.cohorts)
    found = {}
    for cohort in world.cohorts:
        policy = known.of("default", cohort.name, cohort.provider)
        expected = None if policy is None else _expected(cohort, policy)
        if expected is None:
            continue
        alive = [each for each in _of(world, cohort) if fate(each, world.ends_at) is Fate.ALIVE]
        outages = [span for name in (cohort.name, NANGO, WAYLINK) for span in world.away(name)]
        measured = _measured(alive, outages, every=DAY / expected)
        if measured is not None:
            found[cohort.name] = Rate(measured, expected)
    return found


def _of(world: SimulatedWorld, cohort: Cohort) -> list[SimulatedConnection]:
    return [each for each in world.connections.values() if each.cohort is cohort]


def _fates(cohort: Cohort, connections: list[SimulatedConnection], now: datetime) -> Fates:
    counted = Counter(fate(each, now) for each in connections)
    return Fates({one: number * cohort.weight for one, number in counted.items()}, _expired(cohort, connections, now))


def _expired(cohort: Cohort, connections: list[SimulatedConnection], now: datetime) -> float | None:
    """Of those that are neither revoked nor ended."""
    if cohort.rules.renews in {Renewing.NEVER, Renewing.INTROSPECTED} or not cohort.rules.tells_expiry:
        return None
    held = [each for each in connections if fate(each, now) not in {Fate.REVOKED, Fate.ENDED}]
    whole = sum((now - each.created_at).total_seconds() for each in held)
    return sum(each.expired + _since_expiry(each, now) for each in held) / whole if whole else None


def _since_expiry(connection: SimulatedConnection, now: datetime) -> float:
    at = connection.grant.expires_at
    return max((now - at).total_seconds(), 0.0) if at is not None else 0.0


def _measured(
    connections: list[SimulatedConnection], outages: Sequence[tuple[datetime, datetime]], *, every: float
) -> float | None:
    """Turns per day, from each connection's first one to its last, without the time for which outages put turns off.

    every: seconds from one turn to the next. An outage puts off those that are due in it to its end: all of them, by
    its length less half of that time, or where it is shorter, so large a part of them by half of its length.
    """
    days = turns = 0.0
    for each in connections:
        first, last = each.first_turn_at, each.last_turn_at
        if first is None or last is None:
            continue
        spans = [(ends - begins).total_seconds() for begins, ends in outages if first <= begins and ends <= last]
        off = sum(span - every / 2 if span > every else span * span / (2 * every) for span in spans)
        days += ((last - first).total_seconds() - off) / DAY
        turns += each.turns - 1
    return turns / days if days else None


def _expected(cohort: Cohort, policy: RefreshPolicy) -> float | None:
    """A day divided by the life less the margin, whose middle is taken; the shorter of both lives decides."""
    rules = cohort.rules
    lives = []
    if rules.access_life is not None and rules.tells_expiry and rules.renews in {Renewing.DUE, Renewing.FORCED}:
        lives.append(_renewed_after(rules.access_life, policy, by_force=rules.renews is Renewing.FORCED))
    limits = [span for span in (rules.refresh_life if rules.rotates else None, rules.idle_limit) if span is not None]
    if limits and rules.renews is not Renewing.NEVER:
        lives.append(_renewed_after(min(limits), policy, by_force=True))
    if rules.grant_life is not None or not lives:
        return None
    return DAY / min(lives)


def _renewed_after(life: float, policy: RefreshPolicy, *, by_force: bool) -> float:
    span = timedelta(seconds=life)
    if by_force:
        return life - policy.keep_alive_lead(span).total_seconds() * 3 / 4
    lead = policy.lead(span)
    return life - (lead - policy.width(lead) / 2).total_seconds()

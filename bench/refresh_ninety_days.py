"""Grants and tokens over 90 days, by Waylink and by Nango's own cron: a simulation under a controlled clock.

`python -m bench.refresh_ninety_days [--quick]` runs it alone. Waylink's refresher, policies, claim order and request
budget are the shipped ones. What is simulated stands in docs/benchmarks.md.
"""

import argparse
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import structlog

from bench import refresh_cron, refresh_database
from bench.refresh_burst import burst
from bench.refresh_foresight import HOUR as HOUR_LONG
from bench.refresh_foresight import foreseen
from bench.refresh_lives import COHORTS, DAY, DAYS, HOUR, OUTAGES, REVOKED, WHOLE, Cohort, Outage, population
from bench.refresh_nango import Decision
from bench.refresh_scarcity import scarcity
from bench.refresh_simulation import in_memory
from bench.refresh_summary import (
    OURS_TO_LOSE,
    Fate,
    Fates,
    Rate,
    count,
    expired_share,
    fates,
    rates,
    told,
)
from bench.refresh_world import BEGINS, SimulatedWorld
from bench.report import Figure, Report, figure, progress

SEED: Final = 20261130
PER_MINUTE: Final = 10_000  # requests of the Nango account
SCARCE: Final = 1000  # the same, where it cannot keep 100,000 hourly tokens fresh
FALLS_GOAL: Final = 12  # from fresh to alive; an hourly token is renewed 30 times a day
SECONDS_GOAL: Final = 1800.0
DATABASE_SECONDS_GOAL: Final = 480.0  # of each database
RATE_GOAL, BURST_GOAL = 0.05, 1.05
FORESEEN_ON: Final = 75  # the day whose calls are forecast by hour
FORECAST_GOAL: Final = 0.1  # of all that the table carries out: the calls of fewer are too uneven by the hour
FEWEST: Final = 20  # connections carried out, for a cohort's calls to be compared: their places in a window differ


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """carried_out: connections of the simulation; None: all of the table. in_database: of the one on a database."""

    carried_out: int | None
    days: float
    in_database: int
    database_days: float
    burst: int


FULL: Final = Size(carried_out=None, days=DAYS, in_database=1000, database_days=DAYS, burst=WHOLE)
QUICK: Final = Size(carried_out=1500, days=65, in_database=40, database_days=4, burst=10_000)


def measure(report: Report, *, quick: bool) -> None:
    """Add the figures of all runs, and the table by cohort."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    size, began = QUICK if quick else FULL, time.monotonic()
    cohorts = COHORTS if size.carried_out is None else population(size.carried_out)
    report.figures |= _ninety_days(report, cohorts, size.days)
    report.figures |= _bursts(size.burst)
    report.figures |= _scarce(size.burst)
    for kind in refresh_database.KINDS:
        with report.part(f"refreshes on {kind}"):
            report.figures |= _in_database(size, kind)
    report.figures["refresh, in all"] = figure(time.monotonic() - began, "s", at_most=SECONDS_GOAL)


def _ninety_days(report: Report, cohorts: Sequence[Cohort], days: float) -> dict[str, Figure]:
    outages = scaled(OUTAGES, days)
    ours = SimulatedWorld(SEED, cohorts, outages, REVOKED, days)
    simulation, store = in_memory(ours, per_minute=PER_MINUTE)
    simulation.run(BEGINS + timedelta(days=round(FORESEEN_ON * days / DAYS)))
    began, expected = simulation.clock.now, foreseen(store, cohorts, now=simulation.clock.now)
    simulation.run(ours.ends_at)
    happened = [simulation.nango.calls_of(began + number * HOUR_LONG, HOUR_LONG) for number in range(len(expected))]
    progress(f"refresh: {sum(each.calls for each in ours.connections.values()):,} calls carried out")
    alone = SimulatedWorld(SEED, cohorts, outages, REVOKED, days)
    refresh_cron.run(alone)
    by_us, by_cron, paces = fates(ours), fates(alone), rates(ours)
    report.tables.append(_table(cohorts, by_us, by_cron, paces))
    ends, announced = told(ours, store.connections)
    sampled = {cohort.name: cohort.sampled for cohort in cohorts}
    farthest = max((abs(pace.ratio - 1) for name, pace in paces.items() if sampled[name] >= FEWEST), default=math.nan)
    return {
        "refresh, grants lost, Waylink": figure(count(by_us, {Fate.LOST}), "grants", at_most=0),
        "refresh, grants lost, Nango's cron alone": figure(count(by_cron, {Fate.LOST}), "grants"),
        "refresh, given up in an outage, Waylink": figure(count(by_us, {Fate.GIVEN_UP}), "grants"),
        "refresh, given up in an outage, Nango's cron alone": figure(count(by_cron, {Fate.GIVEN_UP}), "grants"),
        "refresh, time with an expired token, Waylink": figure(100 * expired_share(ours), "%"),
        "refresh, time with an expired token, Nango's cron alone": figure(100 * expired_share(alone), "%"),
        "refresh, ends that no renewal moves, announced": figure(
            announced / ends if ends else math.nan, "share", at_least=1
        ),
        "refresh, calls against a day / (life - margin), farthest": figure(farthest, "off", at_most=RATE_GOAL),
        "refresh, calls forecast by hour against those that came, farthest": figure(
            max(abs(one / other - 1) for one, other in zip(expected, happened, strict=True)),
            "off",
            at_most=FORECAST_GOAL if cohorts is COHORTS else None,
        ),
        "refresh, calls held back by the budget": figure(simulation.nango.held, "calls"),
    }


def scaled(outages: Sequence[Outage], days: float) -> tuple[Outage, ...]:
    """The outages at the same share of other days, as long as they are."""
    at = days / DAYS
    return tuple(Outage(each.name, each.begins * at, each.begins * at + each.ends - each.begins) for each in outages)


def _bursts(size: int) -> dict[str, Figure]:
    straight, restarted = burst(size, with_restart=False), burst(size, with_restart=True)
    moved = sum(straight.moments[name] != at for name, at in restarted.moments.items())
    missed = size - len(straight.moments) + size - len(restarted.moments)
    return {
        f"refresh, burst of {size:,}, busiest minute / mean": figure(straight.busiest, "ratio", at_most=BURST_GOAL),
        "refresh, the same after a restart": figure(restarted.busiest, "ratio", at_most=BURST_GOAL),
        "refresh, renewals that a restart moved or missed": figure(moved + missed, "renewals", at_most=0),
    }


def _scarce(size: int) -> dict[str, Figure]:
    found = scarcity(size, per_minute=SCARCE * size // WHOLE)
    what = f"refresh, {size:,} tokens with {SCARCE * size // WHOLE:,} calls a minute"
    fresh = {f"{what}, fresh, {priority}": figure(100 * share, "% of time") for priority, share in found.fresh.items()}
    return {
        f"{what}, grants lost": figure(found.lost, "grants", at_most=0),
        **fresh,
        f"{what}, most falls of one within a day": figure(found.most_falls, "falls", at_most=FALLS_GOAL),
    }


def _in_database(size: Size, kind: str) -> dict[str, Figure]:
    def world() -> SimulatedWorld:
        outages = scaled(OUTAGES, size.database_days)
        return SimulatedWorld(SEED, population(size.in_database), outages, REVOKED, size.database_days)

    in_memory_too: list[Decision] = []
    simulation, _ = in_memory(world(), per_minute=PER_MINUTE, decisions=in_memory_too)
    simulation.run(simulation.world.ends_at)
    began = time.monotonic()
    with refresh_database.opened(kind) as url:
        found = refresh_database.decisions(world(), per_minute=PER_MINUTE, url=url)
    took, what = time.monotonic() - began, f"refresh, {size.in_database:,} connections on {kind}"
    progress(f"{what}: {len(found):,} decisions in {took:.0f} s")
    return {
        f"{what}, decisions unlike those in memory": figure(differing(in_memory_too, found), "decisions", at_most=0),
        f"{what}, decisions": figure(len(found), "decisions"),
        f"{what}, time for {size.database_days:g} days": figure(took, "s", at_most=DATABASE_SECONDS_GOAL),
    }


def differing(some: Sequence[Decision], others: Sequence[Decision]) -> int:
    """The count of places at which two sequences of decisions differ."""
    unlike = sum(one != other for one, other in zip(some, others, strict=False))
    return unlike + abs(len(some) - len(others))


def _table(
    cohorts: Sequence[Cohort], ours: Mapping[str, Fates], cron: Mapping[str, Fates], paces: Mapping[str, Rate]
) -> str:
    head = (
        f"{'connections of':28}{'number':>8}{'carried out':>12}{'token':>8}{'grant':>8}{'lost':>7}"
        f"{'cron':>8}{'expired':>9}{'cron':>7}{'calls/day':>11}{'expected':>10}"
    )
    lines = [head]
    for cohort in cohorts:
        mine, other, pace = ours[cohort.name], cron[cohort.name], paces.get(cohort.name)
        lines.append(
            f"{cohort.name:28}{cohort.count:>8,}{cohort.sampled:>12,}{_span(cohort.rules.access_life):>8}"
            f"{_span(_grant_life(cohort)):>8}{count({'': mine}, OURS_TO_LOSE):>7,.0f}"
            f"{count({'': other}, OURS_TO_LOSE):>8,.0f}{_percent(mine.expired):>9}{_percent(other.expired):>7}"
            f"{_number(pace.measured if pace else None):>11}{_number(pace.expected if pace else None):>10}"
        )
    return "\n".join(lines)


def _grant_life(cohort: Cohort) -> float | None:
    rules = cohort.rules
    return min((span for span in (rules.refresh_life, rules.grant_life, rules.idle_limit) if span), default=None)


def _span(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds >= DAY:
        return f"{seconds / DAY:g} d"
    return f"{seconds / HOUR:g} h"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.refresh_ninety_days", description="Simulate refreshes.")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK.carried_out:,} connections")
    report = Report()
    measure(report, quick=parser.parse_args().quick)
    report.print()


if __name__ == "__main__":
    main()

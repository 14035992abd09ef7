"""Nango's own cron before the same world: what becomes of grants that nothing else visits.

Every ten minutes one runner visits, in the order of ids and one after the other, the connections that were not fetched
for a day and were not given up, by a plain GET, and stops after ten minutes (Nango contract: Background refresh).
"""

import heapq
from datetime import datetime, timedelta
from typing import Final

from bench.refresh_lives import NANGO
from bench.refresh_world import BEGINS, Got, SimulatedConnection, SimulatedWorld

EVERY: Final = timedelta(minutes=10)
LONGEST: Final = 600.0  # seconds of a run
FETCHED_WITHIN: Final = timedelta(days=1)
READ, RENEWED = 0.02, 0.4  # seconds of a visit that asks no provider, and of one that does


def run(world: SimulatedWorld) -> None:
    """The world's days under the cron alone."""
    stale = [(each.fetched_at + FETCHED_WITHIN, each.number, each) for each in world.connections.values()]
    heapq.heapify(stale)
    now = BEGINS
    while now < world.ends_at:
        if not world.is_away(NANGO, now):
            _visit(world, stale, now)
        now += EVERY


def _visit(world: SimulatedWorld, stale: list[tuple[datetime, int, SimulatedConnection]], begun_at: datetime) -> None:
    due = []
    while stale and stale[0][0] <= begun_at:
        due.append(heapq.heappop(stale))
    spent = 0.0
    for at, number, connection in sorted(due, key=lambda each: each[1]):
        if spent >= LONGEST:
            heapq.heappush(stale, (at, number, connection))
            continue
        now = begun_at + timedelta(seconds=spent)
        got = world.get(connection, force=False, now=now)
        connection.calls += 1
        spent += connection.cohort.weight * (READ if got is Got.READ else RENEWED)
        if connection.exhausted_at is None:
            heapq.heappush(stale, (now + FETCHED_WITHIN, number, connection))

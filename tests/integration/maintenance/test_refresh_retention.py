"""Refreshes that are over go after a while; plans stay, and so do those that lives of grants are learnt from."""

from datetime import timedelta

import pytest
from sqlalchemy import select

from app.db.models import Refresh
from app.domain.states import RefreshOutcome
from app.ids import first_id
from app.services.maintenance import retention
from app.services.maintenance.retention import RefreshRetention
from tests.integration.world import DANA, auth

KEEP = timedelta(days=30)


@pytest.fixture
def ended(world, clock):
    """Makes a refresh that ended that long ago, or without an outcome a plan that is as old; its id."""
    world.handle(auth(connection_id="c1", tags=DANA))
    connection = world.connection("c1").id
    made = iter(range(1000))

    def make(age, outcome=RefreshOutcome.RENEWED):
        at = clock.now - age
        refresh = Refresh(
            id=first_id(at + timedelta(milliseconds=next(made))),
            connection_ref=connection,
            refresh_at=at,
            next_at=at,
            forced=False,
            reason="",
            attempts=1,
            failures=0,
            created_at=at,
            finished_at=at if outcome else None,
            outcome=outcome,
        )
        world.add(refresh)
        return refresh.id

    return make


def kept(world):
    with world.database.read() as session:
        return set(session.scalars(select(Refresh.id).where(Refresh.finished_at.is_not(None))))


def test_a_refresh_goes_when_it_ended_long_ago(world, ended):
    ended(KEEP + timedelta(seconds=1))
    young = ended(KEEP - timedelta(seconds=1))
    plan = ended(2 * KEEP, outcome=None)
    assert RefreshRetention(world.database, KEEP, world.clock).run() == 1
    assert kept(world) == {young}
    assert world.open_plan("c1").id == plan


def test_one_that_found_a_grant_to_be_dead_stays_for_a_year(world, ended):
    ended(timedelta(days=366), RefreshOutcome.EXHAUSTED)
    dead = ended(timedelta(days=364), RefreshOutcome.EXHAUSTED)
    ended(timedelta(days=364))
    assert RefreshRetention(world.database, KEEP, world.clock).run() == 2
    assert kept(world) == {dead}
    assert RefreshRetention(world.database, timedelta(days=400), world.clock).run() == 0


def test_without_a_limit_all_stay(world, ended):
    old = ended(timedelta(days=4000))
    assert RefreshRetention(world.database, None, world.clock).run() == 0
    assert kept(world) == {old}


def test_many_go_in_short_transactions_and_later_ones_with_the_next_run(world, ended, clock, monkeypatch):
    for name in ("FEWEST", "MOST"):
        monkeypatch.setattr(retention, name, 3)
    old = {ended(KEEP + timedelta(hours=hour)) for hour in range(1, 11)}
    later = ended(KEEP - timedelta(hours=1))
    keeper = RefreshRetention(world.database, KEEP, world.clock)
    keeper._pace.size = 3
    assert keeper.run() == len(old)
    clock.now += timedelta(hours=1)
    assert keeper.run() == 0
    clock.now += timedelta(seconds=1)
    assert keeper.run() == 1
    assert later not in kept(world)
    assert keeper.run(seconds=0) == 0

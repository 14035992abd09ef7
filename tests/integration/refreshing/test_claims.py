"""Due plans are claimed in the order of what would lapse first, each by one worker."""

from datetime import timedelta

import pytest

from app.db import refreshes as refresh_rows
from app.db.models import Refresh
from app.deadlines import REFRESH_LEASE
from app.domain.refreshing.plan import Keeps, Plan
from tests.integration.sandbox.sandbox_server import register
from tests.integration.world import DANA, auth, in_threads

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def world(open_world, base_url):
    return open_world(base_url=base_url)


@pytest.fixture
def plan(world, nango, clock, connection_id):
    """Makes the connection `name` with this open plan; due and deadline are spans from now on."""

    def make(name, due, deadline=None, keeps=None):
        connection_id_ = f"{connection_id}-{name}"
        register(nango, connection_id_, "oauth2", tags=DANA)
        world.handle(auth(connection_id=connection_id_, tags=DANA))
        ref = world.connection(connection_id_).id
        at = None if deadline is None else clock.now + deadline
        with world.database.write() as session:
            refresh_rows.supersede(session, [ref], now=clock.now)
            made = Plan(clock.now + due, forced=False, reason="test", deadline_at=at, keeps=keeps)
            refresh_rows.plan(session, {ref: made}, now=clock.now)

    return make


def claim(world, limit=10):
    with world.database.write() as session:
        claimed = refresh_rows.claim(session, limit=limit, now=world.clock.now, lease=REFRESH_LEASE)
    return [one.connection_id.rsplit("-", 1)[1] for one in claimed]


def test_after_a_stop_what_lapses_first_is_claimed_first(world, plan):
    plan("look", -12 * HOUR)
    plan("expired", -11 * HOUR, -10 * HOUR, Keeps.TOKEN)
    plan("soon", -MINUTE, 2 * MINUTE, Keeps.TOKEN)
    plan("grant", -12 * HOUR, 2 * HOUR, Keeps.GRANT)
    plan("calm", -11 * HOUR, 5 * DAY, Keeps.GRANT)
    plan("later", HOUR, DAY, Keeps.TOKEN)
    assert [*claim(world, 2), *claim(world, 1)] == ["grant", "expired", "soon"]
    assert claim(world) == ["look", "calm"]
    assert claim(world) == []


def test_a_plan_whose_lease_ended_comes_when_it_is_due_again_and_not_before_all_others(world, plan, clock):
    plan("dead", -HOUR, -HOUR, Keeps.TOKEN)
    assert claim(world) == ["dead"]
    clock.move(REFRESH_LEASE.total_seconds())
    plan("waits", -MINUTE, 4 * MINUTE, Keeps.TOKEN)
    assert claim(world) == ["waits", "dead"]


def test_a_plan_of_the_release_before_is_claimed_when_it_is_due(world, plan, clock):
    plan("old", -HOUR, HOUR, Keeps.TOKEN)
    with world.database.write() as session:
        session.query(Refresh).filter(Refresh.finished_at.is_(None)).update(
            {"urgent_at": None, "deadline_at": None, "keeps": None}
        )
    plan("new", -2 * HOUR)
    assert claim(world) == ["new", "old"]


def test_a_lease_that_the_release_before_took_holds(world, plan, clock):
    """It moves `next_at` alone."""
    plan("leased", -HOUR, -HOUR, Keeps.TOKEN)
    with world.database.write() as session:
        session.query(Refresh).filter(Refresh.finished_at.is_(None)).update({"next_at": clock.now + MINUTE})
    assert claim(world) == []


def test_workers_at_once_never_claim_one_plan_twice(world, plan):
    names = [f"n{number}" for number in range(12)]
    for number, name in enumerate(names):
        plan(name, -MINUTE * number, *((MINUTE, Keeps.TOKEN) if number % 2 else ()))
    found = in_threads(*[lambda: claim(world, 4)] * 4)
    assert sorted(name for part in found for name in part) == sorted(set().union(*found))
    assert sorted([*(name for part in found for name in part), *claim(world, 20)]) == sorted(names)


def test_a_claim_writes_one_index_by_connection_only():
    """Their pages are anywhere in the index, and cost more than all else of a claim. A plan that a pause held has one
    entry more.
    """
    table = Refresh.__table__
    by_connection = {
        index.name: str(index.dialect_options["postgresql"]["where"])
        for index in table.indexes
        if "connection_ref" in index.columns
    }
    held = "finished_at IS NULL AND outcome IN ('paused', 'provider_down')"
    assert by_connection.pop("ix_refreshes_held") == held
    assert [name for name, where in by_connection.items() if "finished_at IS NOT NULL" not in where] == [
        "uq_refreshes_open"
    ]

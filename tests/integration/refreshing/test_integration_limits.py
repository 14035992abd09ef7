"""Planned refreshes of a limited integration: no more at once, and no more a minute, in all processes together."""

from datetime import timedelta

import pytest
from sqlalchemy import select

from app.db import refresh_turns
from app.db import refreshes as refresh_rows
from app.db.models import RefreshTurns
from app.domain.refreshing.facts import IntegrationKey
from app.domain.refreshing.plan import Keeps, Plan
from app.domain.refreshing.policy import PolicyPart, for_integrations
from app.domain.states import RefreshOutcome
from tests.integration.meeting import at_once, hold
from tests.integration.sandbox.sandbox_server import register
from tests.integration.world import DANA, auth

MINUTE = timedelta(minutes=1)
LIMITED, FREE = "oauth2", "oauth2-cc"


@pytest.fixture
def world_of(open_world, base_url):
    def make(**limits):
        return open_world(base_url=base_url, refresh=for_integrations({LIMITED: PolicyPart(**limits)}))

    return make


@pytest.fixture
def connect(nango, clock):
    """Makes connections whose renewal is due now."""

    def make(world, count, integration=LIMITED):
        names = [f"{integration}-{number}" for number in range(count)]
        for name in names:
            register(nango, name, integration, tags=DANA)
            world.handle(auth(connection_id=name, integration=integration, tags=DANA))
        with world.database.write() as session:
            for place, name in enumerate(names):
                ref = world.connection(name).id
                refresh_rows.supersede(session, [ref], now=clock.now)
                at = clock.now - timedelta(milliseconds=count - place)
                due = Plan(at, False, "before the token expires", clock.now + 14 * MINUTE, Keeps.TOKEN)
                refresh_rows.plan(session, {ref: due}, now=clock.now)
        return names

    return make


def claimed(world, limit=32):
    return [one.connection_id for one in world.refresher.store.claim(limit=limit, now=world.clock())]


def test_no_more_run_at_once_than_the_limit_and_others_are_not_held_up(world_of, connect, clock):
    world = world_of(concurrency=3)
    names, free = connect(world, 5), connect(world, 2, FREE)
    assert claimed(world) == [*names[:3], *free]
    for turn, name in enumerate(names[3:], start=1):
        plan = world.open_plan(name)
        assert (plan.outcome, plan.attempts) == (RefreshOutcome.RATE_LIMITED, 0)
        assert plan.next_at == clock.now + turn * (timedelta(seconds=1) / 3)
        assert "concurrency = 3" in plan.error
    clock.move(2)
    assert claimed(world) == []  # those three still run


def test_an_integration_without_a_limit_keeps_no_turns(world_of, connect):
    world = world_of(concurrency=2)
    connect(world, 1)
    connect(world, 1, FREE)
    assert len(claimed(world)) == 2
    with world.database.read() as session:
        assert list(session.scalars(select(RefreshTurns.integration))) == [LIMITED]


def test_what_was_held_runs_when_others_have_ended(world_of, connect, clock):
    world = world_of(concurrency=2)
    names = connect(world, 5)
    for _ in range(10):
        world.refresher.refresh_due()
        clock.move(1)
    assert [world.plans(name)[1].outcome for name in names] == [RefreshOutcome.FIRST_SEEN] * 5


def test_a_worker_that_died_counts_until_its_lease_ends(world_of, connect, clock):
    world = world_of(concurrency=1)
    names = connect(world, 2)
    assert claimed(world) == names[:1]
    clock.move(70)
    assert claimed(world) == []
    clock.move(30)
    assert len(claimed(world)) == 1


def test_a_lease_that_has_ended_and_a_plan_that_is_due_soon_do_not_run(world_of, connect, clock):
    world = world_of(concurrency=1)
    names = connect(world, 3)
    with world.database.write() as session:
        ref = world.connection(names[2]).id
        refresh_rows.supersede(session, [ref], now=clock.now)
        soon = Plan(clock.now + timedelta(seconds=30), False, "before the token expires")
        refresh_rows.plan(session, {ref: soon}, now=clock.now)
    assert claimed(world, limit=1) == names[:1]
    clock.move(200)
    assert claimed(world, limit=1) == names[1:2]


def test_no_more_begin_within_a_minute_and_the_others_are_spread_over_it(world_of, connect, clock):
    world = world_of(per_minute=12)
    names = connect(world, 6)
    assert claimed(world) == names[:3]  # what the rate allows within ten seconds
    turns = [world.open_plan(name).next_at - clock.now for name in names[3:]]
    assert turns == [timedelta(seconds=5 * place) for place in (1, 2, 3)]
    for name in names[3:]:
        clock.move(5)
        assert claimed(world) == [name]


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)  # SQLite has one writing transaction at a time
@pytest.mark.parametrize("is_new", [True, False])
def test_processes_that_claim_at_once_keep_the_limit_together(world_of, connect, clock, monkeypatch, is_new):
    world = world_of(concurrency=4)
    names = connect(world, 12)
    if not is_new:
        with world.database.write() as session:
            refresh_turns.lock(session, IntegrationKey("default", LIMITED), now=clock.now)
    there = hold(monkeypatch, world, refresh_turns, "lock")
    first, second = at_once(lambda: claimed(world, limit=6), there, lambda: claimed(world, limit=6))
    assert (first, second) == (names[:4], [])

"""Every refresh, planned or by hand, is kept with when Nango was asked and for how long, and both clocks around it."""

from datetime import timedelta

import pytest

from app.domain.refreshing.lives import ClockSource
from app.domain.refreshing.policy import PolicyPart, for_integrations
from app.services.connections import credentials
from app.services.connections.operations import Operations
from tests.integration.sandbox.sandbox_server import control, register
from tests.integration.world import DANA, auth

DAY = timedelta(days=1)


@pytest.fixture
def world(open_world, gate):
    return open_world(base_url=gate.url, refresh=for_integrations({"*": PolicyPart(idle_limit=30 * DAY)}))


@pytest.fixture
def connected(world, nango, clock, connection_id):
    """A connection whose first plan is due and whose token expires within Nango's margin."""
    register(nango, connection_id, "oauth2", tags=DANA)
    world.handle(auth(connection_id=connection_id, tags=DANA))
    control(nango, connection_id, "oauth2", expires_in=600)
    clock.now = world.open_plan(connection_id).next_at
    return connection_id


def test_a_planned_refresh_has_its_latency_and_both_clocks(world, nango, clock, connected):
    before = world.connection(connected)
    world.refresher.refresh_due()
    control(nango, connected, "oauth2", expires_in=600)
    clock.now = world.open_plan(connected).next_at
    between = world.connection(connected)
    world.refresher.refresh_due()
    first, second, opened = world.plans(connected)
    assert (first.previous_expires_at, first.previous_grant_expires_at) == (None, before.grant_expires_at)
    assert (first.expires_at, first.grant_expires_at) == (between.expires_at, between.grant_expires_at)
    assert between.grant_source == ClockSource.POLICY
    assert (second.previous_expires_at, second.previous_grant_expires_at) == (
        between.expires_at, between.grant_expires_at,
    )  # fmt: skip
    after = world.connection(connected)
    assert (second.expires_at, second.grant_expires_at) == (after.expires_at, after.grant_expires_at)
    assert timedelta(0) < second.answered_at - second.asked_at < timedelta(minutes=1)
    assert (second.deadline_at, second.keeps) == (between.expires_at, "token")
    assert (opened.asked_at, opened.deadline_at, opened.keeps) == (None, after.expires_at, "token")


def test_a_failed_refresh_tells_when_it_was_and_no_clock_after_it(world, nango, connected):
    nango.post("/sandbox/faults", json={"operation": "refresh", "connection_id": connected}).raise_for_status()
    world.refresher.refresh_due()
    failed = world.plans(connected)[0]
    assert failed.asked_at < failed.answered_at
    assert (failed.expires_at, failed.grant_expires_at) == (None, None)


def test_a_refresh_by_hand_has_the_same(world, nango, clock, connected):
    world.refresher.refresh_due()
    before = world.connection(connected)
    clock.move(60)
    operations = Operations(world.database, world.policy, world.clients, clock)
    credentials.refresh(operations, before.id, actor="token:tester")
    after = world.connection(connected)
    [row] = [plan for plan in world.plans(connected) if plan.requested_by]
    assert timedelta(0) < row.answered_at - row.asked_at < timedelta(minutes=1)
    assert (row.previous_expires_at, row.expires_at) == (before.expires_at, after.expires_at)
    assert (row.previous_grant_expires_at, row.grant_expires_at) == (before.grant_expires_at, after.grant_expires_at)
    assert row.grant_expires_at is not None

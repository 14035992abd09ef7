"""Grants are kept alive by force before their deadline, what cannot be renewed is marked, and turns are numbered."""

from datetime import UTC, datetime, timedelta

import pytest

from app.config.provider_catalogue import shipped_catalogue
from app.db.models import Connection
from app.domain.refreshing.policy import PolicyPart, RefreshPriority, for_integrations
from app.services.connections import credentials
from app.services.connections.operations import Operations
from tests.integration.refreshing.test_expired_tokens import bring
from tests.integration.refreshing.test_two_clocks import refresh, shown
from tests.integration.sandbox.sandbox_server import control, register
from tests.integration.world import DANA, auth

DAY = timedelta(days=1)


@pytest.fixture
def world(open_world, gate):
    policies = for_integrations({"oauth2": PolicyPart(idle_limit=30 * DAY)}, shipped_catalogue())
    return open_world(base_url=gate.url, refresh=policies)


@pytest.fixture
def connected(world, nango, connection_id):
    register(nango, connection_id, "oauth2", tags=DANA)
    world.handle(auth(connection_id=connection_id, tags=DANA))
    return connection_id


def forced(gate):
    return ["force_refresh=true" in path for path in gate.requests]


def test_a_grant_without_any_expiry_is_renewed_by_force_before_it_lapses_of_disuse(world, nango, gate, connected):
    control(nango, connected, "oauth2", expires_in=None)
    refresh(world, connected)
    connection, plan = world.connection(connected), world.open_plan(connected)
    assert (connection.grant_source, plan.forced) == ("policy", True)
    assert 3.4 * DAY < connection.grant_expires_at - plan.next_at <= 7 * DAY
    gate.requests.clear()
    refresh(world, connected)
    assert forced(gate) == [True]
    renewed = world.connection(connected)
    assert renewed.renewed_at > connection.renewed_at
    assert renewed.grant_expires_at == renewed.renewed_at + 30 * DAY


def test_a_token_that_is_renewed_by_plain_gets_is_never_forced(world, nango, gate, connected):
    for _ in range(3):
        refresh(world, connected)
        control(nango, connected, "oauth2", expires_in=600)
    assert not any(forced(gate))


def test_what_a_forced_call_did_not_renew_is_marked_until_it_is_authorized_anew(world, nango, clock, connection_id):
    bring(nango, connection_id, expires_at=datetime.now(UTC) + 60 * DAY)  # without a refresh token
    world.handle(auth(connection_id=connection_id, tags=DANA))
    refresh(world, connection_id)
    assert (shown(world, connection_id)["not_refreshable"], world.open_plan(connection_id).forced) == (None, True)
    refresh(world, connection_id)
    assert shown(world, connection_id)["not_refreshable"].startswith("a forced renewal changed nothing")
    assert not world.open_plan(connection_id).forced
    clock.move(60)
    world.handle(auth("override", connection_id=connection_id, tags=DANA))
    assert shown(world, connection_id)["not_refreshable"] is None


def test_credentials_that_nothing_renews_are_marked_by_their_type(world, nango, connection_id):
    register(nango, connection_id, "oauth2", tags=DANA)
    world.handle(auth(connection_id=connection_id, tags=DANA, mode="API_KEY"))
    assert shown(world, connection_id)["not_refreshable"] == "nothing renews credentials of the type API_KEY"


def test_a_refresh_by_hand_keeps_the_grant_alive_as_well(world, nango, clock, connected):
    control(nango, connected, "oauth2", expires_in=None)
    refresh(world, connected)
    before = world.connection(connected).grant_expires_at
    clock.move(10 * 86_400)
    operations = Operations(world.database, world.policy, world.clients, clock)
    credentials.refresh(operations, world.connection(connected).id, actor="token:tester")
    assert world.connection(connected).grant_expires_at > before


def test_connections_are_numbered_in_a_row_and_keep_their_number(world, nango, clock, connection_id):
    names = [f"{connection_id}-{number}" for number in range(3)]
    for name in names:
        register(nango, name, "oauth2", tags=DANA)
        world.handle(auth(connection_id=name, tags=DANA))
    assert {world.connection(name).slot for name in names} == {None}
    clock.move(3600)
    assert world.refresher.refresh_due() == 3
    numbers = {name: world.connection(name).slot for name in names}
    assert sorted(numbers.values()) == list(range(min(numbers.values()), min(numbers.values()) + 3))
    clock.move(2 * 3600)
    world.refresher.refresh_due()
    world.handle(auth("override", connection_id=names[0], tags=DANA))
    assert {name: world.connection(name).slot for name in names} == numbers
    assert len(world.all(Connection, Connection.slot.is_not(None))) == 3


@pytest.mark.parametrize(
    ("priority", "expires_in", "asked"),
    [
        (RefreshPriority.NORMAL, 14 * 60, "refresh"),
        (RefreshPriority.NORMAL, 60, "refresh_soon"),
        (RefreshPriority.HIGH, 14 * 60, "refresh_soon"),
        (RefreshPriority.LOW, 60, "refresh"),
    ],
)
def test_the_policys_priority_decides_which_calls_wait(
    *, open_world, gate, nango, connection_id, priority, expires_in, asked
):
    world = open_world(base_url=gate.url, refresh=for_integrations({"*": PolicyPart(priority=priority)}))
    register(nango, connection_id, "oauth2", tags=DANA)
    world.handle(auth(connection_id=connection_id, tags=DANA))
    refresh(world, connection_id)
    world.clock.now = world.connection(connection_id).expires_at - timedelta(seconds=expires_in)
    with world.database.write() as session:
        session.get(type(plan := world.open_plan(connection_id)), plan.id).next_at = world.clock.now
    wanted = []
    of = type(world.clients).of

    def noted(self, environment, priority):
        wanted.append(priority)
        return of(self, environment, priority)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(type(world.clients), "of", noted)
        world.refresher.refresh_due()
    assert [str(each) for each in wanted] == [asked]


def test_a_forced_renewal_is_left_out_where_a_plain_look_shows_that_the_token_was_renewed(
    world, nango, gate, connected
):
    """Each forced call brings another refresh token at the provider."""
    control(nango, connected, "oauth2", expires_in=60 * 86_400)
    refresh(world, connected)
    assert world.open_plan(connected).forced
    before = world.connection(connected)
    control(nango, connected, "oauth2", expires_in=90 * 86_400)  # an application's call has renewed it
    gate.requests.clear()
    refresh(world, connected)
    assert forced(gate) == [False]
    [*_, done] = [plan for plan in world.plans(connected) if plan.finished_at]
    assert (done.outcome, world.connection(connected).expires_at > before.expires_at) == ("renewed", True)


def test_a_forced_renewal_follows_a_plain_look_that_shows_nothing_new(world, nango, gate, connected):
    control(nango, connected, "oauth2", expires_in=60 * 86_400)
    refresh(world, connected)
    gate.requests.clear()
    refresh(world, connected)
    assert forced(gate) == [False, True]
    assert world.connection(connected).calls == 2  # of that day


def test_calls_beyond_the_daily_ceiling_wait_for_the_next_day_and_people_s_do_not(
    open_world, nango, gate, connection_id
):
    world = open_world(base_url=gate.url, refresh=for_integrations({"oauth2": PolicyPart(daily_calls=2)}))
    world.clock.now = world.clock.now.replace(hour=1)
    register(nango, connection_id, "oauth2", tags=DANA)
    world.handle(auth(connection_id=connection_id, tags=DANA))
    for _ in range(2):
        control(nango, connection_id, "oauth2", expires_in=60)
        refresh(world, connection_id)
    gate.requests.clear()
    plan = world.open_plan(connection_id)
    world.clock.now = plan.next_at
    world.refresher.refresh_due()
    assert gate.requests == []
    waiting = world.open_plan(connection_id)
    assert (waiting.id, waiting.outcome) == (plan.id, "rate_limited")
    assert "daily_calls" in waiting.error
    assert waiting.next_at.date() == (world.clock.now + DAY).date()
    at = Operations(world.database, world.policy, world.clients, world.clock)
    credentials.refresh(at, world.connection(connection_id).id, actor="token:tester")
    assert forced(gate) == [True]
    world.clock.now = world.open_plan(connection_id).next_at.replace(hour=12) + DAY
    gate.requests.clear()
    refresh(world, connection_id)
    assert len(gate.requests) == 1

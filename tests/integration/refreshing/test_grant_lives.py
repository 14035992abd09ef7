"""Grants of every kind through the sandbox, as time goes by: what Waylink plans keeps alive what can be kept alive."""

from datetime import timedelta
from functools import partial

import pytest

from app.config.provider_catalogue import shipped_catalogue
from app.db.models import Refresh
from app.domain.refreshing.policy import PolicyPart, for_integrations
from app.nango.client import NangoClient
from app.services import nango_clients
from tests.integration.refreshing.test_two_clocks import shown
from tests.integration.sandbox.sandbox_server import control, register, serve
from tests.integration.world import DANA, auth, gate

DAY = timedelta(days=1)
DAYS = 86_400


@pytest.fixture
def nango(clock):
    with serve(clock=clock) as client:
        yield client


@pytest.fixture
def door(nango):
    with gate(str(nango.base_url).rstrip("/")) as door:
        yield door


@pytest.fixture
def open_account(open_world, door, clock, monkeypatch):
    """Waylink before the sandbox, both by one clock, with these policies of the integration."""
    monkeypatch.setattr(nango_clients, "NangoClient", partial(NangoClient, clock=clock))

    def open_account(**policy):
        return open_world(
            base_url=door.url, refresh=for_integrations({"crm": PolicyPart(**policy)}, shipped_catalogue())
        )

    return open_account


def connect(world, nango, *, provider="a-crm", **rules):
    nango.put("/sandbox/integrations/crm", json={"provider": provider, **rules}).raise_for_status()
    register(nango, "c-1", "crm", tags=DANA)
    world.handle(auth(connection_id="c-1", tags=DANA, integration="crm", provider=provider))


def live(world, *, days):
    """Carry out each plan at its time, so long."""
    ends_at = world.clock.now + days * DAY
    while (plan := world.open_plan("c-1")) is not None and plan.next_at < ends_at:
        world.clock.now = max(world.clock.now, plan.next_at)
        assert world.refresher.refresh_due() in {0, 1}
        world.process()
    world.clock.now = ends_at


def grant(nango):
    return nango.get("/sandbox/connections/c-1", params={"provider_config_key": "crm"}).raise_for_status().json()


def calls(door):
    """Whether each call to renew it was forced."""
    return ["force_refresh=true" in path for path in door.requests if path.startswith("/connections/c-1")]


def test_a_provider_that_tells_only_the_refresh_tokens_life_is_kept_alive(open_account, nango, door):
    world = open_account()
    connect(world, nango, refresh_life=30 * DAYS, tells="refresh_token_expires_in", tells_expiry=False)
    live(world, days=90)
    assert grant(nango)["lapsed"] is None
    assert calls(door) == [False, True, True, True]
    assert shown(world, "c-1")["grant_source"] == "provider"


def test_an_idle_limit_of_the_catalogue_is_met_by_force_only_where_no_plain_renewal_comes(open_account, nango, door):
    world = open_account()
    connect(world, nango, provider="xero", access_life=100 * DAYS, idle_limit=60 * DAYS)
    live(world, days=130)
    assert grant(nango)["lapsed"] is None
    assert calls(door).count(True) == 2


def test_a_short_access_token_is_kept_alive_by_plain_gets_alone(open_account, nango, door):
    world = open_account()
    connect(world, nango, provider="zendesk", access_life=12 * 3600, refresh_life=2 * DAYS)
    live(world, days=6)
    assert grant(nango)["lapsed"] is None
    assert True not in calls(door)
    assert 12 <= len(calls(door)) <= 15


def test_a_salesforce_org_without_expiries_is_used_before_its_idle_limit(open_account, nango, door):
    world = open_account()
    connect(world, nango, provider="salesforce", access_life=7200, idle_limit=30 * DAYS, renews="introspected")
    live(world, days=90)
    assert grant(nango)["lapsed"] is None


def test_a_provider_that_is_renewed_by_force_only_is_renewed_while_its_token_lives(open_account, nango, door):
    world = open_account()
    connect(world, nango, provider="facebook", access_life=60 * DAYS, refresh_life=60 * DAYS, renews="forced")
    live(world, days=170)
    assert grant(nango)["lapsed"] is None
    assert calls(door).count(True) == 3


def test_a_grant_that_no_renewal_moves_is_announced_and_needs_its_user(open_account, nango):
    world = open_account()
    connect(world, nango, provider="netsuite", access_life=6 * 3600, refresh_life=7 * DAYS, rotates=False)
    live(world, days=12)
    assert grant(nango)["lapsed"] == "refresh_life"
    assert [event.document["error"]["type"] for event in world.events("token.expiring")] == ["grant_expiring"]
    assert len(world.events("connection.needs_reconnect")) == 1
    assert shown(world, "c-1")["status"] == "needs_reconnect"


def test_each_renewal_takes_another_refresh_token_and_none_is_used_twice(open_account, nango):
    world = open_account()
    connect(world, nango, access_life=3600, reuse="revokes")
    live(world, days=0.5)
    assert grant(nango)["lapsed"] is None
    assert shown(world, "c-1")["status"] == "active"


def test_an_outage_of_the_provider_makes_no_connection_need_its_user(open_account, nango):
    world = open_account()
    connect(world, nango, access_life=3600)
    live(world, days=0.2)
    outage = {"operation": "refresh", "provider_config_key": "crm", "lasts": 8 * 3600}
    nango.post("/sandbox/faults", json=outage).raise_for_status()
    live(world, days=1.5)
    assert world.events("connection.needs_reconnect") == []
    assert shown(world, "c-1")["status"] == "active"
    assert grant(nango)["failing_days"] == 0
    assert len(world.all(Refresh, Refresh.outcome == "failed")) <= 6


def test_a_revoked_grant_is_given_up_on_the_fourth_failing_day_and_tells_its_user(open_account, nango):
    world = open_account()
    connect(world, nango, access_life=3600)
    live(world, days=0.2)
    control(nango, "c-1", "crm", revoked=True)
    live(world, days=2)
    assert world.events("connection.needs_reconnect") == []
    live(world, days=3)
    assert len(world.events("connection.needs_reconnect")) == 1
    assert grant(nango)["exhausted"]

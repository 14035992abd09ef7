"""Promise 8: an integration's refreshes are paused while its provider is down, or while an operator says so.

No connection is blamed for it, and afterwards no minute carries a herd.
"""

from datetime import timedelta
from functools import partial

import pytest
from sqlalchemy import select

from app.db import refreshes as refresh_rows
from app.db.models import Audit, Refresh, RefreshPause
from app.db.read import paused_integrations
from app.db.refresh_pauses import IntegrationKey
from app.domain.refreshing import outages
from app.domain.refreshing.outages import Tally
from app.domain.refreshing.plan import Plan
from app.errors import Conflict, InvalidInput, NotFound
from app.nango.client import NangoClient
from app.services import nango_clients
from app.services.connections import credentials
from app.services.connections.operations import Operations
from app.services.refreshing import outage_watch, pausing
from tests.integration.sandbox.sandbox_server import serve
from tests.integration.world import DANA, KilledError, auth
from tests.integration.world import gate as gates

WHO = "token:operator"


def listed(world, **filters):
    with world.database.read() as session:
        return paused_integrations.listed(session, **filters)


def pauses(world):
    with world.database.read() as session:
        return list(session.scalars(select(RefreshPause)))


def connect(world, *names):
    for name in names:
        world.handle(auth(connection_id=name))


def observe(world, integration="oauth2", *, failed=0, renewed=0, asked_at=None):
    """Results of refreshes of the integration."""
    key, now = IntegrationKey("default", integration), world.clock()
    outage_watch.count(world.database, {key: Tally(renewed, failed)}, asked_at=asked_at or now, now=now)


def test_an_operator_s_pause_is_listed_and_audited_until_it_is_resumed(world):
    connect(world, "c-1")
    pausing.pause(world.database, "default", "oauth2", actor=WHO, reason=" a migration ", now=world.clock())
    [paused] = listed(world)
    assert (paused.environment, paused.integration, paused.cause) == ("default", "oauth2", "operator")
    assert (paused.actor, paused.reason, paused.paused_at) == (WHO, "a migration", world.clock())
    assert (paused.next_probe_at, paused.share, paused.waiting) == (None, None, 0)
    assert paused.shown()["problem"] == f"paused by {WHO}: a migration"
    assert listed(world, environment="other") == []
    pausing.resume(world.database, "default", "oauth2", actor=WHO, now=world.clock())
    assert listed(world) == []
    done = [(row.actor, row.action, row.subject, row.detail) for row in world.all(Audit)]
    assert done == [
        (WHO, "refreshes.paused", "default/oauth2", {"reason": "a migration"}),
        (WHO, "refreshes.resumed", "default/oauth2", {"cause": "operator"}),
    ]


def test_what_cannot_be_paused_or_resumed_is_refused_with_the_reason(world):
    connect(world, "c-1")
    now = world.clock()
    with pytest.raises(NotFound, match="oauth3"):
        pausing.pause(world.database, "default", "oauth3", actor=WHO, now=now)
    with pytest.raises(NotFound, match="default/oauth2"):
        pausing.resume(world.database, "default", "oauth2", actor=WHO, now=now)
    with pytest.raises(InvalidInput, match="longer than 500"):
        pausing.pause(world.database, "default", "oauth2", actor=WHO, reason="x" * 501, now=now)
    pausing.pause(world.database, "default", "oauth2", actor=WHO, now=now)
    with pytest.raises(Conflict, match=f"paused already since .* by {WHO}"):
        pausing.pause(world.database, "default", "oauth2", actor=WHO, now=now)
    assert len(world.all(Audit)) == 1


def test_an_outage_pauses_its_integration_alone_and_an_answered_probe_ends_it(world):
    connect(world, "c-1")
    world.handle(auth(connection_id="c-2", integration="other"))
    observe(world, failed=4)
    assert listed(world) == []
    world.clock.move(60)
    observe(world, failed=4, renewed=2)
    observe(world, "other", renewed=3)
    [paused] = listed(world)
    assert (paused.integration, paused.cause, paused.failed, paused.renewed_or_failed) == ("oauth2", "outage", 8, 10)
    assert paused.problem == "8 of 10 connections began to fail within ten minutes"
    assert paused.next_probe_at == world.clock() + outages.FIRST_PROBE
    world.clock.move(60)
    observe(world, failed=2)
    assert len(listed(world)) == 1
    observe(world, renewed=1, failed=2)
    assert listed(world) == []
    observe(world, failed=4)  # what was counted before the pause ended is forgotten
    assert listed(world) == []
    assert [row.action for row in world.all(Audit, Audit.actor == "provider")] == [
        "refreshes.paused",
        "refreshes.resumed",
    ]


def test_an_answer_that_was_asked_for_before_the_pause_does_not_end_it(world):
    connect(world, "c-1")
    before = world.clock()
    world.clock.move(1)
    observe(world, failed=8)
    observe(world, renewed=1, asked_at=before)
    assert len(listed(world)) == 1


def test_an_operator_takes_a_pause_over_and_no_answer_ends_it_then(world):
    connect(world, "c-1")
    observe(world, failed=8)
    pausing.pause(world.database, "default", "oauth2", actor=WHO, now=world.clock())
    world.clock.move(60)
    observe(world, renewed=8)
    [paused] = listed(world)
    assert (paused.cause, paused.actor, paused.next_probe_at) == ("operator", WHO, None)


def test_claimed_plans_of_a_paused_integration_are_held_and_released_without_a_herd(world):
    names = [f"c-{number}" for number in range(40)]
    connect(world, *names)
    with world.database.write() as session:  # an environment without an API key plans nothing
        plans = {world.connection(name).id: Plan(world.clock(), forced=True, reason="a test") for name in names}
        refresh_rows.plan(session, plans, now=world.clock(), failures=dict.fromkeys(plans, 2))
    observe(world, failed=8)

    def claim(limit=100):
        return world.refresher.store.claim(limit=limit, now=world.clock())

    assert claim(7) == []
    [pause] = pauses(world)
    held = world.all(Refresh)
    assert {(plan.outcome, plan.attempts, plan.forced) for plan in held} == {("paused", 0, True)}
    assert all(pause.probe_at <= plan.next_at <= pause.probe_at + timedelta(minutes=1) for plan in held)
    assert listed(world)[0].waiting == 40
    world.clock.now = pause.probe_at + timedelta(minutes=1)
    kept = claim()
    assert len(kept) == outages.PROBES
    assert all(plan.forces for plan in kept)
    [pause] = pauses(world)
    assert (pause.probes, pause.probe_at) == (1, world.clock() + timedelta(minutes=2))
    released = pausing.resume(world.database, "default", "oauth2", actor=WHO, now=world.clock())
    assert (released.released, released.over_seconds) == (40 - outages.PROBES, 120)
    waiting = [plan for plan in world.all(Refresh) if plan.attempts == 0]
    assert {(plan.outcome, plan.error, plan.failures) for plan in waiting} == {(None, None, 0)}
    waits = sorted((plan.next_at - world.clock()).total_seconds() for plan in waiting)
    assert waits[0] < 30
    assert 90 < waits[-1] < 120
    assert max(sum(start <= wait < start + 30 for wait in waits) for start in (0, 30, 60, 90)) <= 20


# With a provider that is down


@pytest.fixture
def nango(clock):
    with serve(clock=clock) as client:
        yield client


@pytest.fixture
def gate(nango):
    with gates(str(nango.base_url).rstrip("/")) as door:
        yield door


@pytest.fixture
def nango_world(open_world, gate, clock, monkeypatch):
    """Waylink before the sandbox, both by one clock."""
    monkeypatch.setattr(nango_clients, "NangoClient", partial(NangoClient, clock=clock))
    return open_world(base_url=gate.url)


def bring(world, nango, prefix, count):
    """Connections whose tokens expire in twenty minutes, linked and looked at once."""
    names = [f"{prefix}-{number}" for number in range(count)]
    expires_at = world.clock() + timedelta(minutes=20)
    token = {"type": "OAUTH2", "access_token": "t", "refresh_token": "r", "expires_at": expires_at.isoformat()}
    for name in names:
        body = {"provider_config_key": "oauth2", "connection_id": name, "credentials": token, "tags": DANA}
        nango.post("/connections", json=body).raise_for_status()
    receipts = world.receive(*(auth(connection_id=name, tags=DANA) for name in names))
    world.process()
    for receipt in receipts:
        world.wait_for(receipt.event_id)
    world.clock.move(300)
    work(world)
    return names


def work(world):
    """Carry out all that is due, as a tick of Beat does."""
    while world.refresher.refresh_due():
        pass
    world.process()


def outage(nango, names, **rule):
    for name in names:
        nango.post("/sandbox/faults", json={"operation": "refresh", "connection_id": name, **rule}).raise_for_status()


def test_a_provider_s_outage_pauses_its_integration_and_blames_no_connection(nango_world, nango, gate, connection_id):
    world = nango_world
    names = bring(world, nango, connection_id, 20)
    outage(nango, names)
    world.clock.move(15 * 60)  # all of them are due
    world.refresher.refresh_due(limit=8)
    work(world)
    [paused] = listed(world)
    assert (paused.cause, paused.failed == paused.renewed_or_failed >= 5) == ("outage", True)
    assert 12 <= paused.waiting <= 15  # all but those that showed it
    gate.requests.clear()
    for _ in range(40):  # ten hours
        world.clock.move(15 * 60)
        work(world)
    assert len(gate.requests) <= 3 * 25 + 1
    [paused] = listed(world)
    assert paused.probes >= 18
    for name in names:
        assert world.connection(name).status == "active"
        plan = world.open_plan(name)
        assert plan.failures <= 1  # of before the pause was seen
    assert {plan.outcome for plan in world.all(Refresh, Refresh.finished_at.is_not(None))} <= {"first_seen", "failed"}
    assert world.events("connection.needs_reconnect") == []
    nango.delete("/sandbox/faults").raise_for_status()
    world.clock.now = max(world.clock.now, paused.next_probe_at) + timedelta(minutes=31)
    work(world)
    assert listed(world) == []
    waits = [world.open_plan(name).next_at - world.clock() for name in names]
    assert len(set(waits)) > 15  # spread
    world.clock.move(150)
    work(world)
    assert all(world.connection(name).last_error_type is None for name in names)
    assert all(world.connection(name).expires_at > world.clock() for name in names)


def test_an_outage_of_nango_itself_pauses_no_integration(nango_world, nango, gate, connection_id):
    world = nango_world
    bring(world, nango, connection_id, 10)
    gate.status = 503
    for _ in range(20):
        world.clock.move(120)
        work(world)
    assert listed(world) == []
    assert {plan.outcome for plan in world.all(Refresh, Refresh.finished_at.is_(None))} == {"nango_down"}


def test_dead_grants_among_living_ones_pause_no_integration(nango_world, nango, connection_id):
    world = nango_world
    names = bring(world, nango, connection_id, 14)
    outage(nango, names[:6])
    for _ in range(30):
        world.clock.move(600)
        work(world)
    assert listed(world) == []
    assert {world.connection(name).last_error_type for name in names[:6]} != {None}
    assert {world.connection(name).last_error_type for name in names[6:]} == {None}


def test_a_renewal_by_hand_goes_through_and_its_answer_ends_a_pause_for_an_outage(nango_world, nango, connection_id):
    world = nango_world
    [name] = bring(world, nango, connection_id, 1)
    observe(world, failed=8)
    world.clock.move(1)
    at = Operations(world.database, world.policy, world.clients, world.clock)
    credentials.refresh(at, world.connection(name).id, actor=WHO)
    assert listed(world) == []


def test_a_worker_that_dies_as_a_pause_begins_or_holds_plans_loses_none(nango_world, nango, connection_id, monkeypatch):
    """Plans that a pause holds are due again within the hour, whatever became of the release."""
    world = nango_world
    names = bring(world, nango, connection_id, 8)
    pausing.pause(world.database, "default", "oauth2", actor=WHO, now=world.clock())
    world.clock.move(15 * 60)
    work(world)
    assert listed(world)[0].waiting == 8

    def die(*_args, **_options):
        raise KilledError

    monkeypatch.setattr(pausing, "release", die)
    with pytest.raises(KilledError):
        pausing.resume(world.database, "default", "oauth2", actor=WHO, now=world.clock())
    assert listed(world) == []
    world.clock.move(3600)
    work(world)
    assert all(world.connection(name).expires_at > world.clock() for name in names)

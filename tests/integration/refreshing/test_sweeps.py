"""Sweeps on both databases: which connections are renewed, when, and once; and what Nango is asked for them."""

from datetime import timedelta

import pytest
from sqlalchemy import update

from app.db import connections, refreshes
from app.db.connections import ConnectionKey
from app.db.models import Audit, Connection, Refresh
from app.deadlines import REFRESH_LEASE
from app.domain.refreshing.catalogue import read_catalogue
from app.domain.refreshing.plan import Keeps, Plan
from app.domain.refreshing.policy import PolicyPart, for_integrations
from app.domain.refreshing.sweeping import REASON
from app.domain.states import ConnectionStatus
from app.errors import Conflict, InvalidInput, NotFound
from app.services.refreshing import pausing, sweeps
from tests.integration.sandbox.sandbox_server import control, register
from tests.integration.world import DANA, auth

NEVER_RENEWED = """
[[provider]]
names = ["fixed"]
renews = "never"
source = "https://example.com"
read = 2026-11-01
"""
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def world(open_world, gate):
    return open_world(base_url=gate.url)


@pytest.fixture
def stored(world, clock):
    """Connections by name: ten to renew, and one each that is not renewed or of another integration."""
    rows = {f"c-{number}": row(clock, f"c-{number}") for number in range(10)}
    rows |= {name: row(clock, name) for name in ("key", "marked", "gone", "reconnects")}
    rows["key"].auth_mode, rows["marked"].not_refreshable = "API_KEY", "no refresh token"
    rows["gone"].status, rows["reconnects"].status = ConnectionStatus.DELETED, ConnectionStatus.NEEDS_RECONNECT
    other = row(clock, "other", "hubspot")
    with world.database.write() as session:
        connections.insert(session, [*rows.values(), other])
    return rows


def row(clock, name, integration="oauth2"):
    made = connections.new(ConnectionKey("default", integration, name), now=clock.now)
    made.status, made.auth_mode = ConnectionStatus.ACTIVE, "OAUTH2"
    return made


def preview(world, within=2 * HOUR, integration="oauth2", **options):
    with world.database.read() as session:
        return sweeps.preview(
            session, world.policy, "default", integration, within=within, limit_per_minute=200,
            now=world.clock.now, **options,
        )  # fmt: skip


def sweep(world, **options):
    found = preview(world, **options)
    steps = sweeps.sweep(world.database, found, actor="cli:root", clock=world.clock)
    return [ref for some in steps for ref in some]


def swept(world):
    """Open plans of a sweep, by the connection's name."""
    names = {one.id: one.connection_id for one in world.all(Connection)}
    plans = world.all(Refresh, Refresh.finished_at.is_(None), Refresh.reason == REASON)
    return {names[plan.connection_ref]: plan for plan in plans}


def test_a_preview_counts_what_is_renewed_and_what_is_left_alone_and_changes_nothing(world, stored):
    shown = preview(world).shown()
    assert (shown["count"], shown["more"], shown["swept_before"]) == (10, False, 0)
    assert (shown["not_refreshable"], shown["needs_reconnect"]) == (2, 1)
    assert (shown["calls_per_minute"], shown["budget_per_minute"]) == (0.1, 80)
    assert swept(world) == {}
    assert world.all(Audit) == []


def test_a_sweep_plans_one_forced_renewal_each_evenly_over_the_span(world, stored, clock):
    begins = clock.now
    assert len(sweep(world)) == 10
    plans = sorted(swept(world).values(), key=lambda plan: plan.next_at)
    assert {plan.forced for plan in plans} == {True}
    assert [plan.next_at - begins for plan in plans] == [timedelta(minutes=6 + 12 * place) for place in range(10)]
    [act] = world.all(Audit)
    assert (act.action, act.subject, act.outcome, act.actor) == (
        "refreshes.swept", "default/oauth2", "done", "cli:root",
    )  # fmt: skip
    assert act.detail == {"within_seconds": 7200, "more": False, "count": 10}


def test_a_sweep_that_is_repeated_within_its_span_changes_nothing(world, stored, clock):
    sweep(world)
    before = {name: plan.id for name, plan in swept(world).items()}
    with world.database.write() as session:  # one of them was carried out meanwhile
        done = refreshes.open_plan(session, stored["c-0"].id)
        done.finished_at, done.outcome = clock.now, "renewed"
    clock.move(3600)
    assert preview(world).shown()["swept_before"] == 10
    assert sweep(world) == []
    assert {name: plan.id for name, plan in swept(world).items()} == {k: v for k, v in before.items() if k != "c-0"}
    clock.move(2 * 3600)  # another one, once that is over: what is still open is left alone
    assert sweep(world) == [stored["c-0"].id]


def test_a_sweep_in_parts_takes_each_connection_once(world, stored):
    assert preview(world, limit=4).more
    parts = [sweep(world, limit=4) for _ in range(3)]
    assert [len(part) for part in parts] == [4, 4, 2]
    assert len({ref for part in parts for ref in part}) == 10


def test_a_sweep_replaces_the_plan_and_comes_no_later_than_it(world, stored, clock):
    until = clock.now + 10 * MINUTE
    soon = Plan(clock.now + timedelta(seconds=10), forced=False, reason="soon", deadline_at=until, keeps=Keeps.TOKEN)
    late = Plan(clock.now + DAY, forced=False, reason="x")
    ids = [stored[f"c-{number}"].id for number in range(10)]
    with world.database.write() as session:
        refreshes.plan(session, {ids[9]: soon, ids[0]: late, ids[1]: soon}, now=clock.now)
        taken = refreshes.open_plan(session, ids[1])
        taken.attempts, taken.next_at = 1, clock.now + REFRESH_LEASE  # a worker asks just now
    sweep(world, within=8 * MINUTE)
    plans = swept(world)
    assert plans["c-9"].next_at == soon.due_at  # its slot comes 24 seconds from now on
    assert (plans["c-9"].deadline_at, plans["c-9"].keeps) == (until, "token")
    assert plans["c-0"].next_at == clock.now + 2 * MINUTE
    assert plans["c-1"].next_at == clock.now + REFRESH_LEASE
    assert len(world.all(Refresh, Refresh.outcome == "superseded")) == 3


def test_a_connection_that_was_deleted_after_the_preview_is_left_alone(world, stored):
    found = preview(world)
    with world.database.write() as session:
        session.get_one(Connection, stored["c-3"].id).status = ConnectionStatus.DELETED
    steps = sweeps.sweep(world.database, found, actor="cli:root", clock=world.clock)
    assert stored["c-3"].id not in [ref for some in steps for ref in some]
    assert "c-3" not in swept(world)


def test_a_sweep_is_refused_where_nothing_may_be_renewed(world, open_world, gate, stored, clock):
    with pytest.raises(NotFound):
        preview(world, integration="unknown")
    with pytest.raises(InvalidInput):
        preview(world, within=timedelta(seconds=1))
    off = open_world(base_url=gate.url, refresh=for_integrations({"oauth2": PolicyPart(enabled=False)}))
    with pytest.raises(Conflict, match="not refreshed"):
        preview(off)
    with world.database.write() as session:
        session.execute(update(Connection).values(provider="fixed"))
    with pytest.raises(Conflict, match="renews no tokens"):
        preview(open_world(base_url=gate.url, refresh=for_integrations({}, read_catalogue(NEVER_RENEWED))))
    pausing.pause(world.database, "default", "oauth2", actor="cli:root", now=clock.now)
    with pytest.raises(Conflict, match="resume them first"):
        preview(world)


def test_a_swept_connection_is_renewed_by_one_forced_call_and_planned_as_before(world, nango, gate, connection_id):
    register(nango, connection_id, "oauth2", tags=DANA)
    world.handle(auth(connection_id=connection_id, tags=DANA))
    control(nango, connection_id, "oauth2", expires_in=3600)
    with world.database.write() as session:
        refreshes.supersede(session, [world.connection(connection_id).id], now=world.clock.now)
    sweep(world, within=2 * MINUTE)
    gate.requests.clear()
    world.clock.now = world.open_plan(connection_id).next_at
    assert world.refresher.refresh_due() == 1
    assert len([path for path in gate.requests if "force_refresh=true" in path]) == 1
    done, plan = [one for one in world.plans(connection_id) if one.outcome != "superseded"]
    assert (done.reason, done.outcome) == (REASON, "first_seen")
    assert (plan.forced, plan.reason) == (False, "before the token expires")

"""Open plans follow a changed refresh policy: no webhook, reconciliation or refresh is needed."""

from datetime import timedelta

import pytest
from sqlalchemy import select
from structlog.testing import capture_logs

from app.db import leases
from app.db import refresh_policies as rows
from app.db.models import Audit, RefreshPolicyState
from app.domain.refreshing.facts import IntegrationKey
from app.domain.refreshing.hours import Hours, read_span
from app.domain.refreshing.policy import Keep, PolicyPart, for_integrations
from app.domain.refreshing.sweeping import REASON as SWEPT
from app.domain.states import RefreshOutcome
from app.ids import new_id
from app.services.refreshing import policy_changes
from app.services.refreshing.policy_changes import SETTLE, PolicyChanges
from tests.integration.sandbox.sandbox_server import control, register
from tests.integration.world import DANA, auth

SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
LIFE = 8 * HOUR
OFF = PolicyPart(enabled=False)


@pytest.fixture
def under(open_world, base_url):
    """A world whose processes go by these refresh tables: of all integrations, or of those that are named."""

    def make(part=None, **named):
        return open_world(base_url=base_url, refresh=for_integrations({"*": part or PolicyPart(), **named}))

    return make


def changes(world):
    """Of a process that has just started, once the others have ended."""
    found = PolicyChanges(world.database, world.policy, world.clock)
    world.clock.now += SETTLE
    return found


def follow(world):
    with capture_logs() as logs:
        changes(world).follow()
    lines = [line for line in logs if line["event"] == "refreshes_replanned"]
    return {name: sum(line[name] for line in lines) for name in ("planned", "moved", "closed")}


def connect(world, nango, *names, integration="oauth2"):
    for name in names:
        register(nango, name, integration, tags=DANA)
        world.handle(auth(connection_id=name, integration=integration, tags=DANA))


def read_tokens(world, nango, *names):
    """Have the tokens of these read, each with the same time left."""
    for name in names:
        control(nango, name, "oauth2", expires_in=LIFE.total_seconds())
    world.clock.now = max(world.open_plan(name).next_at for name in names)
    world.refresher.refresh_due()


def states(world):
    with world.database.read() as session:
        return list(session.scalars(select(RefreshPolicyState)))


def finished(world):
    found = states(world)
    return bool(found) and all(state.finished_at for state in found)


def until(condition, process):
    """Call the process as its worker does, until the condition holds."""
    for _ in range(50):
        process.follow()
        if condition():
            return
        process.clock.move(10)
    raise AssertionError("it never was so")


NOTHING = {"planned": 0, "moved": 0, "closed": 0}


def test_a_policy_that_is_switched_on_plans_connections_without_a_plan_within_the_hour(under, nango, clock):
    off = under(OFF)
    names = [f"c-{number}" for number in range(12)]
    connect(off, nango, *names)
    assert follow(off) == NOTHING
    assert {off.open_plan(name) for name in names} == {None}
    on = under()
    assert follow(on) == {**NOTHING, "planned": 12}
    due = sorted(on.open_plan(name).next_at - clock.now for name in names)
    assert due[0] >= timedelta(0)
    assert due[-1] <= HOUR + MINUTE
    assert due[-1] - due[0] > 20 * MINUTE
    [entry] = on.all(Audit, Audit.action == "refreshes.replanned")
    assert (entry.actor, entry.subject) == ("waylink.toml", "default/oauth2")
    assert entry.detail == {"planned": 12, "moved": 0, "closed": 0}


def test_a_policy_that_is_switched_off_ends_the_open_plans_with_its_reason(under, nango):
    on = under()
    connect(on, nango, "c-1", "c-2")
    assert follow(on) == NOTHING
    off = under(OFF)
    assert follow(off) == {**NOTHING, "closed": 2}
    [plan] = off.plans("c-1")
    assert (plan.outcome, plan.asked_at) == (RefreshOutcome.SUPERSEDED, None)
    assert "policy has changed" in plan.error


def test_a_known_expiry_is_planned_for_at_once_when_a_policy_is_switched_on(under, nango, clock):
    on = under()
    connect(on, nango, "c-1")
    read_tokens(on, nango, "c-1")
    before = on.open_plan("c-1")
    follow(on)
    follow(under(OFF))
    assert on.open_plan("c-1") is None
    follow(under())
    after = on.open_plan("c-1")
    assert after.next_at == before.next_at  # the same turn before the same expiry
    assert (after.deadline_at, after.keeps) == (before.deadline_at, before.keeps)


def test_plans_move_to_a_changed_margin_and_back_and_others_stay(under, nango, clock):
    world = under()
    connect(world, nango, "c-1", "c-2")
    connect(world, nango, "other", integration="oauth2-cc")
    read_tokens(world, nango, "c-1", "c-2")
    before = {name: world.open_plan(name).next_at for name in ("c-1", "c-2", "other")}
    assert follow(world) == NOTHING
    short = {"margin": 2 * MINUTE, "margin_floor": MINUTE, "spread": 30 * SECOND}
    narrow = under(oauth2=PolicyPart(**short))
    assert follow(narrow) == {**NOTHING, "moved": 2}
    for name in ("c-1", "c-2"):
        plan = world.open_plan(name)
        assert plan.refresh_at == plan.next_at
        assert world.connection(name).expires_at - 2 * MINUTE <= plan.next_at
    assert world.open_plan("other").next_at == before["other"]
    assert follow(under()) == {**NOTHING, "moved": 2}
    assert {name: world.open_plan(name).next_at for name in before} == before


def test_a_policy_that_stays_the_same_rewrites_no_row(under, nango, database):
    world = under()
    connect(world, nango, "c-1", "c-2")
    read_tokens(world, nango, "c-1")
    follow(world)
    before = [world.plans(name) for name in ("c-1", "c-2")]
    shown = [[(plan.id, plan.next_at, plan.refresh_at) for plan in plans] for plans in before]
    # Other words for the same policy, and one that concerns another integration.
    assert follow(under(PolicyPart(warn_before=7 * DAY), salesforce=OFF)) == NOTHING
    # A policy that differs without a consequence for these plans.
    assert follow(under(PolicyPart(daily_calls=500))) == NOTHING
    after = [world.plans(name) for name in ("c-1", "c-2")]
    assert [[(plan.id, plan.next_at, plan.refresh_at) for plan in plans] for plans in after] == shown


def test_a_plan_in_hours_that_are_closed_by_now_waits_for_open_ones(under, nango, clock):
    world = under()
    connect(world, nango, "c-1")
    follow(world)
    at = world.open_plan("c-1").next_at + HOUR
    minutes = [(clock.now - HOUR).strftime("%H:%M"), (at + HOUR).strftime("%H:%M")]
    hours = Hours(blackouts=(read_span("-".join(minutes)),))
    closed = under(PolicyPart(hours=hours))
    assert follow(closed)["moved"] == 1
    plan = world.open_plan("c-1")
    assert hours.are_open(plan.next_at)
    assert "held back by the policy's hours" in plan.reason


def test_keeping_alive_only_is_shown_at_once_and_fresh_ones_return(under, nango, clock):
    world = under()
    connect(world, nango, "c-1")
    read_tokens(world, nango, "c-1")
    follow(world)
    follow(under(PolicyPart(keep=Keep.ALIVE)))
    assert world.connection("c-1").alive_by == "policy"
    assert world.open_plan("c-1").next_at > world.connection("c-1").expires_at
    follow(under())
    assert world.connection("c-1").alive_by is None
    assert world.open_plan("c-1").next_at < world.connection("c-1").expires_at


def test_an_idle_limit_of_a_changed_policy_sets_the_grants_deadline_and_its_plan(under, nango, clock):
    world = under()
    connect(world, nango, "c-1")
    read_tokens(world, nango, "c-1")
    follow(world)
    assert world.connection("c-1").grant_expires_at is None
    follow(under(PolicyPart(idle_limit=7 * HOUR, keep_alive_cap=2 * HOUR)))
    connection, plan = world.connection("c-1"), world.open_plan("c-1")
    assert (connection.grant_expires_at, connection.grant_source) == (connection.renewed_at + 7 * HOUR, "policy")
    assert plan.forced
    assert plan.next_at < connection.grant_expires_at - HOUR / 2


def test_what_is_under_way_waits_or_was_swept_stays(under, nango, clock):
    world, names = under(), ("claimed", "failing", "swept", "other")
    connect(world, nango, *names)
    read_tokens(world, nango, *names)
    follow(world)
    with world.database.write() as session:
        for name, values in (("failing", {"failures": 2}), ("swept", {"reason": SWEPT, "forced": True})):
            plan = session.merge(world.open_plan(name))
            for key, value in values.items():
                setattr(plan, key, value)
            plan.next_at = plan.refresh_at = clock.now + HOUR
        claimed = session.merge(world.open_plan("claimed"))
        claimed.attempts, claimed.next_at = 1, clock.now + 3 * MINUTE
    before = {name: world.open_plan(name).next_at for name in names}
    assert follow(under(PolicyPart(margin=MINUTE, margin_floor=MINUTE)))["moved"] == 1
    assert {name for name in names if world.open_plan(name).next_at != before[name]} == {"other"}
    assert follow(under(OFF))["closed"] == 3
    assert world.open_plan("claimed").next_at == before["claimed"]


def test_a_policy_of_an_earlier_process_is_not_noted_over_that_of_a_later_one(under, clock):
    world, key = under(), IntegrationKey("default", "crm")
    for name, started_at in (("newer", clock.now), ("older", clock.now - SECOND)):
        with world.database.write() as session:
            rows.note(session, key, name, started_at=started_at)
    assert [state.fingerprint for state in states(world)] == ["newer"]


def test_a_connection_that_needs_its_end_user_or_has_nothing_to_renew_gets_no_plan(under, nango):
    off = under(OFF)
    connect(off, nango, "broken", "gone", "fine")
    with off.database.write() as session:
        for name, status in (("broken", "needs_reconnect"), ("gone", "deleted")):
            session.merge(off.connection(name)).status = status
    register(nango, "key", "oauth2", tags=DANA)
    off.handle(auth(connection_id="key", mode="API_KEY", tags=DANA))
    follow(off)
    assert follow(under())["planned"] == 1
    assert [off.open_plan(name) for name in ("broken", "gone", "key")] == [None] * 3


def test_what_is_missing_from_before_is_planned_when_an_integration_is_first_seen(under, nango, clock):
    off = under(OFF)
    connect(off, nango, "c-1")
    on = under()
    connect(on, nango, "c-2")
    before = on.open_plan("c-2").next_at
    # The policy before is not known, as after an upgrade: what has a plan is left alone.
    assert follow(under(PolicyPart(spread=MINUTE))) == {**NOTHING, "planned": 1}
    assert on.open_plan("c-2").next_at == before


def test_a_run_that_is_cut_short_goes_on_where_it_stopped(under, nango, monkeypatch, clock):
    monkeypatch.setattr("app.db.refresh_policies.CHUNK", 2)
    monkeypatch.setattr("app.services.refreshing.policy_changes.SECONDS", 0.0)
    off = under(OFF)
    names = [f"c-{number}" for number in range(5)]
    connect(off, nango, *names)
    until(lambda: finished(off), changes(off))
    on = under()
    until(lambda: any(on.open_plan(name) for name in names), changes(on))
    assert [name for name in names if on.open_plan(name)] == names[:2]
    [state] = states(on)
    assert (state.after, state.planned, state.finished_at) == ("c-1", 2, None)
    # It is killed, and another process takes over.
    until(lambda: finished(on), changes(under()))
    assert all(on.open_plan(name) for name in names)
    [state] = states(on)
    assert state.planned == 5
    [entry] = on.all(Audit, Audit.action == "refreshes.replanned")
    assert entry.detail["planned"] == 5


def test_a_process_that_started_before_the_newest_one_leaves_its_policy_in_force(under, nango, clock):
    old, new = under(OFF), under()
    connect(old, nango, "c-1")
    older, newer = changes(old), changes(new)
    for process in (older, newer):
        process.follow()
    assert new.open_plan("c-1") is not None
    for _ in range(3):
        clock.move(600)
        for process in (older, newer):
            process.follow()
    assert new.open_plan("c-1") is not None
    # The same policy in a process that started later still: one in between does not take over any more.
    between = PolicyChanges(old.database, old.policy, clock)
    clock.move(1)
    follow(new)
    between.follow()
    assert new.open_plan("c-1") is not None


def test_one_process_of_all_works_at_a_time(under, nango, clock):
    off, on = under(OFF), under()
    connect(off, nango, "c-1")
    process = changes(on)
    with on.database.write() as session:
        assert leases.take(session, "refresh policies", holder=new_id(), now=clock.now, lasts=MINUTE)
    process.follow()
    assert on.open_plan("c-1") is None
    clock.move(61)
    process.follow()
    assert on.open_plan("c-1") is not None


def test_a_connection_that_cannot_be_planned_stops_no_other_one(under, nango, monkeypatch):
    off, on = under(OFF), under()
    connect(off, nango, "c-1", "c-2", "c-3")
    broken = off.connection("c-2").id.hex
    real = policy_changes.plan_under

    def fails(policy, facts, planned, *, identity, now):
        if identity == broken:
            raise ValueError("cannot be planned")
        return real(policy, facts, planned, identity=identity, now=now)

    monkeypatch.setattr(policy_changes, "plan_under", fails)
    until(lambda: finished(on), changes(on))
    assert [on.open_plan(name) is not None for name in ("c-1", "c-2", "c-3")] == [True, False, True]


def test_an_environment_without_an_api_key_keeps_its_plans(under, open_world, nango, clock):
    on = under()
    connect(on, nango, "c-1")
    follow(on)
    assert follow(open_world(refresh=for_integrations({"*": OFF}))) == NOTHING
    assert on.open_plan("c-1") is not None

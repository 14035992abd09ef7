"""Connections fall back from fresh to alive where the request budget cannot keep all fresh, visibly, and return."""

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select
from structlog.testing import capture_logs

from app.db import kept_alive
from app.db import refreshes as refresh_rows
from app.db.models import Lease
from app.domain.refreshing.keeping import GroupKey
from app.domain.refreshing.plan import Keeps, Plan
from app.domain.refreshing.policy import Keep, PolicyPart, RefreshPriority, for_integrations
from app.services.refreshing.keeping import Keeper
from tests.integration.sandbox.sandbox_server import control, register
from tests.integration.world import DANA, auth

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
POLICIES = for_integrations({"oauth2-cc": PolicyPart(priority=RefreshPriority.HIGH)})


@pytest.fixture
def world(open_world, base_url):
    return open_world(base_url=base_url, refresh=POLICIES)


@pytest.fixture
def connect(world, nango, clock):
    """Makes connections whose tokens expire soon, numbered as they are made, and whose renewal is due now."""

    def make(count, integration="oauth2"):
        names = [f"{integration}-{number}" for number in range(count)]
        for name in names:
            register(nango, name, integration, tags=DANA)
            world.handle(auth(connection_id=name, integration=integration, tags=DANA))
        with world.database.write() as session:
            for name in names:
                row = world.connection(name)
                slot = refresh_rows.next_slots(session, 1)[0]
                session.merge(row).slot = slot
                session.flush()
                refresh_rows.supersede(session, [row.id], now=clock.now)
                due = Plan(clock.now, False, "before the token expires", clock.now + 14 * MINUTE, Keeps.TOKEN)
                refresh_rows.plan(session, {row.id: due}, now=clock.now)
        return names

    return make


def keeper(world, limit):
    """With this limit of the account, of which planned refreshes have two fifths."""
    return Keeper(world.database, world.policy, lambda _account: limit, world.clock)


def alive(world, names):
    return [name for name in names if world.connection(name).alive_by == "budget"]


def test_low_priorities_and_high_numbers_fall_back_and_the_others_stay_as_they_are(world, connect, clock):
    high, normal = connect(4, "oauth2-cc"), connect(24)
    with capture_logs() as logs:
        keeper(world, 5).keep()
    assert alive(world, high) == []
    assert alive(world, normal) == normal[15:]  # 28 are due and 20 carried, and one more falls back
    waits = sorted(world.open_plan(name).next_at - clock.now for name in normal[15:])
    assert waits[0] > timedelta(0)
    assert waits[-1] <= DAY
    assert waits[-1] - waits[0] > DAY / 2  # all over the day
    plan = world.open_plan(normal[-1])
    assert (plan.keeps, plan.reason) == (None, "kept alive, not fresh: the request budget does not keep all fresh")
    assert world.open_plan(normal[0]).next_at == clock.now
    [line] = [line for line in logs if line["event"] == "refreshes_kept"]
    assert (line["change"], line["connections"], line["due"], line["carried"]) == ("fell_back", 9, 28, 20)
    with world.database.read() as session:
        counts = [kept_alive.alive(session, at_most=most) for most in (None, 3)]
    assert [sum(count.values()) for count in counts] == [9, 3]


def test_what_is_carried_falls_not_back_and_a_second_look_changes_nothing(world, connect, clock):
    names = connect(18)
    keeper(world, 5).keep()
    assert alive(world, names) == []
    more = connect(4, "oauth2-cc")
    clock.move(60)
    keeper(world, 5).keep()
    fallen = alive(world, names + more)
    assert fallen == names[15:]
    clock.move(60)
    keeper(world, 5).keep()
    assert alive(world, names + more) == fallen


def test_one_process_of_all_balances_an_account_once_a_minute(world, connect, clock):
    names = connect(12)
    keeper(world, 200).keep()
    keeper(world, 1).keep()  # another process, within the minute
    assert alive(world, names) == []


def test_they_return_the_lowest_numbers_first_a_few_a_minute_and_are_renewed(world, nango, connect, clock):
    names = connect(24)
    keeper(world, 5).keep()
    fallen = alive(world, names)
    assert fallen == names[19:]
    world.refresher.refresh_due()
    clock.move(61)
    keeper(world, 7).keep()  # nothing is due, and of 2.8 calls a minute two are below 95 %
    assert alive(world, names) == fallen[2:]
    plans = [world.open_plan(name) for name in fallen[:2]]
    assert [plan.reason for plan in plans] == ["fresh again: the request budget allows it"] * 2
    assert plans[0].next_at < plans[1].next_at < clock.now + MINUTE
    clock.move(60)
    world.refresher.refresh_due()
    again = world.connection(fallen[0])
    assert (again.alive_by, world.open_plan(fallen[0]).keeps) == (None, "token")


def test_it_stays_alive_only_when_it_is_renewed_and_returns_by_a_balance(world, nango, connect, clock):
    [name] = connect(1)
    keeper(world, 0).keep()
    assert alive(world, [name]) == [name]
    control(nango, name, "oauth2", expires_in=600)
    with world.database.write() as session:
        ref = world.connection(name).id
        refresh_rows.supersede(session, [ref], now=clock.now)
        refresh_rows.plan(session, {ref: Plan(clock.now, forced=False, reason="its turn")}, now=clock.now)
    assert world.refresher.refresh_due() == 1
    assert alive(world, [name]) == [name]
    plan = world.open_plan(name)
    assert (plan.reason, plan.keeps) == ("kept alive, not fresh", None)
    assert plan.next_at > clock.now + 0.9 * DAY
    clock.move(61)
    keeper(world, 200).keep()
    assert alive(world, [name]) == []


def test_one_of_a_higher_priority_takes_the_place_of_one_of_a_lower(world, connect, clock):
    [high] = connect(1, "oauth2-cc")
    keeper(world, 0).keep()
    assert alive(world, [high]) == [high]
    normal = connect(20)
    clock.move(60)
    keeper(world, 5).keep()  # which carries 20, and no more
    assert alive(world, [high, *normal]) == [normal[-1]]


def test_one_that_its_policy_keeps_alive_by_now_does_not_return(world, connect, clock):
    [name] = connect(1)
    keeper(world, 0).keep()
    clock.move(61)
    kept = replace(world.policy, refresh=for_integrations({"*": PolicyPart(keep=Keep.ALIVE)}))
    Keeper(world.database, kept, lambda _account: 200, world.clock).keep()
    assert alive(world, [name]) == [name]
    more = connect(1, "oauth2-cc")
    clock.move(61)
    Keeper(world.database, kept, lambda _account: 0, world.clock).keep()
    assert alive(world, more) == []


def test_a_claimed_plan_does_not_fall_back(world, connect, clock):
    names = connect(12)
    with world.database.write() as session:
        claimed = refresh_rows.claim(session, limit=12, now=clock.now, lease=MINUTE)
    assert len(claimed) == 12
    keeper(world, 0).keep()
    assert alive(world, names) == []


def test_a_plan_that_is_claimed_after_it_was_chosen_is_not_moved(world, connect, clock):
    [name] = connect(1)
    before = world.open_plan(name)
    with world.database.write() as session:
        key = GroupKey("default", "oauth2", world.connection(name).provider)
        [(ref, connection)] = kept_alive.lock_falling(session, key, until=clock.now + HOUR, limit=5)
        refresh_rows.claim(session, limit=1, now=clock.now, lease=MINUTE)
        kept_alive.move(session, {ref: Plan(clock.now + DAY, forced=False, reason="moved")}, [connection])
    plan = world.open_plan(name)
    assert (plan.id, plan.reason, plan.next_at) == (before.id, before.reason, clock.now + MINUTE)


def test_an_account_without_an_api_key_is_not_balanced(world, open_world, connect):
    [name] = connect(1)
    keeper(open_world(base_url=None), 0).keep()
    assert alive(world, [name]) == []
    with world.database.read() as session:
        assert session.scalar(select(Lease)) is None


def test_a_policy_keeps_alive_and_says_so_and_its_connections_neither_fall_nor_return(
    open_world, base_url, nango, clock, connection_id
):
    world = open_world(base_url=base_url, refresh=for_integrations({"*": PolicyPart(keep=Keep.ALIVE)}))
    register(nango, connection_id, "oauth2", tags=DANA)
    world.handle(auth(connection_id=connection_id, tags=DANA))
    control(nango, connection_id, "oauth2", expires_in=600)
    clock.now = world.open_plan(connection_id).next_at
    world.refresher.refresh_due()
    assert world.connection(connection_id).alive_by == "policy"
    assert world.open_plan(connection_id).next_at > clock.now + 20 * HOUR
    before = world.open_plan(connection_id)
    keeper(world, 200).keep()
    assert world.open_plan(connection_id).next_at == before.next_at
    with world.database.read() as session:
        assert kept_alive.alive(session, ["default"]) == {}
    world.handle(auth("override", connection_id=connection_id, tags=DANA))
    assert world.connection(connection_id).alive_by is None  # until its token is read

"""Connections fall back in order where the request budget cannot keep all tokens fresh, and return without a herd."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from app.domain.refreshing.answer import Answer
from app.domain.refreshing.catalogue import Renewal
from app.domain.refreshing.conclusion import conclude
from app.domain.refreshing.facts import ClaimedRefresh, RefreshFacts
from app.domain.refreshing.keeping import HORIZON, AliveBy, Group, GroupKey, balance
from app.domain.refreshing.lives import ClockSource, KnownLives, Life
from app.domain.refreshing.plan import Keeps
from app.domain.refreshing.planning import NO_DEADLINES, Deadlines, alive_plan, next_plan
from app.domain.refreshing.policy import Keep, RefreshPolicy, RefreshPriority
from app.domain.refreshing.token_times import TokenTimes
from app.domain.states import ConnectionStatus, RefreshOutcome

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
HIGH, NORMAL, LOW = RefreshPriority.HIGH, RefreshPriority.NORMAL, RefreshPriority.LOW
MINUTES = int(HORIZON / MINUTE)


def key(name: str) -> GroupKey:
    return GroupKey("prod", name, name)


def group(name: str, priority: RefreshPriority = NORMAL, **counts: int) -> Group:
    return Group(key=key(name), priority=priority, **counts)


@pytest.mark.parametrize(
    ("due", "per_minute", "falling"),
    [
        ((0, 0, 0), 10, {}),
        ((50, 30, 20), 10, {}),  # a hundred in ten minutes
        ((50, 30, 21), 10, {"low": 2}),
        ((50, 60, 20), 10, {"low": 20, "normal": 11}),
        ((150, 60, 20), 10, {"low": 20, "normal": 60, "high": 51}),
    ],
)
def test_what_the_budget_does_not_carry_falls_back_the_low_ones_first(due, per_minute, falling):
    names = zip(("high", "normal", "low"), (HIGH, NORMAL, LOW), due, strict=True)
    found = balance([group(name, priority, due=n, movable=n) for name, priority, n in names], per_minute=per_minute)
    assert {one.integration: count for one, count in found.falling.items()} == falling
    assert found.returning == {}


def test_within_a_priority_each_integration_gives_its_share_and_the_order_of_the_groups_does_not_matter():
    groups = [group("a", due=300, movable=300), group("b", due=100, movable=100), group("c", due=1, movable=1)]
    found = balance(groups, per_minute=20)
    assert sum(found.falling.values()) == 202
    assert abs(found.falling[key("a")] - 151) <= 1
    assert balance(groups[::-1], per_minute=20) == found


def test_only_renewals_of_tokens_fall_back_whatever_else_is_due():
    found = balance([group("looks", LOW, due=500, movable=0), group("crm", due=10, movable=10)], per_minute=1)
    assert found.falling == {key("crm"): 10}


def test_they_return_where_there_is_room_the_high_ones_first_and_only_so_many_a_minute():
    groups = [group("low", LOW, alive=900), group("high", HIGH, alive=5), group("none", HIGH, due=25, movable=25)]
    found = balance(groups, per_minute=10)  # 100 within ten minutes, of which 95 are used up to: 7 a minute are left
    assert found.returning == {key("high"): 5, key("low"): 2}
    assert found.falling == {}


@pytest.mark.parametrize("due", [95, 98, 100])
def test_those_of_a_higher_priority_change_places_with_fresh_ones_of_a_lower_as_these_come_near(due):
    groups = [group("low", LOW, due=30, movable=30), group("normal", due=20, movable=20, alive=7),
              group("high", HIGH, due=due - 50, movable=due - 50, alive=4)]  # fmt: skip
    found = balance(groups, per_minute=10)
    assert found.falling == {key("low"): 3, key("normal"): 1}  # each minute a tenth, and no more than there are above
    assert found.returning == {key("high"): 4}


def test_none_gives_way_to_its_own_priority_or_to_a_lower_one():
    groups = [group("low", LOW, alive=50), group("normal", due=40, movable=40, alive=9), group("high", HIGH, due=60)]
    assert balance(groups, per_minute=10).falling == {}
    assert balance(groups, per_minute=10).returning == {}


def test_one_of_a_higher_priority_takes_one_place_and_not_all():
    groups = [group("low", LOW, due=98, movable=98), group("high", HIGH, alive=1)]
    found = balance(groups, per_minute=10)
    assert (found.falling, found.returning) == ({key("low"): 1}, {key("high"): 1})


@pytest.mark.parametrize("due", [95, 97, 100])
def test_between_room_and_the_whole_budget_nothing_changes(due):
    found = balance([group("crm", due=due, movable=due, alive=50)], per_minute=10)
    assert (found.falling, found.returning) == ({}, {})


def test_a_burst_of_100_000_with_a_budget_of_1_000_a_minute_is_orderly():
    """Tokens of one expiry, their turns spread over four minutes from 14 minutes before it, balanced each minute."""
    budget, ends = 1000, 60
    turns = {HIGH: 5_000, NORMAL: 65_000, LOW: 30_000}
    to_come = {priority: [count // 4 if ends - 14 <= minute < ends - 10 else 0 for minute in range(ends)]
               for priority, count in turns.items()}  # fmt: skip
    waiting = dict.fromkeys(turns, 0)
    fallen, renewed, late = dict.fromkeys(turns, 0), dict.fromkeys(turns, 0), 0
    for minute in range(ends + 10):
        soon = {one: waiting[one] + sum(come[minute : minute + MINUTES]) for one, come in to_come.items()}
        groups = [group(one, one, due=soon[one], movable=soon[one], alive=fallen[one]) for one in turns]
        found = balance(groups, per_minute=budget)
        for one in turns:
            left = found.falling.get(key(one), 0)
            fallen[one] += left
            cut = min(left, waiting[one])
            waiting[one], left = waiting[one] - cut, left - cut
            for place in range(minute, min(minute + MINUTES, ends)):  # as their numbers are, evenly
                part = min(left, to_come[one][place])
                to_come[one][place], left = to_come[one][place] - part, left - part
        if minute >= ends:
            break
        room = budget
        for one in turns:
            waiting[one] += to_come[one][minute]
            to_come[one][minute] = 0
        for one in turns:
            done = min(waiting[one], room)
            waiting[one], room, renewed[one] = waiting[one] - done, room - done, renewed[one] + done
        late = sum(waiting.values()) if minute == ends - 1 else 0
    assert late == 0
    assert fallen[HIGH] == 0
    assert renewed[HIGH] == turns[HIGH]
    assert fallen[LOW] == turns[LOW]
    assert sum(renewed.values()) + sum(fallen.values()) == 100_000
    assert sum(renewed.values()) > 0.9 * budget * MINUTES


# Plans of those that are kept alive


def plan_of(policy: RefreshPolicy, **given: Any) -> Any:
    facts: dict[str, Any] = {
        "now": NOW, "outcome": RefreshOutcome.RENEWED, "expires_at": NOW + HOUR, "previous_expires_at": NOW,
        "consecutive_failures": 0, "retry_after": None, "auth_mode": "OAUTH2", "identity": "1", "policy": policy,
        "slot": 7,
    }  # fmt: skip
    return next_plan(**(facts | given))


GRANT = KnownLives(idle=Life(30 * DAY, ClockSource.POLICY))


def test_a_policy_keeps_alive_only_with_about_a_call_a_day_after_the_expiry():
    plan = plan_of(RefreshPolicy(keep=Keep.ALIVE))
    assert 0.9 * DAY <= plan.due_at - NOW <= DAY
    assert (plan.forced, plan.deadline_at) == (False, None)
    long = plan_of(RefreshPolicy(keep=Keep.ALIVE), expires_at=NOW + 3 * DAY)
    assert long.due_at > NOW + 3 * DAY
    assert plan_of(RefreshPolicy()).due_at < NOW + HOUR


def test_a_grant_is_renewed_before_its_deadline_however_little_is_kept():
    deadlines = Deadlines(grant_at=NOW + 30 * DAY, renewed_at=NOW)
    policy = RefreshPolicy(keep=Keep.ALIVE, lives=GRANT)
    plan = plan_of(policy, expires_at=NOW + 60 * DAY, deadlines=deadlines)
    assert plan.forced
    assert (plan.keeps, plan.deadline_at) == (Keeps.GRANT, NOW + 30 * DAY)
    assert plan.due_at < NOW + 30 * DAY


def test_what_has_fallen_back_stays_alive_only_when_it_is_renewed_and_a_policy_is_heeded():
    answer = Answer(
        RefreshOutcome.RENEWED, times=TokenTimes(expires_at=NOW + HOUR), asked_at=NOW, answered_at=NOW,
        has_credentials=True,
    )  # fmt: skip
    fallen = RefreshFacts(status=ConnectionStatus.ACTIVE, auth_mode="OAUTH2", alive_by=AliveBy.BUDGET, slot=7)

    def concluded(facts: RefreshFacts, policy: RefreshPolicy, answer: Answer = answer) -> Any:
        return conclude(claimed(facts), facts, answer, policy, now=NOW)

    found = concluded(fallen, RefreshPolicy())
    assert found.facts.alive_by == AliveBy.BUDGET
    assert 0.9 * DAY <= found.plan.due_at - NOW <= DAY
    assert concluded(fallen, RefreshPolicy(keep=Keep.ALIVE)).facts.alive_by == AliveBy.POLICY
    by_policy = replace(fallen, alive_by=AliveBy.POLICY)
    assert concluded(by_policy, RefreshPolicy()).facts.alive_by is None
    assert concluded(by_policy, RefreshPolicy()).plan.due_at < NOW + HOUR
    without = replace(answer, outcome=RefreshOutcome.NO_EXPIRY, times=TokenTimes())
    assert concluded(fallen, RefreshPolicy(), without).facts.alive_by is None


def claimed(facts: RefreshFacts) -> ClaimedRefresh:
    return ClaimedRefresh(
        id=UUID(int=1), connection_ref=UUID(int=2), environment="prod", integration="crm", connection_id="c",
        provider="crm", refresh_at=NOW, is_forced=False, attempts=1, failures=0, deadline_at=None, keeps=None,
        outcome=None, facts=facts,
    )  # fmt: skip


def test_those_that_fall_back_at_once_have_their_first_turns_all_over_the_day():
    """They are renewed about as often, so that a herd would come again and again."""
    policy, hours = RefreshPolicy(), 24
    plans = [
        alive_plan(
            now=NOW, expires_at=NOW + 10 * MINUTE, identity=str(slot), policy=policy, slot=slot, deadlines=NO_DEADLINES
        )
        for slot in range(1, 2401)
    ]
    counts = Counter(int((plan.due_at - NOW) / HOUR) for plan in plans)
    assert min(plan.due_at for plan in plans) > NOW + 10 * MINUTE  # a plain GET renews what has expired
    assert all(0.9 <= counts[hour] / (2400 / hours) <= 1.2 for hour in range(1, hours - 3))
    assert {plan.forced for plan in plans} == {False}


def test_what_is_renewed_by_force_only_keeps_its_turn_when_it_falls_back():
    policy = RefreshPolicy(renews=Renewal.FORCED, lives=GRANT)
    deadlines = Deadlines(grant_at=NOW + 8 * HOUR, renewed_at=NOW)
    plan = alive_plan(now=NOW, expires_at=NOW + HOUR, identity="1", policy=policy, slot=1, deadlines=deadlines)
    assert plan.forced
    assert plan.due_at > NOW + 5 * HOUR


def test_falling_back_keeps_the_grants_deadline():
    near = Deadlines(grant_at=NOW + 8 * HOUR, renewed_at=NOW)
    plan = alive_plan(
        now=NOW, expires_at=NOW + HOUR, identity="1", policy=RefreshPolicy(lives=GRANT), slot=1, deadlines=near
    )
    assert NOW + HOUR < plan.due_at < NOW + 8 * HOUR
    assert not plan.forced  # the token has expired by then
    assert plan.keeps is Keeps.GRANT

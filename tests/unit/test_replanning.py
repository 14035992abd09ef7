"""Plans under a changed policy: they go where the policy has them, and where it has them already they stay."""

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.refreshing.answer import Answer
from app.domain.refreshing.carrying import Standing
from app.domain.refreshing.catalogue import Renewal
from app.domain.refreshing.conclusion import conclude
from app.domain.refreshing.facts import ClaimedRefresh, RefreshFacts
from app.domain.refreshing.hours import Hours, read_span
from app.domain.refreshing.lives import ClockSource, KnownLives, Life
from app.domain.refreshing.plan import Plan
from app.domain.refreshing.policy import Keep, RefreshPolicy
from app.domain.refreshing.replanning import OFF, OpenPlan, facts_under, fingerprint, plan_under
from app.domain.refreshing.simulating import followed
from app.domain.refreshing.token_times import TokenTimes
from app.domain.states import RefreshOutcome
from tests.unit.made_plans import NOW

SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
REF = UUID(int=2)
IDLE = KnownLives(idle=Life(30 * DAY, ClockSource.CATALOGUE))
POLICIES = st.builds(
    RefreshPolicy,
    margin=st.sampled_from([2 * MINUTE, 14 * MINUTE]),
    margin_floor=st.sampled_from([MINUTE, 2 * MINUTE]),
    margin_share=st.sampled_from([0.05, 0.25]),
    spread=st.sampled_from([MINUTE, 4 * MINUTE]),
    force_every=st.sampled_from([None, 7 * DAY]),
    keep=st.sampled_from(Keep),
    renews=st.sampled_from(Renewal),
    hours=st.sampled_from([None, Hours(windows=(read_span("08:00-18:00"),))]),
    lives=st.sampled_from([KnownLives(), IDLE]),
)


def looked_at(policy: RefreshPolicy, facts: RefreshFacts, outcome: RefreshOutcome, expires_at, **given_plan: object):
    """The facts after this answer, and the plan that it led to as it is stored; None where it led to none."""
    plan: dict = {
        "id": UUID(int=1), "connection_ref": REF, "environment": "prod", "integration": "crm", "connection_id": "c-1",
        "provider": "crm", "refresh_at": NOW, "is_forced": False, "attempts": 1, "failures": 0, "deadline_at": None,
        "keeps": None, "outcome": None, "facts": facts,
    }  # fmt: skip
    times = TokenTimes(expires_at)
    answer = Answer(outcome, times=times, asked_at=NOW, answered_at=NOW, has_credentials=True)
    found = conclude(ClaimedRefresh(**(plan | given_plan)), facts, answer, policy, now=NOW)
    if found.plan is None:
        return found.facts, None
    return found.facts, OpenPlan(
        plan=found.plan, next_at=found.plan.due_at, made_at=NOW, failures=found.failures, waits=found.stays_open
    )


def after(policy: RefreshPolicy, facts: RefreshFacts, planned: OpenPlan | None, *, now=NOW + MINUTE) -> Plan | None:
    return plan_under(policy, facts_under(policy, facts), planned, identity=REF.hex, now=now)


@given(
    policy=POLICIES,
    left=st.sampled_from([None, 5 * MINUTE, 16 * MINUTE, HOUR, 8 * HOUR, 60 * DAY]),
    outcome=st.sampled_from(sorted({*RefreshOutcome} - {RefreshOutcome.PAUSED})),  # which no answer is
    mode=st.sampled_from(["OAUTH2", "API_KEY", "OAUTH2_CC"]),
    forced=st.booleans(),
    passed=st.sampled_from([SECOND, MINUTE, HOUR]),
)
def test_a_plan_stays_where_the_policy_is_the_one_it_was_made_by(*, policy, left, outcome, mode, forced, passed):
    facts = RefreshFacts("active", mode, slot=7, expires_at=NOW + 5 * MINUTE, expires_source=ClockSource.PROVIDER)
    expires_at = NOW + left if left else None
    if outcome is RefreshOutcome.NO_EXPIRY:
        expires_at = None
    facts, planned = looked_at(policy, facts, outcome, expires_at, is_forced=forced)
    if planned is None or planned.plan.due_at <= NOW + passed:
        return
    assert replace(facts_under(policy, facts), alive_by=facts.alive_by) == facts
    assert after(policy, facts, planned, now=NOW + passed) is planned.plan


def test_a_wider_margin_brings_what_is_due_at_once_over_the_time_that_is_left():
    narrow = RefreshPolicy(margin=2 * MINUTE, margin_floor=2 * MINUTE)
    due = []
    for slot in range(200):
        facts = RefreshFacts("active", "OAUTH2", slot=slot)
        facts, planned = looked_at(narrow, facts, RefreshOutcome.FIRST_SEEN, NOW + HOUR)
        found = after(RefreshPolicy(), facts, planned, now=NOW + 50 * MINUTE)
        assert found is not None
        due.append(found.due_at - NOW)
    assert min(due) >= 50 * MINUTE
    assert max(due) <= 55 * MINUTE
    minutes = [sum(1 for one in due if one // MINUTE == minute) for minute in range(50, 55)]
    assert max(minutes) <= 42


def test_a_herd_that_is_switched_on_is_spread_over_an_hour():
    facts = RefreshFacts("active", "OAUTH2", expires_at=NOW - DAY, expires_source=ClockSource.PROVIDER)
    due = [after(RefreshPolicy(), replace(facts, slot=slot), None, now=NOW).due_at for slot in range(600)]
    assert NOW <= min(due) < NOW + 2 * MINUTE
    assert NOW + 58 * MINUTE < max(due) <= NOW + HOUR + MINUTE
    assert max(sum(1 for at in due if (at - NOW) // MINUTE == minute) for minute in range(60)) <= 12


@pytest.mark.parametrize("status", ["needs_reconnect", "unconfirmed", "deleted"])
def test_without_a_plan_only_active_connections_get_one(status: str):
    facts = RefreshFacts(status, "OAUTH2", expires_at=NOW + HOUR, expires_source=ClockSource.PROVIDER)
    assert after(RefreshPolicy(), facts, None) is None
    assert after(RefreshPolicy(), replace(facts, status="active"), None) is not None


def test_a_token_that_has_expired_for_good_is_looked_at_daily_again():
    facts = RefreshFacts(
        "needs_reconnect", "OAUTH2", expires_at=NOW - DAY, expires_source="provider", last_error_type="token_expired"
    )
    plan = after(RefreshPolicy(), facts, None)
    assert plan is not None
    assert NOW + 20 * HOUR < plan.due_at <= NOW + 25 * HOUR
    assert not plan.forced


def test_a_plan_that_comes_sooner_than_its_turn_is_not_put_off():
    facts, planned = looked_at(
        RefreshPolicy(force_every=7 * DAY), RefreshFacts("active", "OAUTH2", slot=1), RefreshOutcome.NO_EXPIRY, None
    )
    assert planned is not None
    late = NOW + 6 * DAY + 23 * HOUR
    soon = replace(planned, next_at=late + SECOND)
    assert after(RefreshPolicy(force_every=DAY), facts, soon, now=late) is planned.plan


def test_one_that_only_the_former_policy_wanted_ends():
    facts, planned = looked_at(
        RefreshPolicy(force_every=7 * DAY), RefreshFacts("active", "OAUTH2", slot=1), RefreshOutcome.NO_EXPIRY, None
    )
    assert planned is not None
    assert after(RefreshPolicy(), facts, planned) is None


def test_a_deadline_that_the_provider_told_stays_unless_the_policy_has_an_earlier_one():
    told = RefreshFacts(
        "active", "OAUTH2", expires_at=NOW + HOUR, expires_source="provider", grant_expires_at=NOW + 60 * DAY,
        grant_source="provider", renewed_at=NOW,
    )  # fmt: skip
    later, earlier = (RefreshPolicy(lives=KnownLives(idle=Life(days * DAY, ClockSource.POLICY))) for days in (90, 14))
    assert facts_under(later, told) == told
    assert facts_under(earlier, told).grant_expires_at == NOW + 14 * DAY
    assert facts_under(RefreshPolicy(lives=IDLE), told) == told
    documented = replace(told, grant_source="catalogue")
    assert facts_under(later, documented).grant_expires_at == NOW + 90 * DAY
    assert facts_under(RefreshPolicy(), documented) == documented


def test_equal_policies_have_one_fingerprint_and_others_another():
    hours = [Hours(blackouts=(read_span("mon-fri 08:00-18:00"),)) for _ in range(2)]
    assert len({fingerprint(RefreshPolicy(hours=each)) for each in hours}) == 1
    others = [
        None,
        RefreshPolicy(),
        RefreshPolicy(hours=hours[0]),
        RefreshPolicy(daily_calls=5),
        RefreshPolicy(lives=IDLE),
    ]
    assert len({fingerprint(each) for each in others}) == len(others)
    assert fingerprint(None) == OFF


def test_a_simulation_has_the_plans_that_another_policy_would_make_and_end():
    on, off = RefreshPolicy(), None
    facts = RefreshFacts("active", "OAUTH2", slot=1, expires_at=NOW + HOUR, expires_source="provider")
    without = Standing(
        ref=REF, integration="crm", provider="crm", facts=facts, issued_at=NOW, failures=0, due_at=None, forced=False
    )  # fmt: skip
    [planned] = followed([without], lambda _: off, lambda _: on, now=NOW)
    assert planned.due_at is not None
    assert HOUR - 15 * MINUTE <= planned.due_at - NOW <= HOUR - 10 * MINUTE
    for before, after_ in ((on, on), (on, off)):
        assert followed([without], lambda _, of=before: of, lambda _, of=after_: of, now=NOW) == [without]
    forced = replace(
        without,
        due_at=NOW + DAY,
        planned_at=NOW,
        forced=True,
        facts=RefreshFacts("active", "OAUTH2", expires_source="unknown"),
    )
    [ended] = followed([forced], lambda _: RefreshPolicy(force_every=DAY), lambda _: on, now=NOW)
    assert (ended.due_at, ended.forced) == (None, False)

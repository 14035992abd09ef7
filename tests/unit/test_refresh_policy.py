"""Refresh policies: the most specific table wins, and every plan keeps to the policy's margins, limits and hours."""

from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.config.provider_catalogue import shipped_catalogue
from app.domain.refreshing.catalogue import Renewal
from app.domain.refreshing.hours import Hours, read_span
from app.domain.refreshing.lives import ClockSource, KnownLives, Life
from app.domain.refreshing.planning import Deadlines
from app.domain.refreshing.policy import PolicyPart, RefreshPolicies, RefreshPolicy, Scope, for_integrations
from app.domain.states import RefreshOutcome
from tests.unit.made_plans import NOW, plan_after

SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
RENEWED, UNCHANGED, NO_EXPIRY = RefreshOutcome.RENEWED, RefreshOutcome.UNCHANGED, RefreshOutcome.NO_EXPIRY
BURST = 100_000


# The most specific table wins


GENERAL, ENVIRONMENT, PROVIDER, OF_PROVIDER, INTEGRATION, MOST = range(1, 7)
PARTS = {
    ("", Scope.INTEGRATION, "*"): GENERAL,
    ("prod", Scope.INTEGRATION, "*"): ENVIRONMENT,
    ("", Scope.PROVIDER, "salesforce"): PROVIDER,
    ("prod", Scope.PROVIDER, "salesforce"): OF_PROVIDER,
    ("", Scope.INTEGRATION, "crm"): INTEGRATION,
    ("prod", Scope.INTEGRATION, "crm"): MOST,
}


@pytest.mark.parametrize("without", range(len(PARTS)))
def test_the_most_specific_part_wins(without: int):
    kept = dict(list(PARTS.items())[: len(PARTS) - without])
    policies = RefreshPolicies({key: PolicyPart(warn_before=days * DAY) for key, days in kept.items()})
    assert policies.of("prod", "crm", "salesforce").warn_before == max(kept.values()) * DAY


def test_what_a_part_leaves_out_comes_from_the_next_one_and_from_the_default():
    policies = RefreshPolicies(
        {
            ("", Scope.INTEGRATION, "*"): PolicyPart(warn_before=DAY, force_every=9 * DAY),
            ("prod", Scope.INTEGRATION, "crm"): PolicyPart(force_every=3 * DAY),
        }
    )
    found = policies.of("prod", "crm", None)
    assert (found.warn_before, found.force_every, found.margin) == (DAY, 3 * DAY, RefreshPolicy().margin)
    assert policies.of("dev", "crm", None).force_every == 9 * DAY
    assert RefreshPolicies().of("prod", "crm", "salesforce") == RefreshPolicy()


def test_a_part_turns_renewals_off_and_a_more_specific_one_on_again():
    policies = for_integrations({"*": PolicyPart(enabled=False), "crm": PolicyPart(enabled=True)})
    assert policies.of("prod", "mail", None) is None
    assert policies.of("prod", "crm", None) is not None


def test_the_catalogue_gives_what_no_part_says_and_a_part_overrides_it():
    known = RefreshPolicies(catalogue=shipped_catalogue()).of("prod", "crm", "exact-online")
    assert known.nango_margin == 30 * SECOND
    policies = for_integrations({"crm": PolicyPart(idle_limit=14 * DAY)}, shipped_catalogue())
    found = policies.of("prod", "crm", "salesforce")
    assert found.lives.idle == Life(14 * DAY, ClockSource.POLICY)
    assert policies.of("prod", "other", "salesforce").lives.idle == Life(30 * DAY, ClockSource.CATALOGUE)
    assert policies.lives_of("prod", "crm", "salesforce") == found.lives


# Margins


@pytest.mark.parametrize(
    ("policy", "life", "lead"),
    [
        (RefreshPolicy(), HOUR, 14 * MINUTE),
        (RefreshPolicy(margin_floor=MINUTE), HOUR, 14 * MINUTE),
        (RefreshPolicy(margin_floor=MINUTE), 40 * MINUTE, 10 * MINUTE),
        (RefreshPolicy(margin_floor=MINUTE), 2 * MINUTE, MINUTE),
        (RefreshPolicy(margin_floor=MINUTE, margin_share=0.1), HOUR, 6 * MINUTE),
        (RefreshPolicy(margin=5 * MINUTE), HOUR, 5 * MINUTE),
        (RefreshPolicy(nango_margin=30 * SECOND), HOUR, 28 * SECOND),
        (RefreshPolicy(nango_margin=60 * SECOND), HOUR, 56 * SECOND),
    ],
)
def test_the_lead_is_a_share_of_the_life_between_floor_and_cap_and_inside_nangos_margin(policy, life, lead):
    assert policy.lead(life) == lead
    for slot in range(200):
        plan = plan_after(expires_at=NOW + life, policy=policy, slot=slot, deadlines=Deadlines(renewed_at=NOW))
        if life > lead + policy.min_interval:
            assert NOW + life - lead <= plan.due_at < NOW + life
            assert NOW + life - plan.due_at < policy.nango_margin
        assert not plan.forced


@given(life=st.integers(60, 90 * 86_400), slot=st.integers(1, 2**40), margin=st.sampled_from([30, 60, 900]))
def test_no_plain_renewal_is_planned_where_nango_renews_nothing(life: int, slot: int, margin: int):
    policy = RefreshPolicy(nango_margin=timedelta(seconds=margin))
    expires_at = NOW + timedelta(seconds=life)
    plan = plan_after(expires_at=expires_at, policy=policy, slot=slot)
    assert plan.due_at >= NOW + policy.min_interval
    if plan.reason == "before the token expires":
        assert expires_at - policy.nango_margin < plan.due_at < expires_at


# Force


def grant(days: float, *, since: timedelta = timedelta(0)) -> Deadlines:
    return Deadlines(grant_at=NOW + days * DAY, renewed_at=NOW - since)


@pytest.mark.parametrize("days", [1, 7, 30, 90, 180, 365])
def test_a_grant_is_kept_alive_by_force_once_before_its_deadline(days: int):
    policy = RefreshPolicy()
    for slot in range(100):
        plan = plan_after(NO_EXPIRY, deadlines=grant(days), slot=slot)
        assert plan.forced
        left = NOW + days * DAY - plan.due_at
        lead = policy.keep_alive_lead(days * DAY)
        assert lead / 2 <= left <= lead <= min(7 * DAY, days * DAY / 3)


def test_force_is_left_to_what_a_plain_get_does_not_keep_alive():
    hourly = plan_after(expires_at=NOW + HOUR, deadlines=grant(30))
    monthly = plan_after(expires_at=NOW + 60 * DAY, deadlines=grant(30))
    assert (hourly.forced, monthly.forced) == (False, True)
    assert not plan_after(expires_at=NOW + 20 * DAY, deadlines=grant(30)).forced


@pytest.mark.parametrize(
    "facts",
    [
        {"policy": RefreshPolicy(lives=KnownLives(rotates=False))},  # no renewal moves the deadline
        {"auth_mode": "API_KEY"},
        {"policy": RefreshPolicy(renews=Renewal.NEVER)},
        {"deadlines": replace(grant(30), refreshable=False)},
        {"deadlines": Deadlines(grant_at=NOW - DAY, renewed_at=NOW - 31 * DAY)},  # lapsed: force would not help
    ],
    ids=str,
)
def test_what_force_cannot_help_is_not_forced(facts: dict):
    assert plan_after(NO_EXPIRY, **({"deadlines": grant(30)} | facts)) is None


def test_a_provider_that_is_renewed_by_force_only_is_forced_while_its_token_lives():
    policy = RefreshPolicy(renews=Renewal.FORCED)
    for slot in range(100):
        plan = plan_after(expires_at=NOW + 60 * DAY, policy=policy, slot=slot)
        assert plan.forced
        assert NOW + 53 * DAY <= plan.due_at <= NOW + 57 * DAY


@pytest.mark.parametrize(
    ("outcome", "policy"),
    [(NO_EXPIRY, RefreshPolicy()), (RENEWED, RefreshPolicy()), (RENEWED, RefreshPolicy(renews=Renewal.FORCED))],
)
def test_a_deadline_that_no_renewal_moves_is_forced_a_few_times_and_never_hammered(outcome, policy):
    """As of a grant that ends when it ends, of which nothing says so."""
    deadline, now, renewed_at, calls = NOW + 30 * DAY, NOW, NOW, []
    expires_at = deadline if outcome is RENEWED else None
    while now < deadline:
        known = Deadlines(grant_at=deadline, renewed_at=renewed_at)
        plan = plan_after(outcome, now=now, expires_at=expires_at, deadlines=known, policy=policy, slot=7)
        if plan is None or plan.due_at >= deadline or not plan.forced:
            break
        calls.append(plan)
        now = renewed_at = plan.due_at  # it succeeds
    assert 1 <= len(calls) <= 8 if policy.renews is Renewal.DUE else len(calls) < 30
    assert not plan_after(
        UNCHANGED,
        expires_at=NOW + HOUR,
        policy=RefreshPolicy(renews=Renewal.FORCED),
        deadlines=Deadlines(grant_at=NOW + DAY, renewed_at=NOW - 60 * DAY, refreshable=False),
    ).forced


def test_a_provider_that_nothing_renews_gets_a_look_after_the_expiry():
    plan = plan_after(UNCHANGED, expires_at=NOW + DAY, policy=RefreshPolicy(renews=Renewal.NEVER))
    assert not plan.forced
    assert timedelta(0) < plan.due_at - (NOW + DAY) <= MINUTE


def test_a_token_that_force_did_not_renew_is_not_forced_on_a_cadence():
    policy = RefreshPolicy(force_every=DAY)
    forced = plan_after(expires_at=NOW + 60 * DAY, policy=policy)
    assert (forced.forced, forced.due_at <= NOW + DAY) == (True, True)
    plain = plan_after(expires_at=NOW + 60 * DAY, policy=policy, deadlines=Deadlines(refreshable=False))
    assert (plain.forced, plain.due_at > NOW + 59 * DAY) == (False, True)


# Slots


def busiest(moments, *, begins: datetime, width: timedelta) -> float:
    """The busiest minute of the window against its mean."""
    minutes = Counter(int((moment - begins) / MINUTE) for moment in moments)
    assert set(minutes) <= set(range(int(width / MINUTE)))
    return max(minutes.values()) / (len(moments) / (width / MINUTE))


@pytest.mark.parametrize("first", [1, 7_654_321])
def test_a_burst_of_100_000_tokens_has_no_minute_over_1_05_of_the_mean(first: int):
    policy, life = RefreshPolicy(), HOUR
    due = [
        plan_after(expires_at=NOW + life, slot=slot, identity=str(slot)).due_at for slot in range(first, first + BURST)
    ]
    assert busiest(due, begins=NOW + life - policy.lead(life), width=policy.spread) <= 1.05


def test_a_burst_that_is_kept_alive_over_days_has_no_minute_far_over_the_mean():
    """A hash has one of nearly twice the mean here; 1.15 is one call more than 20 in a minute."""
    lead = RefreshPolicy().keep_alive_lead(30 * DAY)
    due = [plan_after(NO_EXPIRY, deadlines=grant(30), slot=slot).due_at for slot in range(1, BURST + 1)]
    assert busiest(due, begins=NOW + 30 * DAY - lead, width=lead / 2) <= 1.15


def test_a_slot_is_the_same_after_a_restart_and_another_one_elsewhere():
    plans = {slot: plan_after(expires_at=NOW + HOUR, slot=slot).due_at for slot in range(1, 1000)}
    assert plans == {slot: plan_after(expires_at=NOW + HOUR, slot=slot).due_at for slot in range(1, 1000)}
    assert len(set(plans.values())) == len(plans)


def test_no_minute_of_the_hour_is_preferred_whatever_the_expiry():
    expiries = [NOW + HOUR + timedelta(minutes=number % 60) for number in range(6000)]
    due = [plan_after(expires_at=at, slot=slot).due_at for slot, at in enumerate(expiries, start=1)]
    assert max(Counter(moment.minute for moment in due).values()) <= 1.3 * len(due) / 60
    assert sum(moment.second == 0 for moment in due) < 1.5 * len(due) / 60


# Hours

BERLIN = ZoneInfo("Europe/Berlin")
NIGHTS = Hours(windows=(read_span("22:00-06:00"),), zone=BERLIN)


def test_a_forced_renewal_is_moved_into_the_hours_before_it_and_spread_there():
    policy = RefreshPolicy(hours=NIGHTS)
    due = [plan_after(NO_EXPIRY, policy=policy, deadlines=grant(30), slot=slot).due_at for slot in range(1, 2000)]
    assert all(NIGHTS.are_open(moment) for moment in due)
    without = [plan_after(NO_EXPIRY, deadlines=grant(30), slot=slot).due_at for slot in range(1, 2000)]
    assert all(held <= free for held, free in zip(due, without, strict=True))
    assert max(Counter(moment.replace(second=0, microsecond=0) for moment in due).values()) <= 12


def test_a_plain_renewal_in_closed_hours_waits_until_they_end_and_says_so():
    policy = RefreshPolicy(hours=Hours(blackouts=(read_span("mon 12:00-14:00"),)))
    plan = plan_after(expires_at=NOW + HOUR, policy=policy)
    assert NOW + 2 * HOUR <= plan.due_at <= NOW + 3 * HOUR
    assert plan.reason.endswith("held back by the policy's hours")
    assert plan_after(expires_at=NOW + 3 * HOUR, policy=policy).reason == "before the token expires"


@pytest.mark.parametrize("outcome", [RefreshOutcome.FAILED, RefreshOutcome.WAITED])
def test_tries_after_a_failure_keep_to_the_hours_too(outcome: RefreshOutcome):
    policy = RefreshPolicy(hours=NIGHTS)
    plan = plan_after(outcome, policy=policy, consecutive_failures=1)
    assert NIGHTS.are_open(plan.due_at)


# Warnings


def test_a_look_precedes_each_announcement():
    warn_at = NOW + 20 * DAY
    plan = plan_after(expires_at=NOW + 60 * DAY, deadlines=Deadlines(warn_at=warn_at))
    assert warn_at <= plan.due_at <= warn_at + RefreshPolicy().spread
    assert not plan.forced
    hourly = plan_after(expires_at=NOW + HOUR, deadlines=Deadlines(warn_at=warn_at))
    assert hourly == plan_after(expires_at=NOW + HOUR)
    assert plan_after(NO_EXPIRY, deadlines=Deadlines(warn_at=NOW - DAY)).due_at >= NOW + 30 * SECOND

"""Refresh plans: renewals fall where Nango renews, and nothing is ever hammered."""

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.refreshing.catalogue import Renewal
from app.domain.refreshing.outcomes import MODES_WITHOUT_REFRESH, REFUSALS, UNMOVED, WAITS, classify, has_lapsed
from app.domain.refreshing.planning import Deadlines, first_plan
from app.domain.refreshing.policy import RefreshPolicy
from app.domain.refreshing.token_times import TokenTimes
from app.domain.states import RefreshOutcome
from tests.unit.made_plans import NOW, plan_after

NANGO_MARGIN = timedelta(minutes=15)
SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
POLICY = RefreshPolicy()
FORCING = RefreshPolicy(force_every=7 * DAY)
HERD = [f"default/google/{number}" for number in range(400)]


@pytest.mark.parametrize("life", [15 * MINUTE, 20 * MINUTE, HOUR, 8 * HOUR, 60 * DAY])
@pytest.mark.parametrize("outcome", [RefreshOutcome.RENEWED, RefreshOutcome.FIRST_SEEN, RefreshOutcome.UNCHANGED])
def test_a_renewal_falls_inside_nangos_margin_and_ten_minutes_before_the_expiry(life: timedelta, outcome):
    for identity in HERD:
        plan = plan_after(outcome, expires_at=NOW + life, identity=identity)
        assert 10 * MINUTE <= NOW + life - plan.due_at < NANGO_MARGIN
        assert plan.due_at >= NOW + POLICY.min_interval
        assert not plan.forced


def test_refreshes_are_spread_over_the_minutes():
    due = [plan_after(RefreshOutcome.RENEWED, expires_at=NOW + HOUR, identity=identity).due_at for identity in HERD]
    minutes = [each.replace(second=0, microsecond=0) for each in due]
    assert max(minutes.count(minute) for minute in minutes) < len(HERD) * 0.4
    assert len(set(due)) > len(HERD) * 0.95


def test_a_plan_is_the_same_each_time_it_is_made():
    assert plan_after(RefreshOutcome.RENEWED, expires_at=NOW + HOUR) == plan_after(
        RefreshOutcome.RENEWED, expires_at=NOW + HOUR
    )
    assert plan_after(RefreshOutcome.RENEWED, expires_at=NOW + HOUR) != plan_after(
        RefreshOutcome.RENEWED, expires_at=NOW + HOUR, identity="default/google/2"
    )


@pytest.mark.parametrize("life", [2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 14 * MINUTE])
def test_a_token_shorter_than_the_margin_is_renewed_in_the_middle_of_its_life(life: timedelta):
    for identity in HERD:
        plan = plan_after(RefreshOutcome.RENEWED, expires_at=NOW + life, identity=identity)
        assert NOW + life * 0.49 <= plan.due_at <= NOW + life * 0.71


@pytest.mark.parametrize("life", [timedelta(0), SECOND, 20 * SECOND, 45 * SECOND])
def test_even_the_shortest_token_is_not_asked_for_more_often_than_the_minimum(life: timedelta):
    assert plan_after(RefreshOutcome.RENEWED, expires_at=NOW + life).due_at >= NOW + POLICY.min_interval


def test_a_token_renewed_into_the_past_is_left_alone_for_hours():
    assert plan_after(RefreshOutcome.RENEWED, expires_at=NOW - HOUR).due_at >= NOW + HOUR


@pytest.mark.parametrize("identity", HERD[:20])
@pytest.mark.parametrize("seen", [RefreshOutcome.FIRST_SEEN, RefreshOutcome.UNCHANGED])
def test_a_token_that_is_not_renewed_gets_a_few_checks_a_forced_one_and_then_one_a_day(identity: str, seen):
    expires_at, now, looks, outcome, lapsed = NOW + 14 * MINUTE, NOW, [], seen, False
    while now < NOW + 4 * DAY:
        forced = bool(looks) and looks[-1].forced
        facts = {"now": now, "outcome": outcome, "expires_at": expires_at}
        plan = plan_after(**facts, previous_expires_at=expires_at, identity=identity, was_forced=forced, lapsed=lapsed)
        lapsed = lapsed or has_lapsed(**facts, auth_mode="OAUTH2", was_forced=forced)
        assert plan.due_at - now >= POLICY.min_interval
        assert lapsed == (now > expires_at and any(look.forced for look in looks))
        looks.append(plan)
        now, outcome = plan.due_at, RefreshOutcome.NOT_REFRESHABLE if plan.forced else RefreshOutcome.UNCHANGED
    [last] = [position for position, look in enumerate(looks) if look.forced]
    assert 2 <= last <= 5
    plain, by_force, *daily = looks[last - 1 :]
    assert expires_at <= plain.due_at <= expires_at + 2 * POLICY.min_interval  # then each provider's margin has passed
    assert by_force.due_at - plain.due_at <= 2 * POLICY.min_interval
    times = [by_force.due_at, *(look.due_at for look in daily)]
    assert all(0.9 * DAY <= later - earlier <= DAY for earlier, later in pairwise(times))


def test_an_expired_token_seen_for_the_first_time_gets_one_more_plain_check():
    expired = NOW - HOUR
    first = plan_after(RefreshOutcome.FIRST_SEEN, expires_at=expired)
    second = plan_after(RefreshOutcome.UNCHANGED, expires_at=expired, previous_expires_at=expired)
    assert (first.forced, second.forced) == (False, True)
    assert second.due_at > NOW


LAPSED = {"now": NOW, "outcome": RefreshOutcome.NOT_REFRESHABLE, "expires_at": NOW - SECOND, "auth_mode": "OAUTH2"}


@pytest.mark.parametrize(
    "changes",
    [
        {"outcome": RefreshOutcome.UNCHANGED, "was_forced": False},
        {"expires_at": NOW + SECOND},
        {"expires_at": None},
        *({"outcome": outcome} for outcome in RefreshOutcome if outcome not in UNMOVED),
        {"outcome": RefreshOutcome.UNCHANGED, "auth_mode": "FUTURE", "was_forced": False},
    ],
    ids=str,
)
def test_only_a_forced_get_that_renewed_nothing_shows_that_a_token_is_over(changes: dict):
    """A failure, an outage and a rate limit say nothing of it, and no answer before the expiry does."""
    assert has_lapsed(**(LAPSED | {"was_forced": True}))
    assert not has_lapsed(**(LAPSED | {"was_forced": True} | changes))


@pytest.mark.parametrize("auth_mode", sorted(MODES_WITHOUT_REFRESH))
def test_an_expiry_that_nothing_renews_gets_one_check_after_it(auth_mode: str):
    facts = {"expires_at": NOW + HOUR, "auth_mode": auth_mode, "policy": FORCING}
    plan = plan_after(RefreshOutcome.FIRST_SEEN, **facts)
    assert timedelta(0) < plan.due_at - (NOW + HOUR) <= MINUTE
    assert not plan.forced
    facts |= {"now": plan.due_at, "previous_expires_at": NOW + HOUR}
    assert has_lapsed(**(LAPSED | {"auth_mode": auth_mode, "was_forced": False}))
    daily = plan_after(RefreshOutcome.UNCHANGED, **facts)
    assert 0.9 * DAY <= daily.due_at - plan.due_at <= DAY
    assert not daily.forced
    assert plan_after(RefreshOutcome.RATE_LIMITED, **facts).due_at > plan.due_at


def test_a_reauthorized_token_is_planned_like_any_other():
    before = {"previous_expires_at": NOW - DAY, "lapsed": True}
    again = plan_after(RefreshOutcome.RENEWED, expires_at=NOW + HOUR, **before)
    assert again == plan_after(RefreshOutcome.RENEWED, expires_at=NOW + HOUR)


def test_failures_back_off_from_beyond_the_cooldown_to_hours():
    delays = [plan_after(RefreshOutcome.FAILED, consecutive_failures=n).due_at - NOW for n in range(1, 8)]
    assert delays[0] > 30 * SECOND
    assert delays[:4] == sorted(delays[:4])
    assert min(delays[3:]) >= 8 * HOUR
    assert max(delays) <= DAY  # at least one try on each day, or exhaustion would never show


def test_a_failing_connection_is_tried_a_few_times_a_day():
    now, tries = NOW, 0
    while now < NOW + DAY:
        tries += 1
        now = plan_after(RefreshOutcome.FAILED, now=now, consecutive_failures=tries).due_at
    assert tries <= 6


def test_failures_at_one_moment_do_not_come_back_at_one_moment():
    due = {plan_after(RefreshOutcome.FAILED, consecutive_failures=4, identity=identity).due_at for identity in HERD}
    assert max(due) - min(due) > HOUR


def test_nothing_is_forced_after_a_failure():
    assert not plan_after(RefreshOutcome.FAILED, consecutive_failures=1, policy=FORCING, was_forced=True).forced


@pytest.mark.parametrize("outcome", [RefreshOutcome.EXHAUSTED, RefreshOutcome.GONE, RefreshOutcome.SUPERSEDED])
@pytest.mark.parametrize("policy", [POLICY, FORCING], ids=["plain", "forcing"])
def test_what_is_over_is_never_asked_again(outcome: RefreshOutcome, policy: RefreshPolicy):
    assert plan_after(outcome, expires_at=NOW + HOUR, policy=policy) is None


def test_a_token_without_expiry_is_left_alone_unless_the_policy_forces():
    assert plan_after(RefreshOutcome.NO_EXPIRY) is None
    plan = plan_after(RefreshOutcome.NO_EXPIRY, policy=FORCING)
    assert plan.forced
    assert 6 * DAY < plan.due_at - NOW <= 7 * DAY


def test_forced_plans_are_spread():
    due = {plan_after(RefreshOutcome.NO_EXPIRY, policy=FORCING, identity=identity).due_at for identity in HERD}
    assert max(due) - min(due) > 10 * HOUR


def test_force_is_used_only_where_the_ordinary_renewal_comes_later():
    hourly = plan_after(RefreshOutcome.RENEWED, expires_at=NOW + HOUR, policy=FORCING)
    monthly = plan_after(RefreshOutcome.RENEWED, expires_at=NOW + 30 * DAY, policy=FORCING)
    stopped = plan_after(
        RefreshOutcome.UNCHANGED, expires_at=NOW - HOUR, previous_expires_at=NOW - HOUR, policy=FORCING
    )
    assert (hourly.forced, monthly.forced, stopped.forced) == (False, True, True)
    assert monthly.due_at <= NOW + 7 * DAY


@pytest.mark.parametrize(("retry_after", "at_least"), [(0.0, SECOND), (17.0, 18 * SECOND), (None, MINUTE)])
def test_after_a_wait_we_come_back_soon_but_not_before_we_may(retry_after: float | None, at_least: timedelta):
    delays = [
        plan_after(RefreshOutcome.RATE_LIMITED, retry_after=retry_after, identity=each).due_at - NOW for each in HERD
    ]
    assert min(delays) >= at_least
    assert max(delays) <= at_least + MINUTE
    assert max(delays) - min(delays) > 20 * SECOND


def test_an_absurd_retry_after_is_bounded():
    assert plan_after(RefreshOutcome.RATE_LIMITED, retry_after=1e12).due_at < NOW + 2 * HOUR


def test_a_forced_call_repeats_only_where_nango_surely_refused_it():
    assert plan_after(RefreshOutcome.RATE_LIMITED, retry_after=5.0, was_forced=True).forced
    assert not plan_after(RefreshOutcome.RATE_LIMITED, retry_after=None, was_forced=True).forced
    assert not plan_after(RefreshOutcome.RATE_LIMITED, retry_after=5.0).forced


@pytest.mark.parametrize("auth_mode", ["API_KEY", "BASIC", "TBA", "OAUTH1", "CUSTOM", "NONE", "INSTALL_PLUGIN"])
def test_auth_modes_without_a_refresh_are_never_planned(auth_mode: str):
    assert first_plan(now=NOW, auth_mode=auth_mode, identity="x", policy=FORCING) is None
    assert plan_after(RefreshOutcome.NO_EXPIRY, auth_mode=auth_mode, policy=FORCING) is None


@pytest.mark.parametrize("auth_mode", ["OAUTH2", "OAUTH2_CC", "APP", "JWT", "AWS_SIGV4", "MCP_OAUTH2", "", "FUTURE"])
def test_every_other_auth_mode_gets_a_first_check_soon(auth_mode: str):
    plans = [first_plan(now=NOW, auth_mode=auth_mode, identity=identity, policy=POLICY) for identity in HERD]
    due = [plan.due_at - NOW for plan in plans]
    assert min(due) >= POLICY.first_delay
    assert max(due) <= 5 * MINUTE
    assert max(due) - min(due) > 3 * MINUTE
    assert not any(plan.forced for plan in plans)


def test_what_an_import_brought_is_checked_over_an_hour():
    plans = [first_plan(now=NOW, auth_mode="", identity=identity, policy=POLICY, reconciled=True) for identity in HERD]
    due = [plan.due_at - NOW for plan in plans]
    assert min(due) >= POLICY.first_delay
    assert max(due) <= HOUR + POLICY.first_delay
    assert max(due) - min(due) > 45 * MINUTE


@pytest.mark.parametrize("forced", [False, True])
def test_only_a_moved_expiry_counts_as_renewed(forced):
    def outcome(before, after):
        return classify(previous_expires_at=before, times=TokenTimes(after), was_forced=forced, asked_at=NOW)

    later = NOW + HOUR
    assert outcome(NOW, later) is RefreshOutcome.RENEWED
    assert outcome(NOW, NOW) is (RefreshOutcome.NOT_REFRESHABLE if forced else RefreshOutcome.UNCHANGED)
    assert outcome(None, later) is RefreshOutcome.FIRST_SEEN
    assert outcome(NOW, None) is RefreshOutcome.NO_EXPIRY


@pytest.mark.parametrize(
    ("issued", "renewed", "access_life", "forced", "expected"),
    [
        # A token that was issued after the authorization has been renewed, by this call or another.
        (timedelta(0), -3 * HOUR, None, False, RefreshOutcome.RENEWED),
        (-HOUR, -3 * HOUR, None, False, RefreshOutcome.RENEWED),
        (-3 * HOUR, -3 * HOUR, None, False, RefreshOutcome.FIRST_SEEN),
        (-3 * MINUTE, -5 * MINUTE, None, False, RefreshOutcome.FIRST_SEEN),  # clocks may differ by so much
        # By the catalogue's life, only where all of it is left.
        (None, -3 * HOUR, HOUR, False, RefreshOutcome.RENEWED),
        (None, -3 * HOUR, 2 * HOUR, False, RefreshOutcome.FIRST_SEEN),
        (None, None, HOUR, False, RefreshOutcome.FIRST_SEEN),
        (None, -3 * HOUR, None, False, RefreshOutcome.FIRST_SEEN),
        # A forced call that shows an older token has renewed nothing.
        (-HOUR, -HOUR, None, True, RefreshOutcome.NOT_REFRESHABLE),
        (-HOUR, None, None, True, RefreshOutcome.NOT_REFRESHABLE),
        (timedelta(0), -3 * HOUR, None, True, RefreshOutcome.RENEWED),
        (timedelta(0), None, None, True, RefreshOutcome.FIRST_SEEN),
        (None, -3 * HOUR, None, True, RefreshOutcome.FIRST_SEEN),
    ],
)
def test_an_expiry_that_is_seen_first_tells_of_a_renewal_where_the_issue_is_known(
    issued, renewed, access_life, forced, expected
):
    found = classify(
        previous_expires_at=None,
        times=TokenTimes(NOW + HOUR, issued_at=None if issued is None else NOW + issued),
        was_forced=forced,
        asked_at=NOW,
        renewed_at=None if renewed is None else NOW + renewed,
        access_life=access_life,
    )
    assert found is expected


def test_a_provider_that_is_down_is_asked_again_after_half_the_time_that_it_has_taken():
    spans = (timedelta(0), 10 * MINUTE, HOUR, DAY)
    plans = [plan_after(RefreshOutcome.PROVIDER_DOWN, due_since=NOW - span, was_forced=True) for span in spans]
    waits = [plan.due_at - NOW for plan in plans]
    for wait, least in zip(waits, (2 * MINUTE, 5 * MINUTE, 30 * MINUTE, HOUR), strict=True):
        assert least <= wait <= least * 1.25
    assert not any(plan.forced for plan in plans)


@pytest.mark.parametrize("renews", [Renewal.DUE, Renewal.FORCED, Renewal.NEVER])
def test_a_token_that_cannot_be_renewed_is_looked_at_after_its_expiry_and_then_once_by_force(renews):
    def after(outcome, expires_at, *, forced=False):
        policy = replace(POLICY, renews=renews)
        return plan_after(
            outcome,
            expires_at=expires_at,
            previous_expires_at=expires_at,
            was_forced=forced,
            policy=policy,
            deadlines=Deadlines(refreshable=False),
        )

    look = after(RefreshOutcome.NOT_REFRESHABLE, NOW + 30 * DAY, forced=True)
    assert not look.forced
    assert timedelta(0) < look.due_at - (NOW + 30 * DAY) < 2 * MINUTE
    assert after(RefreshOutcome.UNCHANGED, NOW - MINUTE).forced
    lapsed = after(RefreshOutcome.NOT_REFRESHABLE, NOW - MINUTE, forced=True)
    assert lapsed.due_at - NOW > 12 * HOUR


@pytest.mark.parametrize("outcome", sorted(WAITS | REFUSALS))
def test_what_says_nothing_of_the_token_is_asked_again_and_what_refuses_it_later(outcome: RefreshOutcome):
    plan = plan_after(outcome, consecutive_failures=1, expires_at=None, previous_expires_at=NOW + HOUR)
    assert not plan.forced
    assert plan.due_at - NOW >= (MINUTE if outcome in WAITS else 90 * SECOND)


def test_each_outcome_has_a_next_step():
    ends = {RefreshOutcome.EXHAUSTED, RefreshOutcome.GONE, RefreshOutcome.SUPERSEDED, RefreshOutcome.NO_EXPIRY}
    for outcome in RefreshOutcome:
        plan = plan_after(outcome, expires_at=NOW + HOUR, consecutive_failures=1)
        assert (plan is None) == (outcome in ends), outcome


moments = st.none() | st.timedeltas(min_value=-DAY, max_value=90 * DAY).map(lambda delta: NOW + delta)


@given(
    outcome=st.sampled_from(RefreshOutcome),
    expires_at=moments,
    previous_expires_at=moments,
    consecutive_failures=st.integers(min_value=0, max_value=50),
    retry_after=st.none() | st.floats(min_value=0, max_value=1e9),
    identity=st.text(),
    policy=st.sampled_from([POLICY, FORCING]),
    auth_mode=st.sampled_from(["OAUTH2", "API_KEY"]),
    was_forced=st.booleans(),
    lapsed=st.booleans(),
)
def test_no_plan_is_ever_due_at_once(**facts: object):
    plan = plan_after(**facts)
    assert plan is None or plan.due_at >= NOW + (SECOND if facts["outcome"] in WAITS else 30 * SECOND)

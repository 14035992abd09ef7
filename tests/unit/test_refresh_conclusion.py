"""Conclusions from an answer need no clock and no database, and plans know what lapses without them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from app.domain.event import EventType
from app.domain.refreshing.answer import Answer
from app.domain.refreshing.catalogue import Renewal
from app.domain.refreshing.conclusion import conclude
from app.domain.refreshing.daily_calls import put_off_until
from app.domain.refreshing.facts import ClaimedRefresh, RefreshFacts
from app.domain.refreshing.lives import ClockSource, KnownLives, Life
from app.domain.refreshing.outcomes import CRASHED, TOKEN_EXPIRED, WAITS
from app.domain.refreshing.plan import Keeps, urgent_at
from app.domain.refreshing.policy import RefreshPolicy
from app.domain.refreshing.token_times import TokenTimes
from app.domain.states import RefreshOutcome

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
GRANT = RefreshPolicy(lives=KnownLives(idle=Life(30 * DAY, ClockSource.CATALOGUE)))
FACTS = RefreshFacts("active", "OAUTH2", slot=1, expires_at=NOW + 10 * MINUTE, expires_source=ClockSource.PROVIDER)


def claimed(**given: Any) -> ClaimedRefresh:
    plan: dict[str, Any] = {
        "id": UUID(int=1), "connection_ref": UUID(int=2), "environment": "prod", "integration": "crm",
        "connection_id": "c-1", "provider": "crm", "refresh_at": NOW, "is_forced": False, "attempts": 1, "failures": 0,
        "deadline_at": None, "keeps": None, "outcome": None, "facts": FACTS,
    }  # fmt: skip
    return ClaimedRefresh(**(plan | given))


def answer(outcome: RefreshOutcome, expires_at: datetime | None = None, **given: Any) -> Answer:
    members: dict[str, Any] = {"asked_at": NOW, "answered_at": NOW + SECOND, "has_credentials": True}
    return Answer(outcome, times=TokenTimes(expires_at=expires_at), **(members | given))


def test_a_renewal_gives_new_clocks_and_the_next_plan_with_what_lapses_without_it():
    found = conclude(claimed(), FACTS, answer(RefreshOutcome.RENEWED, NOW + HOUR), GRANT, now=NOW)
    assert (found.facts.expires_at, found.facts.grant_source) == (NOW + HOUR, ClockSource.CATALOGUE)
    assert (found.stays_open, found.failures, found.error, found.told) == (False, 0, None, ())
    assert found.plan is not None
    assert (found.plan.deadline_at, found.plan.keeps) == (NOW + HOUR, Keeps.TOKEN)
    assert found.plan.due_at < NOW + HOUR


def test_without_an_expiry_the_plan_keeps_the_grant():
    found = conclude(claimed(is_forced=True), FACTS, answer(RefreshOutcome.NO_EXPIRY), GRANT, now=NOW)
    assert found.plan is not None
    assert (found.plan.deadline_at, found.plan.keeps) == (found.facts.grant_expires_at, Keeps.GRANT)
    assert found.plan.forced


def test_a_try_after_a_failure_has_the_deadline_that_still_lies_ahead():
    for failures, deadline in ((0, FACTS.expires_at), (3, None)):
        plan = conclude(claimed(failures=failures), FACTS, answer(RefreshOutcome.FAILED), GRANT, now=NOW).plan
        assert plan is not None
        assert plan.deadline_at == deadline


def test_a_look_after_an_expiry_that_nothing_renews_has_no_deadline():
    fixed = RefreshFacts("active", "API_KEY", expires_at=NOW + HOUR)
    looked = answer(RefreshOutcome.UNCHANGED, NOW + HOUR)
    plan = conclude(claimed(facts=fixed), fixed, looked, RefreshPolicy(), now=NOW).plan
    assert plan is not None
    assert (plan.deadline_at, plan.keeps) == (None, None)


@pytest.mark.parametrize("outcome", sorted(WAITS))
def test_a_wait_changes_nothing_of_the_connection_and_leaves_the_plan_open(outcome):
    found = conclude(claimed(failures=2), FACTS, answer(outcome, error="later"), RefreshPolicy(), now=NOW)
    assert (found.facts, found.stays_open, found.failures, found.error, found.told) == (FACTS, True, 2, "later", ())
    assert found.plan is not None


def test_the_end_of_a_connection_is_told_once():
    exhausted = answer(RefreshOutcome.EXHAUSTED, error="given up", error_type="NangoRefreshExhausted")
    found = conclude(claimed(), FACTS, exhausted, RefreshPolicy(), now=NOW)
    assert (found.facts.status, found.facts.last_error_type, found.plan) == (
        "needs_reconnect", "NangoRefreshExhausted", None
    )  # fmt: skip
    assert [kind for kind, _ in found.told] == [EventType.CONNECTION_NEEDS_RECONNECT]
    assert conclude(claimed(facts=found.facts), found.facts, exhausted, RefreshPolicy(), now=NOW).told == ()


def test_a_forced_call_after_the_expiry_that_renewed_nothing_is_the_end():
    expired = RefreshFacts("active", "OAUTH2", expires_at=NOW - HOUR)
    forced = claimed(is_forced=True, facts=expired)
    found = conclude(forced, expired, answer(RefreshOutcome.UNCHANGED, NOW - HOUR), RefreshPolicy(), now=NOW)
    assert (found.facts.status, found.facts.last_error_type) == ("needs_reconnect", TOKEN_EXPIRED)
    assert found.error is not None
    assert "2026-11-30T11:00:00Z" in found.error
    # A plain one does not prove it, nor does the second claim of a forced plan, which is plain.
    for plan in (claimed(facts=expired), claimed(is_forced=True, attempts=2, facts=expired)):
        found = conclude(plan, expired, answer(RefreshOutcome.UNCHANGED, NOW - HOUR), RefreshPolicy(), now=NOW)
        assert (found.facts.status, found.told) == ("active", ())


def test_an_older_answer_does_not_replace_a_newer_error():
    seen = RefreshFacts("active", "OAUTH2", last_error_type="NangoRefreshFailed", errors_seen_at=NOW + SECOND)
    found = conclude(claimed(facts=seen), seen, answer(RefreshOutcome.EXHAUSTED), RefreshPolicy(), now=NOW + MINUTE)
    assert (replace(found.facts, calls=None, calls_since=None), found.told) == (seen, ())


def test_a_crash_does_not_hide_an_error_of_nango_and_a_success_ends_a_crash():
    failing = RefreshFacts("active", "OAUTH2", last_error_type="NangoRefreshFailed")
    crash = Answer(RefreshOutcome.FAILED, error="claimed five times", error_type=CRASHED)
    assert conclude(claimed(), failing, crash, RefreshPolicy(), now=NOW).facts.last_error_type == "NangoRefreshFailed"
    crashed = conclude(claimed(), FACTS, crash, RefreshPolicy(), now=NOW).facts
    assert crashed.last_error_type == CRASHED
    found = conclude(claimed(), crashed, answer(RefreshOutcome.RENEWED, NOW + HOUR), RefreshPolicy(), now=NOW)
    assert found.facts.last_error_type is None


def test_an_integration_that_is_refreshed_no_more_leaves_the_connection_as_it_is():
    found = conclude(claimed(), FACTS, Answer(RefreshOutcome.SUPERSEDED, error="off"), None, now=NOW)
    assert (found.facts, found.plan, found.error) == (FACTS, None, "off")


# The order of claims


def test_plans_are_urgent_in_the_order_of_their_deadlines_and_grants_long_before():
    due = NOW - HOUR
    soon = urgent_at(due, NOW + MINUTE, Keeps.TOKEN)
    late = urgent_at(due, NOW - 2 * MINUTE, Keeps.TOKEN)
    grant = urgent_at(NOW - DAY, NOW + 2 * HOUR, Keeps.GRANT)
    assert grant is not None
    assert late is not None
    assert soon is not None
    assert grant < late < soon < NOW
    assert urgent_at(due, None, None) is None


def test_a_plan_that_waits_is_not_urgent_before_it_is_due_again():
    for keeps in Keeps:
        assert urgent_at(NOW + HOUR, NOW - DAY, keeps) == NOW + HOUR


FORCED_ONLY = RefreshPolicy(renews=Renewal.FORCED)


@pytest.mark.parametrize(
    ("policy", "expires_at", "outcome"),
    [
        (GRANT, None, RefreshOutcome.NO_EXPIRY),
        (FORCED_ONLY, NOW + 3 * DAY, RefreshOutcome.UNCHANGED),
    ],
)
def test_refused_forced_renewals_come_ever_more_seldom_although_looks_between_them_are_answered(
    policy, expires_at, outcome
):
    facts = RefreshFacts(
        "active",
        "OAUTH2",
        expires_at=expires_at,
        expires_source=ClockSource.PROVIDER if expires_at else ClockSource.UNKNOWN,
        grant_expires_at=None if expires_at else NOW + 6 * DAY,
        renewed_at=NOW - 24 * DAY,
    )
    now, plan = NOW, claimed(is_forced=True, facts=facts)
    forced = 0
    while now < NOW + 2 * DAY:
        said = RefreshOutcome.FAILED if plan.is_forced else outcome
        found = conclude(plan, facts, answer(said, expires_at, asked_at=now), policy, now=now)
        assert found.plan is not None
        forced += plan.is_forced
        plan = claimed(is_forced=found.plan.forced, facts=facts, failures=found.failures)
        now = found.plan.due_at
    assert 5 <= forced <= 10


def test_a_failing_renewal_is_tried_more_often_than_every_eight_hours_where_the_grant_lapses_soon():
    facts = RefreshFacts("active", "OAUTH2", grant_expires_at=NOW + 4 * HOUR, renewed_at=NOW - DAY)
    tried = conclude(claimed(failures=6, facts=facts), facts, answer(RefreshOutcome.FAILED), GRANT, now=NOW).plan
    assert tried is not None
    assert tried.due_at == NOW + HOUR


def test_calls_are_counted_by_the_day_and_put_off_beyond_the_ceiling():
    policy, facts = RefreshPolicy(daily_calls=3), FACTS
    for number in range(3):
        assert put_off_until(claimed(facts=facts), policy, now=NOW) is None
        facts = conclude(
            claimed(facts=facts), facts, answer(RefreshOutcome.UNCHANGED, NOW + HOUR), policy, now=NOW
        ).facts
        assert facts.calls == number + 1
    later = put_off_until(claimed(facts=facts), policy, now=NOW)
    assert later is not None
    assert timedelta(0) <= later - NOW.replace(hour=0) - DAY < HOUR
    put_off = Answer(RefreshOutcome.RATE_LIMITED, error="used up", put_off_until=later)
    found = conclude(claimed(facts=facts, is_forced=True), facts, put_off, policy, now=NOW)
    assert (found.stays_open, found.facts, found.error) == (True, facts, "used up")
    assert found.plan is not None
    assert (found.plan.due_at, found.plan.forced) == (later, True)
    assert put_off_until(claimed(facts=facts), policy, now=later) is None
    next_day = conclude(claimed(facts=facts), facts, answer(RefreshOutcome.UNCHANGED, NOW), policy, now=later).facts
    assert next_day.calls == 1


@pytest.mark.parametrize(
    ("attempts", "is_forced", "expires_at", "expected"),
    [
        (1, True, NOW + HOUR, True),
        (1, True, NOW - SECOND, False),  # a plain GET has come after the expiry
        (1, True, None, False),  # nothing would show a renewal
        (1, False, NOW + HOUR, False),
        (2, True, NOW + HOUR, False),  # of the first call nothing is known, so that none is forced
    ],
)
def test_a_plain_get_comes_before_a_forced_one_where_it_can_show_a_renewal(attempts, is_forced, expires_at, expected):
    facts = replace(FACTS, expires_at=expires_at)
    assert claimed(attempts=attempts, is_forced=is_forced, facts=facts).looks_first(now=NOW) is expected


def test_what_only_looked_was_not_forced():
    facts, forcing = FACTS, claimed(is_forced=True)
    looked = answer(RefreshOutcome.RENEWED, NOW + 2 * DAY, only_looked=True)
    found = conclude(forcing, facts, looked, GRANT, now=NOW)
    assert found.facts.renewed_at == NOW - 5 * MINUTE  # by a plain GET within Nango's margin, at the earliest
    assert found.facts.calls == 1
    assert conclude(forcing, facts, replace(looked, only_looked=False), GRANT, now=NOW).facts.calls == 2
    busy = answer(RefreshOutcome.NANGO_DOWN, only_looked=True, error="away")
    waiting = conclude(forcing, facts, busy, GRANT, now=NOW)
    assert waiting.plan is not None
    assert (waiting.stays_open, waiting.plan.forced) == (True, True)  # it may be forced: nothing was sent that forces
    assert not conclude(forcing, facts, replace(busy, only_looked=False), GRANT, now=NOW).plan.forced  # type: ignore[union-attr]


def test_it_is_failing_since_the_first_error_that_nothing_has_ended():
    facts = FACTS
    for minutes in (0, 10, 20):
        now = NOW + minutes * MINUTE
        facts = conclude(claimed(facts=facts), facts, answer(RefreshOutcome.FAILED, asked_at=now), GRANT, now=now).facts
        assert (facts.failing_since, facts.last_error_at) == (NOW, now)
    over = replace(facts, last_error_type=None, last_error_at=None)  # as an earlier release clears it
    again = conclude(claimed(facts=over), over, answer(RefreshOutcome.FAILED, asked_at=now), GRANT, now=NOW + DAY)
    assert again.facts.failing_since == NOW + DAY

"""Promise 13: what will lapse is told before, once for each deadline, and only where the end user has to act."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from app.domain.refreshing.catalogue import Renewal
from app.domain.refreshing.expiring import ClockState, announcements, next_announcement
from app.domain.refreshing.lives import KnownLives
from app.domain.refreshing.policy import RefreshPolicy

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
POLICY = RefreshPolicy()
FIXED = RefreshPolicy(lives=KnownLives(rotates=False))
BLANK = ClockState(
    expires_at=None,
    grant_at=None,
    grant_reason=None,
    renewed_at=None,
    authorized_at=None,
    auth_mode="OAUTH2",
    not_refreshable=None,
)


def state(**facts: object) -> ClockState:
    return replace(BLANK, **facts)


def kinds(facts: ClockState, policy: RefreshPolicy = POLICY, now: datetime = NOW) -> list[str]:
    return [one.error.type for one in announcements(facts, policy, now=now)]


UNRENEWABLE = state(expires_at=NOW + 5 * DAY, renewed_at=NOW - 55 * DAY, not_refreshable="force changed nothing")


def test_the_expiry_of_a_token_that_nothing_renews_is_told_with_when_why_and_what_to_do():
    [told] = announcements(UNRENEWABLE, POLICY, now=NOW)
    assert told.at == UNRENEWABLE.expires_at
    assert told.error.type == "token_expiring"
    assert told.error.description == (
        "its token expires at 2026-12-05T12:00:00Z, and force changed nothing: the end user has to reconnect before"
    )


@pytest.mark.parametrize(
    ("facts", "policy"),
    [
        ({"not_refreshable": None, "auth_mode": "OAUTH1"}, POLICY),
        ({"not_refreshable": None}, RefreshPolicy(renews=Renewal.NEVER)),
    ],
)
def test_types_and_providers_without_renewal_are_warned_about_too(facts: dict, policy: RefreshPolicy):
    assert kinds(replace(UNRENEWABLE, **facts), policy) == ["token_expiring"]


@pytest.mark.parametrize(
    "facts",
    [
        {"not_refreshable": None},  # it is renewed in time
        {"expires_at": NOW + 8 * DAY},  # not yet
        {"expires_at": NOW - MINUTE},  # too late to warn
        {"expires_at": None},
        {"announced_expiry": NOW + 5 * DAY},
        {"announced_expiry": NOW + 5 * DAY + MINUTE},
    ],
)
def test_no_token_is_told_of_without_need_or_twice(facts: dict):
    assert kinds(replace(UNRENEWABLE, **facts)) == []


def test_another_deadline_is_told_anew():
    assert kinds(replace(UNRENEWABLE, announced_expiry=NOW - 60 * DAY)) == ["token_expiring"]


def test_a_short_life_is_told_of_in_its_last_quarter():
    short = state(expires_at=NOW + HOUR, renewed_at=NOW, auth_mode="OAUTH1")
    assert kinds(short, now=NOW + 44 * MINUTE) == []
    assert kinds(short, now=NOW + 46 * MINUTE) == ["token_expiring"]


def test_a_grant_that_no_renewal_moves_is_told_of():
    facts = state(grant_at=NOW + 6 * DAY, grant_reason="365 days from then on", authorized_at=NOW - 359 * DAY)
    [told] = announcements(facts, FIXED, now=NOW)
    assert told.error.type == "grant_expiring"
    assert told.error.description == (
        "its grant lapses at 2026-12-06T12:00:00Z (365 days from then on), and no renewal moves that: "
        "the end user has to reconnect before"
    )
    assert kinds(replace(facts, announced_grant=facts.grant_at), FIXED) == []


def test_a_grant_that_renewals_keep_alive_is_told_of_only_where_they_did_not():
    kept = state(grant_at=NOW + 6 * DAY, renewed_at=NOW - 24 * DAY)
    assert kinds(kept) == []  # its forced renewal is due about now
    assert kinds(kept, now=NOW + 4 * DAY) == ["grant_expiring"]


@pytest.mark.parametrize("life", [30 * MINUTE, 8 * HOUR, DAY, 7 * DAY, 30 * DAY, 365 * DAY])
def test_a_grant_whose_deadline_each_renewal_moves_is_never_told_of(life: timedelta):
    for step in range(10):
        renewed_at = NOW + step * life / 2
        facts = state(
            grant_at=renewed_at + life,
            previous_grant_at=renewed_at + life / 2,
            renewed_at=renewed_at,
            authorized_at=NOW - 90 * DAY,
            has_renewed=True,
        )
        assert kinds(facts, now=renewed_at) == []
        assert kinds(replace(facts, has_renewed=False), now=renewed_at + life / 2) == []


def test_a_grant_whose_deadline_stays_where_it_is_through_renewals_is_told_of_though_nothing_documents_it():
    at = NOW + 6 * DAY
    facts = state(grant_at=at, previous_grant_at=at, renewed_at=NOW, has_renewed=True)
    assert kinds(facts) == ["grant_expiring"]
    assert kinds(replace(facts, has_renewed=False)) == []


def test_both_clocks_are_told_of_apart():
    facts = replace(UNRENEWABLE, grant_at=NOW + 6 * DAY)
    assert kinds(facts) == ["token_expiring", "grant_expiring"]


@pytest.mark.parametrize(
    ("facts", "policy", "at"),
    [
        (UNRENEWABLE, POLICY, NOW - 2 * DAY),
        (replace(UNRENEWABLE, expires_at=NOW + 60 * DAY), POLICY, NOW + 53 * DAY),
        (replace(UNRENEWABLE, announced_expiry=UNRENEWABLE.expires_at), POLICY, None),
        (state(grant_at=NOW + 20 * DAY), FIXED, NOW + 13 * DAY),
        (state(grant_at=NOW + 20 * DAY), POLICY, None),  # a renewal comes before
        (state(grant_at=NOW - DAY), FIXED, None),
        (BLANK, POLICY, None),
    ],
)
def test_the_next_announcement_is_planned_for(facts: ClockState, policy: RefreshPolicy, at: datetime | None):
    assert next_announcement(facts, policy, now=NOW) == at


def test_the_policy_says_how_long_before():
    policy = RefreshPolicy(warn_before=2 * DAY)
    assert kinds(UNRENEWABLE, policy) == []
    assert kinds(UNRENEWABLE, policy, now=NOW + 3 * DAY + MINUTE) == ["token_expiring"]

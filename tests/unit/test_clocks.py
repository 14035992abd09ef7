"""Promise 13: each connection has two clocks with their sources, or the reason why one is not known."""

from datetime import UTC, datetime, timedelta

import pytest

from app.domain.refreshing.clocks import NANGO_MARGIN, NOT_READ, Clock, Clocks, read_clocks, told_expiry, unread
from app.domain.refreshing.lives import ClockSource, KnownLives, Life, is_moved_by_renewal, shown_span
from app.domain.refreshing.token_times import NO_TIMES, TokenTimes
from app.domain.states import RefreshOutcome

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
PROVIDER, UNKNOWN = ClockSource.PROVIDER, ClockSource.UNKNOWN
RENEWED, UNCHANGED = RefreshOutcome.RENEWED, RefreshOutcome.UNCHANGED
FIRST_SEEN, NO_EXPIRY = RefreshOutcome.FIRST_SEEN, RefreshOutcome.NO_EXPIRY
LIFE = TokenTimes(grant_life=30 * DAY)


def clocks(times: TokenTimes, outcome: RefreshOutcome = UNCHANGED, **facts: object) -> Clocks:
    given: dict = {
        "outcome": outcome,
        "was_forced": False,
        "asked_at": NOW,
        "auth_mode": "OAUTH2",
        "previous_expires_at": None,
        "renewed_at": None,
    }
    return read_clocks(times, **(given | facts))


def test_both_clocks_are_the_providers_where_its_response_tells_them():
    found = clocks(TokenTimes(NOW + HOUR, grant_at=NOW + 30 * DAY))
    assert (found.access.at, found.access.source) == (NOW + HOUR, PROVIDER)
    assert (found.grant.at, found.grant.source) == (NOW + 30 * DAY, PROVIDER)


def test_a_life_counts_from_the_tokens_issue_and_not_from_each_look():
    issued = TokenTimes(NOW + HOUR, issued_at=NOW - HOUR, grant_life=30 * DAY)
    assert clocks(issued).grant.at == NOW - HOUR + 30 * DAY
    assert clocks(issued, asked_at=NOW + DAY).grant.at == NOW - HOUR + 30 * DAY


def test_a_life_whose_beginning_was_not_seen_is_unknown_at_every_look():
    for days in range(3):
        found = clocks(LIFE, NO_EXPIRY, asked_at=NOW + days * DAY)
        assert (found.grant.at, found.grant.source, found.renewed_at) == (None, UNKNOWN, None)
        assert found.grant.reason == "its refresh token lives for 30 days, and its issue was not seen"


@pytest.mark.parametrize("outcome", [NO_EXPIRY, UNCHANGED, FIRST_SEEN])
def test_a_later_look_at_the_same_token_does_not_move_the_deadline(outcome: RefreshOutcome):
    for days in range(3):
        found = clocks(LIFE, outcome, asked_at=NOW + days * DAY, renewed_at=NOW)
        assert (found.grant.at, found.renewed_at) == (NOW + 30 * DAY, NOW)
        assert found.grant.reason == "30 days from 2026-11-30T12:00:00Z on"


def test_a_renewal_moves_it_and_counts_from_before_the_call_that_made_it():
    found = clocks(LIFE, RENEWED, renewed_at=NOW - 9 * DAY, previous_expires_at=NOW + timedelta(minutes=12))
    assert found.renewed_at == NOW + timedelta(minutes=12) - NANGO_MARGIN
    assert found.grant.at == found.renewed_at + 30 * DAY


def test_a_renewal_that_others_made_before_counts_from_when_the_old_token_could_be_renewed():
    found = clocks(LIFE, RENEWED, renewed_at=NOW - 9 * DAY, previous_expires_at=NOW - 2 * DAY)
    assert found.renewed_at == NOW - 2 * DAY - NANGO_MARGIN


@pytest.mark.parametrize("outcome", [RENEWED, NO_EXPIRY, FIRST_SEEN])
def test_a_forced_renewal_counts_from_its_call(outcome: RefreshOutcome):
    found = clocks(LIFE, outcome, was_forced=True, previous_expires_at=NOW + 9 * DAY, renewed_at=NOW - DAY)
    assert (found.renewed_at, found.grant.at) == (NOW, NOW + 30 * DAY)


def test_a_forced_call_that_left_the_expiry_where_it_was_moves_nothing():
    assert clocks(LIFE, UNCHANGED, was_forced=True, renewed_at=NOW - DAY).renewed_at == NOW - DAY


def test_an_issue_in_the_future_or_before_a_renewal_that_was_seen_is_no_issue():
    ahead = TokenTimes(NOW + 9 * HOUR, issued_at=NOW + 8 * HOUR, grant_life=30 * DAY)
    assert clocks(ahead, FIRST_SEEN).renewed_at is None
    before = TokenTimes(NOW + HOUR, issued_at=NOW - 41 * DAY, grant_life=30 * DAY)  # expires_in in milliseconds
    assert clocks(before, RENEWED, previous_expires_at=NOW, renewed_at=NOW - HOUR).renewed_at == NOW - NANGO_MARGIN


def test_a_provider_clock_that_is_a_little_ahead_issues_no_token_in_the_future():
    ahead = TokenTimes(NOW + HOUR, issued_at=NOW + timedelta(minutes=2), grant_life=30 * DAY)
    assert clocks(ahead, FIRST_SEEN).grant.at == NOW + 30 * DAY


def test_of_a_life_and_a_time_the_earlier_deadline_holds():
    both = TokenTimes(NOW + HOUR, issued_at=NOW, grant_at=NOW + 90 * DAY, grant_life=30 * DAY)
    assert clocks(both).grant.at == NOW + 30 * DAY
    assert clocks(TokenTimes(NOW + HOUR, issued_at=NOW, grant_at=NOW + DAY, grant_life=30 * DAY)).grant.at == NOW + DAY


@pytest.mark.parametrize(
    ("auth_mode", "access", "grant"),
    [
        ("OAUTH2", "Nango knows no expiry of its token", "the provider's token response names no deadline"),
        ("FUTURE", "Nango knows no expiry of its token", "the provider's token response names no deadline"),
        ("API_KEY", "the type API_KEY name no expiry", "hold as long as their owner leaves them"),
        ("BASIC", "the type BASIC name no expiry", "hold as long as their owner leaves them"),
        ("OAUTH2_CC", "Nango knows no expiry of its token", "without a refresh token"),
    ],
)
def test_what_is_not_known_says_why(auth_mode: str, access: str, grant: str):
    found = clocks(NO_TIMES, NO_EXPIRY, auth_mode=auth_mode)
    assert (found.access.at, found.access.source, found.grant.at, found.grant.source) == (None, UNKNOWN, None, UNKNOWN)
    assert access in found.access.reason
    assert grant in found.grant.reason


@pytest.mark.parametrize("auth_mode", ["OAUTH2", "API_KEY", "APP", "CUSTOM", "NONE", ""])
def test_a_connection_whose_token_was_not_read_says_so_or_why_it_never_will_be(auth_mode: str):
    found = unread(auth_mode)
    assert found.access.reason
    assert found.grant.reason
    assert (unread("OAUTH2").access.reason, unread("OAUTH2").grant.reason) == (NOT_READ, NOT_READ)


def life(days: int, source: ClockSource = ClockSource.CATALOGUE) -> Life:
    return Life(timedelta(days=days), source)


def test_an_idle_limit_that_is_documented_counts_from_the_last_renewal():
    lives = KnownLives(idle=life(30))
    found = clocks(TokenTimes(NOW + HOUR, issued_at=NOW - DAY), lives=lives)
    assert (found.grant.at, found.grant.source) == (NOW + 29 * DAY, ClockSource.CATALOGUE)
    assert found.grant.reason == "30 days from 2026-11-29T12:00:00Z on"
    unseen = clocks(TokenTimes(NOW + HOUR), FIRST_SEEN, lives=lives)
    assert (unseen.grant.at, unseen.grant.source) == (None, UNKNOWN)
    assert unseen.grant.reason == "it lapses after 30 days (catalogue), and since when that counts was not seen"


def test_a_life_that_no_renewal_begins_anew_counts_from_the_authorization():
    lives = KnownLives(refresh=life(7), rotates=False)
    seen = {"lives": lives, "renewed_at": NOW - HOUR}
    assert clocks(NO_TIMES, authorized_at=NOW - 5 * DAY, **seen).grant.at == NOW + 2 * DAY
    assert clocks(NO_TIMES, **seen).grant.at is None
    rotating = seen | {"lives": KnownLives(refresh=life(7))}
    assert clocks(NO_TIMES, authorized_at=NOW - 5 * DAY, **rotating).grant.at == NOW - HOUR + 7 * DAY


def test_of_a_life_and_an_idle_limit_the_earlier_deadline_holds():
    lives = KnownLives(refresh=life(365), idle=life(30), rotates=False)
    early = {"lives": lives, "renewed_at": NOW, "authorized_at": NOW - 360 * DAY}
    assert clocks(NO_TIMES, **early).grant.at == NOW + 5 * DAY
    assert clocks(NO_TIMES, **(early | {"authorized_at": NOW})).grant.at == NOW + 30 * DAY


@pytest.mark.parametrize(
    ("known", "source", "at"),
    [
        (life(10), PROVIDER, NOW + 30 * DAY),  # what the provider tells goes before what it documents
        (life(10, ClockSource.POLICY), ClockSource.POLICY, NOW + 10 * DAY),
        (life(60, ClockSource.POLICY), PROVIDER, NOW + 30 * DAY),
    ],
)
def test_the_providers_answer_goes_before_the_catalogue_and_an_earlier_policy_before_both(known, source, at):
    found = clocks(LIFE, renewed_at=NOW, lives=KnownLives(idle=known))
    assert (found.grant.at, found.grant.source) == (at, source)


def test_where_an_answer_tells_a_life_without_its_beginning_a_policy_has_none_either():
    found = clocks(LIFE, NO_EXPIRY, lives=KnownLives(idle=life(10)))
    assert (found.grant.at, found.grant.source) == (None, UNKNOWN)


def test_an_expiry_that_nango_does_not_know_is_estimated_from_the_life_that_is_documented():
    lives = KnownLives(access=Life(HOUR, ClockSource.CATALOGUE))
    found = clocks(NO_TIMES, NO_EXPIRY, renewed_at=NOW - HOUR / 2, lives=lives)
    assert (found.access.at, found.access.source) == (NOW + HOUR / 2, ClockSource.CATALOGUE)
    assert told_expiry(found.access.at, found.access.source) is None
    assert told_expiry(NOW, PROVIDER) == told_expiry(NOW, None) == NOW
    assert clocks(NO_TIMES, NO_EXPIRY, lives=lives).access.at is None
    assert clocks(TokenTimes(NOW + DAY), lives=lives, renewed_at=NOW).access == Clock(NOW + DAY, PROVIDER)


@pytest.mark.parametrize("auth_mode", ["API_KEY", "OAUTH2_CC", "APP"])
def test_what_has_no_refresh_token_has_no_deadline_by_the_catalogue(auth_mode: str):
    found = clocks(NO_TIMES, NO_EXPIRY, auth_mode=auth_mode, renewed_at=NOW, lives=KnownLives(idle=life(30)))
    assert (found.grant.at, found.grant.source) == (None, UNKNOWN)


@pytest.mark.parametrize(
    ("span", "shown"),
    [
        (DAY, "1 day"),
        (30 * DAY, "30 days"),
        (timedelta(hours=36), "1.5 days"),
        (HOUR, "1 hour"),
        (timedelta(minutes=90), "1.5 hours"),
        (timedelta(minutes=30), "30 minutes"),
        (timedelta(seconds=20), "20 seconds"),
    ],
)
def test_spans_are_shown_in_the_largest_unit_that_they_have(span: timedelta, shown: str):
    assert shown_span(span) == shown


@pytest.mark.parametrize(
    ("lives", "deadline", "moved"),
    [
        (KnownLives(refresh=life(30)), 30, True),
        (KnownLives(refresh=life(30), rotates=False), 30, False),
        (KnownLives(idle=life(30), rotates=False), 30, True),
        (KnownLives(refresh=life(365), idle=life(30), rotates=False), 30, True),
        (KnownLives(refresh=life(20), idle=life(30), rotates=False), 20, False),
    ],
)
def test_a_refresh_token_that_stays_keeps_its_end_but_its_idle_limit_begins_anew(lives, deadline, moved):
    assert is_moved_by_renewal(lives, NOW + deadline * DAY, NOW) is moved

"""Rules of operators: rights, groups, passwords, delays and names of browsers."""

from datetime import UTC, datetime, timedelta

import pytest

from app.domain.access import GroupRights, Rights, Role, Scope, rights_of_groups
from app.domain.passwords import normalized, wrong_password
from app.domain.sign_in_throttle import ADDRESS, FORGOTTEN_AFTER, NAME, after_attempt, wait
from app.web.console.browser_names import browser_name

NOW = datetime(2026, 8, 21, tzinfo=UTC)
MAPPING = [GroupRights("ops", Rights(Role.OPERATOR)), GroupRights("all", Rights(Role.VIEWER, credentials=True))]


@pytest.mark.parametrize(
    ("rights", "allowed"),
    [
        (Rights(Role.VIEWER), {Scope.VIEWER}),
        (Rights(Role.OPERATOR), {Scope.VIEWER, Scope.OPERATOR}),
        (Rights(Role.VIEWER, credentials=True), {Scope.VIEWER, Scope.CREDENTIALS}),
        (Rights(Role.OPERATOR, credentials=True), set(Scope)),
        (Rights(Role.TEAM, "crm"), set()),
    ],
)
def test_a_role_allows_what_its_scopes_do(rights, allowed):
    access = rights.access("ada")
    assert access.actor == "operator:ada"
    assert {scope for scope in Scope if access.allows(scope)} == allowed


def test_a_team_reaches_what_is_limited_to_teams_and_no_credentials():
    access = Rights(Role.TEAM, "crm").access("ada")
    assert {scope for scope in Scope if access.allows(scope, teams=True)} == {Scope.VIEWER, Scope.OPERATOR}


@pytest.mark.parametrize(
    ("groups", "role"), [(["all"], Role.VIEWER), (["all", "ops"], Role.OPERATOR), (["OPS", "al"], None), ([], None)]
)
def test_the_first_entry_with_a_group_of_the_person_decides(groups, role):
    rights = rights_of_groups(MAPPING, groups)
    assert (rights and rights.role) == role


def test_a_password_is_normalized_and_bounded_before_that():
    assert normalized("Zu\u0308rich") == normalized("Zürich")
    assert len(normalized("\ufdfa" * 100_000)) < 10_000
    assert wrong_password("ﬁve words of some length", repeated="five words of some length") is None


def test_parallel_and_serial_attempts_wait_alike_and_the_longest_wait_is_bounded():
    for delays in (NAME, ADDRESS):
        failures = None
        for _ in range(200):
            failures = after_attempt(failures, delays, NOW)
        assert wait(failures, NOW) == delays.longest
        assert wait(failures, NOW + delays.longest) == timedelta(0)
        assert after_attempt(failures, delays, NOW + FORGOTTEN_AFTER).count == 1


@pytest.mark.parametrize(
    ("user_agent", "name"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox on Linux"),
        ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/140.0 Safari/537.36 Edg/140.0", "Edge on Windows"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Version/18 Safari/605.1.15", "Safari on macOS"),
        ("curl/8.5.0", "curl/8.5.0"),
        ("", "unknown"),
    ],
)
def test_a_browser_is_named_shortly(user_agent, name):
    assert browser_name(user_agent) == name

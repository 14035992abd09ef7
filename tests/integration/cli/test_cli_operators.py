"""`waylink operator`: a link for the person, and no change that leaves Waylink without an operator."""

import pytest

from tests.integration.cli.test_cli import Command, one_line_error


@pytest.fixture(params=["sqlite", "postgresql"])
def command(request, tmp_path, broker_url) -> Command:
    variables = {"WAYLINK_BROKER_URL": broker_url, "WAYLINK_NANGO_SIGNING_KEYS": "k", "WAYLINK_PORT": "8081"}
    if request.param == "postgresql":
        variables["WAYLINK_DATABASE_URL"] = request.getfixturevalue("postgres_url")
    made = Command(tmp_path, variables)
    assert made.inside("migrate").returncode == 0
    return made


def test_an_operator_is_added_with_a_link_and_changed(command):
    added = command.inside("operator", "add", "ada", "--role", "operator")
    assert added.stdout.startswith("ada sets a password, once, at\nhttp://127.0.0.1:8081/console/welcome/wll_")
    command.variables["WAYLINK_CONSOLE_URL"] = "https://waylink.internal/"
    made = command.json("operator", "add", "vic", "--role", "viewer", "--credentials", "--expires", "1h")
    assert made["link"].startswith("https://waylink.internal/console/welcome/wll_")
    assert command.json("operator", "link", "vic")["link"] != made["link"]
    listed = {row["name"]: row for row in command.json("operator", "list")}
    assert (listed["vic"]["role"], listed["vic"]["credentials"]) == ("viewer", True)
    assert command.json("operator", "role", "vic", "--role", "OPERATOR")["credentials"] is False
    assert command.json("operator", "disable", "ada")["disabled_at"]
    assert command.json("operator", "enable", "ada")["disabled_at"] is None
    assert command.json("operator", "sessions", "ada") == []
    assert command.inside("operator", "sign-out", "ada").stdout == "ada: 0 sessions ended\n"
    assert command.inside("operator", "remove", "ada").stdout == "ada: removed\n"
    acts = [row["action"].removeprefix("operator.") for row in command.json("audit")]
    assert acts[::-1] == [
        *("added", "link_made", "added", "link_made", "link_made"),
        *("role_changed", "disabled", "enabled", "signed_out", "removed"),
    ]


def test_the_last_operator_stays_without_yes(command):
    command.inside("operator", "add", "ada", "--role", "operator")
    for act in (["disable", "ada"], ["remove", "ada"], ["role", "ada", "--role", "viewer"]):
        assert "`yes`" in one_line_error(command.inside("operator", *act), 1)
    assert command.inside("operator", "remove", "ada", "--yes").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["add", "Ada L", "--role", "viewer"], 2, "cannot be an operator's name"),
        (["add", "ada", "--role", "team"], 2, "goes with a team"),
        (["add", "ada", "--role", "team", "--team", "absent"], 1, "absent"),
        (["add", "ada", "--role", "viewer", "--expires", "30d"], 2, "7 days at most"),
        (["link", "absent"], 1, "absent"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_added(command, arguments, code, told):
    assert told in one_line_error(command.inside("operator", *arguments), code)
    assert command.json("operator", "list") == []


def test_a_team_with_operators_is_not_removed(command):
    assert command.inside("teams", "add", "crm").returncode == 0
    assert command.inside("operator", "add", "grace", "--role", "team", "--team", "crm").returncode == 0
    refused = command.inside("teams", "remove", "crm")
    assert (refused.returncode, "operators grace" in refused.stderr) == (1, True)

"""`waylink teams link` and its companions: portals of teams, managed at the command line."""

import pytest

from tests.integration.cli.test_cli import Command, one_line_error


@pytest.fixture(scope="module")
def command(tmp_path_factory) -> Command:
    made = Command(tmp_path_factory.mktemp("portals"))
    assert made("migrate").returncode == 0
    assert made("teams", "add", "crm").returncode == 0
    return made


def test_a_link_is_printed_once_listed_without_its_secret_and_revoked(command: Command) -> None:
    done = command.inside("teams", "link", "crm", "--expires-in", "10m", "--uses", "2", "--note", "Ada")
    assert done.returncode == 0, done.stderr
    url = done.stdout.split()[-1]
    assert url.startswith("http://127.0.0.1:")
    secret = url.rpartition("/console/portal/")[2]
    assert secret.startswith("wlt_")
    [listed] = command.json("teams", "links", "crm")
    assert (listed["note"], listed["uses_left"], listed["sessions"]) == ("Ada", 2, 0)
    assert secret not in command.inside("teams", "links", "crm").stdout + command.inside("audit", "--json").stdout
    assert command.json("teams", "sessions", "crm") == []
    assert command.json("teams", "revoke-link", "crm", listed["id"]) == {"id": listed["id"], "sessions": 0}
    assert command.json("teams", "links", "crm") == []
    assert {row["action"] for row in command.json("audit")} >= {"team.link_made", "team.link_revoked"}


def test_a_portal_gets_a_look_and_is_embedded_by_its_origins_alone(command: Command) -> None:
    app = "https://app.example.com"
    assert "embed" in one_line_error(command.inside("teams", "link", "crm", "--embed", app), 2)
    look = command.json("teams", "portal", "crm", "--title", "Acme", "--color", "#0b5fff", "--origin", app)
    assert look == {"team": "crm", "title": "Acme", "color": "#0b5fff", "origins": [app]}
    assert command.json("teams", "link", "crm", "--embed", app)["embed"] == app
    look = command.json("teams", "portal", "crm", "--clear", "title", "--clear", "origins")
    assert look == command.json("teams", "portal", "crm")
    assert look == {"team": "crm", "title": None, "color": "#0b5fff", "origins": []}


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["link", "absent"], 1, "absent"),
        (["link", "crm", "--expires", "8d"], 2, "7 days at most"),
        (["links", "absent"], 1, "absent"),
        (["sessions", "absent"], 1, "absent"),
        (["portal", "absent"], 1, "absent"),
        (["portal", "crm", "--color", "blue"], 2, "hexadecimal"),
        (["portal", "crm", "--origin", "http://app.example.com"], 2, "https://"),
        (["revoke-link", "crm", "tlk_1"], 2, "tlk_"),
        (["revoke-link", "crm", "tlk_" + "0" * 32], 1, "link of this team"),
        (["end-session", "crm", "ses_" + "0" * 32], 1, "session"),
    ],
)
def test_what_cannot_be_is_refused(command: Command, arguments, code, told) -> None:
    assert told in one_line_error(command.inside("teams", *arguments), code)

"""`waylink teams`, `routes` and `destinations`: managing what waylink.toml does not define; answers by exit code."""

import io
import json

import pytest

from tests.integration.cli.test_cli import Command, one_line_error

PATTERN = '{"type": ["connection.created"]}'
FACTS = ("--destination", "jobs", "--job", "crm.contacts", "--pattern", PATTERN)


@pytest.fixture(scope="module")
def waylink(tmp_path_factory) -> Command:
    folder = tmp_path_factory.mktemp("definitions")
    command = Command(folder, {"WAYLINK_NANGO_SIGNING_KEYS": "key"})
    (folder / "waylink.toml").write_text(
        '[teams.erp.destinations.jobs]\nkind = "celery"\nqueue = "team.erp.jobs"\n'
        '[[routes]]\nname = "of-file"\nteam = "erp"\ndestination = "jobs"\njob = "erp.do"\n'
        f"pattern = '{PATTERN}'\nenabled = false\n"
    )
    assert command.inside("migrate").returncode == 0
    command.json("teams", "add", "crm")
    command.json("destinations", "add", "crm/jobs", "--queue", "team.crm.jobs")
    return command


def test_a_route_lives_from_add_to_remove_and_each_step_is_in_the_audit(
    waylink: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    (waylink.folder / "pattern.json").write_text(PATTERN)
    assert waylink.json("routes", "add", "crm/contacts", *FACTS)["version"] == 1
    assert waylink.json("routes", "change", "crm/contacts", "--job", "crm.more", "--version", "1")["job"] == "crm.more"
    assert waylink.json("routes", "change", "crm/contacts", "--pattern", "pattern.json")["version"] == 2
    assert "version 2" in one_line_error(
        waylink.inside("routes", "change", "crm/contacts", "--job", "crm.x", "--version", "1"), 1
    )
    assert waylink.json("routes", "disable", "crm/contacts")["enabled"] is False
    assert "no" in waylink.inside("routes", "--team", "crm").stdout
    assert waylink.json("routes", "enable", "crm/contacts")["version"] == 4
    assert "routes contacts" in one_line_error(waylink.inside("destinations", "remove", "crm/jobs", "--yes"), 1)
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    asked = waylink.inside("routes", "remove", "crm/contacts")
    assert (asked.returncode, "End crm/contacts, version 4, which feeds crm/jobs?" in asked.stderr) == (1, True)
    assert [route["name"] for route in waylink.json("routes", "--team", "crm")] == ["contacts"]
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert waylink.json("routes", "remove", "crm/contacts")["version"] == 4
    assert waylink.json("routes", "--team", "crm") == []
    done = [entry["action"] for entry in waylink.json("audit") if entry["subject"] == "crm/contacts"]
    assert done == ["route.removed", "route.enabled", "route.disabled", "route.changed", "route.added"]


def test_destinations_and_teams_live_likewise(waylink: Command) -> None:
    assert waylink.json("destinations", "add", "crm/more", "--queue", "team.crm.more")["version"] == 1
    assert waylink.json("destinations", "change", "crm/more", "--queue", "team.crm.new")["version"] == 2
    assert waylink.json("destinations", "disable", "crm/more", "--reason", "moving")["disabled_reason"] == "moving"
    assert waylink.json("destinations", "enable", "crm/more")["disabled_at"] is None
    assert waylink.json("destinations", "remove", "crm/more", "--yes")["retired_at"] is not None
    assert waylink.json("teams", "add", "brief")["source"] == "api"
    assert waylink.json("teams", "remove", "brief")["retired_at"] is not None
    assert [team["name"] for team in waylink.json("teams")] == ["crm", "erp"]
    assert [team["name"] for team in waylink.json("teams", "--removed")] == ["brief"]
    assert "destinations jobs" in one_line_error(waylink.inside("teams", "remove", "crm"), 1)


def test_http_and_own_brokers_come_by_command_too(waylink: Command) -> None:
    made = waylink.json("destinations", "add", "crm/hook", "--url", "https://hooks.example/crm", "--timeout", "5")
    assert (made["kind"], made["timeout_seconds"], made["secret"][:6]) == ("http", 5.0, "whsec_")
    assert made["secret"] not in waylink.inside("destinations", "--json").stdout
    changed = waylink.json("destinations", "change", "crm/hook", "--rate", "10", "--clear", "timeout")
    assert (changed["rate_per_second"], changed["timeout_seconds"]) == (10.0, None)
    (waylink.folder / "broker.url").write_text("redis://:hunter2@queue.example:6379/3\n")
    own = waylink.inside(
        "destinations", "add", "crm/own", "--queue", "team.crm.own", "--broker-url-file", "broker.url", "--json"
    )
    assert json.loads(own.stdout)["own_broker"] is True
    assert "hunter2" not in own.stdout + waylink.inside("audit", "--json").stdout
    assert waylink.json("destinations", "change", "crm/own", "--clear", "broker")["own_broker"] is False
    both = waylink.inside("destinations", "change", "crm/hook", "--rate", "10", "--clear", "rate")
    assert (both.returncode, "either a new value or --clear" in both.stderr) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["routes", "add", "crm/x", *FACTS[:-1], '{"type": "x"}'], 2, "pattern.type: must be a list"),
        (["routes", "add", "crm/x", *FACTS[:-1], "nowhere.json"], 2, "nowhere.json: cannot be read"),
        (["routes", "add", "crm/No", *FACTS], 2, "name: takes 1 to 63"),
        *(
            (["routes", *act, *FACTS], 2, "names no route: expected TEAM/NAME")
            for act in (["add", "x"], ["add", "a/b/c"])
        ),
        (["routes", "show", "x"], 2, "names no route: expected TEAM/NAME"),
        (["routes", "show", "crm/"], 2, "names no route: expected TEAM/NAME"),
        (["routes", "backfill", "x", "--since", "1d"], 2, "names no route: expected TEAM/NAME"),
        (["jobs", "--route", "x"], 2, "names no route: expected TEAM/NAME"),
        (["jobs", "--route", "crm/x", "--team", "erp"], 2, "the route 'crm/x' is of another team than 'erp'"),
        (["jobs", "--route", "crm/x", "--destination", "erp/x"], 2, "is of another team"),
        (["destinations", "secrets", "a/b/c"], 2, "names no destination: expected TEAM/NAME"),
        (["routes", "change", "erp/of-file", "--job", "x"], 1, "waylink routes apply"),
        (["routes", "enable", "erp/of-file"], 1, "waylink.toml"),
        (["routes", "enable", "crm/nobody"], 1, "no route 'crm/nobody'"),
        (["routes", "remove", "crm/nobody", "--yes"], 1, "no route 'crm/nobody'"),
        (["destinations", "add", "crm/x", "--queue", "celery"], 2, "has to start with `team.crm.`"),
        (["destinations", "add", "crm/x"], 2, "queue: has to start"),
        (["destinations", "add", "crm/x", "--url", "http://10.0.0.1/"], 2, "address is refused (private)"),
        (["destinations", "add", "crm", "--queue", "team.crm.x"], 2, "TEAM/NAME"),
        (["destinations", "change", "erp/jobs", "--queue", "team.erp.x"], 1, "waylink.toml"),
        (["destinations", "disable", "erp/nothing"], 1, "no destination 'erp/nothing'"),
        (["teams", "add", "Team Nine"], 2, "name: takes 1 to 63"),
        (["teams", "add", "crm"], 1, "already"),
        (["teams", "remove", "erp"], 1, "waylink.toml"),
    ],
    ids=lambda part: " ".join(part[:3]) if isinstance(part, list) else "",
)
def test_what_cannot_be_done_says_why(waylink: Command, arguments: list[str], code: int, said: str) -> None:
    assert said in one_line_error(waylink.inside(*arguments), code)


def test_an_edit_of_nothing_is_wrong_use(waylink: Command) -> None:
    for command in (("routes", "change", "crm/contacts"), ("destinations", "change", "crm/jobs")):
        done = waylink.inside(*command)
        assert (done.returncode, "nothing to change" in done.stderr) == (2, True)


def test_two_teams_have_routes_of_one_name(waylink: Command) -> None:
    waylink.json("destinations", "add", "erp/more", "--queue", "team.erp.more")
    for team, place in (("crm", "jobs"), ("erp", "more")):
        facts = ("--destination", place, "--job", f"{team}.do", "--pattern", PATTERN)
        assert waylink.json("routes", "add", f"{team}/same", *facts)["version"] == 1
    assert waylink.json("routes", "change", "erp/same", "--job", "erp.more")["version"] == 2
    assert [version["job"] for version in waylink.json("routes", "show", "crm/same")["versions"]] == ["crm.do"]
    waylink.json("routes", "remove", "erp/same", "--yes")
    assert waylink.json("routes", "show", "crm/same")["in_force"] is True
    waylink.json("routes", "remove", "crm/same", "--yes")
    waylink.json("destinations", "remove", "erp/more", "--yes")


def test_a_route_that_the_file_disables_is_listed_as_such(waylink: Command) -> None:
    [route] = waylink.json("routes", "--team", "erp")
    assert (route["enabled"], route["source"]) == (False, "file")

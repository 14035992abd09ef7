"""Promise 14: an absent file, an empty option or a wrong folder removes nothing, and removals are shown first."""

import io
import json
import os
import subprocess
import sys
from contextlib import chdir, closing
from pathlib import Path
from unittest import mock

import pytest

from app.clock import utc_now
from app.db import key_uses
from app.db.engine import connect
from app.db.key_uses import KeyUse
from app.db.models import DestinationSecret
from app.domain.standard_webhooks import write_secret
from tests.integration.cli.test_cli import Command, finding, one_line_error
from tests.ports import free_port
from tests.waiting import PATIENCE

TEAM = """
[teams.crm.destinations.jobs]
kind = "celery"
queue = "team.crm.jobs"

"""
ROUTE = """
[[routes]]
name = "contacts"
team = "crm"
destination = "jobs"
job = "crm.contacts"
pattern = '{"type": ["connection.created"]}'
"""
ENVIRONMENT = '[environments.default]\nsigning_keys_env = "KEYS"\n'
OTHER = TEAM.replace("crm", "erp")
HOOK = '[teams.crm.destinations.hook]\nkind = "http"\nurl = "https://hooks.example/"\nsecret_env = "HOOK_SECRET"\n'


def yes() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(b"y\n"))


@pytest.fixture
def waylink(tmp_path) -> Command:
    """A team, a destination and a route that waylink.toml defined."""
    command = Command(tmp_path, {"WAYLINK_NANGO_SIGNING_KEYS": "key", "WAYLINK_NANGO_API_KEY": ""})
    (tmp_path / "waylink.toml").write_text(TEAM + ROUTE)
    assert command.inside("migrate").returncode == 0
    return command


def in_force(waylink: Command) -> dict[str, list[str]]:
    """Names in force in the database, whatever the file holds by now: teams, destinations, routes."""
    with closing(connect(waylink.database_url)) as database, database.engine.connect() as connection:
        asked = {
            "teams": "SELECT name FROM teams WHERE retired_at IS NULL",
            "destinations": "SELECT team || '/' || name FROM destinations WHERE retired_at IS NULL",
            "routes": "SELECT team || '/' || name FROM routes WHERE until_set IS NULL",
        }
        return {kind: sorted(connection.exec_driver_sql(sql).scalars()) for kind, sql in asked.items()}


ALL = {"teams": ["crm"], "destinations": ["crm/jobs"], "routes": ["crm/contacts"]}


@pytest.mark.parametrize(
    "content",
    [None, "", "# nothing yet\n", TEAM, "[teams.crm]\n", "[refresh.github]\nenabled = false\n"],
    ids=["absent", "empty", "a comment", "cut off before the routes", "cut off in the team", "of other things"],
)
def test_a_file_that_has_less_or_is_not_there_removes_nothing(waylink: Command, content: str | None) -> None:
    file = waylink.folder / "waylink.toml"
    if content is None:
        file.unlink()
    else:
        file.write_text(content)
    for _ in range(2):
        done = waylink.inside("migrate")
        assert (done.returncode, in_force(waylink)) == (0, ALL)
    assert "routes crm/contacts" in done.stderr
    absent = f"there is no waylink.toml in {waylink.folder}; in force from one: "
    assert (absent in done.stderr) is (content is None)
    assert [route["name"] for route in waylink.json("routes")] == ["contacts"]
    assert waylink.json("routes")[0]["in_file"] is (None if content is None else False)


def test_migrating_in_another_folder_adds_what_stands_there_and_removes_nothing(waylink: Command, tmp_path) -> None:
    other = Command(tmp_path / "other", waylink.variables | {"WAYLINK_DATABASE_URL": waylink.database_url})
    other.folder.mkdir()
    (other.folder / "waylink.toml").write_text(OTHER)
    done = other.inside("migrate")
    assert done.returncode == 0
    assert "not in waylink.toml: teams crm; destinations crm/jobs; routes crm/contacts" in done.stderr
    assert in_force(waylink) == ALL | {"teams": ["crm", "erp"], "destinations": ["crm/jobs", "erp/jobs"]}


def test_what_the_file_no_longer_has_is_marked_and_told_by_status_and_check(waylink: Command, broker_url) -> None:
    waylink.variables["WAYLINK_BROKER_URL"] = broker_url
    whole = finding(json.loads(waylink.inside("check", "--json").stdout), "waylink.toml")
    assert whole["result"] == "ok"
    assert "waylink.toml" not in waylink.inside("status").stdout
    (waylink.folder / "waylink.toml").write_text(OTHER)
    told = "teams crm; destinations crm/jobs; routes crm/contacts"
    found = finding(json.loads(waylink.inside("check", "--json").stdout), "waylink.toml")
    assert (found["result"], told in found["detail"]) == ("note", True)
    shown = json.loads(waylink.inside("status", "--json").stdout)
    [line] = [check for check in shown if check["id"] == "waylink.toml"]
    assert (line["level"], told in line["cause"]) == ("hint", True)
    for noun in ("teams", "destinations", "routes"):
        assert [row["in_file"] for row in waylink.json(noun)] == [False]
        assert "file, no longer in it" in waylink.inside(noun).stdout
    (waylink.folder / "waylink.toml").unlink()
    found = finding(json.loads(waylink.inside("check", "--json").stdout), "waylink.toml")
    absent = f"there is no waylink.toml in {waylink.folder}; in force from one: {told}"
    assert (found["result"], found["detail"]) == ("note", absent)
    [line] = [check for check in json.loads(waylink.inside("status", "--json").stdout) if check["id"] == "waylink.toml"]
    assert (line["level"], line["value"], line["cause"]) == ("hint", "is not there", absent)
    for noun in ("teams", "destinations", "routes"):
        assert "file, not read here" in waylink.inside(noun).stdout


def test_only_applying_removes_after_its_plan_was_agreed_to(waylink: Command) -> None:
    (waylink.folder / "waylink.toml").write_text(TEAM)
    [planned] = waylink.json("routes", "plan")
    assert (planned["change"], planned["kind"], planned["name"]) == ("remove", "route", "crm/contacts")
    assert waylink.inside("routes", "plan", "--check").returncode == 1
    for answer in (b"", b"n\n"):
        with mock.patch("sys.stdin", io.TextIOWrapper(io.BytesIO(answer))):
            asked = waylink.inside("routes", "apply")
        assert (asked.returncode, in_force(waylink)) == (1, ALL)
        assert "contacts" in asked.stdout
        assert "Remove route crm/contacts?" in asked.stderr
    with mock.patch("sys.stdin", yes()):
        assert waylink.inside("routes", "apply").returncode == 0
    assert in_force(waylink) == ALL | {"routes": []}
    (waylink.folder / "waylink.toml").write_text("")
    assert {route["change"] for route in waylink.json("routes", "apply", "--yes")} == {"remove"}
    assert in_force(waylink) == {"teams": [], "destinations": [], "routes": []}


def test_what_is_only_added_and_changed_is_applied_without_a_question(waylink: Command) -> None:
    (waylink.folder / "waylink.toml").write_text(TEAM + OTHER + ROUTE.replace("created", "deleted"))
    assert waylink.inside("routes", "apply").returncode == 0
    assert in_force(waylink)["teams"] == ["crm", "erp"]
    assert waylink.json("routes")[0]["version"] == 2


def test_what_the_file_no_longer_has_can_be_kept_and_is_then_managed_by_commands(waylink: Command) -> None:
    (waylink.folder / "waylink.toml").write_text(OTHER)
    assert "waylink routes apply" in one_line_error(waylink.inside("routes", "disable", "crm/contacts"), 1)
    kept = waylink.json("routes", "apply", "--keep")
    assert [(change["change"], change["name"]) for change in kept if change["kind"] == "route"] == [
        ("release", "crm/contacts")
    ]
    assert waylink.json("routes", "disable", "crm/contacts")["enabled"] is False
    assert in_force(waylink)["routes"] == ["crm/contacts"]
    assert waylink.json("routes", "plan") == []


def test_a_plan_that_changed_before_it_was_agreed_to_is_not_applied(waylink: Command) -> None:
    (waylink.folder / "waylink.toml").write_text(TEAM)

    def meanwhile(*_: object, **__: object) -> bool:
        fields = ("--destination", "jobs", "--job", "crm.j", "--pattern", '{"type": ["x"]}')
        argv = [sys.executable, "-m", "app.cli", "routes", "add", "crm/more", *fields]
        subprocess.run(argv, cwd=waylink.folder, env=waylink.environ(), check=True, capture_output=True)
        (waylink.folder / "waylink.toml").write_text("")
        return True

    (waylink.folder / "waylink.toml").write_text("")
    with mock.patch("click.confirm", meanwhile):
        done = waylink.inside("routes", "apply")
    assert done.returncode == 1
    assert "changed meanwhile" in done.stderr
    assert in_force(waylink) == ALL | {"routes": ["crm/contacts", "crm/more"]}


@pytest.mark.parametrize("command", [("routes", "plan"), ("routes", "apply"), ("routes", "apply", "--yes")])
def test_there_is_nothing_to_apply_where_no_file_is(waylink: Command, tmp_path, command) -> None:
    elsewhere = Command(tmp_path / "elsewhere", waylink.variables | {"WAYLINK_DATABASE_URL": waylink.database_url})
    elsewhere.folder.mkdir()
    line = one_line_error(elsewhere.inside(*command), 2)
    assert str(elsewhere.folder) in line
    assert "WAYLINK_CONFIG" in line
    assert in_force(waylink) == ALL


def _folder(file: Path) -> None:
    file.mkdir()


BROKEN = {
    "a folder": _folder,
    "a link that leads nowhere": lambda file: file.symlink_to("nowhere.toml"),
    "cut off within a value": lambda file: file.write_text(TEAM + '[[routes]]\nname = "cont'),
    "cut off within a route": lambda file: file.write_text(TEAM + '[[routes]]\nname = "contacts"\n'),
    "not text": lambda file: file.write_bytes(b"\xff\xfe\x00"),
}


@pytest.mark.parametrize("breaking", BROKEN.values(), ids=BROKEN.keys())
@pytest.mark.parametrize("command", [("migrate",), ("up",), ("routes", "apply", "--yes")], ids=" ".join)
def test_a_file_that_cannot_be_read_changes_nothing(waylink: Command, breaking, command) -> None:
    file = waylink.folder / "waylink.toml"
    file.unlink()
    breaking(file)
    done = waylink.inside(*command)
    assert (done.returncode, in_force(waylink)) == (2, ALL)
    assert all(line.startswith("error: ") and "waylink.toml" in line for line in done.stderr.splitlines())


@pytest.mark.parametrize("command", [("migrate",), ("routes", "apply", "--yes")], ids=" ".join)
def test_a_variable_that_names_a_missing_file_changes_nothing(waylink: Command, command) -> None:
    waylink.variables["WAYLINK_CONFIG"] = "gone/waylink.toml"
    line = one_line_error(waylink.inside(*command), 2)
    assert "WAYLINK_CONFIG" in line
    assert "gone/waylink.toml" in line
    assert in_force(waylink) == ALL


# Secrets


def secret_rows(waylink: Command) -> list[tuple[object, ...]]:
    with closing(connect(waylink.database_url)) as database, database.read() as session:
        return [(secret.id, secret.sealed, secret.expires_at) for secret in session.query(DestinationSecret)]


@pytest.mark.parametrize("value", [None, "", "  "], ids=["unset", "empty", "blank"])
def test_a_secret_whose_variable_vanished_stays(waylink: Command, value: str | None) -> None:
    (waylink.folder / "waylink.toml").write_text(TEAM + ROUTE + HOOK)
    waylink.variables["HOOK_SECRET"] = write_secret(b"k" * 32)
    assert waylink.inside("migrate").returncode == 0
    before = secret_rows(waylink)
    del waylink.variables["HOOK_SECRET"]
    if value is not None:
        waylink.variables["HOOK_SECRET"] = value
    for command in (("migrate",), ("routes", "apply", "--yes"), ("up",)):
        assert "HOOK_SECRET is not set" in one_line_error(waylink.inside(*command), 2)
    assert secret_rows(waylink) == before


def test_a_key_that_is_gone_is_missed_and_not_made_anew(waylink: Command) -> None:
    """Another key would open nothing that was encrypted before."""
    key = waylink.folder / ".waylink/secret.key"
    assert waylink.json("destinations", "add", "crm/hook", "--url", "https://hooks.example/")["secret"]
    before, kept = secret_rows(waylink), key.read_text()
    key.unlink()
    for command in (
        ("destinations", "rotate-secret", "crm/hook"),
        ("destinations", "add", "crm/other", "--url", "https://hooks.example/"),
        ("secrets",),
        ("secrets", "reseal"),
        ("migrate",),
    ):
        done = waylink.inside(*command)
        assert (done.returncode, key.exists(), secret_rows(waylink)) == (
            2 if command[1:2] != ("add",) else 1,
            False,
            before,
        )
        assert "secret.key is gone" in done.stderr
    key.write_text(kept)
    assert waylink.json("secrets")["unreadable"] == []
    assert waylink.json("destinations", "rotate-secret", "crm/hook")["secret"]


def test_a_key_is_made_where_nothing_needs_an_older_one(waylink: Command) -> None:
    (waylink.folder / ".waylink/secret.key").unlink(missing_ok=True)
    assert waylink.json("destinations", "add", "crm/hook", "--url", "https://hooks.example/")["secret"]


# Keys of Nango


@pytest.mark.parametrize("value", [None, ""], ids=["unset", "empty"])
def test_no_sandbox_takes_the_place_of_a_nango_whose_keys_are_missing(waylink: Command, value: str | None) -> None:
    """It knows none of that Nango's connections, so they would count as gone."""
    with closing(connect(waylink.database_url)) as database, database.write() as session:
        key_uses.add(session, [KeyUse("default", "0badc0de", 1)], now=utc_now())
    del waylink.variables["WAYLINK_NANGO_SIGNING_KEYS"]
    if value is not None:
        waylink.variables["WAYLINK_NANGO_SIGNING_KEYS"] = value
    done = waylink("up", WAYLINK_BROKER_URL="redis://127.0.0.1:1/0", WAYLINK_PORT=str(free_port()))
    assert done.returncode == 2
    assert "error: WAYLINK_NANGO_SIGNING_KEYS: not set, and the database last served a Nango" in done.stderr
    assert not (waylink.folder / ".waylink/sandbox.json").exists()


# Empty arguments


@pytest.mark.parametrize(
    "arguments",
    [
        ("jobs", "cancel", "--team", "crm", "--event", "", "--yes"),
        ("jobs", "retry", "--all", "--event=", "--yes"),
        ("events", "retry", "--failure", "error", "--integration", "  ", "--yes"),
        ("token", "create", "reader", "--scope", "viewer", "--team", ""),
        ("connections", "tags", "remove", "c-1", ""),
        ("users", "erase", "", "--yes"),
        ("routes", "backfill", "", "--since", "7d"),
    ],
    ids=" ".join,
)
def test_an_empty_argument_is_refused_where_it_would_mean_everything(waylink: Command, arguments) -> None:
    assert "is empty" in one_line_error(waylink.inside(*arguments), 2)


def test_an_empty_import_removes_and_changes_none(waylink: Command) -> None:
    waylink.json("users", "add", "u1", "--email", "u1@acme.example", "--name", "One")
    before = waylink.json("users")
    for name, content in (
        ("a.csv", ""),
        ("b.csv", "external_id,email\n"),
        ("c.jsonl", ""),
        ("d.csv", "external_id,email\nu1,\n"),
    ):
        (waylink.folder / name).write_text(content)
        assert waylink.inside("users", "import", name).returncode == (2 if name == "a.csv" else 0)
        assert waylink.json("users") == before
    (waylink.folder / "e.jsonl").write_text('{"external_id": "u1"}\n')
    assert waylink.json("users", "import", "e.jsonl")["unchanged"] == 1


# make run


@pytest.mark.parametrize("link", [False, True], ids=["a file", "a link that leads nowhere"])
def test_make_run_leaves_a_waylink_toml_that_is_there(tmp_path, link: bool) -> None:
    root = Path(__file__).parents[3]
    (tmp_path / "examples").symlink_to(root / "examples")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/waylink").write_text("#!/bin/sh\necho started\n")
    (tmp_path / "bin/waylink").chmod(0o755)
    file = tmp_path / "waylink.toml"
    file.symlink_to("nowhere.toml") if link else file.write_text("mine = 1\n")
    argv = ["make", "-s", "-f", str(root / "Makefile"), "-o", "setup", "run", "BIN=bin"]
    environ = {name: value for name, value in os.environ.items() if name != "WAYLINK_CONFIG" and name[:4] != "MAKE"}
    with chdir(tmp_path):
        done = subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.stdout == "started\n", done.stderr
    assert file.is_symlink() if link else file.read_text() == "mine = 1\n"
    assert not (tmp_path / "nowhere.toml").exists()

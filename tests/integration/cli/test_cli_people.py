"""`waylink users` and `waylink orgs` as a person and a script use them."""

import json
import subprocess
import sys

import pytest

from app.db.engine import connect
from app.domain.linking import DirectoryPolicy
from tests.integration.cli.test_cli import SECRET, Command, one_line_error
from tests.integration.world import Clock, World, auth, dump


@pytest.fixture
def waylink(tmp_path):
    command = Command(tmp_path, {"WAYLINK_NANGO_SIGNING_KEYS": SECRET, "WAYLINK_DIRECTORY_POLICY": "require"})
    assert command.inside("migrate").returncode == 0
    return command


@pytest.fixture
def world(waylink):
    """The same database as the workers see it."""
    database = connect(waylink.database_url)
    yield World(database, Clock(), directory=DirectoryPolicy.REQUIRE)
    database.close()


def refusal(done, code):
    """The one line that says why, of a command that ran in this process."""
    assert done.returncode == code, done.stderr
    (line,) = done.stderr.splitlines()
    return line


def test_a_user_is_added_shown_changed_listed_and_removed(waylink):
    waylink.json("orgs", "add", "org_1", "--name", "Acme")
    added = waylink.json("users", "add", "u1", "--email", "u1@acme.example", "--organization", "org_1")
    assert (added["result"], added["external_id"], added["organization"]) == ("added", "u1", "org_1")
    changed = waylink.json("users", "change", "u1", "--name", "One", "--clear", "email")
    assert (changed["result"], changed["display_name"], changed["email"]) == ("changed", "One", None)
    assert [user["id"] for user in waylink.json("users", "list", "--organization", "org_1")] == [added["id"]]
    assert "u1" in waylink.inside("users").stdout
    assert waylink.json("users", "show", added["id"])["external_id"] == "u1"
    assert waylink.json("orgs", "list")[0]["users"] == 1
    assert waylink.json("orgs", "show", "org_1")["name"] == "Acme"
    assert waylink.json("orgs", "change", "org_1", "--name", "Acme Ltd")["name"] == "Acme Ltd"
    assert "owns 0 connections and has 1 user:" in refusal(waylink.inside("orgs", "remove", "org_1"), 1)
    assert waylink.json("users", "remove", "u1")["history_kept"] is False
    assert waylink.json("orgs", "remove", "org_1")["links_closed"] == 0
    assert waylink.json("users", "list") == []


def test_an_add_links_waiting_connections(waylink, world):
    world.handle(auth(tags={"end_user_id": "u1"}))
    assert world.owner("c-1") is None
    assert waylink.json("users", "add", "u1")["linked"] == 1
    assert world.owner("c-1") == ("u1", None)
    assert "owns 1 connection:" in refusal(waylink.inside("users", "remove", "u1"), 1)
    assert waylink.json("users", "remove", "u1", "--force")["links_closed"] == 1


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("users", "show", "nobody"), 1, "no user 'nobody'"),
        (("users", "add", ""), 2, "argument 3 is empty"),
        (("users", "add", "u1", "--email", "x"), 2, "email: is not an address"),
        (("users", "add", "u1", "--organization", "o"), 2, "add it first"),
        (("users", "remove", "usr_" + "0" * 32), 1, "no user 'usr_0"),
    ],
)
def test_what_cannot_be_done_is_one_line(waylink, arguments, code, says):
    assert says in refusal(waylink.inside(*arguments), code)


def test_a_duplicate_names_the_existing_person(waylink):
    first = waylink.json("users", "add", "u1")
    assert first["id"] in refusal(waylink.inside("users", "add", "u1"), 1)


@pytest.mark.parametrize(
    "arguments", [("users", "change", "u1"), ("users", "change", "u1", "--email", "a@b.co", "--clear", "email")]
)
def test_a_change_of_nothing_or_of_both_is_wrong_use(waylink, arguments):
    assert waylink.inside(*arguments).returncode == 2


def test_an_import_shows_its_result_and_names_refused_lines(waylink):
    (waylink.folder / "people.csv").write_text("external_id,email\nu1,u1@acme.example\nu2,\x1b[2Jnobody\n")
    done = waylink.inside("users", "import", "people.csv", "--json")
    assert done.returncode == 1
    summary = json.loads(done.stdout)
    assert {name: summary[name] for name in ("written", "added", "refused")} == {
        "written": True,
        "added": 1,
        "refused": 1,
    }
    shown = waylink.inside("users", "import", "people.csv")
    assert (shown.returncode, "line 3: email: is not an address" in shown.stderr) == (1, True)
    assert "unchanged" in shown.stdout


def test_strict_writes_all_or_nothing(waylink):
    (waylink.folder / "people.jsonl").write_text('{"external_id":"u1"}\n{"external_id":""}\n')
    done = waylink.inside("users", "import", "people.jsonl", "--strict", "--json")
    assert (done.returncode, json.loads(done.stdout)["written"]) == (1, False)
    assert waylink.json("users", "list") == []
    (waylink.folder / "people.jsonl").write_text('{"external_id":"u1"}\n')
    assert waylink.json("users", "import", "people.jsonl", "--strict")["written"] is True
    assert len(waylink.json("users", "list")) == 1


def test_a_dry_run_writes_nothing(waylink):
    (waylink.folder / "orgs.ndjson").write_text('{"external_id":"o1","name":"One"}\n')
    summary = waylink.json("orgs", "import", "orgs.ndjson", "--dry-run")
    assert (summary["written"], summary["added"]) == (False, 1)
    assert waylink.json("orgs", "list") == []


def test_bytes_that_are_not_utf8_refuse_their_line_only(waylink):
    (waylink.folder / "people.csv").write_bytes(b"\xef\xbb\xbfexternal_id\nu1\nu\xff\n")
    done = waylink.inside("users", "import", "people.csv")
    assert (done.returncode, done.stderr) == (1, "line 3: external_id: holds a NUL, or bytes that are not UTF-8\n")


@pytest.mark.parametrize(
    ("name", "content", "arguments", "says"),
    [
        ("people.csv", "id\nu1\n", (), "is not a field"),
        ("people.csv", "", (), "the file is empty"),
        ("people.txt", "external_id\n", (), "--format"),
        ("people.csv", "external_id\n", ("--format", "xml"), "xml"),
    ],
)
def test_a_file_that_cannot_be_read_is_wrong_use(waylink, name, content, arguments, says):
    (waylink.folder / name).write_text(content)
    done = waylink.inside("users", "import", name, *arguments)
    assert (done.returncode, says in done.stderr) == (2, True), done.stderr
    assert waylink.inside("users", "import", "missing.csv").returncode == 2


def test_a_list_by_a_pipe_without_its_form_is_wrong_use(waylink):
    done = waylink("users", "import", "-")
    assert (done.returncode, "--format" in done.stderr) == (2, True)
    assert waylink("users", "import", "-", "--strict", "--format", "csv").returncode == 2
    assert one_line_error(waylink("users", "show", "u1"), 1)


def test_a_list_comes_by_a_pipe_where_its_form_is_said(waylink):
    argv = [sys.executable, "-m", "app.cli", "users", "import", "-", "--format", "csv", "--json"]
    text = b"external_id\nu1\n"
    done = subprocess.run(argv, cwd=waylink.folder, env=waylink.environ(), input=text, capture_output=True, check=True)
    assert json.loads(done.stdout)["added"] == 1


def test_an_erasure_says_first_what_it_will_do_asks_and_then_says_what_stays(waylink, world):
    waylink.json("users", "add", "canary-1", "--email", "canary@acme.example")
    world.handle(auth(tags={"end_user_id": "canary-1", "end_user_email": "canary@acme.example"}))
    preview = waylink.json("users", "erase", "canary-1", "--dry-run")
    assert (preview["erased"], preview["rows"]) == (False, {"connections": 1, "events": 2})
    assert "owns 1 connection:" in refusal(waylink.inside("users", "erase", "canary-1", "--yes"), 1)
    argv = [sys.executable, "-m", "app.cli", "users", "erase", "canary-1", "--force"]
    asked = subprocess.run(
        argv, cwd=waylink.folder, env=waylink.environ(), input="n\n", capture_output=True, text=True, check=False
    )
    assert (asked.returncode, "from 1 connection, 2 events?" in asked.stderr) == (1, True), asked.stderr
    assert world.owner("c-1") == ("canary-1", None)
    done = waylink.json("users", "erase", "canary-1", "--yes", "--force")
    assert (done["erased"], done["links_closed"], done["rows"]["users"]) == (True, 1, 1)
    assert [what for what in done["stays"] if "live on in Nango" in what]
    assert "canary" not in dump(world.database)
    assert refusal(waylink.inside("users", "erase", "canary-1", "--yes"), 1) == "error: no user 'canary-1'"

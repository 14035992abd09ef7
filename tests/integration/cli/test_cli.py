"""The `waylink` command as a real process: exit codes, one line per error, JSON for programs."""

import io
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import chdir, closing, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from unittest import mock

import httpx
import pytest

from app.cli.main import main
from app.db.engine import connect
from app.db.models import Connection, Event, Job
from app.domain.signature import HEADER, sign
from app.ids import CONNECTION, EVENT, JOB, new_id, show
from tests.integration.sandbox.sandbox_server import API_KEY, serve
from tests.ports import free_port
from tests.servers import PostgresServer, ValkeyServer
from tests.waiting import PATIENCE, until

NOW = datetime(2026, 8, 21, 12, 0, tzinfo=UTC)
HOSTILE = "\x1b[2J\x9b\u202e\nforged"
SECRET = "hunter2"


@dataclass
class Command:
    """Runs `waylink` in a folder of its own with these variables alone."""

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)

    def environ(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("WAYLINK_")}
        root = str(Path(__file__).parents[3])
        return kept | {"PYTHONPATH": root, "PYTHONWARNINGS": "error"} | self.variables

    def __call__(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "app.cli", *arguments]
        environ = self.environ() | variables
        done = subprocess.run(
            argv, cwd=self.folder, env=environ, capture_output=True, text=True, timeout=2 * PATIENCE, check=False
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def inside(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The same by the command's entry point in this process, for what is asked often."""
        out, err = io.StringIO(), io.StringIO()
        with (
            mock.patch.dict(os.environ, self.environ(), clear=True),
            mock.patch.object(sys, "argv", ["waylink", *arguments]),
            chdir(self.folder),
            redirect_stdout(out),
            redirect_stderr(err),
            pytest.raises(SystemExit) as ended,
        ):
            main()
        return subprocess.CompletedProcess(arguments, ended.value.code or 0, out.getvalue(), err.getvalue())

    def json(self, *arguments: str):
        done = self.inside(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    @property
    def database_url(self) -> str:
        return self.variables.get("WAYLINK_DATABASE_URL") or f"sqlite:///{self.folder}/.waylink/waylink.db"


@pytest.fixture
def waylink(tmp_path) -> Command:
    return Command(tmp_path, {"WAYLINK_NANGO_SIGNING_KEYS": SECRET})


@pytest.fixture(scope="module")
def migrated(tmp_path_factory) -> Command:
    """A database with one of each, its texts hostile."""
    command = Command(tmp_path_factory.mktemp("cli"), {"WAYLINK_NANGO_SIGNING_KEYS": SECRET})
    assert command("migrate").returncode == 0
    with closing(connect(command.database_url)) as database, database.write() as session:
        event = Event(
            id=new_id(), environment="default", origin="webhook", state="processed", type="connection.created",
            integration="github", connection_id=HOSTILE, tags={HOSTILE: HOSTILE}, received_at=NOW, last_seen_at=NOW,
            duplicates=2, body=b"{}", next_at=NOW, attempts=1, looks=0,
        )  # fmt: skip
        session.add(event)
        session.flush()
    return command


def one_line_error(done: subprocess.CompletedProcess[str], code: int) -> str:
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def test_help_and_version_are_answers(waylink: Command) -> None:
    shown = waylink("--help")
    assert shown.returncode == 0
    names = "up web worker beat migrate check sandbox send events connections jobs rejections status token audit"
    for name in names.split():
        assert f"\n  {name} " in shown.stdout
    assert waylink("--version").returncode == 0


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["worker"], ["worker", "other"], ["events", "--limit", "0"], ["events", "--state", "x"], ["send"]],
    ids=" ".join,
)
def test_wrong_use_is_2_with_a_hint(waylink: Command, arguments: list[str]) -> None:
    done = waylink.inside(*arguments)
    assert done.returncode == 2
    assert "Error: " in done.stderr


def test_bad_settings_are_2_with_a_line_each_and_no_secret(waylink: Command) -> None:
    for command in (["web"], ["worker", "events"], ["up"]):
        done = waylink(*command, WAYLINK_PORT="x", WAYLINK_BROKER_URL=f"amqp://u:{SECRET}@h")
        assert done.returncode == 2, command
        lines = done.stderr.splitlines()
        assert [line.split(":")[1].strip() for line in lines] == ["WAYLINK_PORT", "WAYLINK_BROKER_URL"], command
        assert SECRET not in done.stderr


@pytest.mark.parametrize("arguments", [["events"], ["connections"], ["jobs"], ["rejections"], ["web"]], ids=" ".join)
def test_an_unmigrated_database_is_refused_with_the_command_that_helps(waylink: Command, arguments: list[str]) -> None:
    assert "`waylink migrate`" in one_line_error(waylink(*arguments), 2)


def test_web_without_an_environment_is_refused(tmp_path) -> None:
    assert "WAYLINK_NANGO_SIGNING_KEYS" in one_line_error(Command(tmp_path)("web"), 2)


def test_a_database_that_does_not_answer_is_1_in_one_line_without_its_password(waylink: Command) -> None:
    port = free_port()
    url = f"postgresql://waylink:{SECRET}@127.0.0.1:{port}/waylink"
    assert SECRET not in one_line_error(waylink("events", WAYLINK_DATABASE_URL=url), 1)


def test_a_file_that_is_no_database_is_1_in_one_line(waylink: Command) -> None:
    (waylink.folder / ".waylink").mkdir()
    (waylink.folder / ".waylink/waylink.db").write_bytes(b"not a database" * 1000)
    assert "not a database" in one_line_error(waylink("events"), 1)


def test_a_data_folder_that_is_a_file_is_1_in_one_line(waylink: Command) -> None:
    (waylink.folder / "file").write_text("")
    one_line_error(waylink("migrate", WAYLINK_DATA_DIR="file"), 1)


def test_migrating_twice_changes_nothing_more(waylink: Command) -> None:
    first, second = waylink("migrate"), waylink("migrate")
    assert first.returncode == second.returncode == 0
    assert first.stdout == second.stdout


# Listings

SHAPES = {
    "events": "id type origin environment integration connection_id state duplicates tags received_at",
    "connections": "environment integration connection_id provider auth_mode status tags user organization linked_by "
    "unlinked_reason expires_at refresh_at",
    "jobs": "id name team destination state attempts event_id route",
}


def test_events_as_json_carry_what_programs_were_promised(migrated: Command) -> None:
    (event,) = migrated.json("events")
    assert event.keys() >= set(SHAPES["events"].split())
    assert event["tags"] == {HOSTILE: HOSTILE}
    assert (event["duplicates"], event["received_at"]) == (2, NOW.isoformat())
    shown = migrated.json("events", "show", event["id"])
    assert shown.items() >= event.items()
    assert shown["body"] == "{}"


@pytest.mark.parametrize("name", ["connections", "jobs"])
def test_an_empty_listing_is_an_empty_array(migrated: Command, name: str) -> None:
    assert migrated.json(name) == []


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (["--state", "processed"], 1),
        (["--state", "failed"], 0),
        (["--integration", "github"], 1),
        (["--environment", "x"], 0),
        (["--origin", "webhook"], 1),
        (["--type", "connection.created"], 1),
        (["--limit", "1"], 1),
        (["--query", "type:connection.created integration:github"], 1),
        (["--query", "state:processed", "--state", "failed"], 0),
        (["--query", "since:1h", "--since", "1m"], 1),
    ],
)
def test_filters_match_exactly(migrated: Command, filters: list[str], found: int) -> None:
    assert len(migrated.json("events", *filters)) == found


def test_a_search_that_cannot_be_read_is_told_with_its_place(migrated: Command) -> None:
    assert "--query: character 1: there is no such field; did you mean `type`?" in one_line_error(
        migrated.inside("events", "--query", "tpye:x"), 2
    )


@pytest.mark.parametrize("arguments", [["events"], ["events", "--json"]], ids=" ".join)
def test_a_tag_cannot_steer_the_terminal_or_forge_a_row(migrated: Command, arguments: list[str]) -> None:
    done = migrated(*arguments)
    assert done.returncode == 0
    assert not {"\x1b", "\x9b", "\u202e"} & set(done.stdout)
    assert not any(line.startswith("forged") for line in done.stdout.splitlines())


@pytest.mark.parametrize(("kind", "prefix"), [("events", EVENT), ("connections", CONNECTION), ("jobs", JOB)])
def test_what_is_not_there_is_said_in_one_line(migrated: Command, kind: str, prefix: str) -> None:
    assert "no " in one_line_error(migrated.inside(kind, "show", show(prefix, new_id())), 1)


@pytest.mark.parametrize(
    "arguments", [["events", "show", "\x1b[2J"], ["jobs", "--event", "x"], ["events", "--before", "1"]]
)
def test_a_bad_id_is_2_and_not_echoed_raw(migrated: Command, arguments: list[str]) -> None:
    line = one_line_error(migrated.inside(*arguments), 2)
    assert "32 hex digits" in line
    assert "\x1b" not in line


def test_a_reader_that_leaves_early_is_no_fault(migrated: Command) -> None:
    argv = [sys.executable, "-m", "app.cli", "events", "--json"]
    process = subprocess.Popen(
        argv, cwd=migrated.folder, env=migrated.environ(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.close()
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()
    process.wait(PATIENCE)


def test_the_models_have_what_the_listings_promise() -> None:
    """`connections` and `jobs` are shown filled by the pipeline's own tests; here only that nothing is left out."""
    assert {"provider", "auth_mode", "unlinked_reason", "expires_at"} <= set(Connection.__table__.columns.keys())
    assert {"name", "team", "destination", "attempts", "route"} <= set(Job.__table__.columns.keys())


# check


def finding(rows: list[dict[str, str]], what: str) -> dict[str, str]:
    return next(row for row in rows if row["what"] == what)


def test_check_is_1_when_something_is_bad_and_says_what(waylink: Command) -> None:
    done = waylink("check", "--json")
    assert done.returncode == 1
    rows = json.loads(done.stdout)
    assert all(row.keys() == {"what", "result", "detail"} for row in rows)
    assert finding(rows, "database")["result"] == "bad"
    assert finding(rows, "internal broker")["result"] == "bad"


def test_check_is_0_when_all_is_well_and_notes_what_to_know(migrated: Command, broker_url: str, valkey) -> None:
    done = migrated(
        "check",
        "--json",
        WAYLINK_BROKER_URL=broker_url,
        WAYLINK_DATABSE_URL="x",
        WAYLINK_SEND_KEY=SECRET,
        WAYLINK_LOG_LEVEL="info",
    )
    rows = json.loads(done.stdout)
    assert done.returncode == 0, rows
    assert finding(rows, "WAYLINK_DATABSE_URL")["result"] == "note"
    assert "no API key" in finding(rows, "environment default")["detail"]
    assert {row["what"] for row in rows if row["what"].startswith("WAYLINK_")} == {"WAYLINK_DATABSE_URL"}
    assert SECRET not in done.stdout


def test_check_integrity_is_1_when_a_row_names_one_that_is_not_there(waylink: Command) -> None:
    one_line_error(waylink("check", "--integrity"), 2)
    assert waylink.inside("migrate").returncode == 0
    whole = waylink.json("check", "--integrity")
    assert {"reference": "links.user_id", "target": "users", "rows": 0, "broken": 0, "ids": []} in whole
    with closing(sqlite3.connect(waylink.folder / ".waylink/waylink.db")) as database, database:
        row = ("0" * 31 + "1", "1" * 32, "x", "y", NOW.isoformat(" "))
        columns = "id, organization_id, external_id, display_name, created_at"
        database.execute(f"INSERT INTO users ({columns}) VALUES (?, ?, ?, ?, ?)", row)
    done = waylink.inside("check", "--integrity", "--json")
    assert (done.returncode, "docs/operations.md" in done.stderr) == (1, True)
    [broken] = [row for row in json.loads(done.stdout) if row["broken"]]
    ids = [f"usr_{row[0]}"]
    assert broken == {
        "reference": "users.organization_id",
        "target": "organizations",
        "rows": 1,
        "broken": 1,
        "ids": ids,
    }
    assert waylink.inside("check", "--integrity").returncode == 1


# send


class Endpoint:
    """Takes one webhook after the other and gives the configured answers."""

    def __init__(self) -> None:
        self.status, self.answer, self.bodies, self.headers = 202, b"{}", [], []
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                endpoint.bodies.append(self.rfile.read(int(self.headers["content-length"])))
                endpoint.headers.append(self.headers)
                self.send_response(endpoint.status)
                self.send_header("content-length", str(len(endpoint.answer)))
                self.end_headers()
                self.wfile.write(endpoint.answer)

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/webhooks/nango"
        self.thread = Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def endpoint():
    with closing(Endpoint()) as endpoint:
        yield endpoint


def test_send_posts_a_file_byte_for_byte_with_the_newest_key(waylink: Command, endpoint: Endpoint) -> None:
    body = b'{ "b":1,\n "a":"\xff" }\x00'
    (waylink.folder / "body").write_bytes(body)
    done = waylink("send", "body", "--url", endpoint.url, WAYLINK_NANGO_SIGNING_KEYS="new,old")
    assert (done.returncode, done.stdout) == (0, "202 {}\n")
    assert endpoint.bodies == [body]
    assert endpoint.headers[0][HEADER] == sign(body, "new")
    assert endpoint.headers[0]["content-type"] == "application/json"


def test_send_signs_with_a_given_key(waylink: Command, endpoint: Endpoint) -> None:
    waylink("send", "unhandled", "--url", endpoint.url, "--key", "other")
    waylink("send", "unhandled", "--url", endpoint.url, WAYLINK_SEND_KEY="third")
    signatures = [headers[HEADER] for headers in endpoint.headers]
    assert signatures == [sign(body, key) for body, key in zip(endpoint.bodies, ("other", "third"), strict=True)]


def test_a_sample_has_a_fresh_connection_and_the_tags_asked_for(waylink: Command, endpoint: Endpoint) -> None:
    arguments = ("send", "auth_creation_success_tags", "--url", endpoint.url, "--tag", "Plan=pro=1", "--tag", "x=")
    assert waylink(*arguments).returncode == 0
    assert waylink(*arguments).returncode == 0
    first, second = map(json.loads, endpoint.bodies)
    assert first["connectionId"] != second["connectionId"]
    assert (first["tags"]["plan"], first["tags"]["x"]) == ("pro=1", "")


def test_send_is_1_when_the_answer_is_not_202_and_shows_it_harmless(waylink: Command, endpoint: Endpoint) -> None:
    endpoint.status, endpoint.answer = 401, b"no \x1b[2J"
    done = waylink("send", "unhandled", "--url", endpoint.url)
    assert done.returncode == 1
    assert done.stdout == "401 no \\x1b[2J\n"


def test_send_is_1_without_an_answer(waylink: Command) -> None:
    port = free_port()
    assert "does not answer" in one_line_error(waylink("send", "unhandled", WAYLINK_PORT=str(port)), 1)


@pytest.mark.parametrize(
    ("content", "arguments", "expected"),
    [
        (None, ["nowhere.json"], "neither a file nor a sample"),
        (b"{}", ["body", "--tag", "novalue"], "expected key=value"),
        (b"{}", ["body", "--tag", "=x"], "expected key=value"),
        (b"[]", ["body", "--tag", "a=b"], "not a JSON object"),
        (b"\xff", ["body", "--tag", "a=b"], "not JSON"),
        (b"[" * 100_000, ["body", "--tag", "a=b"], "not JSON"),
        (b'{"tags":["x"]}', ["body", "--tag", "a=b"], "`tags` is not an object"),
        (b"{}", ["body", "--environment", "prod"], "no signing key for the environment 'prod'"),
    ],
)
def test_send_refuses_what_it_cannot_send(waylink: Command, content, arguments: list[str], expected: str) -> None:
    if content is not None:
        (waylink.folder / "body").write_bytes(content)
    assert expected in one_line_error(waylink.inside("send", *arguments), 2)


def test_a_sandbox_that_is_away_is_a_note_and_the_webhook_goes_out(tmp_path, endpoint: Endpoint) -> None:
    port = free_port()
    waylink = Command(tmp_path)
    (tmp_path / ".waylink").mkdir()
    known = {"base_url": f"http://127.0.0.1:{port}", "api_key": "a", "signing_key": "k"}
    (tmp_path / ".waylink/sandbox.json").write_text(json.dumps(known))
    (tmp_path / "body").write_bytes(rb'{"type":"auth","success":true,"n":NaN,"tags":{"a":"\ud800"}}')
    done = waylink("send", "body", "--url", endpoint.url)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("note: not registered at the sandbox")
    assert len(endpoint.bodies) == 1


def test_of_a_sync_that_is_sent_the_sandbox_gets_the_connection_with_its_tags(tmp_path, endpoint: Endpoint) -> None:
    with serve() as sandbox:
        waylink = Command(tmp_path)
        (tmp_path / ".waylink").mkdir()
        known = {"base_url": str(sandbox.base_url), "api_key": API_KEY, "signing_key": "k"}
        (tmp_path / ".waylink/sandbox.json").write_text(json.dumps(known))
        done = waylink("send", "sync_success", "--tag", "plan=pro", "--url", endpoint.url)
        assert (done.returncode, done.stderr) == (0, "")
        [connection] = sandbox.get("/connections").json()["connections"]
        [body] = endpoint.bodies
        assert connection["connection_id"] == json.loads(body)["connectionId"]
        assert connection["tags"] == {"plan": "pro"}


# web, as a process


@pytest.fixture
def running_web(waylink: Command, valkey: ValkeyServer, postgres_url: str):
    """Starts `waylink web`; gives its URL, and its log once it has ended."""
    port = free_port()
    valkey.start()
    waylink.variables |= {
        "WAYLINK_DATABASE_URL": postgres_url,
        "WAYLINK_BROKER_URL": valkey.url(0),
        "WAYLINK_NANGO_API_KEY": f"{SECRET}-api",
        "WAYLINK_NANGO_SIGNING_KEYS": f"{SECRET}-signing",
        "WAYLINK_PORT": str(port),
        "WAYLINK_LOG_LEVEL": "debug",
    }
    assert waylink("migrate").returncode == 0
    argv = [sys.executable, "-m", "app.cli", "web"]
    with (waylink.folder / "log").open("wb") as log:
        process = subprocess.Popen(argv, cwd=waylink.folder, env=waylink.environ(), stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"

    def end() -> str:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)
        return (waylink.folder / "log").read_text()

    try:
        until("it answers or has ended", lambda: process.poll() is not None or _answers(url))
        assert process.poll() is None, (waylink.folder / "log").read_text()
        yield url, end
    finally:
        process.kill()
        process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", trust_env=False, timeout=PATIENCE).status_code == 200
    except httpx.TransportError:
        return False


def test_the_log_of_a_running_web_process_holds_no_secret(
    running_web: tuple[str, Callable[[], str]], waylink: Command, postgres: PostgresServer, valkey: ValkeyServer
) -> None:
    url, end = running_web
    assert waylink("send", "auth_creation_success_tags").returncode == 0
    assert waylink("send", "unhandled", "--key", "wrong").returncode == 1
    postgres.stop()
    try:
        assert httpx.get(f"{url}/readyz", trust_env=False, timeout=PATIENCE).status_code == 503
    finally:
        postgres.start()
    assert waylink("send", "unhandled").returncode == 0
    log = end()
    assert "webhook_refused" in log, "it does log"
    assert not [secret for secret in (SECRET, postgres.password, valkey.password) if secret in log]


def test_a_port_in_use_is_refused_without_a_traceback(waylink: Command) -> None:
    assert waylink("migrate").returncode == 0
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = waylink("web", WAYLINK_PORT=str(taken.getsockname()[1]), WAYLINK_LOG_FORMAT="json")
    assert "WAYLINK_PORT" in one_line_error(done, 2)


# the application's own database

DIRECTORY = """[directory.sql]
url_env = "APP_URL"
user_query = "SELECT id AS external_id, {extra} FROM people WHERE id = :end_user_id"
"""


@pytest.mark.parametrize(
    ("extra", "result", "says"),
    [
        ("mail AS email", "ok", "runs, read-only"),
        ("mail", "note", "not read: mail"),
        ("mail AS external_id2, id AS external", "note", "external_id2, external"),
        ("nowhere", "bad", "no such column: nowhere"),
    ],
)
def test_check_runs_each_query_with_nulls_and_says_what_is_wrong(waylink, extra, result, says) -> None:
    with closing(sqlite3.connect(waylink.folder / "app.db")) as application:
        application.execute("CREATE TABLE people (id TEXT, mail TEXT)")
    (waylink.folder / "waylink.toml").write_text(DIRECTORY.format(extra=extra))
    waylink.variables |= {
        "WAYLINK_DIRECTORY_POLICY": "sql",
        "APP_URL": f"sqlite:///{waylink.folder}/app.db",
    }
    rows = json.loads(waylink.inside("check", "--json").stdout)
    found = finding(rows, "directory.sql user_query")
    assert (found["result"], says in found["detail"]) == (result, True), found


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.invalid"])
def test_check_names_an_address_that_is_not_this_machines(waylink, host) -> None:
    waylink.variables["WAYLINK_HOST"] = host
    done = waylink.inside("check", "--json")
    found = finding(json.loads(done.stdout), "WAYLINK_HOST")
    assert (done.returncode, found["result"]) == (1, "bad")
    assert found["detail"].startswith(f"{host} is not an address of this machine")


def test_check_says_when_the_applications_database_is_away_and_not_with_its_password(waylink) -> None:
    (waylink.folder / "waylink.toml").write_text(DIRECTORY.format(extra="1 AS email"))
    url = f"postgresql://reader:{SECRET}@127.0.0.1:{free_port()}/app"
    waylink.variables |= {"WAYLINK_DIRECTORY_POLICY": "sql", "APP_URL": url}
    done = waylink.inside("check", "--json")
    assert finding(json.loads(done.stdout), "directory.sql user_query")["result"] == "bad"
    assert SECRET not in done.stdout + done.stderr

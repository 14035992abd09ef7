"""docs/api.md, followed from the top to the bottom: every line that it shows is carried out, and answered as it says"""

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from app.errors import InvalidTags
from app.ids import new_id
from app.nango import NangoClient
from tests.acceptance.harness import REPOSITORY, Sandbox, Waylink, creation, installation
from tests.pages import blocks, commands, curl, waylink_calls
from tests.waiting import PATIENCE, until

PAGE = REPOSITORY / "docs" / "api.md"
OPERATIONS = REPOSITORY / "docs" / "operations.md"
SHOWN = blocks(PAGE)
FILES = {
    "organizations.jsonl": '{"external_id": "org_88", "name": "Globex"}\n',
    "people.jsonl": '{"external_id": "usr_2001", "email": "omar@globex.example", "organization": "org_88"}\n',
}
# Waylink's own refreshes and comparisons with Nango would mix with the calls of the page: those of the integration that
# it is about are planned for half a day later.
LATER = datetime.now(UTC) + timedelta(hours=12)
CONFIG = f"""
[refresh."*"]
enabled = false
[refresh.oauth2]
enabled = true
windows = ["{LATER:%H}:00-{LATER:%H}:59"]
"""
# A variable of the page is the id that this answer has.
ANSWERS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "ORGANIZATION_ID": ("POST $API/organizations", lambda answer: answer["id"]),
    "USER_ID": ("POST $API/users", lambda answer: answer["id"]),
    "CON": ("GET $API/connections", lambda answer: answer["data"][0]["id"]),
    "REFRESH": ("GET $API/refreshes", lambda answer: answer["data"][0]["id"]),
    "SECRET_ID": (
        "GET $API/destinations/crm/hook/secrets",
        lambda answer: min(secret["id"] for secret in answer["data"]),
    ),
    "LINK": ("GET $API/teams/crm/links", lambda answer: answer["data"][0]["id"]),
    "EVENT": ("GET $API/events", lambda answer: answer["data"][0]["id"]),
    "RUN": ("GET $API/bulk-runs", lambda answer: answer["data"][0]["id"]),
    "VIEW": ("POST $API/views", lambda answer: answer["id"]),
    "RECONCILIATION": ("POST $API/reconciliations", lambda answer: answer["id"]),
}


class Reader:
    """A reader of the page: what they have typed, and what they were answered."""

    def __init__(self, waylink: Waylink, sandbox: Sandbox) -> None:
        self.waylink, self.sandbox = waylink, sandbox
        self.variables: dict[str, str] = {}
        self.tokens: dict[str, str] = {}
        self.answers: dict[str, Any] = {}
        for name, content in FILES.items():
            (waylink.folder / name).write_text(content)

    def follow(self, command: str) -> None:
        """Carry out one command of the page."""
        if command.startswith("curl "):
            self._call(command)
        elif command.startswith("export "):
            for name, value in (word.split("=", 1) for word in command.split()[1:]):
                self.variables[name] = value.replace("127.0.0.1:8080", f"127.0.0.1:{self.waylink.port}")
            self.variables |= {"TOKEN": self.tokens["deploy"], "CREDENTIALS_TOKEN": self.tokens["vault"]}
        else:
            [words] = waylink_calls(command)
            done = self.waylink.run(*words)
            assert done.returncode == 0, (command, done.stderr)
            if words[:2] == ["token", "create"]:
                self.tokens[words[2]] = re.search(r"\bwl_\S+", done.stdout)[0]

    def json(self, path: str) -> Any:
        """The JSON answer to a GET that is not on the page."""
        answer = self._send("GET", f"$API{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def connect(self) -> str:
        """As an end user with the connect link of the page; the connection, once it has its owner."""
        token = self.answers["POST $API/connect-sessions"]["token"]
        made = self.sandbox.call("POST", f"/sandbox/oauth/oauth2?connect_session_token={token}", json={})

        def linked() -> list[str]:
            found = self.json(f"/connections?connection_id={made['connectionId']}&user=usr_1042&status=active")
            return [connection["id"] for connection in found["data"]]

        [connection] = until("the connection has its owner", linked, every=0.1)
        return connection

    def job(self) -> dict[str, Any]:
        """The newest job of the page's route, once it is delivered or parked."""

        def delivered_or_parked() -> list[dict[str, Any]]:
            newest = self.json("/jobs?route=crm/import-contacts&limit=1")["data"]
            return [job for job in newest if job["state"] == "completed" or job["blocked_by"]]

        [job] = until("a job that is delivered or parked", delivered_or_parked, every=0.1)
        return job

    def new_job(self) -> dict[str, Any]:
        """That of another connection."""
        before = {job["id"] for job in self.json("/jobs?route=crm/import-contacts&limit=500")["data"]}
        self.connect()
        until(
            "another job", lambda: self.json("/jobs?route=crm/import-contacts&limit=1")["data"][0]["id"] not in before
        )
        return self.job()

    def _call(self, command: str) -> None:
        call = curl(command)
        name = f"{call.method} {call.url.partition('?')[0]}"
        if (prepare := STATES.get(name)) is not None:
            prepare(self)
        content = self._filled(call.data).encode() if call.data is not None else None
        if call.file is not None:
            content = (self.waylink.folder / call.file).read_bytes()
        answer = self._send(call.method, call.url, headers=call.headers, content=content)
        assert answer.is_success, (command, answer.status_code, answer.text)
        self.answers[name] = answer.json() if answer.content else None
        for variable, (source, found) in ANSWERS.items():
            if source == name and self.answers[name].get("data") != []:
                self.variables[variable] = found(self.answers[name])

    def _send(self, method: str, url: str, **options: Any) -> httpx.Response:
        headers = {"authorization": "Bearer $TOKEN"} | options.pop("headers", {})
        filled = {name: self._filled(value) for name, value in headers.items()}
        return self.waylink.http.request(method, self._filled(url), headers=filled, **options)

    def _filled(self, text: str) -> str:
        return re.sub(r"\$([A-Z_]+)", lambda name: self.variables[name[1]], text)


def _a_connection(reader: Reader) -> None:
    if "CON" not in reader.variables:
        reader.connect()


def _a_plan(reader: Reader) -> None:
    [plan] = reader.json("/refreshes?state=open&integration=oauth2&limit=1")["data"]
    reader.variables["PLAN"] = plan["id"]


def _a_portal_that_is_open(reader: Reader) -> None:
    made = reader.waylink.http.post(
        "/api/v1/teams/crm/links", json={}, headers={"authorization": f"Bearer {reader.variables['TOKEN']}"}
    ).json()
    opened = httpx.post(
        f"http://127.0.0.1:{reader.waylink.port}{made['path']}",
        headers={"sec-fetch-site": "same-origin"},
        trust_env=False,
        timeout=PATIENCE,
    )
    assert opened.status_code == 303, opened.text
    reader.variables["PORTAL_SESSION"] = reader.json("/teams/crm/sessions")["data"][0]["id"]


def _a_drift(reader: Reader) -> None:
    until("the drift", lambda: reader.json(f"/connections/{reader.variables['CON']}")["drift"], every=0.1)


def _a_job_that_is_completed(reader: Reader) -> None:
    """And so an event that is processed, with a decision."""
    reader.connect()
    reader.variables["JOB"] = reader.job()["id"]


def _a_job_that_waits(reader: Reader) -> None:
    """Its destination is disabled, as the page shows it; a worker hears of that within a second."""
    reader.follow(_line("/destinations/crm/jobs/disable"))

    def parked() -> list[str]:
        job = reader.new_job()
        return [job["id"]] if job["blocked_by"] == "disabled" else []

    [reader.variables["JOB"]] = until("a job that is parked", parked)


def _a_job_that_was_delivered(reader: Reader) -> None:
    reader.follow(_line("/destinations/crm/jobs/enable"))
    job = until("its delivery", lambda: [row for row in [reader.job()] if row["state"] == "completed"], every=0.1)
    assert job[0]["id"] == reader.variables["JOB"]


def _a_run_that_goes_on(reader: Reader) -> None:
    """Of a later release, so that no worker ends it meanwhile."""
    at = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    zero = ("counted", "done", "failed", "left_alone", "attempts")
    names = ("id", "act", "chosen", "actor", "state", "created_at", "next_at", "audit_id", *zero)
    reader.waylink.sql(
        f"INSERT INTO bulk_runs ({', '.join(names)}) VALUES (:id, 'jobs.polish', '{{}}', 'cli:ada', 'running', "
        ":at, :at, :id, 0, 0, 0, 0, 0)",
        id=new_id().hex,
        at=at,
    )


def _an_event_that_failed(reader: Reader) -> None:
    """Make an event fail: its connection is not at Nango. Its lookups, which take 82 seconds, are brought forward."""
    body = creation(1, group="unknown")
    sent = reader.waylink.post(body, reader.sandbox.signing_key)
    assert sent.status_code == 202
    event = sent.json()["event_id"]

    def failed() -> bool:
        reader.waylink.sql(
            "UPDATE events SET looks = 4, next_at = '2026-01-01 00:00:00.000000' "
            "WHERE state = 'received' AND looks > 0 AND connection_id = :id",
            id=json.loads(body)["connectionId"],
        )
        return reader.json(f"/events/{event}")["state"] == "failed"

    until("Nango is believed not to have it", failed, every=0.1)
    reader.variables["EVENT"] = event


def _an_event_that_was_processed(reader: Reader) -> None:
    [event] = reader.json("/events?type=connection.created&state=processed&limit=1")["data"]
    reader.variables["EVENT"] = event["id"]


# What has to be there before a line: its variable is a thing in this state.
STATES: dict[str, Callable[[Reader], None]] = {
    "GET $API/connections": _a_connection,
    "POST $API/connections/$CON/restore-tags": _a_drift,
    "POST $API/refreshes/$PLAN/run": _a_plan,
    "DELETE $API/teams/crm/sessions/$PORTAL_SESSION": _a_portal_that_is_open,
    "GET $API/events": _a_job_that_is_completed,
    "POST $API/jobs/$JOB/cancel": _a_job_that_waits,
    "POST $API/jobs/$JOB/redeliver": _a_job_that_was_delivered,
    "GET $API/bulk-runs": _a_run_that_goes_on,
    "POST $API/events/$EVENT/retry": _an_event_that_failed,
    "POST $API/events/$EVENT/replay": _an_event_that_was_processed,
}


def _lines() -> list[str]:
    return [command for block in SHOWN if block.language == "sh" for command in commands(block.content)]


def _line(path: str) -> str:
    [line] = [line for line in _lines() if urlsplit(line.split('"$API')[-1].split('"')[0]).path == path]
    return line


@pytest.fixture(scope="module")
def running() -> Iterator[Waylink]:
    """With the sandbox as Nango."""
    with installation(config=CONFIG, WAYLINK_RECONCILE_EVERY="0") as waylink:
        waylink.up("--no-scenario")
        yield waylink


@pytest.fixture(scope="module")
def followed(running: Waylink) -> Reader:
    reader = Reader(running, running.sandbox())
    for line in _lines():
        reader.follow(line)
    return reader


def test_every_line_of_the_page_works_where_it_stands(followed: Reader) -> None:
    everywhere = re.findall(r"^\s*curl ", PAGE.read_text(), re.MULTILINE)
    assert len([line for line in _lines() if line.startswith("curl ")]) == len(everywhere)
    assert STATES.keys() | {name for name, _ in ANSWERS.values()} <= followed.answers.keys()


def test_answers_have_the_form_that_the_page_shows(followed: Reader) -> None:
    problem, renewal, audit = (json.loads(block.content) for block in SHOWN if block.language == "json")
    refused = followed.waylink.http.get(
        "/api/v1/connections?limit=501", headers={"authorization": f"Bearer {followed.variables['TOKEN']}"}
    )
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json() == problem
    answer = followed.answers["GET $API/audit"]
    answer["data"] = [action for action in answer["data"] if action["detail"]["name"] == "deploy"]
    assert _form(answer) == _form(audit)
    told = followed.answers["GET $API/connections/$CON/renewal"]
    assert [told.keys(), told["next_look"].keys()] == [renewal.keys(), renewal["next_look"].keys()]


def _form(answer: Any) -> Any:
    """The answer without what differs between days and databases: times and ids."""
    if isinstance(answer, dict):
        return {name: _form(value) for name, value in answer.items()}
    if isinstance(answer, list):
        return [_form(value) for value in answer]
    if not isinstance(answer, str):
        return answer
    answer = re.sub(r"\b[0-9a-f]{32}$", "", re.sub(r"^cli:\w+$", "cli:", answer.replace("_", " ")))
    return "a time" if re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d.*\+00:00$", answer) else answer


def test_status_has_the_members_and_checks_that_the_page_names(followed: Reader) -> None:
    page = OPERATIONS.read_text()
    table = re.search(r"^\| check \|.*?\n\n", page, re.MULTILINE | re.DOTALL)[0]
    kinds = {name for row in table.splitlines()[2:] if row for name in re.findall(r"`([^`]+)`", row.split("|")[1])}
    rows = followed.waylink.listing("status")
    assert [*rows[0]] == ["id", "name", "level", "value", "cause", "repair"]
    assert {row["id"].partition(":")[0] for row in rows} <= {kind.partition(":")[0] for kind in kinds}
    head, *_ = followed.waylink.run("status").stdout.splitlines()
    assert re.fullmatch(r"nothing needs a person|\d+ things? needs? a person", head)


def test_the_refresh_task_of_a_running_worker_ticks(followed: Reader) -> None:
    def scheduler() -> str:
        [row] = [row for row in followed.waylink.listing("status") if row["id"] == "refresh-scheduler"]
        return row["value"]

    until("a tick of the refresh task", lambda: scheduler() == "ticks")


def test_a_tag_that_is_wrong_is_one_fault_by_client_api_and_command(followed: Reader) -> None:
    """The first rule that it breaks, since Nango does not check the value of a key that is wrong."""
    wrong = {"a b": "", "plan": "", "region": "x" * 256}
    rules = [("a b", "invalid_key"), ("plan", "value_empty"), ("region", "value_too_long")]
    with NangoClient(base_url=followed.sandbox.base_url, api_key=followed.sandbox.api_key) as nango:
        for number in (1, 3):
            with pytest.raises(InvalidTags) as raised:
                nango.create_connect_session(tags=dict([*wrong.items()][:number]))
            assert [(fault.key, fault.rule) for fault in raised.value.faults] == rules[:number]
    for number in (1, 3):
        tags = dict([*wrong.items()][:number])
        answer = followed._send("POST", "$API/connect-sessions", json={"tags": tags})
        assert (answer.status_code, answer.json()["type"]) == (422, "urn:waylink:problem:invalid_tags")
        told = [(error["field"], error["rule"]) for error in answer.json()["errors"]]
        assert told == [(f"tags.{key}", rule) for key, rule in rules[:number]]
    done = followed.waylink.run("connections", "connect", "--tag", "a b=")
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("error: tag key 'a b' must start with an ASCII letter")
    assert "empty" not in line

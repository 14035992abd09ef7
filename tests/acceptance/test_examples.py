"""The teams of `examples/`, each a program of its own beside a running Waylink, subscribed as its README says."""

import base64
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from standardwebhooks import Webhook

from app.runtime import embedded_broker
from tests.acceptance.harness import REPOSITORY, Process, Waylink, installation, until
from tests.ports import free_port
from tests.waiting import PATIENCE

pytestmark = pytest.mark.timeout(300)  # a dozen commands and three programs, on a machine that may be busy
EXAMPLES = REPOSITORY / "examples"
# Loaded beside the team's code: notes each task as Celery delivers it, whatever the team does with it.
WITNESS = """
import json, os
from celery.signals import task_prerun

@task_prerun.connect
def note(task_id, task, args, kwargs, **_):
    with open(os.environ["WITNESS"], "a") as file:
        print(json.dumps({"id": task_id, "task": task.name, "args": list(args), "kwargs": kwargs}), file=file)
"""
*_secrets, UNKNOWN = ("whsec_" + base64.b64encode(secrets.token_bytes(32)).decode() for _ in range(3))
SECRETS = dict(zip(("BILLING_WEBHOOK_SECRET", "PEOPLE_WEBHOOK_SECRET"), _secrets, strict=True))
PORTS = {"9001": free_port(), "9002": free_port()}  # of the READMEs, and ours


def subscriptions() -> str:
    """The waylink.toml that the READMEs ask for, on free ports."""
    pages = [
        (EXAMPLES / name / "README.md").read_text() for name in ("celery-team", "http-team-python", "http-team-node")
    ]
    content = "".join(block for page in pages for block in re.findall(r"```toml\n(.*?)```", page, re.DOTALL))
    return re.sub(r"127\.0\.0\.1:(\d+)", lambda found: f"127.0.0.1:{PORTS[found[1]]}", content)


@pytest.fixture(scope="module")
def waylink() -> Iterator[Waylink]:
    with installation(config=subscriptions(), WAYLINK_ALLOWED_DESTINATION_RANGES="127.0.0.0/8", **SECRETS) as waylink:
        waylink.up("--no-scenario")
        yield waylink


def start(waylink: Waylink, example: str, argv: Sequence[str], **variables: str) -> Process:
    """An example in a folder of its own, with no variable of Waylink's."""
    folder = waylink.folder / example
    shutil.copytree(EXAMPLES / example, folder, ignore=shutil.ignore_patterns("__*", "node_modules"))
    (folder / "witness.py").write_text(WITNESS)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WAYLINK_", "NANGO_"))}
    if example.endswith("-node"):
        subprocess.run(["npm", "ci"], cwd=folder, check=True, capture_output=True, timeout=2 * PATIENCE)
    process = Process(argv, folder=folder, env=kept | variables, log=folder / "team.log")
    waylink.processes.append(process)
    return process


# HTTP


@dataclass(frozen=True, slots=True)
class HttpTeam:
    """An example: the command that starts it, and the team, route and port that its README configures."""

    example: str
    team: str
    route: str
    port: int
    argv: Sequence[str]
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def secret(self) -> str:
        return SECRETS[f"{self.team.upper()}_WEBHOOK_SECRET"]

    def post(self, body: str, headers: Mapping[str, str]) -> int:
        """The status of the answer; 0 without an answer."""
        try:
            url = f"http://127.0.0.1:{self.port}/waylink"
            return httpx.post(url, content=body, headers=headers, timeout=PATIENCE, trust_env=False).status_code
        except httpx.TransportError:
            return 0


_PYTHON = HttpTeam(
    "http-team-python",
    team="billing",
    route="count-seat",
    port=PORTS["9001"],
    argv=[sys.executable, "-m", "uvicorn", "team:app", "--port", str(PORTS["9001"])],
)
_NODE = HttpTeam(
    "http-team-node",
    team="people",
    route="welcome",
    port=PORTS["9002"],
    argv=["npm", "start"],
    variables={"PORT": str(PORTS["9002"])},
)


@pytest.mark.parametrize("team", [_PYTHON, pytest.param(_NODE, marks=pytest.mark.node)], ids=lambda team: team.example)
def test_an_http_team_takes_what_is_signed_and_does_it_once(waylink: Waylink, team: HttpTeam) -> None:
    before = {job["id"] for job in waylink.listing("jobs", "--team", team.team)}
    process = start(waylink, team.example, team.argv, WEBHOOK_SECRET=team.secret, **team.variables)
    until("it refuses what is not signed", lambda: team.post("{}", {}) == 401)
    _send(waylink, f"of-{team.team}")
    (job,) = until("a delivered job", lambda: _completed(waylink, team.team, before), every=0.3)
    assert (job["route"], job["attempts"]) == (team.route, 1)
    (attempt,) = waylink.show("jobs", job["id"])["attempt_log"]
    assert (attempt["outcome"], attempt["status"]) == ("completed", 204)
    until("the team's own line", lambda: f"{job['id']}: " in process.output)

    body, now = json.dumps({"id": job["id"], "name": job["name"]}), datetime.now(UTC)
    headers = {"webhook-id": job["id"], "webhook-timestamp": str(int(now.timestamp()))}
    for secret, status in ((team.secret, 204), (UNKNOWN, 401)):
        signature = Webhook(secret).sign(job["id"], now, body)
        assert team.post(body, {**headers, "webhook-signature": signature}) == status
    assert process.output.count(f"{job['id']}: ") == 1
    assert "Traceback" not in process.output
    process.close()
    assert not process.orphans()


def _completed(waylink: Waylink, team: str, before: Collection[str]) -> list[dict[str, Any]]:
    return [job for job in waylink.listing("jobs", "--team", team, "--state", "completed") if job["id"] not in before]


# Celery


class Team:
    """The Celery team's worker, and the jobs it was sent."""

    def __init__(self, waylink: Waylink) -> None:
        self._seen = waylink.folder / "seen.jsonl"
        argv = [sys.executable, "-m", "celery", "-A", "team", "worker", "--queues", "team.crm.jobs"]
        options = ["--pool", "solo", "--include", "witness", "--loglevel", "INFO"]
        variables = {"CRM_BROKER_URL": embedded_broker.broker_url(waylink.data, 1), "WITNESS": str(self._seen)}
        self.process = start(waylink, "celery-team", [*argv, *options], **variables)

    def received(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._seen.read_text().split("\n") if line] if self._seen.exists() else []


def test_a_celery_team_receives_each_job_once_as_documented(waylink: Waylink) -> None:
    before = _send(waylink, "before-the-worker")  # waits in the queue until the team starts
    until("a delivered job", lambda: _job(waylink, before, "crm")["state"] == "completed", every=0.3)
    team = Team(waylink)
    after = _send(waylink, "after")
    not_theirs = _send(waylink, "not-for-them", sample="auth_creation_failure")
    until(
        "both arrive",
        lambda: {before, after} <= {message["kwargs"]["job"]["event"]["id"] for message in team.received()},
    )
    for event_id, user in ((before, "before-the-worker"), (after, "after")):
        _check(waylink, team, event_id, user)

    with redis.Redis.from_url(embedded_broker.redis_url(waylink.data, 1)) as client:
        until("taken off the queue", lambda: not client.llen("team.crm.jobs") and not client.hlen("unacked"))
    jobs = sorted(job["id"] for job in waylink.listing("jobs", "--team", "crm"))
    assert sorted(job["id"] for job in team.received()) == jobs  # once each, and nothing else
    until("processed", lambda: waylink.show("events", not_theirs)["state"] == "processed", every=0.3)
    assert waylink.listing("jobs", "--event", not_theirs) == []
    team.process.close()
    assert "Traceback" not in team.process.output
    assert not team.process.orphans()


def _check(waylink: Waylink, team: Team, event_id: str, user: str) -> None:
    """The shape of a job as teams receive it (docs/routes.md)."""
    job = _job(waylink, event_id, "crm")
    (received,) = [message for message in team.received() if message["id"] == job["id"]]
    assert (received["task"], received["args"], [*received["kwargs"]]) == ("crm.import_contacts", [], ["job"])
    document = received["kwargs"]["job"]
    assert document.keys() == {"id", "name", "attempt", "created_at", "route", "event"}
    assert re.fullmatch(r"job_[0-9a-f]{32}", document["id"])
    assert (document["id"], document["name"], document["attempt"]) == (job["id"], "crm.import_contacts", 1)
    assert document["route"] == {"name": "import-contacts", "version": 1}
    assert document["created_at"] == job["created_at"]
    event = document["event"]
    assert event == waylink.show("events", event_id)["document"]
    assert {name: event[name] for name in ("id", "type", "origin", "confirmed", "operation", "success")} == {
        "id": event_id,
        "type": "connection.created",
        "origin": "webhook",
        "confirmed": True,
        "operation": "creation",
        "success": True,
    }
    assert event["tags"]["end_user_id"] == event["user"]["external_id"] == user
    assert event["organization"]["external_id"] == "o-navy"
    assert event.keys() == {
        *("id", "type", "origin", "occurred_at", "environment", "integration", "provider", "auth_mode", "operation"),
        *(
            "success",
            "confirmed",
            "connection_id",
            "tags",
            "user",
            "organization",
            "previous_owner",
            "error",
            "payload",
        ),
    }
    printed = f"{job['id']}: import the contacts of {event['connection_id']}"
    until("the team's own line", lambda: printed in team.process.output)
    assert team.process.output.count(printed) == 1


# All of them


def _send(waylink: Waylink, user: str, sample: str = "auth_creation_success_tags") -> str:
    tags = ("--tag", f"end_user_id={user}", "--tag", f"end_user_email={user}@navy.example")
    done = waylink.run("send", sample, *tags)
    assert done.returncode == 0, done.stderr
    return re.search(r"evt_\w+", done.stdout)[0]


def _job(waylink: Waylink, event_id: str, team: str) -> dict[str, Any]:
    (job,) = until("a job", lambda: waylink.listing("jobs", "--event", event_id, "--team", team), every=0.3)
    return job


def test_the_teams_code_needs_nothing_of_ours() -> None:
    """With an interpreter that sees the team's folder and Celery, and neither our packages nor our variables."""
    folder = REPOSITORY / "examples" / "celery-team"
    blind = (
        "import sys\n"
        f"sys.path.insert(0, {str(folder)!r})\n"
        "class Blind:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in {'app', 'workers'}: raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Blind())\n"
        "import team\n"
        "print(sorted(name for name in team.app.tasks if not name.startswith('celery.')))"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", blind],
        cwd=Path(folder.anchor),
        env={"CRM_BROKER_URL": "redis://127.0.0.1:1/1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "['crm.import_contacts']\n"), done.stderr

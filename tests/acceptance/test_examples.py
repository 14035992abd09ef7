"""A team's own program takes its jobs: `examples/celery-team`, with its own code base and a plain Celery worker."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from app import embedded
from tests.acceptance.harness import REPOSITORY, Process, Waylink, installation, until

# Loaded beside the team's code: notes each task as Celery hands it over, whatever the team does with it.
WITNESS = """
import json, os
from celery.signals import task_prerun

@task_prerun.connect
def note(task_id, task, args, kwargs, **_):
    with open(os.environ["WITNESS"], "a") as file:
        print(json.dumps({"id": task_id, "task": task.name, "args": list(args), "kwargs": kwargs}), file=file)
"""


class Team:
    """The example's worker in a folder of its own, and what it was handed."""

    def __init__(self, waylink: Waylink) -> None:
        self.folder = waylink.folder / "crm"
        shutil.copytree(REPOSITORY / "examples" / "celery-team", self.folder, ignore=shutil.ignore_patterns("__*"))
        (self.folder / "witness.py").write_text(WITNESS)
        self._seen = self.folder / "seen.jsonl"
        kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG", "TMPDIR"}}
        self.env = kept | {"CRM_BROKER_URL": embedded.broker_url(waylink.data, 1), "WITNESS": str(self._seen)}
        argv = [sys.executable, "-m", "celery", "-A", "team", "worker", "--queues", "team.crm.jobs"]
        options = ["--pool", "solo", "--include", "witness", "--loglevel", "INFO"]
        self.process = Process([*argv, *options], folder=self.folder, env=self.env, log=self.folder / "worker.log")
        waylink.processes.append(self.process)

    def received(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._seen.read_text().split("\n") if line] if self._seen.exists() else []


@pytest.fixture
def waylink() -> Iterator[Waylink]:
    with installation(example=True) as waylink:
        waylink.up("--no-scenario")
        yield waylink


def test_a_team_receives_each_job_once_as_documented(waylink: Waylink) -> None:
    before = _send(waylink, "before-the-worker")  # waits in the queue until the team starts
    until("handed over", lambda: _job(waylink, before)["state"] == "completed", every=0.3)
    team = Team(waylink)
    after = _send(waylink, "after")
    _send(waylink, "not-for-them", plan="free")
    until("both arrive", lambda: len(team.received()) >= 2)
    for event_id, user in ((before, "before-the-worker"), (after, "after")):
        _check(waylink, team, event_id, user)

    until("all jobs are done", lambda: {one["state"] for one in waylink.listing("jobs")} == {"completed"}, every=0.3)
    with redis.Redis.from_url(embedded.redis_url(waylink.data, 1)) as client:
        until("taken off the queue", lambda: not client.llen("team.crm.jobs") and not client.hlen("unacked"))
    assert len(team.received()) == len(waylink.listing("jobs")) == 2  # once each, and nothing else
    team.process.close()
    assert "Traceback" not in team.process.output
    assert not team.process.orphans()


def _check(waylink: Waylink, team: Team, event_id: str, user: str) -> None:
    """The shape of DESIGN 5, "A job as teams receive it"."""
    job = _job(waylink, event_id)
    (received,) = [one for one in team.received() if one["id"] == job["id"]]
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


def _send(waylink: Waylink, user: str, plan: str = "enterprise") -> str:
    tags = ("--tag", f"end_user_id={user}", "--tag", f"end_user_email={user}@navy.example", "--tag", f"plan={plan}")
    done = waylink.run("send", "auth_creation_success_tags", *tags)
    assert done.returncode == 0, done.stderr
    return re.search(r"evt_\w+", done.stdout)[0]


def _job(waylink: Waylink, event_id: str) -> dict[str, Any]:
    (job,) = until("a job", lambda: waylink.listing("jobs", "--event", event_id), every=0.3)
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

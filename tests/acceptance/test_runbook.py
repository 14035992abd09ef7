"""docs/runbook.md, at work: every command that it has is run in an installation of real processes, and does its work.

Those that read run as they are, those that change something on rows that were prepared for them, those that serve until
they have reported to be running. A command that a sentence names runs as well, or is the beginning of one that does.
"""

import io
import json
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import chdir, closing, redirect_stderr, redirect_stdout
from datetime import timedelta
from typing import Any
from unittest import mock

import click
import pytest

from app.cli.main import main
from app.cli.main import waylink as root
from app.clock import utc_now
from app.db.engine import connect
from app.db.models import Destination, Job
from app.domain.status import CheckKind
from app.ids import new_id
from tests.acceptance.harness import REPOSITORY, Waylink, installation, until
from tests.integration.notifying.servers import HttpSide, http_side
from tests.integration.status.rows import an_event
from tests.pages import blocks, commands, waylink_calls
from tests.ports import free_port

PAGE = REPOSITORY / "docs" / "runbook.md"
CONFIG = """
[teams.crm.destinations.jobs]
kind = "celery"
queue = "team.crm.jobs"
[teams.crm.destinations.hook]
kind = "http"
url = "{url}"
[[routes]]
name = "import-contacts"
team = "crm"
destination = "jobs"
job = "crm.import_contacts"
pattern = '{{"type": ["connection.created"]}}'
[notify.channels.ops]
kind = "slack"
url_env = "CHAT_URL"
"""
SERVERS = {("web",): "web", ("worker", "events"): "events", ("worker", "io"): "io", ("beat",): "beat"}
# The answer of these may be no, since things are red here on purpose.
MAY_SAY_NO = {"status"}


def shown() -> list[list[str]]:
    """The calls in the page's blocks, in their order."""
    return [
        call
        for block in blocks(PAGE)
        if block.language == "sh"
        for command in commands(block.content)
        for call in waylink_calls(command)
    ]


def named() -> list[list[str]]:
    """The calls that its sentences name."""
    prose = re.sub(r"^```.*?^```", "", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)
    quoted = re.findall(r"`(waylink [^`]+)`", prose)
    return [call for one in quoted for call in waylink_calls(" ".join(one.split()))]


def is_whole(call: list[str], monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether it has all its arguments. Raises UsageError for a command or option that is none."""
    with monkeypatch.context() as patch:
        patch.setattr(click.Command, "invoke", lambda *_: None)
        try:
            root.main(call, prog_name="waylink", standalone_mode=False)
        except (click.MissingParameter, click.exceptions.NoArgsIsHelpError):
            return False
    return True


def unique(calls: list[list[str]]) -> list[tuple[str, ...]]:
    return list(dict.fromkeys(map(tuple, calls)))


@pytest.fixture(scope="module")
def endpoint() -> Iterator[HttpSide]:
    with http_side() as side:
        yield side


@pytest.fixture(scope="module")
def waylink(endpoint: HttpSide) -> Iterator[Waylink]:
    """With the sandbox, a connection that has an owner, and a job that was delivered."""
    variables = {
        "WAYLINK_ALLOWED_DESTINATION_RANGES": "127.0.0.0/8",
        "CHAT_URL": endpoint.url,
        "WAYLINK_RECONCILE_EVERY": "0",
    }
    with installation(config=CONFIG.format(url=endpoint.url), **variables) as waylink:
        waylink.up("--no-scenario")
        assert waylink.run("send", "auth_creation_success_tags").returncode == 0
        until("a job is delivered", lambda: waylink.listing("jobs", "--state", "completed"), every=0.5)
        yield waylink


class Reader:
    """Follows the page: words in capitals and names of the page are those of this installation."""

    def __init__(self, waylink: Waylink) -> None:
        self.waylink = waylink
        [connection] = self.listing("connections")
        self.connection, self.integration = connection["id"], connection["integration"]

    def prepare(self, call: tuple[str, ...]) -> None:
        """Make rows for the command: an event that failed, a dead letter, a job that waits, a pause or a drift."""
        now = utc_now()
        event = an_event(now, state="failed", failure="error", problem="ValueError: no", processed_at=now, body=b"{}")
        facts = {
            "route": "import-contacts", "route_version": 1, "team": "crm", "destination": "jobs",
            "name": "crm.import_contacts", "state": "discarded", "attempts": 9, "crashes": 0, "next_at": now,
            "created_at": now, "problem": "answered 500", "fault": "team", "finished_at": now - timedelta(minutes=1),
        }  # fmt: skip
        with closing(connect(self.waylink.database_url)) as database, database.write() as session:
            session.add(event)
            session.flush()
            session.add(Job(id=new_id(), event_id=event.id, **facts))
            later = {"state": "retryable", "next_at": now + timedelta(hours=1), "fault": None, "finished_at": None}
            session.add(Job(id=new_id(), event_id=event.id, **facts | later | {"route": f"r-{event.id.hex}"}))
            session.get(Destination, ("crm", "jobs")).disabled_at = None
        if call[:2] == ("refreshes", "resume"):
            assert self.inside(["refreshes", "pause", f"default/{self.integration}"])[0] == 0
        if call[:2] == ("connections", "restore-tags"):
            assert self.inside(["connections", "tags", "set", self.connection, "plan=pro"])[0] == 0
            until("the drift", lambda: self.listing("connections", "--drift"), every=0.2)

    def words(self, call: tuple[str, ...]) -> list[str]:
        listed: dict[str, tuple[str, ...]] = {
            "EVENT": ("events", "--type", "connection.created"),
            "JOB": ("jobs", "--state", "retryable"),
            "CONNECTION": ("connections",),
        }
        found = []
        for word in call:
            if word in listed:
                found.append(str(self.listing(*listed[word])[0]["id"]))
            elif word == "SECRET":
                found.append(str(self.listing("destinations", "secrets", "crm/hook")[-1]["id"]))
            else:
                found.append(word.replace("zendesk", self.integration))
        return found

    def run(self, call: tuple[str, ...]) -> None:
        """It ends well; what it asks is answered with yes."""
        code, out, err = self.inside(self.words(call))
        allowed = {0, 1} if call[0] in MAY_SAY_NO else {0}
        assert code in allowed, (call, code, out, err)
        assert out.strip(), (call, "it says nothing")

    def inside(self, words: Sequence[str]) -> tuple[int, str, str]:
        """Exit code, output and errors of a command, by its entry point in this process: there are many of them."""
        out, err = io.StringIO(), io.StringIO()
        with (
            mock.patch.dict(os.environ, self.waylink.env, clear=True),
            mock.patch.object(sys, "argv", ["waylink", *words]),
            mock.patch.object(sys, "stdin", io.StringIO("y\n" * 3)),
            chdir(self.waylink.folder),
            redirect_stdout(out),
            redirect_stderr(err),
            pytest.raises(SystemExit) as ended,
        ):
            main()
        return int(ended.value.code or 0), out.getvalue(), err.getvalue()

    def listing(self, *words: str) -> list[dict[str, Any]]:
        code, out, err = self.inside([*words, "--json"])
        assert code == 0, err
        found: list[dict[str, Any]] = json.loads(out)
        return found

    def serve(self, call: tuple[str, ...]) -> None:
        """It runs beside the others, reports so, and ends when it is told to."""
        kind = SERVERS[call]
        process = self.waylink.spawn(*call, WAYLINK_PORT=str(free_port()))

        def state() -> str:
            rows = self.listing("processes", "--kind", kind)
            return next((row["state"] for row in rows if row["pid"] == process.pid), "")

        until(f"{call} reports", lambda: state() == "running", every=0.5)
        process.send(signal.SIGTERM)
        assert process.ends() in {0, -signal.SIGTERM}, process.output


@pytest.fixture(scope="module")
def reader(waylink: Waylink) -> Reader:
    return Reader(waylink)


def test_every_check_that_has_a_section_names_a_command_in_it() -> None:
    part = PAGE.read_text().partition("\n## When a check is red\n")[2].partition("\n## ")[0]
    sections = re.split(r"^### ", part, flags=re.MULTILINE)[1:]
    kinds = [kind for section in sections for kind in re.findall(r"`([^`]+)`", section.partition("\n")[0])]
    assert set(kinds) <= set(map(str, CheckKind))
    assert len(kinds) > 30
    for section in sections:
        assert re.search(r"^waylink \w", section, re.MULTILINE), section


def test_what_a_sentence_names_is_run_or_the_beginning_of_what_is(monkeypatch: pytest.MonkeyPatch) -> None:
    run = [*unique(shown()), *(tuple(call) for call in named() if is_whole(call, monkeypatch))]
    for call in named():
        assert any(one[: len(call)] == tuple(call) for one in run), call


def calls_of(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    return unique([*shown(), *(call for call in named() if is_whole(call, monkeypatch))])


@pytest.mark.timeout(900)
def test_every_command_of_the_page_does_its_work(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = calls_of(monkeypatch)
    assert len(calls) > 50
    served = [call for call in calls if call in SERVERS]
    assert set(served) == set(SERVERS)
    failed: list[Any] = []
    for call in calls:
        try:
            if call in SERVERS:
                reader.serve(call)
            else:
                reader.prepare(call)
                reader.run(call)
        except AssertionError as wrong:
            failed.append((call, wrong))
    assert not failed, "\n\n".join(f"{call}: {str(wrong)[-700:]}" for call, wrong in failed)

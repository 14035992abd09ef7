"""The quickstart, followed as it stands: its commands are typed into shells, and what it promises is compared."""

import json
import os
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from app.db.engine import connect
from app.domain.signature import HEADER, sign
from tests.acceptance.harness import REPOSITORY, creation
from tests.acceptance.terminal import Terminal
from tests.integration.sandbox.sandbox_server import API_KEY, SIGNING_KEY, serve
from tests.pages import Block, blocks
from tests.ports import free_port
from tests.waiting import PATIENCE, until

PAGE = REPOSITORY / "docs" / "quickstart.md"
SHOWN = blocks(PAGE)
JSON = {"content-type": "application/json"}
pytestmark = pytest.mark.timeout(900)  # three starts of everything, on a machine that may be busy


class Reader:
    """A reader with a copy of the project, and as many shells as the page asks for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {"8080": free_port(), "9001": free_port()}  # of the page, and ours
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("WAYLINK_", "NANGO_"))}
        # The page has a reader whose ports are taken set the first; the sandbox takes another by itself.
        self.env = inherited | {"WAYLINK_PORT": str(self.ports["8080"]), "WAYLINK_SANDBOX_PORT": str(free_port())}
        self.shells: list[Terminal] = []
        self._next = iter(SHOWN)

    def shell(self) -> Terminal:
        self.shells.append(Terminal(self.folder, self.env))
        return self.shells[-1]

    def block(self, section: str, language: str) -> str:
        """The page's next block, which has to be of this section and language."""
        block: Block = next(self._next)
        assert (block.section, block.language) == (section, language)
        content = block.content
        for theirs, ours in self.ports.items():
            content = content.replace(f"127.0.0.1:{theirs}", f"127.0.0.1:{ours}").replace(
                f"--port {theirs}", f"--port {ours}"
            )
        return content

    def at_the_end(self) -> bool:
        return next(self._next, None) is None

    def close(self) -> None:
        for shell in reversed(self.shells):
            shell.close()


@pytest.fixture
def reader() -> Iterator[Reader]:
    folder = Path(tempfile.mkdtemp(prefix="wl-", dir="/tmp"))  # a unix socket's path has to be short
    for name in ("Makefile", "pyproject.toml", "examples"):
        path = REPOSITORY / name
        if path.is_dir():
            shutil.copytree(path, folder / name, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
        else:
            shutil.copy2(path, folder / name)
    for lock in REPOSITORY.glob("requirements*.lock"):
        shutil.copy2(lock, folder / lock.name)
    (folder / ".venv").mkdir()
    for path in Path(sys.prefix).iterdir():
        (folder / ".venv" / path.name).symlink_to(path)
    stamp = folder / ".venv" / ".setup-done"  # newer than the lock files here: `make` builds nothing
    stamp.unlink(missing_ok=True)
    stamp.touch()
    reader = Reader(folder)
    try:
        yield reader
    finally:
        reader.close()
        shutil.rmtree(folder, ignore_errors=True)


def shape(text: str) -> str:
    """A text without what differs from run to run: ids, ports, ages and the width of columns."""
    for pattern, word in (
        (r"\x1b\[\d*m", ""),
        (r"\b(evt|job|con)_[0-9a-f]{32}\b", r"\1_…"),
        (r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "…"),
        (r"127\.0\.0\.1:\d+", "127.0.0.1:…"),
        (r"(?<= )\d+[smhd](?= )", "…"),
        (r" {2,}", "  "),
        (r" +$", ""),
    ):
        text = re.sub(pattern, word, text, flags=re.MULTILINE)
    return text.strip()


def shapes(text: str) -> list[str]:
    return shape(text).splitlines()


def says(shell: Terminal, promised: str, *, since: int) -> None:
    """Return once it has said each of these lines; a program may put the time in front of its own."""

    def said() -> bool:
        lines = shapes(shell.output[since:])
        return all(any(line.endswith(shape) for line in lines) for shape in shapes(promised))

    try:
        until("what the page shows", said)
    except AssertionError as error:
        raise AssertionError(f"{promised}\nis not in\n{shell.output[since:]}") from error


def columns(table: str) -> tuple[list[str], Counter[tuple[str, ...]]]:
    """The names of a table's first five columns, and what its rows hold in them."""
    head, *rows = (tuple(line.split("  ")[:5]) for line in shapes(table))
    return [*head], Counter(rows)


def test_the_quickstart_does_what_it_says(reader: Reader) -> None:
    first = reader.shell()
    up = first.start(reader.block("1. Start", "sh"))
    first.says("Waylink is up.", since=up)
    below = [command for command in first.below().values() if not command.endswith(("make run", "waylink up"))]
    for name in ("valkey-server", "sandbox", "web", "events", "io", "beat"):
        assert len([command for command in below if re.search(rf"[/ ]{name}\b", command)]) == 1, below
    assert len(below) == 6, below

    second = reader.shell()
    assert shapes(second.run(reader.block("2. Look", "sh"))) == shapes(reader.block("2. Look", "text"))
    expected = columns(reader.block("2. Look", "text"))
    until("the scenario's jobs", lambda: columns(second.run("waylink jobs")) == expected, every=0.5)
    events = second.run("waylink events")
    for kind, number in (
        ("connection.created", 3),
        ("connection.creation_failed", 1),
        ("connection.reauthorized", 1),
        ("connection.linked", 3),
    ):
        assert len(re.findall(rf" {kind} ", events)) == number, events
    connections = second.run("waylink connections")
    assert all(re.search(rf" {owner} ", connections) for owner in ("ada", "grace", "linus")), connections

    sent = second.run(reader.block("3. Send a webhook", "sh"))
    assert shape(sent) == shape(reader.block("3. Send a webhook", "text"))
    event = json.loads(sent.removeprefix("202"))["event_id"]
    _be_the_team_over_celery(reader)
    shown = second.run(f"waylink events show {event}")
    assert all(word in shown for word in ('"plan": "pro"', "import-contacts", "crm.import_contacts")), shown
    _be_the_team_over_http(reader, first, second)
    _see_the_first_refresh(reader, second)
    _act(reader, second)
    first.interrupt()
    _use_another_nango(reader, first, second)
    assert reader.at_the_end()


def _be_the_team_over_celery(reader: Reader) -> None:
    third = reader.shell()
    begun = third.start(reader.block("Over Celery", "sh"))
    says(third, reader.block("Over Celery", "text"), since=begun)


def _be_the_team_over_http(reader: Reader, first: Terminal, second: Terminal) -> None:
    with (reader.folder / "waylink.toml").open("a") as file:
        file.write(reader.block("Over HTTP", "toml"))
    first.interrupt()
    up = first.start(reader.block("Over HTTP", "sh"))
    first.says("Waylink is up.", since=up)
    secret = re.search(r"^whsec_\S+$", first.output, re.MULTILINE)[0]
    third = reader.shell()
    begun = third.start(reader.block("Over HTTP", "sh").replace("whsec_…", secret))
    third.says("Uvicorn running", since=begun)
    second.run("waylink send auth_creation_success_tags")
    says(third, reader.block("Over HTTP", "text"), since=begun)


def _see_the_first_refresh(reader: Reader, shell: Terminal) -> None:
    (connection,) = json.loads(shell.run("waylink connections --user ada --json"))
    planned = datetime.fromisoformat(connection["refresh_at"])
    assert planned <= datetime.now(UTC) + timedelta(minutes=5)
    url = f"sqlite:///{reader.folder / '.waylink' / 'waylink.db'}"
    now = datetime.now(UTC).replace(tzinfo=None).isoformat(" ")
    with closing(connect(url)) as database, database.write() as session:  # not to wait for it
        session.execute(text("UPDATE refreshes SET next_at = :now WHERE finished_at IS NULL"), {"now": now})

    refreshed = r"(?s)\bexpires at +\d{4}-.*\brefresh at +\d{4}-"

    until(
        "it",
        lambda: re.search(refreshed, shape(shell.run(f"waylink connections show {connection['id']}"))),
        every=1.0,
        seconds=30,
    )


def _act(reader: Reader, shell: Terminal) -> None:
    said = shell.run(reader.block("6. Act on a connection", "sh"))
    page = httpx.get(re.search(r"http://127\.0\.0\.1:\d+/\S*token=\S+", said)[0], timeout=PATIENCE, trust_env=False)
    assert page.status_code == 200
    assert "text/html" in page.headers["content-type"]
    (connection,) = json.loads(said[said.index('{"data"') :])["data"]
    assert connection["user"] == "ada"

    def tagged() -> bool:
        (connection,) = json.loads(shell.run("waylink connections --user ada --json"))
        return connection["tags"].get("plan") == "pro"

    until("the tag is here", tagged, every=0.5)
    audit = shell.run("waylink audit")
    assert all(action in audit for action in ("tags.added", "session.recreated", "token.created")), audit


def _use_another_nango(reader: Reader, shell: Terminal, second: Terminal) -> None:
    """A second sandbox is Nango here, since the page's own address is Nango's."""
    commands = reader.block("7. Use your own Nango", "sh")
    with serve() as nango:
        shell.run(f"unset WAYLINK_NANGO_API_KEY; export WAYLINK_NANGO_BASE_URL={nango.base_url}")
        only_the_key = "export WAYLINK_NANGO_API_KEY=" + API_KEY
        refused = shell.run(f"{only_the_key}; ! .venv/bin/waylink up; unset WAYLINK_NANGO_API_KEY")
        assert "WAYLINK_NANGO_SIGNING_KEYS" in refused, refused
        up = shell.start(commands.replace("API_KEY=…", f"API_KEY={API_KEY}").replace("KEYS=…", f"KEYS={SIGNING_KEY}"))
        shell.says("Waylink is up.", since=up)
        assert "sandbox |" not in shell.output[up:]
        body = creation(1)
        nango.post("/sandbox/connections", content=body, headers=JSON).raise_for_status()
        url = f"http://127.0.0.1:{reader.ports['8080']}/webhooks/nango"
        headers = {**JSON, HEADER: sign(body, SIGNING_KEY)}
        sent = httpx.post(url, content=body, headers=headers, timeout=PATIENCE, trust_env=False)
        assert sent.status_code == 202
        second.run(f"export WAYLINK_NANGO_API_KEY={API_KEY} WAYLINK_NANGO_SIGNING_KEYS={SIGNING_KEY}")
        event = sent.json()["event_id"]

        def confirmed() -> bool:
            shown = json.loads(second.run(f"waylink events show {event} --json"))
            return shown["state"] == "processed" and shown["confirmed"]

        until("it is confirmed there", confirmed, every=0.5)
        shell.interrupt()

"""`--follow` as a process, and `--since`: what comes is shown once, and again when its state changes."""

import functools
import json
import os
import signal
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread

import pytest
from sqlalchemy import update

from app.db.engine import connect
from app.db.models import Event
from app.ids import EVENT, first_id, new_id, show
from tests.waiting import PATIENCE

NOW = datetime.now(UTC)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """A database at this release's schema."""
    at = (
        f"sqlite:///{tmp_path / 'waylink.db'}" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    )
    run(at, tmp_path, "migrate")
    return at


def environ(url):
    return {**os.environ, "WAYLINK_DATABASE_URL": url, "PYTHONPATH": str(Path(__file__).parents[3])}


def run(url, folder, *arguments):
    argv = [sys.executable, "-m", "app.cli", *arguments]
    done = subprocess.run(argv, cwd=folder, env=environ(url), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def add(url, *, state="received", event_id=None):
    event_id = event_id or new_id()
    with closing(connect(url)) as database, database.write() as session:
        times = dict.fromkeys(("received_at", "last_seen_at", "next_at"), NOW)
        counts = dict.fromkeys(("duplicates", "attempts", "looks"), 0)
        session.add(Event(id=event_id, environment="default", origin="webhook", state=state, **times, **counts))
    return event_id


def change(url, event_id, state):
    with closing(connect(url)) as database, database.write() as session:
        session.execute(update(Event).where(Event.id == event_id).values(state=state))


class Followed:
    """`waylink events --follow --json`, line by line."""

    def __init__(self, url, folder):
        argv = [sys.executable, "-m", "app.cli", "events", "--follow", "--json"]
        # A shell's background job, as the tests may be, hands on that it ignores Ctrl-C.
        heeding = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        self.process = subprocess.Popen(
            argv,
            cwd=folder,
            env=environ(url),
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=heeding,  # noqa: PLW1509
        )
        self._lines = SimpleQueue()
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        with self.process.stdout as lines:
            for line in lines:
                self._lines.put(line)

    def close(self):
        self.process.kill()
        self.process.wait()
        self._reader.join()

    def next(self):
        try:
            row = json.loads(self._lines.get(timeout=PATIENCE))
        except Empty:
            pytest.fail("nothing came")
        return row["id"], row["state"]


def test_what_comes_is_shown_and_shown_again_when_its_state_changes(url, tmp_path):
    old = add(url)
    followed = Followed(url, tmp_path)
    try:
        assert followed.next() == (show(EVENT, old), "received")
        new = add(url)
        assert followed.next() == (show(EVENT, new), "received")
        change(url, old, "processed")
        assert followed.next() == (show(EVENT, old), "processed")
        followed.process.send_signal(signal.SIGINT)
        assert followed.process.wait(PATIENCE) == 0
    finally:
        followed.close()


def test_since_is_the_time_of_receipt(url, tmp_path):
    times = [NOW - timedelta(days=days) for days in (3, 1)]
    ids = [add(url, event_id=first_id(at)) for at in times]
    for since, count in (("4d", 2), ("2d", 1), ("1h", 0)):
        found = json.loads(run(url, tmp_path, "events", "--since", since, "--json"))
        assert [row["id"] for row in found] == [show(EVENT, event_id) for event_id in ids[::-1][:count]]
    assert json.loads(run(url, tmp_path, "jobs", "--since", "1h", "--json")) == []

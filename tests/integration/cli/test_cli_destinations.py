"""`waylink destinations` and `waylink secrets`: secrets shown once, keys changed, endpoints tried."""

import asyncio
import json
import threading
from contextlib import contextmanager

import pytest
from standardwebhooks import Webhook

from app.sealing import new_key
from tests.integration.cli.test_cli import Command, one_line_error
from tests.integration.delivery.endpoint import answer, endpoint
from tests.ports import free_port
from tests.waiting import PATIENCE

FILE = """
[teams.crm.destinations.hook]
kind = "http"
url = "http://127.0.0.1:{port}/in"
timeout = "5s"

[teams.crm.destinations.jobs]
kind = "celery"
queue = "team.crm.jobs"
"""


CLOSED = {"WAYLINK_NANGO_SIGNING_KEYS": "key"}
OPEN = CLOSED | {"WAYLINK_ALLOWED_DESTINATION_RANGES": "127.0.0.0/8"}


@contextmanager
def serving(act=None):
    """An endpoint in a thread of its own, for commands that run in processes of theirs."""
    started, loop = threading.Event(), asyncio.new_event_loop()
    found = []

    async def serve():
        async with endpoint(act) as team:
            found.extend([team, asyncio.Event()])
            started.set()
            await found[1].wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    started.wait(PATIENCE)
    try:
        yield found[0]
    finally:
        loop.call_soon_threadsafe(found[1].set)
        thread.join()
        loop.close()


def prepared(folder, port, **variables) -> Command:
    command = Command(folder, {**OPEN, **variables})
    (folder / "waylink.toml").write_text(FILE.format(port=port))
    assert command.inside("migrate").returncode == 0
    return command


def test_a_test_is_signed_with_the_secret_that_was_shown_once(tmp_path) -> None:
    with serving() as team:
        waylink = prepared(tmp_path, team.port)
        made = waylink.json("destinations", "rotate-secret", "crm/hook")
        assert made["secret"].startswith("whsec_")
        tested = waylink.json("destinations", "test", "crm/hook")
        assert (tested["taken"], tested["status"], tested["excerpt"]) == (True, 200, "thanks")
        [request] = team.requests
        job = Webhook(made["secret"]).verify(request.body, request.headers)
        assert (job["name"], job["event"]["type"]) == ("waylink.test", "waylink.test")
        listed = waylink.json("destinations", "secrets", "crm/hook")
        assert [secret["in_force"] for secret in listed] == [True, True]
        assert listed[0]["id"] == made["id"]
        assert made["secret"] not in json.dumps(listed)
        assert waylink.json("destinations", "expire-secret", "crm/hook", listed[1]["id"])["expired"]
        actions = [entry["action"] for entry in waylink.json("audit")]
        assert {"destination.tested", "destination.secret_rotated", "destination.secret_expired"} <= set(actions)


def test_a_test_that_is_not_taken_ends_with_1_and_shows_the_answer(tmp_path) -> None:
    async def busy(request, writer):
        return await answer(writer, 503, b"later")

    with serving(busy) as team:
        waylink = prepared(tmp_path, team.port)
        done = waylink.inside("destinations", "test", "crm/hook", "--json")
        assert done.returncode == 1
        assert json.loads(done.stdout)["status"] == 503
        assert one_line_error(waylink.inside("destinations", "test", "crm/jobs"), code=1)


def test_a_check_connects_to_each_destination_and_sends_nothing(tmp_path) -> None:
    with serving() as team:
        waylink = prepared(tmp_path, team.port)
        found = waylink.json("destinations", "check")
        assert [(check["destination"], check["result"]) for check in found] == [
            ("crm/hook", "note"),
            ("crm/jobs", "ok"),
        ]
        assert team.requests == []
    bad = waylink.inside("destinations", "check", "crm/hook", "--json")
    assert bad.returncode == 1
    assert "Connection refused" in json.loads(bad.stdout)[0]["detail"]
    refused = Command(tmp_path, CLOSED).inside("destinations", "check", "crm/hook")
    assert (refused.returncode, "refused (loopback)" in refused.stdout) == (1, True)


def test_the_key_is_changed_without_losing_a_secret(tmp_path) -> None:
    old, newest = new_key(), new_key()
    waylink = prepared(tmp_path, free_port(), WAYLINK_SECRET_KEY=old)
    assert not (tmp_path / ".waylink" / "secret.key").exists()
    both = Command(tmp_path, OPEN | {"WAYLINK_SECRET_KEY": f"{newest},{old}"})
    assert both.json("secrets") == {"newest_key": 0, "older_keys": 1, "unreadable": []}
    assert both.json("secrets", "reseal")["resealed"] == 1
    alone = Command(tmp_path, OPEN | {"WAYLINK_SECRET_KEY": newest})
    assert alone.json("secrets") == {"newest_key": 1, "older_keys": 0, "unreadable": []}
    lost = waylink.inside("secrets", "--json")
    assert lost.returncode == 1
    assert json.loads(lost.stdout)["unreadable"] == ["signing secret of crm/hook"]


def test_new_keys_are_printed_alone_and_are_not_the_same(tmp_path) -> None:
    waylink = prepared(tmp_path, free_port())
    keys = {waylink.inside("secrets", "new-key").stdout for _ in range(2)}
    assert len(keys) == 2
    assert all(len(key.strip()) == 44 for key in keys)


@pytest.mark.parametrize("arguments", [("rotate-secret", "crm"), ("secrets", "crm/hook/x"), ("rotate-secret", "a/b")])
def test_what_names_no_destination_is_one_line(tmp_path, arguments) -> None:
    waylink = prepared(tmp_path, free_port())
    done = waylink.inside("destinations", *arguments)
    assert done.returncode in {1, 2}
    assert len(done.stderr.splitlines()) == 1

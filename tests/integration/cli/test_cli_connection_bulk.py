"""`waylink connections bulk`: one act on many connections, carried out by the command where no worker takes it."""

import json
from datetime import timedelta

import pytest

from app.cli import bulk_runs
from tests.integration.cli.test_cli_connections import command, known, work
from tests.integration.sandbox.sandbox_server import fetch
from tests.integration.world import DANA

__all__ = ["command", "known"]


@pytest.fixture(autouse=True)
def _no_worker_is_waited_for(monkeypatch):
    monkeypatch.setattr(bulk_runs, "UNCLAIMED", timedelta(0))


def bulk(command, *arguments):
    done = command.inside("connections", "bulk", *arguments, "--yes", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_all_that_match_are_tagged_renewed_and_deleted(command, nango, known):
    counted = bulk(command, "delete", "--tag", "end_user_id=usr_1042", "--dry-run")
    [row] = command.json("connections")
    assert (counted["count"], counted["samples"]) == (1, [row["id"]])
    done = bulk(command, "add-tags", "--user", "usr_1042", "--set-tag", "plan=pro", "--reason", "a new contract")
    assert (done["done"], done["left_alone"]) == (1, 0)
    assert fetch(nango, known, "oauth2").json()["tags"] == {**DANA, "plan": "pro"}
    work(command)
    assert bulk(command, "remove-tags", "--tag", "plan=pro", "--remove-tag", "plan")["done"] == 1
    assert bulk(command, "refresh", row["id"])["done"] == 1
    assert bulk(command, "delete", "--all")["done"] == 1
    assert fetch(nango, known, "oauth2").status_code == 404
    runs = command.json("bulk-runs")
    assert [run["act"].partition(".")[2] for run in runs] == ["delete", "refresh", "remove_tags", "add_tags"]
    assert runs[-1]["reason"] == "a new contract"


def test_links_are_closed_only_after_a_yes(command, known):
    refused = command.inside("connections", "bulk", "unlink", "--all")
    assert refused.returncode == 1
    assert "1 connection" in refused.stderr
    assert command.json("connections")[0]["user"] == "usr_1042"
    assert bulk(command, "unlink", "--all")["done"] == 1
    assert command.json("connections")[0]["user"] is None


def test_all_that_a_search_finds_are_taken(command, known):
    assert bulk(command, "unlink", "--query", "usr_1042 integration:nothing", "--dry-run")["count"] == 0
    assert bulk(command, "unlink", "--query", "usr_1042 integration:oauth2")["done"] == 1
    [run] = command.json("bulk-runs")
    assert run["filter"] == {"q": "name:usr_1042 integration:oauth2"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("delete", "--query", " "), "argument 5 is empty"),
        (("delete", "--query", "usr:x"), "did you mean `user`"),
        (("delete",), "which connections"),
        (("delete", "con_1", "--all"), "which connections"),
        (("delete", "--all", "--set-tag", "a=b"), "take neither"),
        (("add-tags", "--all"), "--set-tag"),
        (("delete", "con_1"), "con_"),
        (("forget", "--all"), "forget"),
    ],
)
def test_what_is_not_said_whole_is_refused(command, arguments, told):
    done = command.inside("connections", "bulk", *arguments, "--yes")
    assert done.returncode == 2
    assert told in done.stderr

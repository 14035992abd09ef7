"""`waylink bulk-runs`, and commands on all rows of a filter: they follow their run, and leave it to workers."""

import json
from datetime import timedelta

import pytest

from app.cli import bulk_runs
from app.ids import BULK_RUN, new_id, show
from app.services.bulk_runs import row_acts
from tests.integration.cli.test_cli import one_line_error
from tests.integration.cli.test_cli_jobs import audited, jobs, states, waylink

__all__ = ["jobs", "waylink"]


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Chunks of two, and no worker is waited for."""
    monkeypatch.setattr(row_acts, "BATCH", 2)
    monkeypatch.setattr(bulk_runs, "UNCLAIMED", timedelta(0))


@pytest.fixture
def _many(monkeypatch):
    monkeypatch.setattr(bulk_runs, "AT_ONCE", 2)


@pytest.fixture
def interrupted(monkeypatch):
    """Ctrl-C after the first chunk."""

    def tell(_shows, _ctrl_c):
        def told(run):
            if run.done:
                raise KeyboardInterrupt

        return told

    monkeypatch.setattr(bulk_runs, "_telling", tell)


@pytest.mark.usefixtures("_many")
def test_where_no_worker_takes_a_run_the_command_carries_it_out(waylink, jobs):
    ids = jobs(*["discarded"] * 5)
    done = waylink.inside("jobs", "retry", "--all", "--yes", "--json", "--reason", "the endpoint is back")
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["retried"], answer["stopped"]) == (0, 5, False)
    assert set(states(waylink, ids)) == {"available"}
    [run] = waylink.json("bulk-runs")
    assert (run["id"], run["state"], run["done"], run["reason"]) == (answer["run"], "done", 5, "the endpoint is back")
    [(action, outcome, detail)] = audited(waylink)
    assert (action, outcome, detail["count"], detail["reason"]) == ("job.retried", "done", 5, "the endpoint is back")
    assert waylink.json("bulk-runs", "--state", "running") == waylink.json("bulk-runs", "--act", "jobs.cancel") == []


@pytest.mark.usefixtures("interrupted")
def test_ctrl_c_leaves_the_run_to_workers_and_says_where_to_see_it(waylink, jobs):
    ids = jobs(*["discarded"] * 5)
    done = waylink.inside("jobs", "retry", "--all", "--yes", "--json")
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["retried"], answer["stopped"]) == (1, 2, True)
    assert f"waylink bulk-runs show {answer['run']}" in done.stderr
    run = waylink.json("bulk-runs", "show", answer["run"])
    assert (run["state"], run["done"], run["counted"]) == ("waiting", 2, 5)
    assert states(waylink, ids).count("available") == 2


@pytest.mark.usefixtures("interrupted")
def test_a_run_is_paused_resumed_and_cancelled(waylink, jobs):
    jobs(*["discarded"] * 5)
    run = json.loads(waylink.inside("jobs", "retry", "--all", "--yes", "--json").stdout)["run"]
    assert waylink.json("bulk-runs", "pause", run)["state"] == "paused"
    assert "cannot be paused" in one_line_error(waylink.inside("bulk-runs", "pause", run), 1)
    assert waylink.json("bulk-runs", "resume", run)["state"] == "waiting"
    assert waylink.json("bulk-runs", "cancel", run)["state"] == "cancelled"
    assert [outcome for action, outcome, _ in audited(waylink) if action == "job.retried"] == ["failed"]
    assert show(BULK_RUN, new_id())[:3] in one_line_error(
        waylink.inside("bulk-runs", "show", show(BULK_RUN, new_id())), 1
    )


def test_a_limit_bounds_a_run_and_says_that_there_are_more(waylink, jobs):
    ids = jobs(*["discarded"] * 5)
    answer = waylink.json("jobs", "retry", "--all", "--limit", "3", "--yes")
    assert (answer["retried"], answer["more"]) == (3, True)
    assert states(waylink, ids).count("discarded") == 2


def test_the_page_of_a_run_has_the_rows_that_it_left_alone(waylink, jobs, monkeypatch):
    jobs(*["discarded"] * 3)
    take = row_acts.act_of

    def changed_meanwhile(run, routes):
        act = take(run, routes)
        monkeypatch.setattr(row_acts.job_rows, "take", lambda *_, **__: [])
        return act

    monkeypatch.setattr(row_acts, "act_of", changed_meanwhile)
    answer = waylink.json("jobs", "retry", "--all", "--yes")
    assert (answer["retried"], answer["left_alone"]) == (0, 3)
    shown = waylink.inside("bulk-runs", "show", answer["run"]).stdout
    assert shown.count("left_alone: it changed meanwhile") == 3

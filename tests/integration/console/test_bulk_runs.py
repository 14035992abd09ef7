"""The pages of bulk runs: an act on many jobs leads to its run, which shows how far it is and can be stopped."""

import pytest

from app.clock import utc_now
from app.ids import JOB, show
from app.services.bulk_runs import row_acts
from app.services.bulk_runs.runner import BulkRunner
from app.services.routing.cache import RouteCache
from app.web.api import bulk_runs
from tests.integration.console.test_jobs import audited, jobs, state_of
from tests.integration.status.rows import add, an_event
from tests.waiting import PATIENCE

__all__ = ["jobs"]
PATH = "/console/bulk-runs"


@pytest.fixture(autouse=True)
def _few_are_many(monkeypatch):
    monkeypatch.setattr(bulk_runs, "AT_ONCE", 1)


def work(console):
    BulkRunner(console.database, utc_now, RouteCache(), lambda _: None, lambda _: None).work(seconds=PATIENCE)


def begin(console, name):
    """Retry all discarded jobs of that name; the run's page."""
    preview = console.get("/console/jobs/act", act="retry", name=name, state="discarded")
    fields = {key: value for key, value in preview.fields.items() if key != "reason"}
    return console.follow(console.post("/console/jobs/act", reason="the endpoint is back", **fields))


def test_an_act_on_many_jobs_leads_to_its_run_and_is_done_by_a_worker(console, jobs):
    ids, name = jobs
    page = begin(console, name)
    assert "0 of 3 jobs looked at: 0 done, 0 failed, 0 left alone." in page.text
    assert 'max="3" value="0"' in page.html
    assert "the endpoint is back" in page.text
    assert state_of(console, ids[0]) == "discarded"
    run_path = f"{PATH}/{console.api.json('/bulk-runs')['data'][0]['id']}"
    work(console)
    page = console.get(run_path)
    assert "3 of 3 jobs looked at: 3 done" in page.text
    assert page.buttons == console.get(run_path, who="viewer").buttons, "it is over: nothing can be done with it"
    assert [state_of(console, each) for each in ids] == ["available"] * 4
    assert len(audited(console, "job.retried")) == 1
    assert "3" in console.get(PATH, act="jobs.retry", state="done").text


def test_a_run_is_paused_resumed_and_cancelled_by_its_buttons(console, jobs):
    ids, name = jobs
    begin(console, name)
    path = f"{PATH}/{console.api.json('/bulk-runs')['data'][0]['id']}"
    assert {"Pause", "Cancel"} <= set(console.get(path).buttons)
    assert not {"Pause", "Cancel", "Resume"} & set(console.get(path, who="viewer").buttons)
    console.post(f"{path}/pause", who="viewer", status=403)
    page = console.follow(console.post(f"{path}/pause"))
    assert "The run is paused." in page.text
    assert {"Resume", "Cancel"} <= set(page.buttons)
    work(console)
    assert state_of(console, ids[0]) == "discarded"
    assert "goes on where it was" in console.follow(console.post(f"{path}/resume")).text
    assert "The run is cancelled." in console.follow(console.post(f"{path}/cancel")).text
    assert "cannot be paused" in console.post(f"{path}/pause", status=409).text
    work(console)
    assert state_of(console, ids[0]) == "discarded"


def test_rows_that_were_left_alone_are_listed_with_their_reason_and_a_link(console, jobs):
    ids, name = jobs
    begin(console, name)
    run = console.api.json("/bulk-runs")["data"][0]["id"]
    rows = f"/console/jobs/{ids[1]}"

    def others_act(some):
        if show(JOB, some[0]) == ids[0]:
            console.post(f"{rows}/retry")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(row_acts, "BATCH", 1)
        BulkRunner(console.database, utc_now, RouteCache(), others_act, others_act).work(seconds=PATIENCE)
    page = console.get(f"{PATH}/{run}")
    assert "2 done, 0 failed, 1 left alone" in page.text
    assert rows in page.html
    assert "it is on its way already" in page.text


def test_failed_events_are_retried_by_a_run_as_well(console):
    now = utc_now()
    facts = {"state": "failed", "failure": "crashed", "processed_at": now, "integration": "bulk"}
    add(console.database, *[an_event(now, **facts) for _ in range(2)])
    preview = console.get("/console/events/retry", integration="bulk")
    fields = {key: value for key, value in preview.fields.items() if key != "reason"}
    page = console.follow(console.post("/console/events/retry", reason="mended", **fields))
    assert "0 of 2 events looked at" in page.text
    work(console)
    assert console.api.json("/events?integration=bulk&state=received")["data"]


def test_an_unknown_run_is_not_there(console):
    console.get(f"{PATH}/blk_1", status=404)


def test_events_that_match_are_replayed_by_a_run(console):
    now = utc_now()
    facts = {"state": "processed", "type": "connection.created", "document": {"type": "connection.created"}}
    add(console.database, *[an_event(now, route_set=1, integration="replayed", **facts) for _ in range(3)])
    listed = console.get("/console/events", integration="replayed")
    preview = console.get(listed.links["Replay all that match…"])
    assert "3 events will be given to the routes in force now" in preview.text
    assert preview.fields["since"] == "1d", "a time is needed"
    fields = {key: preview.fields[key] for key in ("since", "integration", "expected")}
    assert "Give a reason" in console.post("/console/events/replay", status=422, **fields).text
    late = console.post("/console/events/replay", status=409, reason="a new route", **fields | {"expected": "2"})
    assert "3 events by now, not 2" in late.text
    page = console.follow(console.post("/console/events/replay", reason="a new route", **fields))
    assert "0 of 3 events looked at" in page.text
    work(console)
    run = console.api.json("/bulk-runs?act=events.replay")["data"][0]
    assert (run["state"], run["left_alone"], run["filter"]["integration"]) == ("done", 3, "replayed")
    assert "no route matches" in console.get(f"{PATH}/{run['id']}").text
    console.get("/console/events/replay", who="viewer", status=403)


def test_a_replay_names_what_is_wrong_with_its_filters(console):
    page = console.get("/console/events/replay", status=422, since="then")
    assert page.attributes["since"]["aria-invalid"] == "true"
    assert "cannot be read" in console.get("/console/events/replay", status=400, routes="all").text
    assert "No event that was routed matches." in console.get("/console/events/replay", integration="nothing").text

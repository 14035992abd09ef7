"""Selections in the console: the rows that are ticked in a list are counted, and acted on, and no others."""

import pytest

from app.clock import utc_now
from app.ids import EVENT, show
from tests.integration.console.test_jobs import audited, jobs, state_of
from tests.integration.status.rows import add, an_event

__all__ = ["jobs"]
ACT = "/console/jobs/act"


def ticked(path, *ids, act="retry"):
    """The URL to which the form of the list leads."""
    return f"{path}?selection=yes&" + "&".join([*(f"id={each}" for each in ids), f"act={act}"])


def fields_of(preview):
    return {name: value for name, value in preview.fields.items() if name != "reason"}


def test_the_list_of_jobs_has_a_box_for_each_and_buttons_for_who_may_act(console, jobs):
    ids, name = jobs
    page = console.get("/console/jobs", name=name)
    for job_id in ids:
        assert f'name="id" value="{job_id}" form="selection"' in page.html
    assert {"Retry…", "Cancel…", "Redeliver…"} <= set(page.buttons)
    seen = console.get("/console/jobs", who="viewer", name=name)
    assert 'name="id"' not in seen.html
    assert "Retry…" not in seen.buttons


def test_selected_jobs_alone_are_retried(console, jobs):
    ids, _ = jobs
    preview = console.get(ticked(ACT, ids[0], ids[3]))
    assert "2 jobs will be delivered again" in preview.text
    done = console.follow(console.post(ACT, reason="their endpoint is back", **fields_of(preview)))
    assert "2 jobs retried." in done.text
    assert [state_of(console, each) for each in ids] == ["available", "discarded", "available", "available"]
    entry = audited(console, "job.retried")[0]
    assert (entry.detail["ids"], entry.detail["reason"]) == ([ids[0], ids[3]], "their endpoint is back")


def test_selected_jobs_that_the_act_does_not_take_are_told_before(console, jobs):
    ids, _ = jobs
    preview = console.get(ticked(ACT, ids[0], ids[2]))
    assert "1 job will be delivered again" in preview.text
    assert "1 job of the selection will be left alone." in preview.text
    assert "it is on its way already" in preview.text
    assert "No job matches that could be cancelled" in console.get(ticked(ACT, ids[0], act="cancel")).text


def test_an_empty_selection_never_means_all(console, jobs):
    ids, _ = jobs
    page = console.get(ticked(ACT), status=422)
    assert "Nothing is selected" in page.text
    assert "expected" not in page.fields
    assert state_of(console, ids[0]) == "discarded"


def test_a_team_selects_jobs_of_its_own_only(console, jobs):
    ids, _ = jobs
    refused = console.get(ticked(ACT, ids[0], ids[3]), who="team", status=422)
    assert ids[3] in refused.text
    assert "expected" not in refused.fields
    console.post(ACT, who="team", status=422, act="retry", ids=f"{ids[0]} {ids[3]}", expected="2", reason="it is ours")
    assert [state_of(console, each) for each in ids] == ["discarded", "discarded", "available", "discarded"]


@pytest.mark.parametrize(
    ("reason", "status", "told"),
    [("x" * 501, 422, "at most 500 are kept"), ("x" * 1_000_000, 413, "131072 bytes"), (" ", 422, "Give a reason")],
    ids=["long", "a megabyte", "blank"],
)
def test_a_reason_that_cannot_be_kept_is_refused(console, jobs, reason, status, told):
    ids, _ = jobs
    fields = {"act": "retry", "ids": ids[0], "expected": "1"}
    assert told in console.post(ACT, status=status, reason=reason, **fields).text
    assert state_of(console, ids[0]) == "discarded"


def test_more_ids_than_a_call_takes_are_refused_with_the_limit(console, jobs):
    ids, _ = jobs
    many = " ".join([ids[0]] * 1001)
    page = console.post(ACT, status=422, act="retry", ids=many, expected="1001", reason="all of them")
    assert "1000" in page.text
    assert state_of(console, ids[0]) == "discarded"


def test_selected_failed_events_are_retried(console):
    now = utc_now()
    facts = {"state": "failed", "failure": "crashed", "processed_at": now, "integration": "selected"}
    made = [an_event(now, **facts) for _ in range(3)]
    add(console.database, *made)
    ids = [show(EVENT, event.id) for event in made]
    listed = console.get("/console/events", integration="selected", state="failed")
    assert "Retry…" in listed.buttons
    assert f'value="{ids[0]}" form="selection"' in listed.html
    preview = console.get(ticked("/console/events/retry", *ids[:2]))
    assert "2 failed events will be processed again" in preview.text
    done = console.follow(console.post("/console/events/retry", reason="mended", **fields_of(preview)))
    assert "2 events retried." in done.text
    left = console.api.json("/events?integration=selected&state=failed")["data"]
    assert [event["id"] for event in left] == [ids[2]]
    assert 'name="id"' not in console.get("/console/events", integration="selected", state="received").html


def test_all_that_meet_a_search_are_retried_and_no_others(console):
    now = utc_now()
    facts = {"state": "failed", "failure": "crashed", "processed_at": now, "type": "connection.created"}
    made = [
        an_event(now, integration="searched", tags={"plan": plan, "round": "first"}, **facts)
        for plan in ("pro", "pro", "free")
    ]
    add(console.database, *made)
    q = "integration:searched tag.plan:pro since:1d"
    listed = console.get("/console/events", q=q, state="failed")
    preview = console.get(listed.links["Retry all that match…"])
    assert "2 failed events will be processed again" in preview.text
    assert preview.fields["q"] == q
    done = console.follow(console.post("/console/events/retry", reason="mended", **fields_of(preview)))
    assert "2 events retried." in done.text
    left = console.api.json("/events?integration=searched&state=failed")["data"]
    assert [event["id"] for event in left] == [show(EVENT, made[2].id)]
    run = console.api.json("/bulk-runs?act=events.retry")["data"][0]
    assert "tag.plan:pro" in run["filter"]["q"]
    assert "since" in run["filter"], "what a search says of time is fixed when it is asked for"
    assert console.get("/console/events/retry", status=422, q="tag.plan:").attributes["q"]["aria-invalid"] == "true"


def test_what_a_search_finds_is_replayed(console):
    now = utc_now()
    facts = {"state": "processed", "type": "connection.created", "document": {"type": "connection.created"}}
    add(
        console.database,
        *[
            an_event(now, route_set=1, integration="found", connection_id=name, **facts)
            for name in ("the-one", "the-one", "another")
        ],
    )
    listed = console.get("/console/events", q="connection:the-one")
    preview = console.get(listed.links["Replay all that match…"])
    assert "2 events will be given to the routes" in preview.text
    assert "another" not in preview.text

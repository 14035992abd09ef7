"""The pages about jobs: the list, a job with its attempts, acts on one and on all that match."""

import pytest
from sqlalchemy import select

from app.clock import utc_now
from app.db.models import Attempt, Audit, Job
from app.ids import JOB, show
from tests.integration.status.rows import a_job, add, an_event, destination


@pytest.fixture
def jobs(console, request):
    """Discarded jobs of crm, one waiting, and one discarded of erp, all named after the test."""
    now, name = utc_now(), request.node.name[:60]
    event = an_event(now, state="processed", type="connection.created")
    gone = {"state": "discarded", "finished_at": now, "fault": "team", "problem": "answered 500", "attempts": 3}
    made = [
        a_job(now, event.id, name=name, **gone),
        a_job(now, event.id, name=name, **gone),
        a_job(now, event.id, name=name),
        a_job(now, event.id, name=name, team="erp", **gone),
    ]
    with console.database.read() as session:
        known = session.scalar(select(Job.id).limit(1)) is not None
    places = [] if known else [destination("crm", "jobs"), destination("erp", "jobs")]
    add(console.database, *places, event, *made)
    return [show(JOB, job.id) for job in made], name


def state_of(console, job_id: str) -> str:
    return console.api.json(f"/jobs/{job_id}")["state"]


def audited(console, action: str) -> list[Audit]:
    with console.database.read() as session:
        return list(session.scalars(select(Audit).where(Audit.action == action).order_by(Audit.id.desc())))


def test_the_list_shows_the_jobs_that_the_filters_mean(console, jobs):
    ids, name = jobs
    page = console.get("/console/jobs", name=name, state="discarded")
    assert page.fields["state"] == "discarded"
    assert "3 jobs shown: no more match." in page.text
    assert "answered 500" in page.text
    assert ids[2] not in page.html
    assert "All" in page.links


def test_a_filter_that_cannot_be_used_is_named_at_its_field(console):
    for name, value, told in (
        ("destination", "jobs", "expected TEAM/NAME"),
        ("event", "evt_1", "expected evt_ and 32 hex digits"),
        ("since", "yesterday", "expected how long ago"),
        ("state", "lost", ""),
    ):
        page = console.get("/console/jobs", status=422, **{name: value, "team": "crm"})
        assert page.attributes[name]["aria-invalid"] == "true", name
        assert page.attributes[name]["aria-describedby"] == f"{name}-problem"
        assert told in page.text
        assert page.fields[name] == value
        assert page.fields["team"] == "crm", "what was right is kept"


def test_a_job_is_shown_with_its_attempts(console, jobs):
    ids, name = jobs
    with console.database.write() as session:
        job = session.scalars(select(Job).where(Job.name == name).order_by(Job.id)).first()
        session.add(
            Attempt(
                job_id=job.id, number=1, started_at=utc_now(), latency_ms=1250.0, outcome="failed", status=500,
                error=None, response_excerpt="<b>no such route</b>",
            )
        )  # fmt: skip
    page = console.get(f"/console/jobs/{ids[0]}", who="viewer")
    assert "1.2 s" in page.text
    assert "<b>no such route</b>" in page.text, "as text"
    assert page.buttons == ["Sign out"], "a viewer acts on nothing"
    assert console.get(f"/console/jobs/{ids[0]}").buttons == ["Sign out", "Retry", "Acknowledge"]
    assert console.get(f"/console/jobs/{ids[2]}").buttons == ["Sign out", "Cancel"]
    assert "There is no such thing" in console.get("/console/jobs/job_1", status=404).text


def test_acts_on_one_job_are_those_of_the_api_and_audited(console, jobs):
    ids, _ = jobs
    done = console.follow(console.post(f"/console/jobs/{ids[0]}/retry"))
    assert "The job is delivered again" in done.text
    assert state_of(console, ids[0]) == "available"
    assert audited(console, "job.retried")[0].actor == "operator:operator"
    console.post(f"/console/jobs/{ids[2]}/cancel")
    assert state_of(console, ids[2]) == "cancelled"
    assert "nothing to do" in console.follow(console.post(f"/console/jobs/{ids[2]}/cancel")).text
    refused = console.post(f"/console/jobs/{ids[1]}/redeliver", status=409)
    assert "retry it" in refused.text
    assert state_of(console, ids[1]) == "discarded"
    assert "acknowledged" in console.follow(console.post(f"/console/jobs/{ids[1]}/acknowledge")).text
    assert audited(console, "jobs.acknowledged")[0].subject == ids[1]


def test_all_that_match_are_counted_first_and_then_acted_on_with_a_reason(console, jobs):
    ids, name = jobs
    listed = console.get("/console/jobs", name=name, state="discarded")
    preview = console.get(listed.links["Retry all that match…"])
    assert "3 jobs will be delivered again" in preview.text
    assert "crm/jobs" in preview.text
    assert "erp/jobs" in preview.text
    fields = {key: value for key, value in preview.fields.items() if key != "reason"}
    assert fields["expected"] == "3"
    unsaid = console.post("/console/jobs/act", status=422, **fields)
    assert "Give a reason" in unsaid.text
    assert state_of(console, ids[0]) == "discarded"
    done = console.follow(console.post("/console/jobs/act", reason="the endpoint is back", **fields))
    assert "3 jobs retried." in done.text
    assert [state_of(console, each) for each in ids] == ["available"] * 4
    entry = audited(console, "job.retried")[0]
    assert entry.detail["reason"] == "the endpoint is back"
    assert entry.detail["count"] == 3


def test_an_act_on_more_jobs_than_were_counted_is_asked_anew(console, jobs):
    ids, name = jobs
    fields = {"act": "retry", "name": name, "state": "discarded", "expected": "2", "reason": "it is back"}
    page = console.post("/console/jobs/act", status=409, **fields)
    assert "3 jobs by now, not 2" in page.text
    assert page.fields["expected"] == "3"
    assert page.fields["reason"] == "it is back", "nothing that was typed is lost"
    assert state_of(console, ids[0]) == "discarded"


def test_a_preview_names_what_is_wrong_with_its_filters(console):
    page = console.get("/console/jobs/act", status=422, act="retry", destination="jobs")
    assert page.attributes["destination"]["aria-invalid"] == "true"
    page = console.get("/console/jobs/act", act="redeliver", state="completed")
    assert "Name the destination that lost them" in page.text
    page = console.get("/console/jobs/act", status=422, act="redeliver", destination="crm/jobs", ended_since="then")
    assert page.attributes["ended_since"]["aria-invalid"] == "true"
    assert "cannot be read" in console.get("/console/jobs/act", status=400, act="delete").text


def test_dead_letters_are_acknowledged_once_they_are_counted(console, jobs):
    preview = console.get("/console/jobs/acknowledge", destination="erp/jobs")
    count = int(preview.fields["expected"])
    assert f"{count} dead letter" in preview.text
    page = console.post("/console/jobs/acknowledge", status=409, destination="erp/jobs", expected="0", reason="seen")
    assert page.fields["reason"] == "seen"
    fields = {"destination": "erp/jobs", "expected": str(count), "reason": "seen"}
    assert "acknowledged." in console.follow(console.post("/console/jobs/acknowledge", **fields)).text
    assert "No dead letter is new" in console.get("/console/jobs/acknowledge", destination="erp/jobs").text


def test_a_team_acts_on_its_own_jobs_alone(console, jobs):
    ids, name = jobs
    listed = console.get("/console/jobs", who="team", name=name)
    assert ids[3] not in listed.html
    console.get(f"/console/jobs/{ids[3]}", who="team", status=404)
    console.post(f"/console/jobs/{ids[3]}/retry", who="team", status=404)
    preview = console.get("/console/jobs/act", who="team", act="retry", name=name)
    assert preview.fields["expected"] == "2"
    console.post("/console/jobs/act", who="team", act="retry", name=name, expected="2", reason="ours is back")
    assert [state_of(console, each) for each in ids] == ["available", "available", "available", "discarded"]


def test_viewers_see_no_acts_and_may_do_none(console, jobs):
    ids, name = jobs
    assert "Retry all that match…" not in console.get("/console/jobs", who="viewer", name=name).links
    for path in (f"/console/jobs/{ids[0]}/retry", "/console/jobs/act", "/console/jobs/acknowledge"):
        console.post(path, who="viewer", status=403)
    assert state_of(console, ids[0]) == "discarded"

"""The pages about events: the list, an event with its stages and decisions, replays and retries."""

import json
from datetime import timedelta

import pytest
from sqlalchemy import select

from app.clock import utc_now
from app.db.models import Audit, Destination
from app.db.read import event_search
from app.db.routes import RouteDefinition
from app.ids import EVENT, JOB, new_id, parse, show
from app.services.definitions import config_sync
from app.services.definitions.config_plan import DestinationDefinition
from tests.integration.status.rows import a_connection, a_job, add, an_event

ROUTES = [
    RouteDefinition("contacts", "crm", "jobs", "crm.import", {"type": ["connection.created"]}),
    RouteDefinition("paid", "crm", "jobs", "crm.paid", {"tags": {"plan": ["pro"]}}),
    RouteDefinition("all", "erp", "jobs", "erp.do", {"type": ["connection.created"]}),
]
SECRET = "hunter2-of-the-provider"


@pytest.fixture
def events(console):
    """Two events of one connection: a plain one, and a forwarded one whose tags and payload differ; both routed."""
    with console.database.read() as session:
        known = session.scalar(select(Destination.name).limit(1)) is not None
    if not known:
        places = {(team, "jobs"): DestinationDefinition("celery", f"team.{team}.jobs") for team in ("crm", "erp")}
        with console.database.write() as session:
            config_sync.apply_file(session, destinations=places, routes=ROUTES, now=utc_now())
    now, connection = utc_now(), a_connection(utc_now(), new_id().hex)
    facts = {"state": "processed", "type": "connection.created", "route_set": 1, "integration": "oauth2"}
    facts |= {"connection_id": connection.connection_id, "connection_ref": connection.id, "processed_at": now}
    first = {"type": "connection.created", "tags": {"plan": "free", "region": "eu"}}
    second = {"type": "connection.created", "tags": {"plan": "team"}, "payload": {"password": SECRET, "seats": 5}}
    body = {"from": "github", "type": "forward", "payload": second["payload"]}
    older = an_event(now - timedelta(minutes=5), document=first, **facts)
    newer = an_event(now, document=second, body=json.dumps(body).encode(), **facts)
    add(console.database, connection, older, newer)
    return show(EVENT, older.id), show(EVENT, newer.id), connection.connection_id


def failed_event(console) -> str:
    event = an_event(utc_now(), state="failed", failure="error", problem="it broke\nTraceback", processed_at=utc_now())
    add(console.database, event)
    return show(EVENT, event.id)


def jobs_of(console, event_id: str) -> list[dict]:
    return console.api.json(f"/jobs?event={event_id}")["data"]


def test_the_list_is_filtered_and_leads_to_the_events_of_a_connection(console, events):
    older, _, connection = events
    page = console.get("/console/events", connection_id=connection)
    assert "2 events shown: no more match." in page.text
    assert page.links[connection] == f"/console/events?connection_id={connection}"
    assert f"/console/events/{older}" in page.links.values()
    assert console.get("/console/events", connection_id=connection, limit="1").links["Older"]
    assert "No event matches" in console.get("/console/events", connection_id=connection, state="failed").text
    page = console.get("/console/events", status=422, since="yesterday", integration="oauth2")
    assert page.attributes["since"]["aria-invalid"] == "true"
    assert page.fields["integration"] == "oauth2"


def test_the_list_is_searched_and_the_search_is_in_its_url_beside_the_filters(console, events):
    older, newer, connection = events
    page = console.get("/console/events", q=f"connection:{connection} id:{older}", type="connection.created", limit="1")
    assert page.fields["q"] == f"connection:{connection} id:{older}"
    assert [path for path in page.links.values() if path.startswith("/console/events/evt_")] == [
        f"/console/events/{older}"
    ]
    assert "id%3Aevt_" in page.links["processed"]
    assert page.fields["type"] == "connection.created"
    found = console.api.json("/events", params={"q": f"connection:{connection} id:{older}"}, who="viewer")
    assert [event["id"] for event in found["data"]] == [older]
    both = console.api.json("/events", params={"q": f"{connection} state:processed", "since": "1h"})
    assert [event["id"] for event in both["data"]] == [newer, older]


def test_a_search_that_cannot_be_read_is_told_at_its_field_and_kept(console):
    page = console.get("/console/events", status=422, q="tpye:x", state="failed")
    assert "character 1: there is no such field; did you mean type ?" in page.text
    assert page.attributes["q"]["aria-invalid"] == "true"
    assert (page.fields["q"], page.fields["state"]) == ("tpye:x", "failed")
    refused = console.api.get("/events", params={"q": "tpye:x"})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "q"


def test_a_retry_of_all_that_match_keeps_the_search(console):
    failed_event(console)
    page = console.get("/console/events", state="failed", q="origin:webhook")
    assert "q=origin%3Awebhook" in page.links["Retry all that match…"]
    assert "1 failed event" in console.get(page.links["Retry all that match…"]).text
    other = console.get("/console/events", state="failed", q="origin:reconcile")
    assert "No failed event matches." in console.get(other.links["Retry all that match…"]).text


def test_a_team_searches_its_own_events_by_what_they_say_themselves(console, events):
    _, newer, connection = events
    add(console.database, a_job(utc_now(), parse(EVENT, newer)))
    for search in (connection, f"connection:{connection}", "type:connection.created", f"id:{newer}", newer):
        found = console.api.json("/events", params={"q": search}, who="team-viewer")
        assert [event["id"] for event in found["data"]] == [newer], search
    assert newer in console.get("/console/events", q=connection, who="team").html
    assert console.api.json("/events", params={"q": "user:u-1"}, who="team-viewer")["data"] == []


def test_where_no_row_was_found_so_far_the_page_leads_on(console, events, monkeypatch):
    monkeypatch.setattr(event_search, "AT_MOST", 1)
    page = console.get("/console/events", q="nothing-says-this")
    assert "No event among those looked at matches." in page.text
    assert "cursor=" in page.links["Look at older events"]


def test_an_event_shows_each_routes_decision_with_expected_and_actual(console, events):
    page = console.get(f"/console/events/{events[1]}", who="viewer")
    assert "matches crm/contacts, version 1: job crm.import to jobs" in page.text
    assert "does not match crm/paid" in page.text
    assert 'does not hold tags.plan : expected "pro" , found "team"' in page.text.replace("[", "").replace("]", "")
    assert page.buttons == ["Sign out"]


def test_an_event_says_with_which_of_the_live_keys_it_was_verified(console):
    for number, says in (
        (1, "the newest of its environment's signing keys"),
        (2, "an older signing key of its environment, number 2"),
        (None, "a key that is not known"),
    ):
        event = an_event(utc_now(), type="connection.created", signing_key=number)
        add(console.database, event)
        assert says in console.get(f"/console/events/{show(EVENT, event.id)}").text
        assert console.api.json(f"/events/{show(EVENT, event.id)}")["signing_key"] == number


def test_the_body_is_masked_and_the_masked_parts_are_counted(console, events):
    page = console.get(f"/console/events/{events[1]}")
    assert SECRET not in page.html
    assert "1 part that may be a credential is masked." in page.text
    assert "seats" in page.text


def test_the_difference_to_the_connections_previous_event_is_told(console, events):
    page = console.get(f"/console/events/{events[1]}")
    told = page.text.partition("Difference to the connection's previous event")[2].partition("Body")[0]
    assert 'tags.plan changed "free" "team"' in told
    assert 'tags.region removed "eu"' in told
    assert "payload added" in told
    assert page.links["its previous event"] == f"/console/events/{events[0]}"
    assert "Difference" not in console.get(f"/console/events/{events[0]}").text


def test_the_stages_tell_what_waited_and_what_was_worked(console, events):
    job = a_job(utc_now(), parse(EVENT, events[1]), state="retryable", attempts=1)
    add(console.database, job)
    page = console.get(f"/console/events/{events[1]}")
    assert "Received and stored" in page.text
    assert "Waits for crm/jobs" in page.text
    assert page.links["Waits for crm/jobs"] == f"/console/jobs/{show(JOB, job.id)}"
    assert page.html.count("<rect") >= 3


def test_a_replay_is_previewed_and_then_makes_the_jobs(console, events):
    page = console.get(console.get(f"/console/events/{events[1]}").links["Replay…"])
    assert "2 jobs will be due." in page.text
    assert jobs_of(console, events[1]) == []
    done = console.follow(console.post(f"/console/events/{events[1]}/replay", routes="now"))
    assert "2 jobs due." in done.text
    assert {job["route"] for job in jobs_of(console, events[1])} == {"contacts", "all"}
    again = console.get(f"/console/events/{events[1]}/replay")
    assert "0 jobs will be due." in again.text
    assert "Replay" not in again.buttons
    with console.database.read() as session:
        last = session.scalars(select(Audit).where(Audit.action == "event.replayed").order_by(Audit.id.desc())).first()
        assert (last.subject, last.actor) == (events[1], "operator:operator")
    console.get(f"/console/events/{events[1]}/replay", status=400, routes="tomorrow")


def test_a_failed_event_is_retried_or_acknowledged(console):
    event = failed_event(console)
    page = console.get(f"/console/events/{event}")
    assert "it broke" in page.text
    assert "Traceback" not in page.text
    assert page.buttons == ["Sign out", "Retry", "Acknowledge"]
    assert "acknowledged" in console.follow(console.post(f"/console/events/{event}/acknowledge")).text
    assert "processed again" in console.follow(console.post(f"/console/events/{event}/retry")).text
    assert console.api.json(f"/events/{event}")["state"] == "received"
    assert console.post(f"/console/events/{event}/acknowledge", status=409).links["To the console"] == "/console"


def test_a_team_sees_the_events_of_its_jobs_without_bodies(console, events):
    console.get(f"/console/events/{events[1]}", who="team", status=404)
    console.post(f"/console/events/{events[1]}/replay", routes="now")
    page = console.get(f"/console/events/{events[1]}", who="team")
    assert "crm/contacts" in page.text
    assert "erp" not in page.text
    assert "Body" not in page.text
    assert "Replay…" not in page.links
    console.post(f"/console/events/{events[1]}/replay", who="team", status=403)


def test_failed_events_are_retried_all_that_match_after_a_count(console):
    ids = [failed_event(console) for _ in range(2)]
    listed = console.get("/console/events", state="failed", environment="default")
    preview = console.get(listed.links["Retry all that match…"])
    count = int(preview.fields["expected"])
    assert count >= 2
    assert f"{count} failed events will be processed again" in preview.text
    page = console.post("/console/events/retry", status=409, environment="default", expected="1", reason="mended")
    assert page.fields["reason"] == "mended"
    assert console.post("/console/events/retry", status=422, expected=str(count)).text.count("Give a reason") == 1
    fields = {"environment": "default", "expected": str(count), "reason": "mended"}
    assert f"{count} events retried." in console.follow(console.post("/console/events/retry", **fields)).text
    assert {console.api.json(f"/events/{each}")["state"] for each in ids} == {"received"}
    with console.database.read() as session:
        last = session.scalars(select(Audit).where(Audit.action == "event.retried").order_by(Audit.id.desc())).first()
        assert last.detail["reason"] == "mended"
    assert "aria-invalid" in console.get("/console/events/retry", status=422, since="then").attributes["since"]
    console.post("/console/events/retry", who="viewer", status=403)


def test_failed_events_are_acknowledged_once_they_are_counted(console):
    failed_event(console)
    expected = console.get("/console/events/acknowledge").fields["expected"]
    console.post("/console/events/acknowledge", status=409, expected="0", reason="seen")
    done = console.post("/console/events/acknowledge", expected=expected, reason="seen")
    assert "acknowledged." in console.follow(done).text
    assert "No failed event is new" in console.get("/console/events/acknowledge").text

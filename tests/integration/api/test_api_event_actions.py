"""Events are taken up again, replayed and backfilled by REST: counted first, and never beyond what was counted."""

import pytest

from app.brokers.celery_broker import EVENTS_QUEUE, Broker
from app.clock import utc_now
from app.db.models import Event
from app.db.routes import RouteDefinition
from app.domain.access import Scope
from app.ids import EVENT, new_id, parse, show
from app.services.definitions import config_sync
from app.services.definitions.config_plan import DestinationDefinition
from tests.integration.api.api_client import open_api, problem_of
from tests.integration.cli.test_status import an_event


@pytest.fixture(params=["sqlite", "postgresql"])
def api(request, broker_url, tmp_path):
    sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/waylink.db" if sqlite else request.getfixturevalue("postgres_url")
    with open_api(database_url=url, broker_url=broker_url, folder=tmp_path) as client:
        route = RouteDefinition("contacts", "crm", "jobs", "crm.import", {"type": ["connection.created"]})
        places = {("crm", "jobs"): DestinationDefinition("celery", "team.crm.jobs")}
        with client.database.write() as session:
            config_sync.apply_file(session, destinations=places, routes=[route], now=utc_now())
        yield client


def make(api, number=1, **changes):
    judged = {"type": "connection.created", "document": {"type": "connection.created"}, "route_set": 1}
    made = [an_event(utc_now(), **({"state": "processed"} | judged | changes)) for _ in range(number)]
    with api.database.write() as session:
        session.add_all(made)
        session.flush()
        return [show(EVENT, event.id) for event in made]


def state(api, event_id):
    with api.database.read() as session:
        return session.get(Event, parse(EVENT, event_id)).state


def test_failed_events_are_retried_as_many_as_were_seen(api, broker_url):
    ids = make(api, 2, state="failed", failure="error", document=None, route_set=None)
    wanted = {"filter": {"failure": "error", "since": "1d"}}
    shown = api("POST", "/events/retry", json=wanted | {"dry_run": True}).json()
    assert (shown["count"], shown["samples"]) == (2, ids)
    problem_of(api("POST", "/events/retry", json=wanted), 422, "invalid_input")
    problem_of(api("POST", "/events/retry", json=wanted | {"expected": 1}), 409, "conflict")
    assert api("POST", "/events/retry", json=wanted | {"expected": 2}).json()["changed"] == 2
    assert {state(api, id_) for id_ in ids} == {"received"}
    assert api("POST", f"/events/{ids[0]}/retry").json() == {"id": ids[0], "changed": False}
    broker = Broker.at("internal", broker_url)
    try:
        assert broker.queue_length(EVENTS_QUEUE) == 1  # a hint was sent to the workers
    finally:
        broker.close()


def test_a_processed_event_is_replayed_not_retried(api):
    [event] = make(api)
    assert "replay" in problem_of(api("POST", f"/events/{event}/retry"), 409, "conflict")["detail"]
    shown = api("POST", f"/events/{event}/replay", json={"dry_run": True}).json()
    assert [(step["route"], step["outcome"], step["job_id"]) for step in shown["steps"]] == [("contacts", "new", None)]
    [step] = api("POST", f"/events/{event}/replay", json={}).json()["steps"]
    [job] = api.json(f"/jobs?event={event}")["data"]
    assert step["job_id"] == job["id"]
    [step] = api("POST", f"/events/{event}/replay", json={"routes": "then"}).json()["steps"]
    assert (step["outcome"], step["job_id"]) == ("left_alone", job["id"])
    problem_of(api("POST", f"/events/{show(EVENT, new_id())}/replay", json={}), 404, "not_found")


def test_a_backfill_makes_as_many_as_were_seen(api):
    ids = make(api, 3)
    shown = api("POST", "/routes/crm/contacts/backfill", json={"since": "1d", "dry_run": True}).json()
    assert (shown["count"], shown["made"], shown["complete"], shown["samples"]) == (3, 0, True, ids)
    body = {"since": "1d", "limit": 2}
    problem_of(api("POST", "/routes/crm/contacts/backfill", json=body), 422, "invalid_input")
    problem_of(api("POST", "/routes/crm/contacts/backfill", json=body | {"expected": 1}), 409, "conflict")
    done = api("POST", "/routes/crm/contacts/backfill", json=body | {"expected": 2}).json()
    assert (done["made"], done["complete"], done["after"]) == (2, False, ids[1])
    rest = api("POST", "/routes/crm/contacts/backfill", json=body | {"expected": 2, "after": done["after"]}).json()
    assert (rest["made"], rest["complete"]) == (1, True)
    jobs = api.json("/jobs?route=crm/contacts")["data"]
    assert sorted(job["event_id"] for job in jobs) == ids
    assert {job["backfill"] for job in jobs} == {True}
    [row] = api.json("/audit?action=route.backfilled&limit=1")["data"]
    assert (row["subject"], row["detail"]["count"]) == ("crm/contacts", 1)
    problem_of(api("POST", "/routes/crm/nothing/backfill", json={"since": "1d", "dry_run": True}), 404, "not_found")


def test_events_of_a_filter_are_replayed_as_many_as_were_seen(api):
    ids = make(api, 3)
    wanted = {"filter": {"since": "1d", "type": "connection.created"}, "reason": "a new route"}
    problem_of(api("POST", "/events/replay", json={"filter": {}}), 400, "invalid_request")
    shown = api("POST", "/events/replay", json=wanted | {"dry_run": True}).json()
    assert (shown["count"], shown["samples"], shown["run"]) == (3, ids, None)
    problem_of(api("POST", "/events/replay", json=wanted), 422, "invalid_input")
    problem_of(api("POST", "/events/replay", json=wanted | {"expected": 2}), 409, "conflict")
    run = api("POST", "/events/replay", json=wanted | {"expected": 3}).json()["run"]
    assert (run["act"], run["state"], run["done"], run["filter"]["routes"]) == ("events.replay", "done", 3, "now")
    assert sorted(job["event_id"] for job in api.json("/jobs?route=crm/contacts")["data"]) == ids
    [entry] = api.json("/audit?action=event.replayed")["data"]
    assert (entry["subject"], entry["detail"]["count"], entry["detail"]["reason"]) == (run["id"], 3, "a new route")
    again = api("POST", "/events/replay", json=wanted | {"expected": 3}).json()["run"]
    assert (again["done"], again["left_alone"], len(again["rows"])) == (0, 3, 3)


@pytest.mark.parametrize("who", ["team", str(Scope.VIEWER)])
def test_teams_and_viewers_do_none_of_it(api, who):
    [event] = make(api)
    for path in ("/events/retry", "/events/replay", f"/events/{event}/replay", "/routes/crm/contacts/backfill"):
        problem_of(api("POST", path, who=who, json={}), 403, "forbidden")

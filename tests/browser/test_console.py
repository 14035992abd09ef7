"""The console's pages in a real Chromium, used without JavaScript on each screen."""

import json
import math
import re
from datetime import timedelta

import httpx
import pytest

from app.clock import utc_now
from app.db import figures as figure_rows
from app.db.models import Attempt, Destination, Event, Job
from app.db.routes import RouteDefinition
from app.domain.figures import FigureName, Step
from app.ids import EVENT, JOB, new_id, parse, show
from app.sealing import Sealer, new_key
from app.services.definitions import config_sync
from app.services.definitions.config_plan import DestinationDefinition
from app.services.metrics.own_counts import METRICS
from tests.browser.conftest import Installation
from tests.browser.visitor import Visitor
from tests.integration.status.rows import a_connection, a_job, add, an_event, report_running
from tests.waiting import PATIENCE

PASSWORD = "correct horse battery staple"
TO_JOB = next(shape for shape in METRICS if shape.name == "waylink_webhook_to_job_seconds")
PATTERN = {"type": ["connection.created"], "tags": {"plan": ["pro", {"prefix": "ent"}]}}


@pytest.fixture
def rows(installed: Installation, request) -> dict[str, str]:
    """A connection's two events, a discarded job of each with an attempt, and a failed event; their ids."""
    database, now, name = installed.database, utc_now(), f"crm.job_{new_id().hex[-8:]}"
    with database.read() as session:
        known = session.get(Destination, ("crm", "jobs")) is not None
    if not known:
        routes = [
            RouteDefinition("contacts", "crm", "jobs", "crm.import_contacts", {"type": ["connection.created"]}),
            RouteDefinition("paid-plans", "crm", "jobs", "crm.paid", PATTERN),
        ]
        places = {("crm", "jobs"): DestinationDefinition("celery", "team.crm.jobs")}
        with database.write() as session:
            sealer = Sealer(
                lambda: [new_key().encode()]
            )  # other tests' destinations have secrets, which it need not open
            config_sync.apply_file(session, destinations=places, routes=routes, sealer=sealer, now=now)
    connection = a_connection(now, f"7d3c-{new_id().hex[-8:]}")
    facts = {"state": "processed", "type": "connection.created", "route_set": 1, "integration": "hubspot"}
    facts |= {"connection_id": connection.connection_id, "connection_ref": connection.id, "confirmed": True}
    events = []
    for minutes, plan in ((30, "free"), (2, "pro")):
        at, tags = now - timedelta(minutes=minutes), {"end_user_id": "usr_1042", "plan": plan, "region": "eu"}
        document = {"type": "connection.created", "tags": tags, "user": {"external_id": "usr_1042"}}
        body = json.dumps({"from": "nango", "type": "auth", "operation": "creation", "tags": tags}).encode()
        at_end = at + timedelta(seconds=1)
        events.append(an_event(at, document=document, body=body, tags=tags, processed_at=at_end, **facts))
    gone = {"state": "discarded", "finished_at": now, "fault": "team", "attempts": 1, "name": name}
    gone |= {"problem": "the endpoint answered 500"}
    made = [
        a_job(event.received_at + timedelta(seconds=1), event.id, route=f"import-{number}", **gone)
        for number, event in enumerate(events)
    ]
    answered = {"status": 500, "error": None, "response_excerpt": "Internal Server Error: no such contact list"}
    tries = [
        Attempt(job_id=job.id, number=1, started_at=job.created_at, latency_ms=840.0, outcome="discarded", **answered)
        for job in made
    ]
    broken = an_event(now, state="failed", failure="error", problem="it broke", processed_at=now)
    add(database, connection, *events, *made, *tries, broken)
    names = {"older": events[0], "event": events[1], "failed": broken}
    ids = {noun: show(EVENT, event.id) for noun, event in names.items()}
    return ids | {"job": show(JOB, made[0].id), "other_job": show(JOB, made[1].id), "name": name}


@pytest.fixture(scope="module")
def figures(installed: Installation) -> None:
    """Two days of webhooks, backlog, jobs and refreshes, minute by minute in the last hour; and processes."""
    now = utc_now()
    minutes = [Step.MINUTE.start(now - timedelta(minutes=number)) for number in (*range(1, 55), *range(60, 2000, 20))]
    zeros = [0] * (len(TO_JOB.buckets) + 2)
    with installed.database.write() as session:
        for number, at in enumerate(minutes):
            wave = 10 + round(8 * math.sin(number / 6))
            times = list(zeros)
            times[3 + number % 4] = wave
            counted = {
                (FigureName.WEBHOOKS, ("default", "stored")): (wave,),
                (FigureName.WEBHOOKS, ("default", "bad_signature")): (number % 5,),
                (FigureName.EVENTS, ("connection.created", "processed")): (wave,),
                (FigureName.JOBS, ("crm", "jobs", "completed")): (wave,),
                (FigureName.JOBS_DISCARDED, ("crm", "jobs", "team")): (number % 3,),
                (FigureName.REFRESHES, ("default", "hubspot", "renewed")): (wave * 2,),
                (FigureName.REFRESHES, ("default", "hubspot", "failed")): (number % 4,),
                (FigureName.BACKLOG, ("events",)): (wave * 1_000_000,),
                (FigureName.BACKLOG, ("jobs",)): (number % 7 * 1_000_000,),
                (FigureName.OLDEST_DUE_SECONDS, ("events",)): (wave * 300_000,),
                (FigureName.WEBHOOK_TO_JOB_SECONDS, ("crm", "jobs")): tuple(times),
            }
            figure_rows.put(session, counted, at=at)
    report_running(installed.database, task="process_events", task_since=now)


def sign_in(visit: Visitor, operator) -> None:
    visit.go(operator[1])
    visit.fill(password=PASSWORD, repeated=PASSWORD)
    visit.press("Set the password and sign in")


def follow(visit: Visitor, label: str) -> None:
    visit.page.locator("main").get_by_role("link", name=label, exact=True).first.click()
    visit.page.wait_for_load_state("networkidle")


def said(visit: Visitor) -> str:
    return visit.page.get_by_role("status").inner_text()


def state_of(installed: Installation, kind: type, prefix: str, shown: str) -> str:
    with installed.database.read() as session:
        row = session.get(kind, parse(prefix, shown))
        assert row is not None
        return str(row.state)


def test_rejections_are_found_and_filtered(visit: Visitor, installed: Installation, operator):
    for _ in range(3):
        answer = httpx.post(f"{installed.origin}/webhooks/nango", content=b"{}", trust_env=False, timeout=PATIENCE)
        assert answer.status_code == 401
    sign_in(visit, operator)
    visit.opens("Rejections")
    visit.sees("Rejections", "rejections")
    visit.page.get_by_text("Filter", exact=True).click()
    visit.page.locator("#cause").fill("too_large")
    visit.press("Show")
    visit.sees("Rejections", "rejections-none")
    assert re.search(r"cause=too_large", visit.page.url)
    assert "No rejection matches these filters." in visit.page.locator("main").inner_text()


def test_an_event_is_found_understood_and_replayed(visit: Visitor, installed: Installation, operator, rows):
    sign_in(visit, operator)
    visit.opens("Events")
    visit.sees("Events", "events")
    visit.page.locator(f"a[href='/console/events/{rows['event']}']").click()
    visit.sees("connection.created", "event")
    text = visit.page.locator("main").inner_text()
    assert "matches" in text
    assert "tags.plan" in text
    follow(visit, "Replay…")
    visit.sees("Replay an event", "event-replay")
    visit.press("Replay")
    visit.sees("connection.created", "event-replayed")
    assert "jobs due." in said(visit)
    with installed.database.read() as session:
        made = [job for job in session.query(Job) if show(EVENT, job.event_id) == rows["event"]]
    assert {"contacts", "paid-plans"} <= {job.route for job in made}


def test_a_failed_event_is_acknowledged_and_retried(visit: Visitor, installed: Installation, operator, rows):
    sign_in(visit, operator)
    visit.go(f"/console/events/{rows['failed']}")
    visit.sees("Not read yet", "event-failed")
    visit.press("Acknowledge")
    assert "acknowledged" in said(visit)
    visit.press("Retry")
    assert "processed again" in said(visit)
    assert state_of(installed, Event, EVENT, rows["failed"]) == "received"


def test_a_dead_letter_is_looked_at_and_retried(visit: Visitor, installed: Installation, operator, rows):
    sign_in(visit, operator)
    visit.opens("Jobs")
    visit.sees("Jobs", "jobs")
    follow(visit, "dead letters")
    visit.page.locator(f"a[href='/console/jobs/{rows['job']}']").click()
    visit.sees(rows["name"], "job")
    assert "no such contact list" in visit.page.locator("main").inner_text()
    visit.press("Acknowledge")
    assert "acknowledged" in said(visit)
    visit.press("Retry")
    assert "delivered again" in said(visit)
    assert state_of(installed, Job, JOB, rows["job"]) == "available"
    visit.press("Cancel")
    assert state_of(installed, Job, JOB, rows["job"]) == "cancelled"
    visit.go("/console/jobs?destination=crm&state=discarded")
    visit.sees("Jobs", "jobs-refused")
    assert "expected TEAM/NAME" in visit.page.locator("#destination-problem").inner_text()


def test_all_jobs_that_match_are_counted_and_retried(visit: Visitor, installed: Installation, operator, rows):
    sign_in(visit, operator)
    visit.go(f"/console/jobs?state=discarded&name={rows['name']}")
    follow(visit, "Retry all that match…")
    visit.sees("Retry jobs", "jobs-preview")
    assert "2 jobs will be delivered again" in visit.page.locator("main").inner_text()
    visit.fill(reason="the endpoint is back")
    visit.press("Retry 2 jobs")
    visit.sees("Jobs", "jobs-retried")
    assert "2 jobs retried." in said(visit)
    assert {state_of(installed, Job, JOB, rows[each]) for each in ("job", "other_job")} == {"available"}


def test_dead_letters_are_acknowledged(visit: Visitor, operator, rows):
    sign_in(visit, operator)
    visit.go("/console/jobs?state=discarded&destination=crm/jobs")
    follow(visit, "Acknowledge dead letters…")
    visit.sees("Acknowledge dead letters", "jobs-acknowledge")
    visit.fill(reason="their release of Monday")
    visit.page.locator("main").get_by_role("button").click()
    visit.page.wait_for_load_state("networkidle")
    assert "acknowledged." in said(visit)


def test_the_overview_draws_figures_for_a_chosen_time(visit: Visitor, figures, operator):
    sign_in(visit, operator)
    visit.sees_overview("overview-figures")
    webhooks = visit.page.locator("figure#webhooks")
    assert webhooks.get_by_role("img").bounding_box()["height"] > 100
    webhooks.get_by_text("As a table").click()
    assert webhooks.get_by_role("table").is_visible()
    visit.page.locator("main").get_by_role("link", name="1h", exact=True).click()
    visit.sees_overview("overview-1h")
    assert "per minute" in visit.page.locator("figure#webhooks").inner_text()


def test_queues_and_processes_lead_to_the_jobs_that_wait(visit: Visitor, figures, operator, rows):
    sign_in(visit, operator)
    visit.opens("Queues and processes")
    visit.sees("Queues and processes", "queues")
    visit.page.locator("main a[href*='state=discarded']").first.click()
    visit.sees("Jobs", "queues-jobs")
    assert visit.page.locator("#state").input_value() == "discarded"

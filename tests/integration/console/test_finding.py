"""Searches by links alone: three questions of an operator, and rows without their counterpart."""

from datetime import timedelta

import pytest

from app.clock import utc_now
from app.db.models import Attempt, Link, Organization, Refresh, User
from app.ids import new_id
from tests.integration.console.pages import Page
from tests.integration.status.rows import a_connection, a_job, add, an_event, destination, id_at


def a_plan(connection, lapses):
    now = utc_now()
    return Refresh(
        id=new_id(), connection_ref=connection.id, refresh_at=now, next_at=now, reason="its token expires",
        deadline_at=lapses, keeps="token", forced=False, attempts=0, failures=0, created_at=now,
    )  # fmt: skip


@pytest.fixture(scope="module")
def rows(console) -> None:
    """A connection that waits for its user, a job that was given up, and two tokens that lapse within a day."""
    now = utc_now()
    waits = a_connection(
        now, "waits-1", wanted_user="usr_9", unlinked_reason="unknown_user", tags={"end_user_id": "usr_9"}
    )
    later = a_connection(now, "lapses-later", expires_at=now + timedelta(hours=9))
    sooner = a_connection(now, "lapses-sooner", expires_at=now + timedelta(hours=2))
    event = an_event(now, state="processed", type="connection.created", processed_at=now)
    gone = {"state": "discarded", "finished_at": now, "fault": "team", "attempts": 1}
    job = a_job(now, event.id, name="crm.import", problem="the endpoint answered 500", **gone)
    attempt = Attempt(job_id=job.id, number=1, started_at=now, latency_ms=9.0, outcome="discarded", status=500)
    add(console.database, destination("crm", "jobs"), waits, later, sooner, event, job, attempt)
    add(console.database, a_plan(later, now + timedelta(hours=9)), a_plan(sooner, now + timedelta(hours=2)))


def click(console, page: Page, label: str) -> Page:
    return console.get(page.links[label], who="viewer")


def test_three_questions_are_answered_by_three_clicks(console, rows):
    start = console.get("/console", who="viewer")
    page = click(console, click(console, click(console, start, "Connections"), "Without an owner here"), "waits-1")
    assert "Why it is not linked" in page.text
    assert "usr_9" in page.text
    page = click(console, click(console, start, "Jobs"), "dead letters")
    [job] = [href for href in page.links.values() if href.startswith("/console/jobs/job_")]
    page = console.get(job, who="viewer")
    assert "Given up. the endpoint answered 500" in page.text
    page = click(console, click(console, start, "Refreshes"), "In danger: lapse within a day")
    assert page.text.index("lapses-sooner") < page.text.index("lapses-later"), "what lapses first comes first"
    first = next(href for href in page.links.values() if href.startswith("/console/refreshes/ref_"))
    page = console.get(first, who="viewer")
    assert "lapses-sooner" in page.text
    assert "its token expires" in page.text


def test_owners_without_a_connection_and_connections_gone_from_nango_are_listed(console, rows):
    now = utc_now()
    gone, kept = a_connection(now, "gone-1", status="deleted"), a_connection(now, "kept-1")
    users = [
        User(id=new_id(), external_id=f"usr-{name}", created_at=now, updated_at=now)
        for name in ("alone", "past", "owns")
    ]
    group = Organization(id=new_id(), external_id="org-alone", created_at=now, updated_at=now)
    add(console.database, gone, kept, *users, group)
    past = {"connection_ref": gone.id, "user_id": users[1].id, "closed_at": now, "close_reason": "deleted"}
    owns = {"connection_ref": kept.id, "user_id": users[2].id}
    add(console.database, *(Link(id=new_id(), linked_by="external_id", opened_at=now, **each) for each in (past, owns)))
    page = click(console, console.get("/console/users", who="viewer"), "Without a connection")
    assert {"usr-alone", "usr-past"} <= page.links.keys()
    assert "usr-owns" not in page.links
    assert "Remove" in console.get(page.links["usr-alone"]).links, "its act"
    page = click(console, console.get("/console/organizations", who="viewer"), "Without a connection")
    assert "org-alone" in page.links
    page = click(console, console.get("/console/connections", who="viewer"), "Gone from Nango")
    assert "gone-1" in page.links
    assert "kept-1" not in page.links


def test_a_long_list_of_owners_without_a_connection_has_pages(console):
    now = utc_now()
    names = [f"many-{number:02}" for number in range(7)]
    add(console.database, *(User(id=new_id(), external_id=name, created_at=now, updated_at=now) for name in names))
    found, path = [], "/users?unconnected=true&limit=3"
    while path:
        answer = console.api.json(path, who="viewer")
        found += [row["external_id"] for row in answer["data"]]
        path = answer["next_cursor"] and f"/users?unconnected=true&limit=3&cursor={answer['next_cursor']}"
    assert [name for name in found if name in names] == names[::-1]
    assert len(found) == len(set(found))


def test_the_job_that_is_due_for_longest_is_a_click_from_its_queue(console):
    now = utc_now()
    event = an_event(now, state="processed", type="connection.created", processed_at=now)
    add(console.database, destination("crm", "slow"), event)
    ages = {"oldest": 90, "scheduled": 95, "newer": 30, "newest": 1}
    for name, minutes in ages.items():
        at = now - timedelta(minutes=minutes)
        due = now + timedelta(hours=1) if name == "scheduled" else at
        job = a_job(at, event.id, id=id_at(at), name=f"crm.{name}", destination="slow", next_at=due)
        add(console.database, job)
    page = console.get("/console/queues", who="viewer")
    assert "Health" in console.get(page.links["crm/slow"], who="viewer").text
    [to] = [path for path in page.links.values() if "until=" in path and "slow" in path]
    listed = console.get(to, who="viewer")
    assert ["crm.oldest" in listed.text, "crm.newer" in listed.text, "crm.newest" in listed.text] == [
        True,
        False,
        False,
    ]

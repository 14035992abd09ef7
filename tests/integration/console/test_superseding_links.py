"""Older links of owners with several connections are closed from the console, after a preview with the exact count."""

import pytest

from app.clock import utc_now
from app.db.models import Connection, Link, User
from app.ids import new_id
from tests.integration.api.api_client import problem_of
from tests.integration.console.pages import open_console

CONFIG = '[duplicates]\n"*" = "supersede"\n'


@pytest.fixture(params=["sqlite", "postgresql"])
def opened(request, broker_url, tmp_path):
    sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/waylink.db" if sqlite else request.getfixturevalue("postgres_url")
    return {"database_url": url, "broker_url": broker_url, "folder": tmp_path}


def add_connection(console, user, number):
    """A linked connection of the user, as from before the policy was chosen."""
    now = utc_now()
    row = Connection(
        id=new_id(),
        environment="default",
        integration="slack",
        connection_id=f"c-{number}",
        nango_id=number,
        status="active",
        tags={"end_user_id": "usr_1"},
        wanted_user="usr_1",
        tags_disagree=False,
        absences=0,
        created_at=now,
        updated_at=now,
    )
    with console.database.write() as session:
        session.add(row)
        session.flush()
        session.add(Link(id=new_id(), connection_ref=row.id, user_id=user, linked_by="end_user_id", opened_at=now))


def owned(console):
    return sorted(row["connection_id"] for row in console.api.json("/connections?user=usr_1")["data"])


def test_older_links_are_closed_with_a_count_and_a_reason(opened):
    with open_console(**opened, config=CONFIG) as console:
        user = User(id=new_id(), external_id="usr_1", created_at=utc_now())
        with console.database.write() as session:
            session.add(user)
        for number in (1, 2, 3):
            add_connection(console, user.id, number)
        page = console.get("/console/connections", duplicates="true")
        page = console.get(page.links["Close older links…"])
        assert "2 links of 1 owner will be closed" in page.text
        assert page.fields["expected"] == "2"
        path = "/console/connections/supersede"
        console.post(path, status=422, expected="2")
        console.post(path, status=422, expected="many", reason="tidy")
        page = console.post(path, status=409, expected="1", reason="tidy")
        assert "2 links by now, not 1" in page.text
        assert owned(console) == ["c-1", "c-2", "c-3"]
        page = console.follow(console.post(path, expected="2", reason="tidy"))
        assert "2 links closed" in page.text
        assert owned(console) == ["c-3"]
        [entry] = console.api.json("/audit?action=links.superseded")["data"]
        assert (entry["actor"], entry["detail"]["reason"]) == ("operator:operator", "tidy")
        assert "There is nothing to close" in console.get(path).text
        assert "Close older links…" not in console.get("/console/connections", who="viewer", duplicates="true").links
        problem_of(console.api("POST", "/connections/supersede", json={}), 422, "invalid_input")


def test_without_the_policy_there_is_nothing_to_close(opened):
    with open_console(**opened) as console:
        page = console.get("/console/connections/supersede")
        assert "There is nothing to close" in page.text
        assert "Close the older links" not in page.buttons
        answer = console.api("POST", "/connections/supersede", json={"dry_run": True}).json()
        assert answer == {"dry_run": True, "owners": 0, "count": 0, "links": {}}
        problem_of(console.api("POST", "/connections/supersede", json={"expected": 0}), 422, "invalid_input")

"""Listings of commands look at a bounded number of rows per statement, and at as many pages as it takes."""

from contextlib import closing
from datetime import timedelta

import pytest

from app.cli.paging import rows_of
from app.clock import utc_now
from app.db import audit
from app.db.engine import connect
from app.db.models import User
from app.db.read import event_search, searching
from app.db.read.searching import Page
from app.ids import EVENT, new_id, parse, show
from tests.integration.cli.test_cli import Command
from tests.integration.console.test_finding import a_plan
from tests.integration.status.rows import a_connection, a_job, add, an_event, destination, id_at

ROWS = 12


@pytest.fixture
def command(tmp_path, broker_url, monkeypatch) -> Command:
    """Tables whose oldest row alone is rare, and pages that look at five rows."""
    for module in (searching, event_search):
        monkeypatch.setattr(module, "AT_MOST", 5)
    monkeypatch.setattr(searching, "AT_MOST_PLANS", 5)
    monkeypatch.setattr(searching, "AT_MOST_COMPARED", 5)
    made = Command(tmp_path, {"WAYLINK_BROKER_URL": broker_url})
    assert made.inside("migrate").returncode == 0
    with closing(connect(made.database_url)) as database:
        fill(database)
    return made


def fill(database):
    now = utc_now()
    add(database, destination("crm", "jobs"), destination("crm", "rare"))
    for number in range(ROWS):
        is_rare, at = number == 0, now - timedelta(hours=ROWS - number)
        facts = {
            "type": "nango.sync" if is_rare else "connection.created",
            "problem": "rare words" if is_rare else None,
        }
        event = an_event(at, id=id_at(at), state="processed", processed_at=at, **facts)
        to = "rare" if is_rare else "jobs"
        job = a_job(at, event.id, id=id_at(at), state="completed", finished_at=at, destination=to)
        connection = a_connection(at, f"c-{number}", provider="rare" if is_rare else "often")
        user = User(id=id_at(at), external_id=f"u{number}", created_at=at)
        add(database, event, job, connection, user, a_plan(connection, at))
        with database.write() as session:
            action = "rare.done" if is_rare else "often.done"
            audit.record(session, actor="cli:test", action=action, subject="x", now=at)


@pytest.mark.parametrize(
    "arguments",
    [
        ("events", "--type", "nango.sync"),
        ("events", "--query", '"rare words"'),
        ("jobs", "--destination", "crm/rare"),
        ("connections", "--query", "provider:rare"),
        ("refreshes", "--provider", "rare"),
        ("audit", "--action", "rare.done"),
    ],
)
def test_the_oldest_row_is_found_behind_many_that_do_not_match(command, arguments):
    assert len(command.json(*arguments)) == 1


def test_all_rows_of_many_pages_are_listed_once_and_those_behind_one_go_on(command):
    listed = [row["id"] for row in command.json("users", "--unconnected")]
    assert len(set(listed)) == len(listed) == ROWS
    limited = command.inside("users", "--unconnected", "--limit", "7", "--json")
    assert "there are more" in limited.stderr
    assert [row["id"] for row in command.json("users", "--unconnected", "--before", listed[6])] == listed[7:]


def test_pages_end_at_the_count_or_at_the_last_row():
    ids = [new_id() for _ in range(9)][::-1]
    asked = []

    def look(behind, count):
        """A page looks at four rows, of which every second one matches."""
        asked.append(count)
        begin = ids.index(behind) + 1 if behind is not None else 0
        page = Page([{"id": show(EVENT, each)} for each in ids[begin : begin + 4] if ids.index(each) % 2 == 0][:count])
        if begin + 4 < len(ids) and len(page) < count:
            page.searched_to = show(EVENT, ids[begin + 3])
        return page

    found = rows_of(look, EVENT, behind=None, count=50)
    assert [parse(EVENT, row["id"]) for row in found] == ids[::2]
    assert asked == [50, 48, 46]
    assert len(rows_of(look, EVENT, behind=None, count=3)) == 3
    assert rows_of(look, EVENT, behind=ids[8], count=3) == []

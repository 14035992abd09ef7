"""Lists by what no index has look at a bounded number of rows for a page, and come to every row all the same."""

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from app.db import audit, connections, refreshes
from app.db.audit import AuditFilters
from app.db.connections import ConnectionKey
from app.db.read import connection_listing, listing, refresh_listing
from app.db.read.listing import ListFilters
from app.db.read.refresh_listing import RefreshFilters
from app.domain.refreshing.plan import Plan
from app.domain.states import ConnectionStatus, RefreshState
from tests.integration.status.rows import a_job, add, an_event, destination

ROWS, SEARCH = 23, 5
WANTED = {2, 3, 4, 9, 22}  # numbers of rows that a filter means: some together, and long spans without any


def pages(database, read, filters, *, by="before"):
    """The ids of all pages, and how many were not full though rows were left."""
    found, short = [], 0
    while True:
        with database.read() as session:
            rows = read(session, filters)
        found += [row["id"] for row in rows]
        if len(rows) == filters.limit:
            last = rows[-1]["id"]
        elif rows.searched_to is not None:
            short, last = short + 1, rows.searched_to
        else:
            return found, short
        filters = replace(filters, **{by: UUID(last.partition("_")[2])})


def all_of(database, read, filters):
    with database.read() as session:
        return [row["id"] for row in read(session, replace(filters, limit=1000, search=None))]


@pytest.fixture
def filled(database, clock):
    now = clock.now
    for number in range(ROWS):
        moment, rare = now + timedelta(seconds=number), number in WANTED
        event = an_event(moment, state="processed", processed_at=now, type="x.rare" if rare else "x.usual")
        add(database, event)
        if number == 0:
            add(database, destination("crm", "jobs"))
        add(database, a_job(moment, event.id, state="completed", finished_at=now, name="rare" if rare else "usual"))
        row = connections.new(ConnectionKey("default", "rare" if rare else "usual", f"c-{number}"), now=moment)
        row.status = ConnectionStatus.ACTIVE
        with database.write() as session:
            connections.insert(session, [row])
            # Several are due at the same moment.
            plan = Plan(now + timedelta(minutes=number // 3), forced=False, reason="x")
            refreshes.plan(session, {row.id: plan}, now=moment)
            audit.record(session, actor="a" if rare else "b", action="x.done", subject="s", now=moment)
    return now


CASES = {
    "events": (listing.events, ListFilters(type="x.rare")),
    "jobs": (listing.jobs, ListFilters(name="rare")),
    "connections": (connection_listing.connections, ListFilters(integration="rare")),
    "audit": (audit.listed, AuditFilters(actor="a")),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("limit", [1, 2, 50])
def test_pages_of_a_search_come_to_every_row_once(database, filled, name, limit):
    read, filters = CASES[name]
    filters = replace(filters, search=SEARCH, limit=limit)
    found, short = pages(database, read, filters)
    assert found == all_of(database, read, filters)
    assert len(found) == len(WANTED)
    assert short > 1


@pytest.mark.parametrize("state", [None, RefreshState.OPEN])
@pytest.mark.parametrize("limit", [1, 2, 50])
def test_pages_of_refreshes_come_to_every_row_once(database, filled, state, limit):
    filters = RefreshFilters(now=filled, limit=limit, search=SEARCH, state=state, integration="rare")
    found, short = pages(database, refresh_listing.refreshes, filters, by="after")
    assert found == all_of(database, refresh_listing.refreshes, filters)
    assert len(found) == len(WANTED)
    assert short > 1


def test_what_an_index_has_is_not_cut_short(database, filled):
    with database.read() as session:
        rows = listing.events(session, ListFilters(state="received", search=SEARCH))
        assert (rows, rows.searched_to) == ([], None)
        rows = connection_listing.connections(session, ListFilters(connection_id="c-0", search=SEARCH))
        assert (len(rows), rows.searched_to) == (1, None)

"""Refreshes and connections are found by moments and owners, on both databases, without reading all of them."""

from datetime import timedelta

import pytest
from sqlalchemy import event, select, text

from app.db import connections, refreshes
from app.db.connections import ConnectionKey
from app.db.models import Connection, Link, Organization, Refresh, User
from app.db.read import connection_listing, refresh_listing
from app.db.read.listing import ListFilters
from app.db.read.refresh_listing import RefreshFilters
from app.domain.refreshing.plan import Plan
from app.domain.states import ConnectionStatus, RefreshOutcome, RefreshState
from app.errors import NotFound
from app.ids import REFRESH, new_id, parse

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
NAMES = ("late", "due", "soon", "far", "gone")


@pytest.fixture
def planned(database, clock):
    """Five connections with a plan each, one of them deleted, and a past refresh of `far`."""
    now = clock.now
    due = dict(zip(NAMES, (-HOUR, -MINUTE, MINUTE, 10 * DAY, -HOUR), strict=True))
    user = User(id=new_id(), external_id="u-1", created_at=now)
    organization = Organization(id=new_id(), external_id="o-1", created_at=now)
    with database.write() as session:
        rows = {}
        for name in NAMES:
            row = rows[name] = connections.new(ConnectionKey("default", f"i-{name}", name), now=now)
            row.status = ConnectionStatus.DELETED if name == "gone" else ConnectionStatus.ACTIVE
            row.provider = "zendesk" if name in {"late", "far"} else "google-mail"
            row.expires_at = now + due[name] + 14 * MINUTE
        rows["far"].grant_expires_at = now + 5 * DAY
        connections.insert(session, list(rows.values()))
        plans = {rows[name].id: Plan(now + due[name], forced=name == "far", reason=name) for name in NAMES}
        refreshes.plan(session, plans, now=now)
        session.add_all([user, organization])
        session.flush()
        owner = {"user_id": user.id, "organization_id": organization.id}
        link = {"id": new_id(), "linked_by": "end_user_id", "opened_at": now}
        session.add(Link(connection_ref=rows["soon"].id, **owner, **link))
        session.add(
            Refresh(
                id=new_id(), connection_ref=rows["far"].id, refresh_at=now - DAY, next_at=now - DAY, forced=False,
                reason="before", attempts=1, failures=0, created_at=now - 2 * DAY, finished_at=now - DAY,
                outcome=RefreshOutcome.RENEWED,
            )
        )  # fmt: skip
    return {name: row.id for name, row in rows.items()}


@pytest.fixture
def listed(database, clock):
    def find(**filters):
        with database.read() as session:
            return refresh_listing.refreshes(session, RefreshFilters(now=clock.now, **filters))

    return find


def names(rows):
    return [row["connection_id"] for row in rows]


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        ({"state": RefreshState.OPEN}, ["late", "due", "soon", "far"]),
        ({"state": RefreshState.DUE}, ["late", "due"]),
        ({"state": RefreshState.OVERDUE}, ["late"]),
        ({"state": RefreshState.FINISHED}, ["far"]),
        ({"outcome": "renewed"}, ["far"]),
        ({"outcome": "failed"}, []),
        ({"provider": "zendesk", "state": RefreshState.OPEN}, ["late", "far"]),
        ({"integration": "i-due"}, ["due"]),
        ({"connection_id": "soon", "environment": "default"}, ["soon"]),
        ({"environment": "other"}, []),
        ({"user": "u-1"}, ["soon"]),
        ({"organization": "o-1"}, ["soon"]),
        ({"user": "u-2"}, []),
    ],
)
def test_refreshes_are_found_by_everything_they_are_asked_for(planned, listed, filters, wanted):
    assert names(listed(**filters)) == wanted


def test_plans_are_found_by_when_they_are_due_and_by_the_nearest_deadline(planned, listed, clock):
    assert names(listed(due_before=clock.now + HOUR)) == ["late", "due", "soon"]
    assert names(listed(due_after=clock.now, due_before=clock.now + HOUR)) == ["soon"]
    assert names(listed(deadline_before=clock.now)) == ["late"]
    assert names(listed(deadline_before=clock.now + 6 * DAY)) == ["late", "due", "soon", "far"]  # far by its grant
    [far] = listed(integration="i-far", state=RefreshState.OPEN)
    assert far["deadline_at"] == (clock.now + 5 * DAY).isoformat()


def test_all_are_listed_newest_first_and_plans_the_first_due_first_page_by_page(planned, listed):
    assert names(listed()) == ["far", "gone", "far", "soon", "due", "late"]
    for filters in ({}, {"state": RefreshState.OPEN}):
        whole, pages, after = listed(**filters), [], None
        while rows := listed(limit=2, after=after, **filters):
            pages += rows
            after = parse(REFRESH, rows[-1]["id"])
        assert pages == whole
    with pytest.raises(NotFound):
        listed(state=RefreshState.OPEN, after=new_id())


def test_plans_of_one_moment_are_each_on_one_page(database, clock, listed):
    rows = [connections.new(ConnectionKey("default", "i", f"c-{number}"), now=clock.now) for number in range(5)]
    with database.write() as session:
        connections.insert(session, rows)
        plan = Plan(clock.now, forced=False, reason="at once")
        refreshes.plan(session, {row.id: plan for row in rows}, now=clock.now)
    seen, after = [], None
    while found := listed(limit=2, after=after, state=RefreshState.OPEN):
        seen += names(found)
        after = parse(REFRESH, found[-1]["id"])
    assert sorted(seen) == [f"c-{number}" for number in range(5)]


def test_one_refresh_is_shown_with_what_comes_next(database, clock, planned, listed):
    with database.read() as session:
        far, past = (
            refresh_listing.latest_of(session, planned["far"], now=clock.now),
            listed(state=RefreshState.FINISHED)[0],
        )
        shown = refresh_listing.refresh(session, parse(REFRESH, past["id"]), now=clock.now)
        gone = refresh_listing.latest_of(session, planned["gone"], now=clock.now)
        with pytest.raises(NotFound):
            refresh_listing.refresh(session, new_id(), now=clock.now)
        with pytest.raises(NotFound):
            refresh_listing.latest_of(session, new_id(), now=clock.now)
    assert (far["state"], far["next"]["id"], far["next"]["why"]) == ("open", far["id"], "far")
    assert (shown["outcome"], shown["state"], shown["next"]) == ("renewed", "finished", far["next"])
    assert (gone["next"]["at"], gone["next"]["why"]) == (None, "the connection is deleted")


def test_a_plan_that_a_pause_holds_is_paused_and_neither_due_nor_overdue(database, planned, listed):
    with database.write() as session:
        for name in ("late", "far"):
            refreshes.open_plan(session, planned[name]).outcome = RefreshOutcome.PAUSED
    assert names(listed(state=RefreshState.PAUSED)) == ["late", "far"]
    assert names(listed(state=RefreshState.OPEN)) == ["late", "due", "soon", "far"]
    assert names(listed(state=RefreshState.DUE)) == ["due"]
    assert listed(state=RefreshState.OVERDUE) == []


def test_a_plan_that_is_held_back_or_taken_says_so(database, clock, planned):
    def why():
        with database.read() as session:
            return refresh_listing.latest_of(session, planned["due"], now=clock.now)["next"]["why"]

    with database.write() as session:
        plan = refreshes.open_plan(session, planned["due"])
        plan.outcome, plan.error, plan.next_at = RefreshOutcome.RATE_LIMITED, "the budget is spent", clock.now + MINUTE
    assert why() == "due; held back: the budget is spent"
    with database.write() as session:
        refreshes.open_plan(session, planned["due"]).attempts = 1
    assert why().startswith("a worker asks for it now")


@pytest.mark.parametrize(
    ("bounds", "wanted"),
    [
        ({"expires_before": HOUR}, ["soon", "due", "late"]),
        ({"expires_before": timedelta(0)}, ["late"]),
        ({"expires_after": timedelta(0), "expires_before": HOUR}, ["soon", "due"]),
        ({"grant_before": 6 * DAY}, ["far"]),
        ({"grant_after": 6 * DAY}, []),
        ({"grant_after": DAY, "expires_after": DAY}, ["far"]),
    ],
)
def test_connections_are_found_by_when_token_and_grant_lapse(database, clock, planned, bounds, wanted):
    filters = ListFilters(**{name: clock.now + span for name, span in bounds.items()})
    with database.read() as session:
        assert names(connection_listing.connections(session, filters)) == wanted


def test_connections_that_are_kept_alive_only_are_found(database, clock, planned):
    with database.read() as session:
        assert connection_listing.connections(session, ListFilters(kept_alive=True)) == []
    with database.write() as session:
        session.get_one(Connection, planned["far"]).alive_by = "budget"
    with database.read() as session:
        [row] = connection_listing.connections(session, ListFilters(kept_alive=True))
    assert (row["connection_id"], row["alive_by"]) == ("far", "budget")


def test_a_deleted_connection_is_found_by_its_clocks_only_where_it_is_asked_for(database, clock, planned):
    filters = ListFilters(expires_before=clock.now, status=ConnectionStatus.DELETED)
    with database.read() as session:
        assert names(connection_listing.connections(session, filters)) == ["gone"]


def test_all_of_a_connection_are_listed_newest_first_whether_open_or_over(database, clock, planned, listed):
    with database.write() as session:
        session.add(
            Refresh(
                id=new_id(), connection_ref=planned["far"], refresh_at=clock.now, next_at=clock.now, forced=False,
                reason="by hand", requested_by="cli", attempts=1, failures=0, created_at=clock.now,
                finished_at=clock.now, outcome=RefreshOutcome.UNCHANGED,
            )
        )  # fmt: skip
    found = listed(connection_id="far", limit=2)
    assert [row["outcome"] for row in found] == ["unchanged", "renewed"]
    [plan] = listed(connection_id="far", after=parse(REFRESH, found[-1]["id"]))
    assert (plan["state"], plan["outcome"]) == ("open", None)
    with database.read() as session:
        shown = connection_listing.connection(session, planned["far"])
        assert refresh_listing.latest_of(session, planned["far"], now=clock.now)["id"] == plan["id"]
    assert [row["outcome"] for row in shown["refreshes"]] == ["unchanged", "renewed", None]


def test_refreshes_of_a_connection_are_found_by_an_index(database, clock, planned):
    def read(session):
        connection_listing.connection(session, planned["far"])
        refresh_listing.latest_of(session, planned["late"], now=clock.now)
        refresh_listing.refreshes(session, RefreshFilters(now=clock.now, connection_id="far"))

    plans = [plan for sql, plan in explained(database, read) if " refreshes" in sql]
    assert len(plans) >= 5
    for plan in plans:
        assert any(name in plan for name in ("uq_refreshes_open", "ix_refreshes_over", "pk_refreshes")), plan


def explained(database, read):
    """The queries of `read`, each with its plan."""
    asked = []

    def note(_connection, _cursor, sql, parameters, _context, _many):
        asked.append((sql, parameters))

    event.listen(database.engine, "before_cursor_execute", note)
    with database.read() as session:
        read(session)
    event.remove(database.engine, "before_cursor_execute", note)
    queries = [query for query in asked if query[0].startswith("SELECT")]
    found = []
    with database.engine.connect() as connection:
        if not database.is_sqlite:
            # The tables are empty, and then PostgreSQL reads them as a whole.
            for way in ("enable_seqscan", "enable_hashjoin", "enable_mergejoin"):
                connection.execute(text(f"SET {way} = off"))
        explain = "EXPLAIN QUERY PLAN " if database.is_sqlite else "EXPLAIN "
        for sql, values in queries:
            rows = connection.exec_driver_sql(explain + sql, values)
            found.append((sql, "\n".join(str(row) for row in rows)))
    return found


def test_a_clock_and_a_due_moment_are_found_by_an_index(database, clock):
    def read(session):
        connection_listing.connections(session, ListFilters(expires_before=clock.now, status="active"))
        connection_listing.connections(session, ListFilters(grant_before=clock.now, status="active"))
        refresh_listing.refreshes(session, RefreshFilters(now=clock.now, state=RefreshState.OVERDUE))

    indexes = ("ix_connections_expiring", "ix_connections_grant_expires_at", "ix_refreshes_due")
    for (_, plan), index in zip(explained(database, read), indexes, strict=True):
        # SQLite keeps no statistics here, and may take the order of the list instead of the condition.
        assert index in plan or (database.is_sqlite and "connections" in index), plan


def test_connections_whose_renewal_fails_are_found_with_since_when_and_how_often(database, clock, planned):
    with database.read() as session:
        assert connection_listing.connections(session, ListFilters(failing=True)) == []
    with database.write() as session:
        far = session.get_one(Connection, planned["far"])
        far.last_error_type, far.last_error_at = "NangoRefreshFailed", clock.now
        far.failing_since = clock.now - timedelta(days=2)
        plan = session.scalar(select(Refresh).where(Refresh.connection_ref == far.id, Refresh.finished_at.is_(None)))
        plan.failures = 3
    with database.read() as session:
        [row] = connection_listing.connections(session, ListFilters(failing=True))
    assert (row["connection_id"], row["failures"], row["last_error_type"]) == ("far", 3, "NangoRefreshFailed")
    assert row["failing_since"] == (clock.now - timedelta(days=2)).isoformat()
    with database.write() as session:
        session.get_one(Connection, planned["far"]).status = "deleted"
    with database.read() as session:
        assert connection_listing.connections(session, ListFilters(failing=True)) == []

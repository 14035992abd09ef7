"""Refreshes and tokens that are late, on both databases, and from indexes alone."""

from datetime import timedelta

import pytest
from sqlalchemy import event, text

from app.db import connections, refreshes, ticks
from app.db.connections import ConnectionKey
from app.db.read import refresh_health
from app.domain.refreshing.plan import Plan
from app.domain.refreshing.policy import PolicyPart, for_integrations
from app.domain.states import ConnectionStatus, RefreshOutcome
from app.services.refreshing import pausing
from app.services.refreshing.lateness import TICK_LATE, lateness
from app.services.refreshing.ticking import EVERY, Ticker, note_tick

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
SECOND = timedelta(seconds=1)


@pytest.fixture
def world(open_world):
    return open_world(base_url="http://127.0.0.1:1")


@pytest.fixture
def add(database, clock):
    """Adds a connection whose token expires, and whose plan is due, after these spans; None: no plan."""

    def make(name, *, expires, due, outcome=None, integration="oauth2", **changes):
        row = connections.new(ConnectionKey("default", integration, name), now=clock.now)
        row.status, row.auth_mode, row.expires_source = ConnectionStatus.ACTIVE, "OAUTH2", "provider"
        row.expires_at = clock.now + expires
        for column, value in changes.items():
            setattr(row, column, value)
        with database.write() as session:
            connections.insert(session, [row])
            if due is not None:
                plan = Plan(clock.now + due, forced=False, reason="x")
                refreshes.plan(session, {row.id: plan}, now=clock.now)
                refreshes.open_plan(session, row.id).outcome = outcome
        return row

    return make


def late(world):
    with world.database.read() as session:
        return lateness(session, world.policy, now=world.clock.now)


def counts(groups):
    return {group.integration: group.count for group in groups}


def test_where_nothing_is_stored_nothing_is_late(world):
    found = late(world)
    assert (found.overdue, found.lapsed, found.paused, found.tick) == ([], [], [], None)
    assert found.ticks(now=world.clock.now)


def test_a_plan_that_no_worker_takes_is_overdue_and_one_that_is_held_back_is_not(world, add):
    add("late", expires=HOUR, due=-6 * MINUTE)
    add("later", expires=HOUR, due=-9 * MINUTE, integration="hubspot")
    add("just-due", expires=HOUR, due=-4 * MINUTE)
    add("deleted", expires=HOUR, due=-HOUR, status=ConnectionStatus.DELETED)
    for outcome in (
        RefreshOutcome.RATE_LIMITED, RefreshOutcome.PAUSED, RefreshOutcome.NANGO_DOWN, RefreshOutcome.WAITED,
    ):  # fmt: skip
        add(f"held-{outcome}", expires=HOUR, due=-HOUR, outcome=outcome)
    found = late(world).overdue
    assert [(group.integration, group.count) for group in found] == [("hubspot", 1), ("oauth2", 1)]
    assert found[0].since == world.clock.now - 9 * MINUTE


@pytest.mark.parametrize(
    ("facts", "lapsed"),
    [
        ({"due": None}, True),  # nothing renews it
        ({"due": -6 * MINUTE}, True),  # no worker does
        ({"due": MINUTE, "outcome": RefreshOutcome.RATE_LIMITED}, True),  # it is held back
        ({"due": MINUTE, "outcome": RefreshOutcome.PAUSED}, True),
        ({"due": None, "last_error_type": "crashed"}, True),
        ({"due": MINUTE}, False),  # the hours of a policy have it so
        ({"due": MINUTE, "last_error_type": "NangoRefreshFailed"}, False),  # the provider refuses, and is asked again
        ({"due": None, "status": ConnectionStatus.NEEDS_RECONNECT}, False),  # that is said elsewhere
        ({"due": None, "expires_source": "catalogue"}, False),  # an estimate
        ({"due": None, "expires": -30 * SECOND}, True),
        ({"due": None, "expires": -10 * SECOND}, False),  # the last looks come at the expiry
        ({"due": None, "expires": MINUTE}, False),
    ],
)
def test_a_token_that_expired_and_is_not_being_renewed_is_lapsed(world, add, facts, lapsed):
    add("c", **({"expires": -6 * MINUTE} | facts))
    assert counts(late(world).lapsed) == ({"oauth2": 1} if lapsed else {})


def test_a_token_that_no_policy_renews_is_not_lapsed(open_world, add):
    add("off", expires=-HOUR, due=None)
    add("on", expires=-HOUR, due=None, integration="hubspot")
    policies = for_integrations({"oauth2": PolicyPart(enabled=False)})
    assert counts(late(open_world(base_url="http://127.0.0.1:1", refresh=policies)).lapsed) == {"hubspot": 1}
    assert late(open_world()).lapsed == []  # without an API key


def test_paused_integrations_are_named(world, add, clock):
    add("c", expires=HOUR, due=MINUTE)
    pausing.pause(world.database, "default", "oauth2", actor="cli:root", now=clock.now)
    assert late(world).paused == [("default", "oauth2")]


def test_a_tick_is_stored_at_most_once_in_ten_seconds_and_is_late_after_three_minutes(world, clock):
    note_tick(world.database, now=clock.now)
    first = late(world)
    assert first.tick == clock.now
    note_tick(world.database, now=clock.now + EVERY - SECOND)
    assert late(world).tick == first.tick
    note_tick(world.database, now=clock.now + EVERY)
    assert late(world).tick == clock.now + EVERY
    with world.database.write() as session:  # of a worker whose clock is behind
        ticks.note(session, ticks.REFRESH_DUE, now=clock.now)
    last = late(world)
    assert last.tick == clock.now + EVERY
    assert last.ticks(now=last.tick + TICK_LATE)
    assert not last.ticks(now=last.tick + TICK_LATE + SECOND)


def test_a_process_that_ticks_again_at_once_asks_the_database_no_more(world, clock):
    tick, asked = Ticker(world.database, clock), []
    tick()
    event.listen(world.database.engine, "before_cursor_execute", lambda *_: asked.append(1))
    tick()
    assert asked == []
    assert late(world).tick == clock.now


def test_counting_ends_at_a_bound(world, add, monkeypatch):
    monkeypatch.setattr(refresh_health, "LAPSED_AT_MOST", 2)
    monkeypatch.setattr(refresh_health, "OVERDUE_AT_MOST", 2)
    for number in range(5):
        add(f"c-{number}", expires=-HOUR, due=-HOUR)
    found = late(world)
    assert (counts(found.overdue), counts(found.lapsed)) == ({"oauth2": 3}, {"oauth2": 3})


def test_every_figure_is_read_from_an_index(world):
    """A table of ten million rows must not be read for them."""
    asked = []

    def note(_connection, _cursor, sql, parameters, _context, _many):
        asked.append((sql, parameters))

    event.listen(world.database.engine, "before_cursor_execute", note)
    late(world)
    event.remove(world.database.engine, "before_cursor_execute", note)
    queries = [query for query in asked if query[0].startswith("SELECT")]
    indexes = ("ix_connections_expiring", "ix_connections_expiring", "ix_refreshes_due", "refresh_pauses", "ticks")
    with world.database.engine.connect() as connection:
        if not world.database.is_sqlite:
            # The tables are empty, and then PostgreSQL reads them as a whole.
            for way in ("enable_seqscan", "enable_hashjoin", "enable_mergejoin", "enable_bitmapscan"):
                connection.execute(text(f"SET {way} = off"))
        explain = "EXPLAIN QUERY PLAN " if world.database.is_sqlite else "EXPLAIN "
        for (sql, values), index in zip(queries, indexes, strict=True):
            plan = "\n".join(str(row) for row in connection.exec_driver_sql(explain + sql, values))
            assert index in plan, f"{sql}\n{plan}"

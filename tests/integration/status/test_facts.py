"""The figures that checks are made of, on both databases."""

from datetime import timedelta

import pytest
from sqlalchemy import text

from app.db import key_uses, refreshes, storing_troubles, ticks
from app.db.key_uses import KeyUse
from app.db.models import DestinationHealth, Event
from app.db.read import arrivals, destination_troubles, figures, refresh_dangers
from app.db.read.refresh_dangers import Danger
from app.domain.arrivals import Silence
from app.domain.refreshing.plan import Keeps, Plan
from app.ids import first_id, new_id
from app.services.maintenance.retention import RefreshRetention, Retention
from app.services.status import webhooks
from tests.integration.status.rows import a_connection, a_job, add, an_event, destination

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def test_room_is_looked_for_by_writing_a_temporary_file_where_the_tables_are(database):
    assert storing_troubles.room_trouble(database) is None
    if database.is_sqlite:
        return
    with database.dry_run() as session:
        session.execute(text("SET LOCAL work_mem = '64kB'"))
        [plan] = session.scalar(text(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {storing_troubles._SPILL}"))
    assert plan["Plan"]["Temp Written Blocks"] * 8192 >= storing_troubles.LEAST_FREE * 0.95


def test_events_that_wait_for_an_answer_are_known_by_their_problem(database, clock):
    now = clock.now
    away = {"problem": "Nango is away", "next_at": now + HOUR}
    add(
        database,
        an_event(now, received_at=now - 2 * MINUTE, **away),
        an_event(now, received_at=now - 9 * MINUTE, **away),
        an_event(now, problem="not confirmed yet", looks=2),
        an_event(now),
        an_event(now, state="failed", problem="Nango is away"),
    )
    with database.read() as session:
        [held] = figures.held_events(session)
    assert (held.problem, held.count, held.since) == ("Nango is away", 2, now - 9 * MINUTE)


def test_destinations_that_take_no_jobs_are_named_with_the_jobs_that_wait(database, clock, monkeypatch):
    now = clock.now
    event = an_event(now, state="processed")
    health = {"window_at": now, "succeeded": 0, "failed": 9, "probes": 1, "last_error": "HTTP 500"}
    add(
        database,
        event,
        *[destination("crm", name) for name in ("failing", "well")],
        destination("crm", "gone", disabled_at=now, disabled_reason="answered 410"),
        destination("crm", "retired", disabled_at=now, retired_at=now),
        DestinationHealth(team="crm", destination="failing", failing_since=now - HOUR, **health),
        DestinationHealth(team="crm", destination="well", **health),
        *[a_job(now, event.id, destination="failing", blocked_by="breaker") for _ in range(3)],
        a_job(now, event.id, destination="failing"),
    )
    with database.read() as session:
        found, more = destination_troubles.troubled(session)
    assert [(one.destination, one.parked, one.failing_since, one.disabled_reason) for one in found] == [
        ("failing", 3, now - HOUR, None),
        ("gone", 0, None, "answered 410"),
    ]
    assert more == 0
    monkeypatch.setattr(destination_troubles, "NAMED", 1)
    monkeypatch.setattr(destination_troubles, "AT_MOST", 2)
    with database.read() as session:
        [failing], more = destination_troubles.troubled(session)
    assert (failing.parked, more) == (3, 1)


def plan(session, row, *, due, deadline, keeps):
    refreshes.plan(session, {row.id: Plan(due, False, "x", deadline, keeps)}, now=due)


def test_what_lapses_before_its_turn_is_known_by_integration(database, clock):
    now = clock.now
    rows = [a_connection(now, f"c-{number}") for number in range(5)]
    add(database, *rows)
    moments = (
        (2 * HOUR, HOUR, Keeps.TOKEN),  # put off beyond its deadline
        (3 * HOUR, HOUR / 2, Keeps.TOKEN),
        (DAY, HOUR, Keeps.GRANT),
        (HOUR, 2 * HOUR, Keeps.TOKEN),  # in time
        (HOUR + MINUTE, HOUR, Keeps.TOKEN),  # within the leeway, as for the length of a lease
    )
    with database.write() as session:
        for row, (due, deadline, keeps) in zip(rows, moments, strict=True):
            plan(session, row, due=now + due, deadline=now + deadline, keeps=keeps)
    with database.read() as session:
        found = refresh_dangers.before_their_turn(session, now=now, leeway_seconds=300)
        lapsed = refresh_dangers.before_their_turn(session, now=now + 2 * HOUR, leeway_seconds=300)
    assert found == [
        Danger("default", "oauth2", "token", 2, now + HOUR / 2),
        Danger("default", "oauth2", "grant", 1, now + HOUR),
    ]
    assert lapsed == [], "what has lapsed is told elsewhere"


def test_grants_that_only_end_users_can_give_again_are_counted(database, clock):
    now = clock.now
    soon = now + DAY
    add(
        database,
        a_connection(now, "told", grant_expires_at=soon, announced_grant=soon),
        a_connection(now, "renewed in time", grant_expires_at=soon),
        a_connection(now, "later", grant_expires_at=now + 9 * DAY, announced_grant=now + 9 * DAY),
        a_connection(now, "over", "needs_reconnect", grant_expires_at=soon, announced_grant=soon),
    )
    with database.read() as session:
        assert refresh_dangers.grants_ending(session, now=now, until=now + 7 * DAY) == 1


def at(moment, **changes):
    made = first_id(moment).int | new_id().int & (1 << 62) - 1
    return an_event(moment, id=type(new_id())(int=made), state="processed", received_at=moment, **changes)


def silences(database, now):
    with database.read() as session:
        return webhooks.read(session, now=now).silences


@pytest.fixture
def busy_weeks(database, clock):
    """Fifteen webhooks in the quarter of an hour before this moment, in each of the four weeks before."""
    rows = [at(clock.now - week * 7 * DAY - number * MINUTE / 2) for week in (1, 2, 3, 4) for number in range(1, 16)]
    add(database, *rows)
    return rows


def note_webhook(database, at, environment="default"):
    with database.write() as session:
        key_uses.add(session, [KeyUse(environment, "0123abcd", 1)], now=at)


def test_webhooks_that_came_at_this_hour_of_earlier_weeks_are_missed(database, clock, busy_weeks):
    note_webhook(database, clock.now - 11 * MINUTE)
    note_webhook(database, clock.now - 11 * MINUTE, environment="other")
    assert silences(database, clock.now) == {"default": Silence(10 * MINUTE, 15)}


def test_what_still_comes_or_is_not_known_is_not_missed(database, clock, busy_weeks):
    assert silences(database, clock.now) == {}
    note_webhook(database, clock.now - MINUTE)
    assert silences(database, clock.now) == {}
    with database.write() as session:
        for row in busy_weeks[::2]:
            session.delete(session.get(Event, row.id))
    note_webhook(database, clock.now)
    assert silences(database, clock.now + 11 * MINUTE) == {}


def test_events_of_other_origins_are_no_webhooks_and_counting_is_bounded(database, clock, monkeypatch):
    since, until = clock.now - HOUR, clock.now
    add(
        database,
        *[at(since + number * MINUTE, origin=origin) for number, origin in enumerate(["system", *9 * ["webhook"]])],
    )
    with database.read() as session:
        assert arrivals.counts(session, since=since, until=until) == {"default": 9}
        assert arrivals.counts(session, since=since + 5 * MINUTE, until=since + 7 * MINUTE) == {"default": 2}
        monkeypatch.setattr(arrivals, "READ", 4)
        assert arrivals.counts(session, since=since, until=until) == {"default": 3}


def test_deletion_notes_when_it_left_nothing_to_delete(database, clock):
    def noted():
        with database.read() as session:
            return ticks.last(session, ticks.EVENTS_PRUNED), ticks.last(session, ticks.REFRESHES_PRUNED)

    add(database, at(clock.now - 40 * DAY), at(clock.now))
    assert noted() == (None, None)
    Retention(database, 30 * DAY, lambda: clock.now).run(seconds=0)
    assert noted() == (None, None), "it did not come to its end"
    Retention(database, 30 * DAY, lambda: clock.now).run()
    RefreshRetention(database, 30 * DAY, lambda: clock.now).run()
    assert noted() == (clock.now, clock.now)
    Retention(database, None, lambda: clock.now + DAY).run()
    assert noted() == (clock.now, clock.now)
    with database.read() as session:
        assert figures.oldest_event(session) == clock.now

"""Beat's tasks: hints for work that no hint announced, and removal of rows past their time."""

from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import event, func, select

from app.db.models import Delivery
from app.deadlines import EVENT_LEASE
from app.services.events.claiming import Claims
from app.services.maintenance import upkeep
from app.services.maintenance.upkeep import MAX_HINTS
from tests.integration.world import DANA, WINDOW, KilledError, auth, dying_at


def backlog(world):
    return upkeep.due_batches(world.database, now=world.clock.now)


def prune(world):
    return upkeep.prune(world.database, window=WINDOW, clock=world.clock)


def windows(world):
    with world.database.read() as session:
        return session.scalar(select(func.count()).select_from(Delivery))


def test_nothing_due_is_nothing_to_send(world):
    assert backlog(world) == 0


def test_what_was_not_announced_is_found_and_what_was_done_is_not(world):
    world.receive(auth(tags=DANA), b"A")
    assert backlog(world) == 1
    world.process()
    assert backlog(world) == 0


def test_a_dead_workers_events_are_found_when_their_leases_end(world, clock):
    world.route(created={"type": ["connection.created"]})
    world.receive(auth(tags=DANA))
    with dying_at(world.database, "INSERT INTO jobs"), pytest.raises(KilledError):
        world.process()
    assert backlog(world) == 0
    clock.move(EVENT_LEASE.total_seconds())
    assert backlog(world) == 1


def test_hints_are_counted_in_batches_and_bounded(world, monkeypatch):
    monkeypatch.setattr(upkeep, "EVENT_BATCH", 20)
    world.receive(*[b"%d" % number for number in range(21)])
    assert backlog(world) == 2
    for start in range(1, MAX_HINTS + 1):
        world.receive(*[b"%d-%d" % (start, number) for number in range(20)])
    assert backlog(world) == MAX_HINTS


def test_what_a_worker_holds_needs_no_hint(world):
    world.receive(b"A", b"B", b"C")
    assert Claims(world.database, world.clock).take(2).events
    assert backlog(world) == 1
    assert Claims(world.database, world.clock).take(2).events
    assert backlog(world) == 0


def test_only_windows_that_ended_long_ago_are_forgotten_and_no_event(world, clock):
    world.receive(b"old", b"older")
    clock.move(WINDOW.total_seconds())
    world.receive(b"new")
    assert prune(world) == 0
    clock.move(WINDOW.total_seconds() + 1)
    assert prune(world) == 2
    assert windows(world) == 1
    assert backlog(world) == 1


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)  # on SQLite no transaction writes in between
def test_a_window_that_begins_anew_while_old_ones_are_forgotten_stays(world, clock):
    world.receive(b"A")
    clock.move(3 * WINDOW.total_seconds())
    pending = [b"A"]

    def meanwhile(_connection, _cursor, sql, *_):
        if sql.startswith("DELETE FROM deliveries") and pending:
            world.receive(pending.pop())

    event.listen(world.database.engine, "before_cursor_execute", meanwhile)
    prune(world)
    assert not pending
    [again] = world.receive(b"A")
    assert again.duplicate


def test_forgetting_goes_in_chunks_until_all_is_gone(world, clock):
    rows = 2 * upkeep.PRUNE_CHUNK + 1
    long_ago = clock.now - timedelta(days=1)
    with world.database.write() as session:
        session.add_all(
            Delivery(environment="e", fingerprint=b"%d" % number, event_id=_id(number), first_at=long_ago)
            for number in range(rows)
        )
    assert prune(world) == rows
    assert windows(world) == 0


def _id(number):
    return UUID(int=number)

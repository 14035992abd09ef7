"""Events are decided as they were claimed, and not locked: what changes before their result is written is found."""

import threading
from contextlib import contextmanager

import pytest
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy import update

from app.db import event_actions
from app.db.models import Event, EventLease
from app.deadlines import EVENT_LEASE
from app.domain.states import EventState
from app.services.events import processor
from tests.integration.world import DANA, auth
from tests.waiting import PATIENCE

# On SQLite no other transaction writes within one.
within = pytest.mark.parametrize("database", ["postgresql"], indirect=True)
CREATED = {"type": ["connection.created"]}
BODY, OTHER = auth(tags=DANA), auth(connection_id="c-2", tags=DANA)


@contextmanager
def once_at(database, statement, action):
    """Call `action` just before this thread's first statement that begins so. Yields a list that is filled then."""
    done, thread = [], threading.get_ident()

    def strike(_connection, _cursor, sql, _parameters, _context, _executemany):
        if sql.startswith(statement) and not done and threading.get_ident() == thread:
            done.append(statement)
            action()

    sqlalchemy_event.listen(database.engine, "before_cursor_execute", strike)
    yield done
    sqlalchemy_event.remove(database.engine, "before_cursor_execute", strike)


@contextmanager
def before_apply(monkeypatch, action):
    """Call `action` once between the claim of a batch and its transaction."""
    apply, done = processor.Processor._apply_once, []

    def first(self, *asked, **options):
        if not done:
            done.append(action())
        return apply(self, *asked, **options)

    with monkeypatch.context() as patched:
        patched.setattr(processor.Processor, "_apply_once", first)
        yield
    assert done


@contextmanager
def locking_events(database):
    """Statements that lock events."""
    seen = []

    def note(_connection, _cursor, sql, *_):
        if sql.startswith("SELECT events.") and "FOR UPDATE" in sql:
            seen.append(sql)

    sqlalchemy_event.listen(database.engine, "before_cursor_execute", note)
    yield seen
    sqlalchemy_event.remove(database.engine, "before_cursor_execute", note)


def states(world, receipts):
    return [world.event(receipt.event_id).state for receipt in receipts]


def change(world, event_id, **values):
    with world.database.write() as session:
        session.execute(update(Event).where(Event.id == event_id).values(**values))


def all_once(world, count):
    """Each creation has its one job, and no lease is left."""
    assert len(world.jobs("created")) == len({job.event_id for job in world.jobs("created")}) == count
    assert world.all(EventLease) == []


@within
def test_plain_events_are_not_locked_and_repeated_ones_are(world):
    world.receive(BODY, OTHER)
    with locking_events(world.database) as seen:
        assert world.process().finished == 2
        assert seen == []
        world.receive(BODY)
        assert world.process().finished == 1
        assert len(seen) == 1


def test_a_duplicate_after_the_claim_leads_to_one_more_pass_and_to_no_second_job(world, monkeypatch):
    world.route(created=CREATED)
    receipts = world.receive(BODY, OTHER)
    with before_apply(monkeypatch, lambda: world.receive(BODY)):
        assert world.process().finished == 2
    assert states(world, receipts) == [EventState.RECEIVED, EventState.PROCESSED]
    assert world.process().finished == 1
    assert states(world, receipts) == [EventState.PROCESSED, EventState.PROCESSED]
    assert world.event(receipts[0].event_id).duplicates == 1
    all_once(world, 2)


@within
def test_a_duplicate_while_the_batch_is_decided_is_seen_by_its_last_statement(world):
    world.route(created=CREATED)
    receipts = world.receive(BODY, OTHER)
    with once_at(world.database, "INSERT INTO connections", lambda: world.receive(BODY)) as done:
        assert world.process().finished == 2
    assert done
    assert states(world, receipts) == [EventState.RECEIVED, EventState.PROCESSED]
    assert world.process().finished == 1
    all_once(world, 2)


@within
def test_a_duplicate_after_the_result_is_written_waits_for_it_and_leads_to_one_more_pass(world):
    world.route(created=CREATED)
    receipts = world.receive(BODY)
    late = threading.Thread(target=world.receive, args=(BODY,), daemon=True)
    with once_at(world.database, "INSERT INTO jobs", late.start) as done:
        assert world.process().finished == 1
    late.join(PATIENCE)
    assert done
    assert states(world, receipts) == [EventState.RECEIVED]
    assert world.process().finished == 1
    all_once(world, 1)


CHANGES = {
    "claimed by the release before": {"attempts": 1},
    "given up": {"state": EventState.FAILED, "failure": "crashed"},
    "processed": {"state": EventState.PROCESSED},
}


@pytest.mark.parametrize("kind", CHANGES)
def test_the_result_of_an_event_that_another_worker_decided_since_its_claim_is_not_written(world, monkeypatch, kind):
    world.route(created=CREATED)
    receipts = world.receive(BODY, OTHER)
    changed = receipts[0].event_id
    values = {**CHANGES[kind], "next_at": world.clock.now + EVENT_LEASE}
    with before_apply(monkeypatch, lambda: change(world, changed, **values)):
        assert world.process().finished == 1
    assert [job.event_id for job in world.jobs("created")] == [receipts[1].event_id]
    assert world.event(changed).state == values.get("state", EventState.RECEIVED)
    assert world.connection("c-1") is None
    all_once(world, 1)


@within
@pytest.mark.parametrize("kind", CHANGES)
def test_nor_is_it_where_that_happens_while_the_batch_is_decided(world, kind):
    world.route(created=CREATED)
    receipts = world.receive(BODY, OTHER)
    changed = receipts[0].event_id
    values = {**CHANGES[kind], "next_at": world.clock.now + EVENT_LEASE}
    with once_at(world.database, "INSERT INTO connections", lambda: change(world, changed, **values)) as done:
        assert world.process().finished == 1
    assert done
    assert [job.event_id for job in world.jobs("created")] == [receipts[1].event_id]
    assert world.connection("c-1") is None
    all_once(world, 1)


def test_an_event_that_an_operator_retries_while_it_is_claimed_is_decided_once(world, monkeypatch):
    """It failed meanwhile, by a worker of the release before."""
    world.route(created=CREATED)
    [receipt] = world.receive(BODY)

    def fail_and_retry():
        change(world, receipt.event_id, state=EventState.FAILED, failure="error", attempts=1)
        with world.database.write() as session:
            assert event_actions.revive(session, [receipt.event_id], now=world.clock.now)

    with before_apply(monkeypatch, fail_and_retry):
        assert world.process().finished == 1
    assert states(world, [receipt]) == [EventState.PROCESSED]
    assert world.process().finished == 0
    all_once(world, 1)


def test_a_retry_of_an_event_that_failed_under_a_lease_is_worked_after_it(world, monkeypatch):
    world.route(created=CREATED)
    receipts = world.receive(BODY, OTHER)
    failed = receipts[0].event_id
    with before_apply(monkeypatch, lambda: change(world, failed, state=EventState.FAILED, failure="error")):
        assert world.process().finished == 1
    with world.database.write() as session:
        event_actions.revive(session, [failed], now=world.clock.now)
    assert world.process().finished == 1
    all_once(world, 2)


def test_what_was_deleted_meanwhile_stops_no_neighbour(world, monkeypatch):
    receipts = world.receive(BODY, OTHER)

    def delete():
        with world.database.write() as session:
            session.delete(session.get(Event, receipts[0].event_id))

    with before_apply(monkeypatch, delete):
        assert world.process().finished == 1
    assert states(world, receipts[1:]) == [EventState.PROCESSED]
    assert world.all(EventLease) == []

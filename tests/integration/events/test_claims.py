"""Claims of events: a batch is under one lease, which ends with its result, or counts an attempt when it runs out."""

from contextlib import suppress
from unittest import mock

import pytest
from sqlalchemy import delete, select, text, update
from sqlalchemy.exc import OperationalError

from app.db import event_claims
from app.db.models import Connection, Event, EventLease
from app.deadlines import EVENT_LEASE, MAX_CLAIMS
from app.domain.states import EventState
from app.services.events import claiming, processor
from app.services.events.claiming import Claims
from tests.integration.world import DANA, KilledError, auth, dying_at, in_threads, refusing

POISON = 500


def received(world, count):
    """Ids of so many events, each due a second after the one before, oldest first."""
    ids = []
    for number in range(count):
        ids += [receipt.event_id for receipt in world.receive(auth(connection_id=f"c-{number}", tags=DANA))]
        world.clock.move(1)
    return ids


def claims(world):
    return Claims(world.database, world.clock)


def rows(world, ids):
    return [(event.state, event.attempts, event.next_at) for event in map(world.event, ids)]


def states(world, ids):
    return [world.event(event_id).state for event_id in ids]


def forget_leases(world):
    """As another worker does when they have run out."""
    with world.database.write() as session:
        session.execute(delete(EventLease))


def test_a_claim_writes_one_lease_and_no_event(world, clock):
    ids = received(world, 3)
    before = rows(world, ids)
    batch = claims(world).take(10)
    assert [event.id for event in batch.events] == ids
    [lease] = world.all(EventLease)
    assert (lease.id, lease.until_at) == (batch.lease_id, clock.now + EVENT_LEASE)
    assert rows(world, ids) == before


def test_those_that_are_due_the_longest_are_claimed_first_and_each_once(world):
    ids = received(world, 5)
    taken = [[event.id for event in claims(world).take(2).events] for _ in range(4)]
    assert taken == [ids[:2], ids[2:4], ids[4:], []]


def test_a_claim_that_finds_nothing_writes_no_lease(world):
    assert not claims(world).take(10).events
    assert not claims(world).take_possibly_poison().events
    assert world.all(EventLease) == []


def test_claims_at_once_have_no_event_in_common(world):
    ids = received(world, 40)
    batches = in_threads(*[lambda: claims(world).take(10)] * 4)
    assert sorted(event.id for batch in batches for event in batch.events) == sorted(ids)


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)  # SQLite has one writer at a time
def test_a_worker_that_stands_still_within_a_claim_is_cut_off(world):
    """All other claims wait for it."""
    with world.database.write() as session:
        event_claims.begin(session, now=world.clock.now)
        assert session.scalar(text("SHOW idle_in_transaction_session_timeout")) == event_claims.STILL
    with world.database.write() as session:
        assert session.scalar(text("SHOW idle_in_transaction_session_timeout")) == "1min"


def test_the_transaction_with_the_result_ends_the_lease(world):
    ids = received(world, 3)
    assert world.process().finished == 3
    assert states(world, ids) == [EventState.PROCESSED] * 3
    assert world.all(EventLease) == []


def test_a_batch_in_parts_keeps_its_lease_until_the_last_one(world, monkeypatch):
    monkeypatch.setattr(processor, "BYTES", 1)
    ids = received(world, 3)
    held, load = [], processor.Batch.load

    def note(*asked, **options):
        held.append(len(world.all(EventLease)))
        return load(*asked, **options)

    monkeypatch.setattr(processor.Batch, "load", note)
    assert world.process().finished == 3
    assert held == [1, 1, 1]
    assert states(world, ids) == [EventState.PROCESSED] * 3
    assert world.all(EventLease) == []


@pytest.mark.parametrize("lost_before", [0, 1, 2])
def test_of_a_batch_whose_lease_was_ended_nothing_more_is_written(world, monkeypatch, lost_before):
    monkeypatch.setattr(processor, "BYTES", 1)
    ids = received(world, 3)
    parts, apply = [], processor.Processor._apply_once

    def lose(*asked, **options):
        if len(parts) == lost_before:
            forget_leases(world)
        parts.append(asked)
        return apply(*asked, **options)

    with monkeypatch.context() as patched:
        patched.setattr(processor.Processor, "_apply_once", lose)
        assert world.process().finished == lost_before
    assert states(world, ids) == [EventState.PROCESSED] * lost_before + [EventState.RECEIVED] * (3 - lost_before)
    assert len(world.all(Connection)) == lost_before
    assert world.process().finished == 3 - lost_before
    assert world.all(EventLease) == []


def test_an_event_that_fails_in_a_batch_without_a_lease_is_not_marked(world):
    [event_id] = received(world, 1)

    def fail(*_, **_options):
        forget_leases(world)
        raise ValueError

    with mock.patch.object(processor.Processor, "_apply_once", side_effect=fail):
        assert world.process().finished == 0
    assert states(world, [event_id]) == [EventState.RECEIVED]


def test_a_fault_in_a_batch_leaves_no_lease(world):
    ids = received(world, 4)
    with refusing(world.database, "connections", "connection_id", "c-2"):
        assert world.process().finished == 4
    assert [event.failure for event in map(world.event, ids)] == [None, None, "error", None]
    assert world.all(EventLease) == []


def test_what_has_to_wait_leaves_no_lease(open_world, gate):
    world = open_world(base_url=gate.url)
    gate.status = 503
    [event_id] = received(world, 1)
    assert world.process().waiting == 1
    event = world.event(event_id)
    assert (event.state, event.attempts, event.looks) == (EventState.RECEIVED, 0, 0)
    assert event.next_at > world.clock.now
    assert world.all(EventLease) == []


def test_while_the_database_refuses_one_event_the_lease_is_kept_and_its_end_counts_for_that_event_alone(world):
    ids = received(world, 4)
    with refusing(world.database, "connections", "connection_id", "c-2", away=True), suppress(OperationalError):
        world.process()
    left = [event_id for event_id in ids if world.event(event_id).state == EventState.RECEIVED]
    assert ids[2] in left
    assert len(world.all(EventLease)) == 1
    assert not claims(world).take(10).events
    world.outlive_lease()
    again = claims(world).take_possibly_poison()
    assert [event.id for event in again.events] == left
    assert {event.attempts for event in again.events} == {1}


def test_a_lease_that_ran_out_counts_for_what_is_still_due_and_for_nothing_else(world, clock):
    due, waiting, processed, failed = ids = received(world, 4)
    batch = claims(world).take(10)
    with world.database.write() as session:
        for event_id, values in (
            (waiting, {"next_at": clock.now + 2 * EVENT_LEASE}),
            (processed, {"state": EventState.PROCESSED}),
            (failed, {"state": EventState.FAILED}),
        ):
            session.execute(update(Event).where(Event.id == event_id).values(**values))
    world.outlive_lease()
    assert not claims(world).take(10).events
    assert [world.event(event_id).attempts for event_id in ids] == [1, 0, 0, 0]
    assert [lease for lease in world.all(EventLease) if lease.id == batch.lease_id] == []
    assert [event.id for event in claims(world).take_possibly_poison().events] == [due]


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)  # SQLite has one writer at a time
def test_a_batch_that_is_just_being_recorded_is_taken_over_by_none(world):
    """Its lease has run out meanwhile."""
    received(world, 3)
    batch = claims(world).take(10)
    with world.database.write() as session:
        batch.hold(session, 3)
        world.outlive_lease()
        assert not claims(world).take(10).events
        assert not claims(world).take_possibly_poison().events


def test_possibly_poison_events_are_claimed_in_ever_smaller_groups_and_the_rest_of_a_batch_is_not(world, clock):
    ids = received(world, 100)
    sizes = []
    for attempts in range(MAX_CLAIMS):
        with world.database.write() as session:
            session.execute(update(Event).values(attempts=attempts))
        sizes.append(len((claims(world).take_possibly_poison() if attempts else claims(world).take(200)).events))
        forget_leases(world)
    assert sizes == [100, 64, 8, 1, 1]
    with world.database.write() as session:
        session.execute(update(Event).where(Event.id.in_(ids[:3])).values(attempts=1))
        session.execute(update(Event).where(Event.id.in_(ids[3:])).values(attempts=2))
    assert [len(claims(world).take_possibly_poison().events) for _ in range(2)] == [3, 8], "never two kinds together"


def test_of_five_hundred_events_with_a_poison_one_that_one_alone_is_given_up(world, clock):
    names = [f"c-{number}" for number in range(POISON)]
    names[321] = "deadly"
    for start in range(0, POISON, 100):
        world.receive(*[auth(connection_id=name, tags=DANA) for name in names[start : start + 100]])
    deaths = 0
    with dying_at(world.database, "INSERT INTO connections", "deadly"):
        while any(event.state == EventState.RECEIVED for event in world.all(Event)):
            try:
                world.processor.process(limit=POISON)
            except KilledError:
                deaths += 1
            world.outlive_lease()
    assert deaths == MAX_CLAIMS
    [crashed] = [event for event in world.all(Event) if event.state != EventState.PROCESSED]
    assert (crashed.state, crashed.failure) == (EventState.FAILED, "crashed")
    assert b'"deadly"' in crashed.body
    assert {found.connection_id for found in world.all(Connection)} == {*names} - {"deadly"}
    assert world.all(EventLease) == []


def test_ended_leases_are_worked_off_a_few_at_a_time(world, monkeypatch):
    monkeypatch.setattr(event_claims, "MOST_ENDED", 2)
    monkeypatch.setattr(event_claims, "_ending", event_claims._ending.__wrapped__)
    received(world, 3)
    for _ in range(3):
        claims(world).take(1)
    world.outlive_lease()
    claims(world).take(10)
    assert sorted(event.attempts for event in world.all(Event)) == [0, 1, 1]
    claims(world).take(10)
    assert [event.attempts for event in world.all(Event)] == [1, 1, 1]
    assert world.all(EventLease) == []


def claim_as_before(world, ids):
    """As a release without leases claims."""
    with world.database.write() as session:
        due = update(Event).where(Event.id.in_(ids), Event.state == "received", Event.next_at <= world.clock.now)
        session.execute(due.values(attempts=Event.attempts + 1, next_at=world.clock.now + EVENT_LEASE))


def test_an_event_that_a_worker_of_the_release_before_claims_meanwhile_is_left_to_it(world, monkeypatch):
    ids = received(world, 3)
    apply = processor.Processor._apply_once

    def claimed_meanwhile(*asked, **options):
        claim_as_before(world, [ids[1]])
        return apply(*asked, **options)

    monkeypatch.setattr(processor.Processor, "_apply_once", claimed_meanwhile)
    assert world.process().finished == 2
    assert states(world, ids) == [EventState.PROCESSED, EventState.RECEIVED, EventState.PROCESSED]
    assert world.all(EventLease) == []
    assert [connection.connection_id for connection in world.all(Connection)] == ["c-0", "c-2"]


def test_a_claim_of_the_release_before_holds_until_its_lease_ends_and_counts(world):
    [event_id] = received(world, 1)
    claim_as_before(world, [event_id])
    assert world.process().finished == 0
    assert world.event(event_id).attempts == 1
    world.outlive_lease()
    [event] = claims(world).take_possibly_poison().events
    assert (event.id, event.attempts) == (event_id, 1)


def test_an_event_that_the_release_before_claimed_under_a_lease_is_not_counted_twice(world):
    """The worker of the release before has it, and its result is told by the attempts of its claim."""
    [event_id] = received(world, 1)
    claims(world).take(10)
    world.clock.move(1)
    claim_as_before(world, [event_id])
    world.clock.now += EVENT_LEASE - world.clock.now.resolution
    claims(world).take(10)
    assert world.event(event_id).attempts == 1


def test_a_plain_read_of_leases_needs_no_event(world):
    """Retention deletes events, and a lease may still name them."""
    received(world, 1)
    claims(world).take(10)
    with world.database.write() as session:
        session.execute(delete(Event))
    world.outlive_lease()
    assert not claims(world).take(10).events
    with world.database.read() as session:
        assert session.scalars(select(EventLease.id)).all() == []


def test_groups_end_alone_before_an_event_is_given_up():
    """Else it would be given up for a neighbour."""
    assert max(claiming.TOGETHER) < MAX_CLAIMS - 1


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)  # PostgreSQL takes no such value
@pytest.mark.parametrize("unreadable", ["{", "", "5"])
def test_a_lease_that_cannot_be_read_stops_no_claim(world, unreadable):
    [event_id] = received(world, 1)
    claims(world).take(10)
    with world.database.write() as session:
        session.execute(text("UPDATE event_leases SET event_ids = :ids"), {"ids": unreadable})
    assert [event.id for event in claims(world).take(10).events] == [event_id]
    world.outlive_lease()
    assert not claims(world).take(10).events
    assert world.all(EventLease) == []

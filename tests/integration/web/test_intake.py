"""Promise 4: the same delivery once, different occurrences each."""

from datetime import timedelta

import pytest

from app.db.models import Event
from app.domain.states import EventState
from tests.integration.sandbox.sandbox_server import register
from tests.integration.world import DANA, OMAR, WINDOW, auth, in_threads


@pytest.mark.parametrize("threads", [2, 12])
def test_identical_deliveries_at_once_count_once(world, threads):
    receipts = [receipt for [receipt] in in_threads(*[lambda: world.receive(b'{"a":1}')] * threads)]
    assert len({receipt.event_id for receipt in receipts}) == 1
    assert sum(not receipt.duplicate for receipt in receipts) == 1
    [event] = world.all(Event)
    assert event.duplicates == threads - 1


def test_group_commits_with_the_same_deliveries_in_other_orders_do_not_deadlock(world):
    bodies = [b"%d" % number for number in range(40)]
    orders = [bodies, bodies[::-1], bodies[20:] + bodies[:20]]

    def store_all(order):
        return [world.receive(*order[start : start + 10]) for start in range(0, len(order), 10)]

    in_threads(*[lambda order=order: store_all(order) for order in orders])
    events = world.all(Event)
    assert {event.body for event in events} == set(bodies)
    assert {event.duplicates for event in events} == {2}


def test_equal_deliveries_in_one_group_are_one_event_in_order(world):
    receipts = world.receive(b"A", b"B", b"A", b"A")
    assert [receipt.duplicate for receipt in receipts] == [False, False, True, True]
    assert receipts[0].event_id == receipts[2].event_id == receipts[3].event_id != receipts[1].event_id
    assert [(event.body, event.duplicates) for event in world.all(Event)] == [(b"A", 2), (b"B", 0)]


def test_the_window_begins_with_the_first_receipt_and_never_slides(world, clock):
    [first] = world.receive(b"A")
    for seconds in (100, 49):
        clock.move(seconds)
        [again] = world.receive(b"A")
        assert again.event_id == first.event_id
        assert again.duplicate
    clock.move(1)
    [later] = world.receive(b"A")
    assert not later.duplicate
    assert world.event(first.event_id).duplicates == 2
    clock.move(WINDOW.total_seconds() - 1)  # the new event has a window of its own
    [again] = world.receive(b"A")
    assert again.event_id == later.event_id


def test_later_identical_bytes_are_another_event(world, clock):
    first = world.handle(auth(tags=DANA))
    clock.move(WINDOW.total_seconds())
    second = world.handle(auth(tags=DANA))
    assert first != second
    assert [event.state for event in world.all(Event) if event.body] == [EventState.PROCESSED] * 2


def test_the_same_bytes_for_another_environment_are_another_event(world):
    [first], [second] = world.receive(b"A", environment="one"), world.receive(b"A", environment="two")
    assert first.event_id != second.event_id
    assert not second.duplicate


def test_a_stored_event_keeps_its_bytes_and_its_times(world, clock):
    body = bytes(range(256))
    [receipt] = world.receive(body)
    received_at = clock.now
    clock.move(10)
    world.receive(body)
    event = world.event(receipt.event_id)
    assert (event.body, event.state, event.origin) == (body, "received", "webhook")
    assert (event.received_at, event.last_seen_at) == (received_at, received_at + timedelta(seconds=10))


def test_a_duplicate_of_a_processed_event_is_processed_again_and_makes_no_second_job(world, clock):
    world.route(created={"type": ["connection.created"]}, linked={"type": ["connection.linked"]})
    event_id = world.handle(auth(tags=DANA))
    document = world.event(event_id).document
    clock.move(5)
    [receipt] = world.receive(auth(tags=DANA))
    assert world.event(event_id).state == EventState.RECEIVED
    assert world.process(receipt).finished == 1
    event = world.event(event_id)
    assert (event.state, event.duplicates, event.document) == (EventState.PROCESSED, 1, document)
    assert sorted(job.route for job in world.jobs()) == ["created", "linked"]


def test_a_then_b_then_a_again_ends_as_a(world, clock):
    for tags in (DANA, OMAR, DANA):
        world.handle(auth("override", tags=tags))
        clock.move(1)
    assert world.owner("c-1") == ("usr_1042", "org_77")
    assert len(world.links("c-1")) == 3


def test_a_then_b_then_a_again_ends_as_a_when_all_wait_for_one_batch(world, clock):
    for tags in (DANA, OMAR, DANA):
        world.receive(auth("override", tags=tags))
        clock.move(1)
    world.process()
    assert world.owner("c-1") == ("usr_1042", "org_77")


def test_a_duplicate_of_a_failed_event_revives_it(world, clock):
    event_id = world.handle(auth(tags=DANA))
    with world.database.write() as session:
        event = session.get(Event, event_id)
        event.state, event.failure, event.attempts, event.looks = EventState.FAILED, "crashed", 6, 3
    clock.move(5)
    [receipt] = world.receive(auth(tags=DANA))
    event = world.event(event_id)
    assert (event.state, event.failure, event.attempts, event.looks) == (EventState.RECEIVED, None, 0, 0)
    world.process(receipt)
    assert world.event(event_id).state == EventState.PROCESSED


def test_a_duplicate_does_not_shorten_the_wait_of_an_event_that_is_worked_on(world, clock):
    [receipt] = world.receive(b"A")
    with world.database.write() as session:
        session.get(Event, receipt.event_id).next_at = clock.now + timedelta(seconds=60)
    clock.move(5)
    world.receive(b"A")
    assert world.process().finished == 0


def test_a_duplicate_while_the_event_is_processed_leads_to_one_more_pass(open_world, gate, nango, connection_id):
    register(nango, connection_id, "oauth2", tags=DANA)
    world = open_world(base_url=gate.url)
    world.route(created={"type": ["connection.created"]})
    body = auth(connection_id=connection_id, tags=DANA)
    gate.before = lambda: world.receive(body)
    event_id = world.handle(body)
    event = world.event(event_id)
    assert (event.state, event.duplicates) == (EventState.RECEIVED, 1)
    assert world.owner(connection_id) == ("usr_1042", "org_77")
    world.process()
    assert world.event(event_id).state == EventState.PROCESSED
    assert len(gate.requests) == 2
    assert len(world.jobs()) == 1
    assert world.process().finished == 0

"""A burst is confirmed in few calls, and no connection by another's lookup."""

import time
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from app.db.models import Event
from app.domain.states import EventState
from app.errors import NangoInvalidRequest
from app.services.events import lookups
from tests.integration.sandbox.sandbox_server import control, register
from tests.integration.world import DANA, OMAR, auth, failure, sync

DANA_OWNS, OMAR_OWNS = ("usr_1042", "org_77"), ("usr_2001", "org_88")


@pytest.fixture
def world(open_world, gate):
    return open_world(base_url=gate.url)


@pytest.fixture
def one_long_burst(monkeypatch):
    """However slow the machine, all that a test does comes within a moment."""
    for name in ("PAGE_EVERY", "BURST", "PAGE_SERVES"):
        monkeypatch.setattr(lookups, name, 3600.0)


def names(prefix, count):
    return [f"{prefix}-{number}" for number in range(count)]


def receive(world, *connection_ids, tags=DANA):
    return world.receive(*[auth(connection_id=connection_id, tags=tags) for connection_id in connection_ids])


def process_all(world):
    """Process in the worker's batches until nothing is due."""
    settled = 0
    while (applied := world.process()).finished + applied.waiting:
        settled += applied.finished
    return settled


def owners(world, connection_ids):
    return {world.owner(connection_id) for connection_id in connection_ids}


def small(requests):
    return [path for path in requests if "limit=2000" not in path]


@pytest.mark.usefixtures("one_long_burst")
def test_a_burst_of_a_thousand_creations_costs_at_most_a_call_for_a_hundred(world, nango, gate, connection_id):
    ours = names(connection_id, 1000)
    for id_ in ours:
        register(nango, id_, "oauth2", tags=DANA)
    receive(world, *ours)
    assert process_all(world) == 1000
    assert len(gate.requests) <= 10
    assert {event.confirmed for event in world.all(Event) if event.type == "connection.created"} == {True}
    assert owners(world, ours[::100]) == {DANA_OWNS}


@pytest.mark.usefixtures("one_long_burst")
def test_so_does_one_that_trickles_in(world, nango, gate, clock, connection_id):
    for group in range(25):
        ours = names(f"{connection_id}-{group}", 20)
        for id_ in ours:
            register(nango, id_, "oauth2", tags=DANA)
        receive(world, *ours)
        world.process()
        if group % 5 == 4:
            waiting = [event for event in world.all(Event) if event.state == EventState.RECEIVED]
            assert {(event.attempts, event.looks) for event in waiting} == {(0, 0)}
            assert all("asked for together" in event.problem for event in waiting)
            clock.move(3600)  # they are due
            process_all(world)
    assert {event.state for event in world.all(Event)} == {EventState.PROCESSED}
    assert len(gate.requests) <= 1 + 500 / 100


@pytest.mark.usefixtures("one_long_burst")
def test_a_page_confirms_the_batches_that_follow(world, nango, gate, connection_id):
    ours = names(connection_id, 12)
    for id_ in ours:
        register(nango, id_, "oauth2", tags=DANA)
    world.process(*receive(world, *ours[:6]))
    assert len(gate.requests) == 1
    world.process(*receive(world, *ours[6:]))
    assert owners(world, ours) == {DANA_OWNS}
    assert len(gate.requests) == 1


@pytest.fixture
def seen(world, nango, gate, connection_id, one_long_burst):
    """A connection of Dana's that an earlier page has shown, as one of several; its webhook is still to come."""
    ours = names(connection_id, 7)
    for id_ in ours:
        register(nango, id_, "oauth2", tags=DANA)
    world.process(*receive(world, *ours[1:]))
    assert len(gate.requests) == 1
    gate.requests.clear()
    return ours[0]


def test_an_earlier_page_does_not_confirm_an_override(world, nango, gate, seen):
    register(nango, seen, "oauth2", tags=OMAR)
    world.handle(auth("override", connection_id=seen, tags=OMAR))
    assert (world.owner(seen), len(gate.requests)) == (OMAR_OWNS, 1)


def test_an_earlier_page_does_not_confirm_other_tags(world, nango, gate, clock, seen):
    register(nango, seen, "oauth2", tags=OMAR)
    event_id = world.handle(auth(connection_id=seen, tags=OMAR))
    assert (world.event(event_id).state, world.event(event_id).looks) == (EventState.RECEIVED, 0)
    clock.move(3600)
    world.process()
    assert (world.owner(seen), len(gate.requests)) == (OMAR_OWNS, 1)


def test_an_earlier_page_does_not_confirm_a_delivery_that_came_twice(world, nango, gate, seen):
    """Its second webhook may be about a change after the page: A, B, A."""
    register(nango, seen, "oauth2", tags=OMAR)
    receive(world, seen)
    receive(world, seen)
    world.process()
    assert len(gate.requests) == 1
    assert world.connection(seen) is None


@pytest.mark.usefixtures("one_long_burst")
def test_an_earlier_page_does_not_confirm_the_next_generation(world, nango, gate, clock, connection_id):
    world.route(created={"type": ["connection.created"]})
    ours = names(connection_id, 6)
    for id_ in ours:
        register(nango, id_, "oauth2", tags=DANA)
    world.process(*receive(world, *ours))
    nango.delete(f"/connections/{ours[0]}", params={"provider_config_key": "oauth2"}).raise_for_status()
    newer = register(nango, ours[0], "oauth2", tags=DANA)["id"]
    world.handle(auth(connection_id=ours[0], tags=DANA, provider="made-again"))
    assert world.connection(ours[0]).nango_id < newer
    clock.move(3600)
    receive(world, *names(f"{connection_id}-more", 100))
    process_all(world)
    assert world.connection(ours[0]).nango_id == newer
    assert len(world.jobs("created")) == 7


def test_those_that_wait_are_due_with_the_next_page_and_not_later(world, clock, seen):
    [newest] = world.processor._lookups._newest.values()
    newest.asked_at -= 3000
    [receipt] = receive(world, f"{seen}-late")
    world.process()
    wait = (world.event(receipt.event_id).next_at - clock.now).total_seconds()
    assert 0 < wait <= 600, "a page an hour: the next one is due ten minutes from now"


@pytest.mark.usefixtures("one_long_burst")
def test_no_event_waits_twice_for_more_to_come(world, gate, clock, seen):
    [receipt] = receive(world, f"{seen}-forged")
    world.process()
    assert gate.requests == []
    clock.move(3600)
    world.process()
    assert gate.requests != []
    assert world.event(receipt.event_id).looks == 1


def test_a_backlog_is_found_below_the_newest(world, nango, gate, connection_id):
    ours = names(connection_id, 10)
    for id_ in ours:
        register(nango, id_, "oauth2", tags=DANA)
    for name in names(f"{connection_id}-newer", 200):
        register(nango, name, "oauth2", tags=OMAR)
    receive(world, *ours)
    assert process_all(world) == 10
    assert owners(world, ours) == {DANA_OWNS}
    assert len(gate.requests) == 2
    assert len(small(gate.requests)) == 1


def test_a_lagging_replica_costs_a_burst_a_page_each_time(world, nango, gate, clock, connection_id):
    ours = names(connection_id, 50)
    # The list holds what earlier tests made, too: more than a page of it would be another call.
    nango.delete("/integrations/oauth2").raise_for_status()
    body = {"provider": "local-oauth2", "unique_key": "oauth2"}
    nango.post("/integrations", json=body).raise_for_status()
    nango.patch("/sandbox/settings", json={"replica_lag": 3600}).raise_for_status()
    for id_ in ours:
        register(nango, id_, "oauth2", tags=DANA)
    receive(world, *ours)
    assert process_all(world) == 0
    assert len(gate.requests) <= 2
    assert {event.looks for event in world.all(Event)} == {1}
    nango.patch("/sandbox/settings", json={"replica_lag": 0}).raise_for_status()
    gate.requests.clear()
    clock.move(2)
    while any(event.state == EventState.RECEIVED for event in world.all(Event)):
        process_all(world)
        clock.move(1)
    assert owners(world, ours) == {DANA_OWNS}
    assert len(gate.requests) <= 2


def test_what_no_page_shows_is_asked_for_by_its_id_before_it_is_given_up(
    *, world, nango, gate, clock, connection_id, monkeypatch
):
    """An old connection whose creation is announced late is not among the newest."""
    register(nango, connection_id, "oauth2", tags=DANA)
    for name in names(f"{connection_id}-newer", 120):
        register(nango, name, "oauth2", tags=OMAR)
    forged = names(f"{connection_id}-forged", 5)
    monkeypatch.setattr(lookups, "PAGE_EVERY", 0.0)  # the clock runs faster than the burst
    clock.move(3600)
    [receipt, *_] = receive(world, connection_id, *forged)
    for _ in range(100):
        world.process()
        clock.move(1)
    assert world.event(receipt.event_id).state == EventState.PROCESSED
    assert world.owner(connection_id) == DANA_OWNS
    failed = [event for event in world.all(Event) if event.state == EventState.FAILED]
    assert {event.failure for event in failed} == {"not_confirmed"}
    assert len(failed) == len(forged)


def test_a_provider_that_breaks_many_connections_of_any_age_costs_a_few_pages(world, nango, gate, connection_id):
    ours = names(connection_id, 60)
    for id_ in ours:
        register(nango, id_, "oauth2", tags=DANA)
    receive(world, *ours)
    process_all(world)
    for id_ in ours:
        control(nango, id_, "oauth2", exhausted=True)
    for name in names(f"{connection_id}-newer", 200):
        register(nango, name, "oauth2", tags=OMAR)
    gate.requests.clear()
    world.receive(
        *[
            failure("refresh", connection_id=connection_id, kind="refresh_token_external_error")
            for connection_id in ours
        ]
    )
    assert process_all(world) == 60
    assert len(gate.requests) <= 1 + lookups.MAX_PAGES
    assert {world.connection(connection_id).last_error_type for connection_id in ours} == {
        "refresh_token_external_error"
    }


def test_an_event_that_waits_for_a_page_and_goes_to_another_worker_is_forgotten(world, gate, clock, seen, monkeypatch):
    """Else a worker would remember every creation that it made wait and another one confirmed."""
    other = names(f"{seen}-forged", 3)
    receive(world, *other)
    world.process()
    [newest] = world.processor._lookups._newest.values()
    assert len(newest.waited) == 3
    monkeypatch.setattr(lookups, "PAGE_SERVES", 0.0)
    monkeypatch.setattr(lookups, "PAGE_EVERY", 0.0)
    receive(world, *names(f"{seen}-more", 4))
    world.process()
    assert newest.waited == {}


def test_a_lookup_that_nango_refuses_keeps_no_other_event_waiting(open_world, nango, base_url, clock, connection_id):
    first, second, third = names(connection_id, 3)
    for id_ in (first, second, third):
        register(nango, id_, "oauth2", tags=DANA)
    world = open_world(base_url=base_url)
    asked = []

    class Refusing:
        def __init__(self, client):
            self.client = client

        def list_connections(self, *, connection_id, timeout):
            asked.append(connection_id)
            if connection_id == first:
                raise NangoInvalidRequest(status=400, code="invalid_query_params")
            return self.client.list_connections(connection_id=connection_id, timeout=timeout)

    of = world.clients.of
    world.clients.of = lambda *facts: Refusing(of(*facts))
    receipt, *_ = receive(world, first, second, third)
    world.process()
    assert asked == [first, second, third]
    assert [world.owner(connection_id) for connection_id in (first, second, third)] == [None, DANA_OWNS, DANA_OWNS]
    event = world.event(receipt.event_id)
    assert (event.state, event.looks, event.attempts) == (EventState.RECEIVED, 0, 0)
    assert event.next_at - clock.now == timedelta(minutes=1)


def test_while_nango_stands_still_what_needs_no_lookup_is_not_kept_waiting(
    *, world, nango, gate, clock, connection_id, monkeypatch
):
    """A call that hangs holds up its batch. The batches after it do not ask, for some times as long."""
    monkeypatch.setattr(lookups, "HELD_UP", 0.05)
    monkeypatch.setattr(lookups, "REST", 1e6)  # for longer than the test takes
    first, second, known = names(connection_id, 3)
    for id_ in (first, second, known):
        register(nango, id_, "oauth2", tags=DANA)
    world.handle(auth(connection_id=known, tags=DANA))
    monkeypatch.setattr(lookups, "PAGE_EVERY", 0.0)
    gate.before = lambda: time.sleep(0.2)
    gate.status = 503
    receive(world, first)
    world.process()
    asked = len(gate.requests)
    receipt, *_ = (*receive(world, second), *world.receive(sync(known)))
    world.process()
    assert len(gate.requests) == asked
    [synced] = world.events("nango.sync")
    assert synced.state == EventState.PROCESSED
    waiting = world.event(receipt.event_id)
    assert (waiting.state, waiting.looks, waiting.attempts) == (EventState.RECEIVED, 0, 0)
    assert "left alone" in waiting.problem
    assert waiting.next_at > clock.now
    gate.status = None
    world.processor._lookups._rests.clear()  # the rest is over
    clock.now = waiting.next_at
    world.process()
    assert {world.owner(connection_id) for connection_id in (first, second)} == {DANA_OWNS}


def spoiled(connection_id, **wrong):
    """An edit of a list page that gives this connection's row a wrong form."""

    def edit(body):
        rows = body["connections"]
        return {"connections": [row | wrong if row["connection_id"] == connection_id else row for row in rows]}

    return edit


@pytest.mark.parametrize("count", [3, 8], ids=["by id", "on a page"])
@pytest.mark.parametrize("wrong", [{"id": 2**63}, {"tags": {"plan": 5}}], ids=["id", "tags"])
def test_a_row_that_cannot_be_read_keeps_no_other_connection_waiting(
    *, world, nango, gate, clock, connection_id, count, wrong
):
    bad, *others = names(connection_id, count)
    for id_ in (bad, *others):
        register(nango, id_, "oauth2", tags=DANA)
    gate.edit = spoiled(bad, **wrong)
    with capture_logs() as logs:
        receipt, *_ = receive(world, bad, *others)
        process_all(world)
        clock.move(10)
        process_all(world)
    assert owners(world, others) == {DANA_OWNS}
    event = world.event(receipt.event_id)
    assert (event.state, event.looks, event.attempts) == (EventState.RECEIVED, 0, 0)
    assert "cannot be read" in event.problem
    assert {line["connection_id"] for line in logs if line["event"] == "nango_row_unreadable"} == {bad}
    gate.edit = None
    world.wait_for(event.id)
    assert world.owner(bad) == DANA_OWNS


@pytest.mark.parametrize("created", ["0001-01-01T00:00:00.000Z", "0001-01-01T00:00:00+14:00", None, 10**30])
def test_a_connection_whose_creation_has_no_readable_time_is_linked_like_any_other(
    *, world, nango, gate, connection_id, created
):
    ours = names(connection_id, 8)
    for id_ in ours:
        register(nango, id_, "oauth2", tags=DANA)
    gate.edit = lambda body: {"connections": [row | {"created": created} for row in body["connections"]]}
    receive(world, *ours)
    process_all(world)
    assert owners(world, ours) == {DANA_OWNS}

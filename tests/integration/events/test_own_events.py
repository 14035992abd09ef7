"""Events that Waylink found itself go through the one pipeline; no outside sender can store one."""

import pytest
from sqlalchemy import update

from app.db.models import Event
from app.domain.confirming import Absent, Snapshot
from app.domain.event import EventError, EventType
from app.domain.own_event import OwnEvent, write_own
from app.domain.states import ConnectionStatus, EventState, Origin
from app.services import own_events
from tests.integration.sandbox.sandbox_server import register
from tests.integration.world import DANA, OMAR, auth


def own(connection_id, kind=EventType.CONNECTION_CREATED, **facts):
    return OwnEvent(type=kind, integration="oauth2", connection_id=connection_id, **facts)


def snapshot(world, *, nango_id=7, tags=DANA, failing=False):
    return Snapshot(nango_id, tags, None, "google-mail", failing, world.clock())


def store(world, *events, origin=Origin.RECONCILE):
    with world.database.write() as session:
        return own_events.store(session, events, environment="default", origin=origin, now=world.clock())


@pytest.fixture
def world(open_world, gate):
    """A world whose calls to Nango pass the gate."""
    return open_world(base_url=gate.url)


def test_the_snapshot_it_was_found_by_is_its_lookup(world, gate, connection_id):
    world.route(new={"type": ["connection.created"], "operation": ["creation"], "origin": ["reconcile"]})
    [event_id] = store(world, own(connection_id, lookup=snapshot(world)))
    assert world.process().finished == 1
    event, connection = world.event(event_id), world.connection(connection_id)
    assert (event.state, event.confirmed, event.origin) == (EventState.PROCESSED, True, "reconcile")
    assert (connection.status, connection.nango_id, connection.tags) == (ConnectionStatus.ACTIVE, 7, DANA)
    assert world.owner(connection_id) == ("usr_1042", "org_77")
    assert event.document["connection_id"] == connection_id
    assert len(world.jobs("new")) == 1
    assert gate.requests == []


def test_without_a_lookup_nango_is_asked_as_for_a_webhook(world, gate, nango, connection_id):
    register(nango, connection_id, "oauth2", tags=DANA)
    [event_id] = store(world, own(connection_id), origin=Origin.OPERATOR)
    world.process()
    assert (world.event(event_id).state, len(gate.requests)) == (EventState.PROCESSED, 1)
    assert world.owner(connection_id) == ("usr_1042", "org_77")


def test_a_lookup_that_confirms_nothing_is_followed_by_a_fresh_one(world, gate, nango, clock, connection_id):
    nango_id = register(nango, connection_id, "oauth2", tags=DANA)["id"]
    world.handle(auth(connection_id=connection_id, tags=DANA))
    gate.requests.clear()
    [event_id] = store(world, own(connection_id, lookup=snapshot(world, nango_id=nango_id - 1)))
    world.process()
    assert (world.event(event_id).state, gate.requests) == (EventState.RECEIVED, [])
    clock.move(2)
    world.process()
    assert (world.event(event_id).state, len(gate.requests)) == (EventState.PROCESSED, 1)


def test_a_creation_is_routed_once_whatever_announced_it(world, nango, connection_id):
    world.route(new={"type": ["connection.created"]})
    nango_id = register(nango, connection_id, "oauth2", tags=DANA)["id"]
    store(world, own(connection_id, lookup=snapshot(world, nango_id=nango_id)))
    world.process()
    world.handle(auth(connection_id=connection_id, tags=DANA))
    store(world, own(connection_id, lookup=snapshot(world, nango_id=nango_id)))
    world.process()
    assert len(world.jobs("new")) == 1
    assert len(world.links(connection_id)) == 1


def test_two_absences_reported_by_the_finder_are_a_deletion(world, gate, connection_id):
    store(world, own(connection_id, lookup=snapshot(world)))
    world.process()
    world.clock.move(1)
    once, twice = Absent(world.clock()), Absent(world.clock(), again=True)
    [event_id] = store(world, own(connection_id, EventType.CONNECTION_DELETED, lookup=once))
    world.process()
    assert world.event(event_id).state == EventState.RECEIVED
    assert world.connection(connection_id).status == ConnectionStatus.ACTIVE
    store(world, own(connection_id, EventType.CONNECTION_DELETED, lookup=twice))
    world.process()
    assert world.connection(connection_id).status == ConnectionStatus.DELETED
    assert world.owner(connection_id) is None
    assert gate.requests == []


def test_errors_seen_and_gone_again(world, connection_id):
    store(world, own(connection_id, lookup=snapshot(world)))
    world.process()
    world.clock.move(1)
    error = EventError("auth", "Nango shows an auth error")
    failing = own(connection_id, EventType.CONNECTION_REFRESH_FAILED, error=error, lookup=snapshot(world, failing=True))
    [event_id] = store(world, failing)
    world.process()
    assert world.connection(connection_id).last_error_type == "auth"
    assert world.event(event_id).document["error"] == {"type": "auth", "description": "Nango shows an auth error"}
    world.clock.move(1)
    store(world, own(connection_id, EventType.CONNECTION_RECOVERED, lookup=snapshot(world)))
    world.process()
    assert world.connection(connection_id).last_error_type is None


def test_an_older_lookup_never_overwrites_a_newer_one(world, connection_id):
    old = snapshot(world, tags=DANA)
    world.clock.move(1)
    store(world, own(connection_id, lookup=snapshot(world, tags=OMAR)))
    world.process()
    store(world, own(connection_id, EventType.CONNECTION_REAUTHORIZED, lookup=old))
    world.process()
    assert world.owner(connection_id) == ("usr_2001", "org_88")


def test_a_webhook_in_our_own_form_is_not_believed(world, gate, connection_id):
    event_id = world.handle(write_own(own(connection_id, lookup=snapshot(world))))
    event = world.event(event_id)
    assert (event.type, event.origin, event.state) == ("nango.unhandled", "webhook", EventState.PROCESSED)
    assert world.connection(connection_id) is None
    assert gate.requests == []


def test_no_webhook_is_stored_as_one(world, connection_id):
    with pytest.raises(ValueError, match="origin"):
        store(world, own(connection_id), origin=Origin.WEBHOOK)


def test_a_body_of_ours_that_cannot_be_read_harms_no_neighbour(world, connection_id):
    first, _ = store(
        world, own(connection_id, lookup=snapshot(world)), own(connection_id + "-2", lookup=snapshot(world, nango_id=8))
    )
    with world.database.write() as session:
        session.execute(update(Event).where(Event.id == first).values(body=b"{}"))
    assert world.process().finished == 2
    assert world.connection(connection_id) is None
    assert world.connection(connection_id + "-2") is not None
    [odd] = world.events("nango.unhandled")
    assert odd.state == EventState.PROCESSED

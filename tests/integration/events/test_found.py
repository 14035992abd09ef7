"""Events of Waylink's own findings: recorded and routed once, changing no more than was found."""

from dataclasses import replace

import pytest
from sqlalchemy import update

from app.db.models import Connection
from app.domain.confirming import Absent, Snapshot
from app.domain.event import EventError, EventType
from app.domain.own_event import OwnEvent
from app.domain.states import ConnectionStatus, EventState, Origin
from app.services import own_events
from app.services.events.connection_transitions import KNOWN_BEFORE
from tests.integration.sandbox.sandbox_server import control, register
from tests.integration.world import DANA, OMAR, WINDOW, auth, failure

DANA_OWNS, OMAR_OWNS = ("usr_1042", "org_77"), ("usr_2001", "org_88")


@pytest.fixture
def world(open_world, base_url):
    return open_world(base_url=base_url)


@pytest.fixture
def linked(world, nango, clock, connection_id):
    """A confirmed connection of Dana's, a second old; every event is routed."""
    world.route(all={"environment": ["default"]})
    register(nango, connection_id, "oauth2", tags=DANA)
    world.handle(auth(connection_id=connection_id, tags=DANA))
    assert world.owner(connection_id) == DANA_OWNS
    clock.move(1)
    return connection_id


def snapshot(world, connection_id, *, tags=DANA, failing=False):
    """The connection as Nango would show it now, later than whatever was seen before."""
    known = world.connection(connection_id)
    world.clock.now = max(world.clock.now, known.observed_at, known.errors_seen_at)
    world.clock.move(0.001)
    return Snapshot(known.nango_id, tags, None, "google-mail", failing, world.clock())


def find(world, connection_id, kind, lookup, *, origin=Origin.RECONCILE, error=None):
    """Store and process one event of our own; the event."""
    own = OwnEvent(type=kind, integration="oauth2", connection_id=connection_id, lookup=lookup, error=error)
    with world.database.write() as session:
        [event_id] = own_events.store(session, [own], environment="default", origin=origin, now=world.clock())
    world.process()
    return world.event(event_id)


def routed_as(world, kind):
    """The documents that were routed as this type."""
    documents = [world.event(job.event_id).document for job in world.jobs()]
    return [document for document in documents if document["type"] == kind]


def retag(world, connection_id, tags, **facts):
    lookup = snapshot(world, connection_id, tags=tags)
    return find(world, connection_id, EventType.CONNECTION_TAGS_CHANGED, lookup, **facts)


@pytest.mark.parametrize("origin", [Origin.RECONCILE, Origin.REFRESH, Origin.OPERATOR])
def test_changed_tags_are_routed_with_the_tags_and_the_owner_that_hold_now(world, linked, origin):
    plan = world.open_plan(linked)
    event = retag(world, linked, OMAR | {"plan": "pro"}, origin=origin)
    assert (event.state, event.confirmed, event.origin, event.problem) == (EventState.PROCESSED, True, origin, None)
    [document] = routed_as(world, "connection.tags_changed")
    assert (document["tags"], document["origin"]) == (OMAR | {"plan": "pro"}, origin)
    assert (document["user"]["external_id"], document["previous_owner"]) == ("usr_2001", None)
    assert world.owner(linked) == OMAR_OWNS
    assert routed_as(world, "connection.linked")[-1]["previous_owner"]["user"]["external_id"] == "usr_1042"
    assert world.open_plan(linked).id == plan.id  # its credentials are the same


def test_tags_that_are_as_they_were_known_are_not_announced(world, linked):
    event = retag(world, linked, DANA)
    assert (event.state, event.confirmed, event.problem) == (EventState.PROCESSED, True, KNOWN_BEFORE)
    assert routed_as(world, "connection.tags_changed") == []


def test_wiped_tags_that_were_found_keep_the_link(world, linked):
    retag(world, linked, {})
    assert world.owner(linked) == DANA_OWNS
    assert world.connection(linked).drift == "tags_wiped"
    [document] = routed_as(world, "connection.tags_changed")
    assert (document["tags"], document["user"]["external_id"]) == ({}, "usr_1042")


def test_changed_tags_do_not_hide_that_a_connection_is_broken(world, linked):
    with world.database.write() as session:
        broken = {"status": ConnectionStatus.NEEDS_RECONNECT, "last_error_type": "exhausted"}
        session.execute(update(Connection).where(Connection.connection_id == linked).values(**broken))
    retag(world, linked, OMAR)
    connection = world.connection(linked)
    assert (connection.status, connection.last_error_type) == (ConnectionStatus.NEEDS_RECONNECT, "exhausted")
    assert world.owner(linked) == OMAR_OWNS
    assert routed_as(world, "connection.linked")[-1]["confirmed"] is True


def test_an_older_snapshot_of_the_tags_changes_and_announces_nothing(world, linked):
    old = replace(
        snapshot(world, linked, tags=OMAR), observed_at=world.connection(linked).observed_at.replace(year=2020)
    )
    event = find(world, linked, EventType.CONNECTION_TAGS_CHANGED, old)
    assert (event.state, event.problem) == (EventState.PROCESSED, KNOWN_BEFORE)
    assert world.owner(linked) == DANA_OWNS
    assert routed_as(world, "connection.tags_changed") == []


def test_changed_tags_of_a_newer_generation_begin_a_new_connection(world, linked):
    lookup = snapshot(world, linked, tags=DANA | {"plan": "pro"})
    find(world, linked, EventType.CONNECTION_TAGS_CHANGED, replace(lookup, nango_id=lookup.nango_id + 1))
    assert [link.close_reason for link in world.links(linked)] == ["new_generation", None]
    assert world.connection(linked).nango_id == lookup.nango_id + 1


@pytest.mark.parametrize("operation", ["creation", "override"])
def test_a_creation_or_a_reauthorization_announces_its_tags_itself(world, nango, linked, operation):
    nango.delete(f"/connections/{linked}", params={"provider_config_key": "oauth2"}).raise_for_status()
    register(nango, linked, "oauth2", tags=OMAR)
    world.handle(auth(operation, connection_id=linked, tags=OMAR))
    assert world.owner(linked) == OMAR_OWNS
    assert world.events("connection.tags_changed") == []


def test_a_second_lookup_that_finds_other_tags_announces_them_and_not_the_creation_again(world, nango, linked):
    register(nango, linked, "oauth2", tags=OMAR)  # no webhook announces it
    body = auth(connection_id=linked, tags=DANA)
    assert world.receive(body)[0].duplicate
    for seconds in (0, 2, 5, 15, 60):
        world.clock.move(seconds)
        world.process()
    assert world.owner(linked) == OMAR_OWNS
    assert len(routed_as(world, "connection.created")) == 1
    [document] = routed_as(world, "connection.tags_changed")
    assert (document["tags"], document["origin"], document["confirmed"]) == (OMAR, "system", True)


def test_a_second_lookup_leaves_the_creation_of_the_next_generation_to_its_own_webhook(world, nango, linked):
    world.receive(auth(connection_id=linked, tags=DANA))
    world.process()
    nango.delete(f"/connections/{linked}", params={"provider_config_key": "oauth2"}).raise_for_status()
    newer = register(nango, linked, "oauth2", tags=DANA)["id"]
    before = len(routed_as(world, "connection.created"))
    world.receive(auth(connection_id=linked, tags=DANA))  # the old delivery, once more
    world.process()
    assert (world.connection(linked).nango_id, len(routed_as(world, "connection.created"))) == (newer, before)
    world.handle(auth(connection_id=linked, tags=DANA, provider="made-again"))
    assert len(routed_as(world, "connection.created")) == before + 1


def test_a_b_a_within_the_window_ends_as_a_and_announces_both_changes(world, nango, linked):
    first, second = auth("override", connection_id=linked, tags=DANA), auth("override", connection_id=linked, tags=OMAR)
    for body, tags in ((first, DANA), (second, OMAR), (first, DANA)):
        world.clock.move(1)
        register(nango, linked, "oauth2", tags=tags)
        world.handle(body)
    assert world.owner(linked) == DANA_OWNS
    assert [document["tags"] for document in routed_as(world, "connection.reauthorized")] == [DANA, OMAR]
    assert [document["tags"] for document in routed_as(world, "connection.tags_changed")] == [DANA]
    assert [link.close_reason for link in world.links(linked)] == ["reassigned", "reassigned", None]


def test_a_suppressed_late_creation_announces_the_tags_that_it_found(world, nango, clock, linked):
    register(nango, linked, "oauth2", tags=OMAR)
    clock.move(WINDOW.total_seconds())
    event = world.event(world.handle(auth(connection_id=linked, tags=OMAR)))
    assert event.problem is not None
    assert len(routed_as(world, "connection.created")) == 1
    assert [document["tags"] for document in routed_as(world, "connection.tags_changed")] == [OMAR]


def test_a_second_lookup_of_what_is_gone_leaves_the_event_as_it_was_and_its_jobs(world, nango, linked):
    nango.delete(f"/connections/{linked}", params={"provider_config_key": "oauth2"}).raise_for_status()
    event_id = world.handle(auth(connection_id=linked, tags=DANA))
    for seconds in (2, 5, 15, 60):
        world.clock.move(seconds)
        world.process()
    event = world.event(event_id)
    assert (event.state, event.confirmed, event.failure) == (EventState.PROCESSED, True, None)
    assert "does not show" in event.problem
    assert len(routed_as(world, "connection.created")) == 1
    assert world.owner(linked) == DANA_OWNS  # one event's lookups are no deletion


def test_a_second_lookup_does_not_hide_that_the_connection_broke_since(world, nango, linked):
    control(nango, linked, "oauth2", exhausted=True)
    world.handle(failure("refresh", connection_id=linked, tags=DANA))
    with world.database.write() as session:
        session.execute(update(Connection).values(status=ConnectionStatus.NEEDS_RECONNECT))
    plan = world.open_plan(linked)
    assert world.receive(auth(connection_id=linked, tags=DANA))[0].duplicate
    world.process()
    connection = world.connection(linked)
    assert (connection.status, connection.last_error_type) == (ConnectionStatus.NEEDS_RECONNECT, "unknown")
    assert world.open_plan(linked).id == plan.id


def test_a_reauthorization_ends_what_was_broken_once_the_list_shows_it(world, nango, linked):
    control(nango, linked, "oauth2", exhausted=True)
    world.handle(failure("refresh", connection_id=linked, tags=DANA))
    event_id = world.handle(auth("override", connection_id=linked, tags=DANA))
    assert "still shows an auth error" in world.event(event_id).problem
    assert world.connection(linked).last_error_type == "unknown"
    control(nango, linked, "oauth2", exhausted=False)
    world.clock.move(2)
    world.process()
    connection = world.connection(linked)
    assert (connection.status, connection.last_error_type) == (ConnectionStatus.ACTIVE, None)


def test_a_spoofed_reauthorization_does_not_make_a_broken_connection_whole(world, nango, linked):
    control(nango, linked, "oauth2", exhausted=True)
    world.handle(failure("refresh", connection_id=linked, tags=DANA))
    with world.database.write() as session:
        session.execute(update(Connection).values(status=ConnectionStatus.NEEDS_RECONNECT))
    plan = world.open_plan(linked)
    event_id = world.handle(auth("override", connection_id=linked, tags=DANA))
    for seconds in (2, 5, 15, 60):
        world.clock.move(seconds)
        world.process()
    assert world.event(event_id).state == EventState.PROCESSED
    connection = world.connection(linked)
    assert (connection.status, connection.last_error_type) == (ConnectionStatus.NEEDS_RECONNECT, "unknown")
    assert world.open_plan(linked).id == plan.id


def test_a_deletion_that_was_found_is_announced_once_whatever_else_reports_it(world, nango, linked):
    nango.delete(f"/connections/{linked}", params={"provider_config_key": "oauth2"}).raise_for_status()
    gone = Absent(snapshot(world, linked).observed_at, again=True)
    event = find(world, linked, EventType.CONNECTION_DELETED, gone)
    assert (event.state, event.confirmed) == (EventState.PROCESSED, True)
    assert world.connection(linked).status == ConnectionStatus.DELETED
    late = world.handle(auth("deletion", connection_id=linked, tags=DANA))
    assert (world.event(late).state, world.event(late).problem) == (EventState.PROCESSED, KNOWN_BEFORE)
    assert len(routed_as(world, "connection.deleted")) == 1


def test_a_deletion_that_was_found_before_the_connection_was_made_again_is_not_believed(world, nango, linked):
    gone = Absent(snapshot(world, linked).observed_at, again=True)
    nango.delete(f"/connections/{linked}", params={"provider_config_key": "oauth2"}).raise_for_status()
    register(nango, linked, "oauth2", tags=OMAR)
    with world.database.write() as session:
        session.execute(update(Connection).values(observed_at=gone.observed_at.replace(year=2030)))
    event = find(world, linked, EventType.CONNECTION_DELETED, gone)
    assert "seen after it was missed" in event.problem
    for seconds in (2, 5, 15, 60):
        world.clock.move(seconds)
        world.process()
    assert world.event(event.id).failure == "not_confirmed"
    assert world.connection(linked).status == ConnectionStatus.ACTIVE
    assert routed_as(world, "connection.deleted") == []


def test_an_error_and_its_end_are_announced_when_they_were_not_known(world, linked):
    error = EventError("auth", "Nango shows an auth error")
    for _ in range(2):
        lookup = snapshot(world, linked, failing=True)
        find(world, linked, EventType.CONNECTION_REFRESH_FAILED, lookup, error=error)
    assert [document["error"]["type"] for document in routed_as(world, "connection.refresh_failed")] == ["auth"]
    plan = world.open_plan(linked)
    for _ in range(2):
        find(world, linked, EventType.CONNECTION_RECOVERED, snapshot(world, linked))
    assert len(routed_as(world, "connection.recovered")) == 1
    assert world.connection(linked).last_error_type is None
    assert world.open_plan(linked).id != plan.id  # a plan that failures had put off


@pytest.mark.parametrize("webhook_first", [True, False])
def test_a_recovery_that_nango_sends_and_waylink_finds_is_announced_once(world, nango, linked, webhook_first):
    def webhook():
        return world.handle(auth("refresh", connection_id=linked, tags=DANA))

    def finding():
        return find(world, linked, EventType.CONNECTION_RECOVERED, snapshot(world, linked)).id

    control(nango, linked, "oauth2", exhausted=True)
    world.handle(failure("refresh", connection_id=linked, tags=DANA))
    control(nango, linked, "oauth2", exhausted=False)
    first, later = [tell() for tell in ((webhook, finding) if webhook_first else (finding, webhook))]
    assert len(routed_as(world, "connection.recovered")) == 1
    assert (world.event(first).untold, world.event(later).untold) == (None, KNOWN_BEFORE)
    assert world.event(later).state == EventState.PROCESSED
    find(world, linked, EventType.CONNECTION_REFRESH_FAILED, snapshot(world, linked, failing=True))
    find(world, linked, EventType.CONNECTION_RECOVERED, snapshot(world, linked))
    assert len(routed_as(world, "connection.recovered")) == 2, "it broke and recovered again"


def test_a_recovery_of_what_was_not_broken_changes_nothing_and_is_suppressed(world, linked):
    plan, before = world.open_plan(linked), world.connection(linked)
    world.handle(auth("refresh", connection_id=linked, tags=DANA))
    connection = world.connection(linked)
    assert (connection.status, connection.updated_at) == (before.status, before.updated_at)
    assert world.open_plan(linked).id == plan.id
    assert routed_as(world, "connection.recovered") == []

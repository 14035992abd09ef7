"""Sync, forward and async action webhooks are routed by the tags and the owner of their connection."""

import json
from datetime import timedelta

import pytest
from sqlalchemy import update

from app.db.models import Connection
from app.domain.states import ConnectionStatus, EventState, Origin
from tests.integration.sandbox.sandbox_server import register
from tests.integration.world import DANA, OMAR, auth, sync
from tests.ports import free_port

ENTERPRISE = DANA | {"plan": "enterprise"}
KINDS = pytest.mark.parametrize("kind", ["sync", "forward", "async_action"])


def webhook(kind, connection_id="c-1", **members):
    sender = "hubspot" if kind == "forward" else "nango"
    return sync(connection_id, type=kind, **{"from": sender}, payload={"id": "7"}, **members)


def routed_by_plan(world):
    world.route(enterprise={"type": [{"prefix": "nango."}], "tags": {"plan": ["enterprise"]}})


def due_in(world, event_id):
    event = world.event(event_id)
    assert event.state == EventState.RECEIVED
    return event.next_at - world.clock.now


@pytest.fixture
def asking(open_world, gate):
    """An environment with an API key, whose calls to Nango pass the gate."""
    return open_world(base_url=gate.url)


@KINDS
def test_a_team_takes_the_webhooks_of_one_plan_only(world, kind):
    routed_by_plan(world)
    world.handle(auth(connection_id="big", tags=ENTERPRISE))
    world.handle(auth(connection_id="small", tags=OMAR | {"plan": "free"}))
    for connection_id in ("small", "big"):
        world.handle(webhook(kind, connection_id))
    [job] = world.jobs("enterprise")
    document = world.event(job.event_id).document
    assert (document["type"], document["connection_id"]) == (f"nango.{kind}", "big")
    assert (document["user"]["external_id"], document["organization"]["external_id"]) == ("usr_1042", "org_77")
    assert document["confirmed"] is False


@KINDS
def test_what_comes_before_its_connection_waits_and_gets_its_tags_all_the_same(world, clock, kind):
    routed_by_plan(world)
    event_id = world.handle(webhook(kind))
    assert due_in(world, event_id) == timedelta(seconds=2)
    assert world.jobs() == []
    world.handle(auth(tags=ENTERPRISE))
    clock.move(2)
    world.process()
    assert world.event(event_id).document["user"]["external_id"] == "usr_1042"
    assert len(world.jobs("enterprise")) == 1


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_what_comes_in_one_batch_with_its_connections_creation_finds_it(world, order):
    routed_by_plan(world)
    bodies = [auth(tags=ENTERPRISE), webhook("sync")]
    world.process(*world.receive(*[bodies[position] for position in order]))
    [event] = world.events("nango.sync")
    assert event.document["tags"] == ENTERPRISE
    assert len(world.jobs("enterprise")) == 1


def test_what_cannot_be_looked_up_goes_without_tags_after_two_waits(world, clock):
    world.route(all={"type": ["nango.sync"], "tags": {"plan": [{"exists": False}]}})
    event_id = world.handle(webhook("sync"))
    for seconds in (2, 5):
        assert due_in(world, event_id) == timedelta(seconds=seconds)
        clock.move(seconds)
        world.process()
    event = world.event(event_id)
    assert (event.state, event.problem) == (EventState.PROCESSED, "no creation of its connection came")
    assert (event.document["tags"], event.document["user"]) == ({}, None)
    assert len(world.jobs("all")) == 1
    assert world.all(Connection) == []


@KINDS
def test_a_creation_that_was_missed_is_found_by_what_goes_with_the_connection(asking, gate, nango, connection_id, kind):
    routed_by_plan(asking)
    clock = asking.clock
    register(nango, connection_id, "oauth2", tags=ENTERPRISE)
    event_id = asking.handle(webhook(kind, connection_id))
    assert gate.requests == []  # its creation may be on its way
    clock.move(2)
    asking.process()
    assert len(gate.requests) == 1
    asking.process()
    [created] = asking.events("connection.created")
    assert (created.origin, created.state, created.confirmed) == (Origin.SYSTEM, EventState.PROCESSED, True)
    assert asking.owner(connection_id) == ("usr_1042", "org_77")
    clock.move(5)
    asking.process()
    assert asking.event(event_id).document["tags"] == ENTERPRISE
    assert len(asking.jobs("enterprise")) == 1
    asking.handle(auth(connection_id=connection_id, tags=ENTERPRISE))
    assert len([event for event in asking.events("connection.created") if event.problem is None]) == 1  # announced once


def test_many_of_one_unknown_connection_find_it_once(asking, nango, clock, connection_id):
    register(nango, connection_id, "oauth2", tags=ENTERPRISE)
    asking.process(*asking.receive(*[webhook("sync", connection_id, n=number) for number in range(5)]))
    clock.move(2)
    asking.process()
    assert len(asking.events(None)) == 1
    clock.move(5)
    asking.process()
    asking.process()
    assert {event.document["tags"]["plan"] for event in asking.events("nango.sync")} == {"enterprise"}


def test_what_nango_does_not_know_either_waits_on_the_schedule_then_goes_without_tags(asking, clock, connection_id):
    event_id = asking.handle(webhook("sync", connection_id))
    for seconds in (2, 5, 15, 60):
        assert due_in(asking, event_id) == timedelta(seconds=seconds)
        clock.move(seconds)
        asking.process()
    assert asking.event(event_id).state == EventState.PROCESSED
    assert asking.event(event_id).document["tags"] == {}
    assert asking.all(Connection) == []


def test_while_nango_is_away_it_is_waited_for_without_end(open_world, clock):
    world = open_world(base_url=f"http://127.0.0.1:{free_port()}")
    event_id = world.handle(webhook("sync"))
    for _ in range(8):
        clock.now = world.event(event_id).next_at
        world.process()
    assert (world.event(event_id).state, world.event(event_id).looks) == (EventState.RECEIVED, 1)


def test_with_a_known_connection_nango_is_never_asked(asking, gate, nango, connection_id):
    register(nango, connection_id, "oauth2", tags=ENTERPRISE)
    asking.handle(auth(connection_id=connection_id, tags=ENTERPRISE))
    gate.requests.clear()
    gate.status = 500
    for kind in ("sync", "forward", "async_action"):
        assert asking.event(asking.handle(webhook(kind, connection_id))).state == EventState.PROCESSED
    assert gate.requests == []


def deleted(world, connection_id):
    with world.database.write() as session:
        found = update(Connection).where(Connection.connection_id == connection_id)
        session.execute(found.values(status=ConnectionStatus.DELETED))


def test_the_tags_of_a_deleted_connection_serve_once_nango_shows_no_newer_one(asking, nango, clock, connection_id):
    register(nango, connection_id, "oauth2", tags=ENTERPRISE)
    asking.handle(auth(connection_id=connection_id, tags=ENTERPRISE))
    nango.delete(f"/connections/{connection_id}", params={"provider_config_key": "oauth2"}).raise_for_status()
    deleted(asking, connection_id)
    event_id = asking.handle(webhook("sync", connection_id))
    assert due_in(asking, event_id) == timedelta(seconds=2)
    clock.move(2)
    asking.process()
    event = asking.event(event_id)
    assert (event.state, event.problem) == (EventState.PROCESSED, "its connection was deleted before")
    assert event.document["tags"] == ENTERPRISE


def test_the_tags_of_an_older_generation_never_route_what_goes_with_a_newer_one(asking, nango, clock, connection_id):
    """The same id again, for another customer: a team must not get another customer's webhooks."""
    asking.route(old={"type": ["nango.sync"], "tags": {"end_user_id": ["usr_1042"]}})
    register(nango, connection_id, "oauth2", tags=DANA)
    asking.handle(auth(connection_id=connection_id, tags=DANA))
    nango.delete(f"/connections/{connection_id}", params={"provider_config_key": "oauth2"}).raise_for_status()
    deleted(asking, connection_id)
    register(nango, connection_id, "oauth2", tags=OMAR)
    event_id = asking.handle(webhook("sync", connection_id))
    for seconds in (2, 5):
        clock.move(seconds)
        asking.process()
        asking.process()
    document = asking.event(event_id).document
    assert (document["tags"], document["user"]["external_id"]) == (OMAR, "usr_2001")
    assert asking.jobs("old") == []


def test_a_forward_shaped_like_auth_is_a_forward_and_changes_nothing(world):
    world.handle(auth(tags=DANA))
    inner = json.loads(auth(tags=OMAR))
    event = world.event(world.handle(sync(type="forward", **{"from": "slack"}, payload=inner)))
    assert (event.type, event.document["payload"]) == ("nango.forward", inner)
    assert (event.document["tags"], world.owner("c-1")) == (DANA, ("usr_1042", "org_77"))


def test_a_forward_that_names_no_connection_is_routed_at_once_by_provider_and_integration(world):
    world.route(hubspot={"type": ["nango.forward"], "provider": ["hubspot"], "integration": ["oauth2"]})
    body = json.loads(webhook("forward"))
    del body["connectionId"]
    event = world.event(world.handle(json.dumps(body).encode()))
    assert (event.state, event.document["connection_id"], event.document["tags"]) == (EventState.PROCESSED, None, {})
    assert len(world.jobs("hubspot")) == 1


def test_a_repeated_one_is_not_waited_for_again(world, clock):
    world.wait_out(webhook("sync"))
    [again] = world.receive(webhook("sync"))
    assert again.duplicate
    world.process(again)
    assert world.event(again.event_id).state == EventState.PROCESSED

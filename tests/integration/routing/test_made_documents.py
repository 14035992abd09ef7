"""A `connection.linked` that no route asks for is stored without a document, and shown, explained, backfilled and
delivered as if it had one."""

import json
from datetime import timedelta

import pytest
from sqlalchemy import delete, select

from app.db import event_actions, jobs, retention
from app.db import events as event_rows
from app.db.models import Event
from app.db.read import listing
from app.domain.routing import Route
from app.domain.states import JobState
from app.errors import Conflict
from app.ids import EVENT, show
from app.services.routing import backfills, explanations, replays
from app.services.routing.backfills import Span
from app.services.routing.cache import RouteCache
from app.services.routing.replays import Routes
from tests.integration.world import DANA, OMAR, auth

LINKED = {"type": ["connection.linked"]}
CREATED = {"type": ["connection.created"]}
LONG_AGO = timedelta(days=1)


def stored(world, event_id):
    """(document, cause) as stored."""
    with world.database.read() as session:
        return session.execute(select(Event.document, Event.cause_id).where(Event.id == event_id)).one()


def linked(world, connection_id="c-1"):
    [event] = [event for event in world.events("connection.linked") if event.connection_id == connection_id]
    return event


def own_members(document):
    return {name: value for name, value in document.items() if name not in {"id", "occurred_at", "connection_id"}}


def shown(world, event_id):
    """The document by each of the ways to read it."""
    with world.database.read() as session:
        found = listing.event(session, event_id)["document"]
        explained = explanations.document_of(session, event_id)
        [routed] = [
            event.document
            for event in event_rows.routed(session, since=event_id, before=None, limit=100)
            if event.id == event_id
        ]
        texts = event_actions.texts(session, [event_id], newest_first=False)
    assert found == explained == routed == json.loads(texts[event_id])
    return found


@pytest.mark.parametrize("others", [{}, {"created": CREATED}])
def test_only_a_first_link_that_no_route_asks_for_has_no_document(world, others):
    world.route(**others)
    world.handle(auth(tags=DANA))
    event = linked(world)
    [created] = world.events("connection.created")
    assert stored(world, event.id) == (None, created.id)
    world.handle(auth("override", tags=OMAR))
    second = world.events("connection.linked")[-1]
    document, cause = stored(world, second.id)
    assert (document["previous_owner"]["user"]["external_id"], cause) == ("usr_1042", None)


@pytest.mark.parametrize("pattern", [LINKED, {"integration": ["oauth2"]}, {"type": [{"prefix": "connection.l"}]}])
def test_one_that_a_route_may_take_has_its_own(world, pattern):
    world.route(linked=pattern)
    world.handle(auth(tags=DANA))
    event = linked(world)
    document, cause = stored(world, event.id)
    assert (document["type"], cause) == ("connection.linked", None)
    assert "connection.linked" in {world.event(job.event_id).type for job in world.jobs("linked")}


@pytest.mark.parametrize("operation", ["creation", "override"])
@pytest.mark.parametrize(
    "members", [{}, {"mode": "API_KEY", "provider": "unknown"}, {"end_user": {"endUserId": "usr_7"}}]
)
def test_a_made_document_is_the_one_that_would_have_been_stored(world, operation, members):
    tags = None if "end_user" in members else {**DANA, "a.b": "ü\n"}
    world.handle(auth(operation, connection_id="c-1", tags=tags, **members))
    world.route(linked=LINKED)
    world.handle(auth(operation, connection_id="c-2", tags=tags, **members))
    made, whole = linked(world, "c-1"), linked(world, "c-2")
    assert stored(world, made.id)[0] is None
    document = shown(world, made.id)
    assert own_members(document) == own_members(stored(world, whole.id)[0])
    assert (document["id"], document["connection_id"]) == (show(EVENT, made.id), "c-1")
    assert document["occurred_at"] == made.received_at.isoformat()


def test_a_replay_delivers_it_and_stores_the_document_with_its_job(world):
    world.handle(auth(tags=DANA))
    event = linked(world)
    before = shown(world, event.id)
    world.route(linked=LINKED)
    matching = replays.match(world.database, event.id, Routes.NOW, RouteCache().current(world.database))
    with world.database.write() as session:
        replays.replay(session, matching, again=False, actor="cli:test", now=world.clock.now)
    [job] = world.jobs("linked")
    assert (job.event_id, job.state) == (event.id, JobState.AVAILABLE)
    with world.database.read() as session:
        assert json.loads(bytes(jobs.documents(session, [event.id])[event.id].document)) == before
    assert stored(world, event.id) == (before, None)
    assert shown(world, event.id) == before


def test_a_backfill_finds_it_among_the_history(world):
    world.handle(auth(connection_id="c-1", tags=DANA))
    world.handle(auth(connection_id="c-2", tags=OMAR))
    before = shown(world, linked(world, "c-2").id)
    world.route(linked={"type": ["connection.linked"], "user": {"external_id": ["usr_2001"]}})
    with world.database.read() as session:
        route: Route = backfills.live_route(session, team="crm", name="linked")
    span = Span(world.clock.now - LONG_AGO, world.clock.now + LONG_AGO)
    *_, found = backfills.scan(world.database, route, span, limit=10)
    assert (found.scanned, found.matched) == (4, 1)
    made = backfills.fill(world.database, route, found, per_second=20.0, asked={}, actor="cli:test", clock=world.clock)
    assert sum(map(len, made)) == 1
    [job] = world.jobs("linked")
    assert stored(world, job.event_id) == (before, None)


def test_it_goes_with_its_cause(world):
    world.handle(auth(tags=DANA))
    event = linked(world)
    later = world.clock.now + LONG_AGO
    with world.database.write() as session:
        page = retention.page(session, after=None, before=later, limit=10)
        assert {event.id, stored(world, event.id)[1]} <= set(page)
        retention.forget(session, page, before=later)
    assert world.events("connection.linked") == []


def test_one_whose_cause_is_deleted_says_so(world):
    world.handle(auth(tags=DANA))
    event = linked(world)
    with world.database.write() as session:
        session.execute(delete(Event).where(Event.id == stored(world, event.id)[1]))
    with world.database.read() as session:
        assert listing.event(session, event.id)["document"] is None
        with pytest.raises(Conflict, match="the event that it followed from is deleted"):
            explanations.document_of(session, event.id)
        assert event_rows.routed(session, since=event.id, before=None, limit=10) == []
    with pytest.raises(Conflict, match="the event that it followed from is deleted"):
        replays.match(world.database, event.id, Routes.NOW, RouteCache().current(world.database))

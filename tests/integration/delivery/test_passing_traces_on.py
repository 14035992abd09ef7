"""The trace that a webhook belongs to goes with its event, what follows from it, and its jobs, to the team."""

import json
from contextlib import closing
from uuid import uuid4

import pytest
import redis
from sqlalchemy import update

from app.db import repeats as repeat_rows
from app.db.models import Event, Repeat
from app.db.read import listing
from app.domain.traceparent import HEADER
from app.ids import JOB, new_id, parse
from app.services.delivery.deliverer import Deliverer
from tests.integration.delivery.destinations import add, fill
from tests.integration.delivery.test_direct_delivery import direct
from tests.integration.delivery.test_http_delivery import (
    _server,
    add_http,
    announced,
    open_worker,
    server,
    worker,
)
from tests.integration.world import DANA, auth, sync

__all__ = ["_server", "announced", "open_worker", "server", "worker"]  # fixtures

QUEUE = "team.crm.jobs"


def trace(number: int) -> str:
    return f"00-{number:032x}-{number + 1:016x}-01"


def traced(world, body, traceparent, **facts):
    return world.delivery(body, **facts)._replace(traceparent=traceparent)


def traces(world, *conditions):
    return [event.traceparent for event in world.all(Event, *conditions)]


def set_trace(world, traceparent):
    with world.database.write() as session:
        session.execute(update(Event).values(traceparent=traceparent))


def messages(valkey):
    with closing(redis.Redis.from_url(valkey.url(1))) as client:
        return [json.loads(message) for message in client.lrange(QUEUE, 0, -1)[::-1]]


def test_webhooks_of_one_commit_keep_each_its_own_trace_or_none(world):
    bodies = [auth(connection_id=f"c-{number}") for number in range(4)]
    given = [trace(1), None, trace(3), None]
    receipts = world.deliver(*(traced(world, body, one) for body, one in zip(bodies, given, strict=True)))
    assert [world.event(receipt.event_id).traceparent for receipt in receipts] == given
    [alone] = world.receive(auth(connection_id="c-alone"))
    assert world.event(alone.event_id).traceparent is None


def test_an_event_and_its_jobs_are_shown_with_the_id_of_their_trace_and_others_with_none(world):
    world.route(all={"type": [{"prefix": ""}]})
    given = [trace(0xABC), None]
    receipts = world.deliver(*(traced(world, auth(connection_id=f"c-{one}"), one) for one in given))
    world.process(*receipts)
    with world.database.read() as session:
        shown = [listing.event(session, receipt.event_id) for receipt in receipts]
        of_jobs = [listing.job(session, parse(JOB, event["jobs"][0]["id"]))["trace_id"] for event in shown]
    assert [event["trace_id"] for event in shown] == of_jobs == [f"{0xABC:032x}", None]


def test_a_duplicate_leaves_the_first_deliverys_trace(world):
    body = auth()
    world.deliver(traced(world, body, trace(1)))
    world.deliver(traced(world, body, trace(2)), traced(world, body, None))
    assert traces(world) == [trace(1)]


@pytest.mark.parametrize("given", [trace(9), None])
def test_a_repeat_that_is_an_event_of_its_own_has_its_own_trace(world, given):
    world.route(all={"id": [{"exists": True}]})
    world.handle(auth(tags=DANA))
    web = uuid4()
    first = traced(world, sync(), trace(1), by=web)
    world.deliver(first)
    world.process()
    with world.database.write() as session:
        repeat_rows.record_answers(session, web, settled_before=new_id(), lost=())
    again = traced(world, sync(), given, by=web)
    world.deliver(again)
    assert [repeat.traceparent for repeat in world.all(Repeat)] == [given]
    world.process()
    assert world.event(first.event_id).traceparent == trace(1)
    assert world.event(again.event_id).traceparent == given


def test_what_follows_from_an_event_is_of_its_trace_and_of_no_other(world):
    world.route(linked={"type": ["connection.linked"]})
    bodies = [auth(connection_id=f"c-{number}", tags={"end_user_id": f"u-{number}"}) for number in range(3)]
    given = [trace(1), None, trace(3)]
    world.deliver(*(traced(world, body, one) for body, one in zip(bodies, given, strict=True)))
    world.process()
    found = {event.connection_id: event.traceparent for event in world.events("connection.linked")}
    assert found == {f"c-{number}": one for number, one in enumerate(given)}


def test_an_endpoint_gets_the_trace_as_a_header_and_without_one_none(world, server, worker):
    add_http(world, server, "crm", "/204")
    fill(world, "crm", 1)
    set_trace(world, trace(1))
    fill(world, "crm", 1)
    assert worker.deliver().completed == 2
    assert sorted(call.headers.get(HEADER, "") for call in server.calls) == ["", trace(1)]


@pytest.mark.parametrize("stored", ["nonsense", f"{trace(1)}\r\nx-more: 1", trace(1).upper() + "é", "0" * 100_000])
def test_no_stored_text_that_is_none_becomes_a_header(world, server, worker, stored):
    add_http(world, server, "crm", "/204")
    fill(world, "crm", 1)
    set_trace(world, stored)
    assert worker.deliver().completed == 1
    [call] = server.calls
    assert HEADER not in call.headers
    assert "x-more" not in call.headers


def test_a_celery_task_gets_the_trace_as_a_header_of_its_message(open_world, broker_url, valkey):
    """Written by kombu and by the template that is made of it, with and without a trace, alike in all else."""
    world = open_world(teams_url=valkey.url(1))
    add(world, "crm")
    fill(world, "crm", 2)
    set_trace(world, trace(1))
    fill(world, "crm", 2)
    with closing(Deliverer(world.database, world.broker, world.clock)) as worker:
        assert worker.deliver().completed == 4
        fill(world, "crm", 1)
        set_trace(world, trace(5))
        assert worker.deliver().completed == 1
    headers = [message["headers"] for message in messages(valkey)]
    assert sorted(one.get(HEADER, "") for one in headers) == ["", "", trace(1), trace(1), trace(5)]
    assert len({one["id"] for one in headers}) == 5
    assert {frozenset(one) - {HEADER} for one in headers} == {frozenset(headers[0]) - {HEADER}}


def test_a_job_that_leaves_at_once_has_its_events_trace(open_world, broker_url, valkey):
    world = open_world(teams_url=valkey.url(1))
    world.route(new={"type": ["connection.created", "connection.linked"]})
    with direct(world, world.broker) as loop:
        world.deliver(traced(world, auth(tags=DANA), trace(1)), traced(world, auth(connection_id="c-2"), None))
        world.process()
        loop.turn()
    assert sorted(message["headers"].get(HEADER, "") for message in messages(valkey)) == ["", trace(1), trace(1)]

"""Spans of batches: one per event and stage, linked with those beside it, and each in its own event's trace."""

import asyncio
from collections import Counter, defaultdict

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from app.db.models import Event
from app.domain import canary
from app.domain.event import EventType
from app.domain.own_event import OwnEvent
from app.domain.states import EventState, Origin
from app.errors import DatabaseUnavailable
from app.ids import EVENT, new_id, show
from app.services import own_events
from app.services.delivery.deliverer import Deliverer
from app.services.events import processor as processing
from app.services.events.claiming import LeaseLost
from app.traces.process import ProcessTraces
from app.web.group_commit import StoreUnavailable
from tests.integration.delivery.destinations import add, fill
from tests.integration.sandbox.sandbox_server import register
from tests.integration.web.test_group_commit import Announcements, delivery, end_the_hold, group_commit
from tests.integration.world import DANA, auth, refusing

EVENTS = 5


def trace(number: int) -> str:
    return f"00-{number:032x}-{number:016x}-01"


class Recorded:
    """The traces of a process, and what was exported by its end."""

    def __init__(self):
        self.exporter = InMemorySpanExporter()
        self.traces = ProcessTraces("test", "1", self.exporter)

    def spans(self):
        """All spans by name, in the order of their ends."""
        self.traces._provider.close(within=60)
        found = defaultdict(list)
        for span in self.exporter.get_finished_spans():
            found[span.name].append(span)
        return found


@pytest.fixture
def recorded():
    made = Recorded()
    yield made
    made.traces.close()


@pytest.fixture
def world(open_world, base_url, recorded):
    made = open_world(base_url=base_url)
    made.processor.spans = recorded.traces.events
    return made


def ids(spans):
    return [span.attributes["waylink.event.id"] for span in spans]


def are_linked(spans):
    """Each to the first of them."""
    first, *others = spans
    return not first.links and all(
        [link.context.span_id for link in span.links] == [first.context.span_id] for span in others
    )


def traced(world, number):
    return world.delivery(auth(connection_id=f"c-{number}"))._replace(traceparent=trace(number))


def test_each_event_of_a_batch_has_its_spans_in_its_own_trace(world, recorded, nango):
    world.route(new={"type": ["connection.created"]}, linked={"type": ["connection.linked"]})
    deliveries = []
    for number in range(1, EVENTS + 1):
        name = f"spans-{number}-{new_id().hex}"
        register(nango, name, "oauth2", tags=DANA)
        deliveries.append(world.delivery(auth(connection_id=name, tags=DANA))._replace(traceparent=trace(number)))
    receipts = world.deliver(*deliveries)
    world.process()
    spans = recorded.spans()
    assert {name: len(found) for name, found in spans.items()} == {"confirm": EVENTS, "apply": EVENTS, "route": EVENTS}
    by_trace = {number: show(EVENT, receipt.event_id) for number, receipt in enumerate(receipts, 1)}
    applies = {span.context.trace_id: span for span in spans["apply"]}
    for name, found in spans.items():
        assert {span.context.trace_id: span.attributes["waylink.event.id"] for span in found} == by_trace, name
    for span in (*spans["confirm"], *spans["apply"]):
        assert span.parent.span_id == span.context.trace_id  # as `trace` makes both
        assert span.attributes["waylink.batch.size"] == EVENTS
    assert all(span.parent.span_id == applies[span.context.trace_id].context.span_id for span in spans["route"])
    assert are_linked(spans["confirm"])
    assert are_linked(spans["apply"])
    assert {span.attributes["waylink.answer"] for span in spans["confirm"]} == {"snapshot"}
    assert {span.attributes["waylink.event.state"] for span in spans["apply"]} == {"processed"}
    assert {span.attributes["waylink.jobs"] for span in spans["route"]} == {1}
    assert all(span.start_time <= span.end_time and span.status.is_ok for found in spans.values() for span in found)
    # What follows from an event is of its trace.
    assert {event.traceparent for event in world.events("connection.linked")} == {
        delivery.traceparent for delivery in deliveries
    }


def test_a_poison_event_fails_in_its_own_trace_and_no_text_of_it_is_shown(open_world, recorded):
    world = open_world()
    world.processor.spans = recorded.traces.events
    bodies = [auth(connection_id=name, tags=DANA) for name in ("one", "poison", "two")]
    deliveries = [world.delivery(body)._replace(traceparent=trace(number)) for number, body in enumerate(bodies, 1)]
    world.deliver(*deliveries)
    with refusing(world.database, "connections", "connection_id", "poison"):
        world.process()
    spans = recorded.spans()["apply"]
    last = {span.context.trace_id: span for span in spans}
    assert {number: span.status.is_ok for number, span in last.items()} == {1: True, 2: False, 3: True}
    assert Counter(span.context.trace_id for span in spans if not span.status.is_ok)[2] >= 2
    for span in spans:
        assert "poison" not in str(dict(span.attributes))
        assert span.status.description is None
        assert not span.events


def test_a_batch_whose_lease_was_lost_ends_its_spans_as_failed(world, recorded, monkeypatch):
    world.deliver(*(traced(world, number) for number in (1, 2)))

    def lost(*_, **__):
        raise LeaseLost

    monkeypatch.setattr(processing.Processor, "_apply_once", lost)
    world.process()
    spans = recorded.spans()["apply"]
    assert [span.attributes["error.type"] for span in spans] == ["lease_lost"] * 2


def test_an_event_without_a_trace_begins_one_that_it_keeps(world, recorded, connection_id, nango, clock):
    """Events of Waylink's own, and those that were stored while traces were off; also over a second look."""
    own = OwnEvent(type=EventType.CONNECTION_CREATED, integration="oauth2", connection_id=connection_id)
    with world.database.write() as session:
        [own_id] = own_events.store(session, [own], environment="default", origin=Origin.RECONCILE, now=clock())
    world.process()
    kept = world.event(own_id)
    assert kept.state == EventState.RECEIVED, "Nango does not show it, so it waits"
    register(nango, connection_id, "oauth2", tags=DANA)
    world.wait_for(own_id)
    assert world.event(own_id).traceparent == kept.traceparent
    spans = recorded.spans()
    [first] = spans["receive"]
    assert (first.parent, first.attributes["waylink.origin"]) == (None, "reconcile")
    assert kept.traceparent == f"00-{first.context.trace_id:032x}-{first.context.span_id:016x}-{kept.traceparent[-2:]}"
    assert len(spans["apply"]) >= 2
    assert {span.parent.span_id for span in spans["apply"]} == {first.context.span_id}


def test_an_event_that_is_not_sampled_makes_no_span_and_hands_that_on(world, recorded):
    [receipt] = world.deliver(world.delivery(auth())._replace(traceparent=trace(7)[:-1] + "0"))
    world.process()
    assert recorded.spans() == {}
    assert world.event(receipt.event_id).traceparent == trace(7)[:-1] + "0"


def test_webhooks_of_one_commit_are_stored_each_in_its_own_trace(database, recorded):
    broker, given = Announcements(database), [trace(1), None, trace(3)]
    deliveries = [delivery(b"body %d" % number)._replace(traceparent=one) for number, one in enumerate(given)]
    again = delivery(b"body 0")._replace(traceparent=trace(9))

    async def scenario():
        commit = group_commit(database, broker)
        commit.spans = recorded.traces.webhooks
        waiting = [asyncio.ensure_future(commit.store(one)) for one in (*deliveries, again)]
        own = delivery(b"")._replace(environment=canary.ENVIRONMENT)
        waiting.append(asyncio.ensure_future(commit.store(own)))
        await asyncio.sleep(0)
        commit.start()  # all of them wait by now: one commit
        receipts = await asyncio.gather(*waiting)
        await commit.stop()
        return receipts

    receipts = asyncio.run(scenario())
    spans = recorded.spans()
    assert {name: len(found) for name, found in spans.items()} == {"receive": 4, "store": 4}
    received = {span.context.span_id: span for span in spans["receive"]}
    assert {span.parent.span_id for span in spans["store"]} == received.keys()
    assert ids(spans["receive"]) == ids(spans["store"]) == [show(EVENT, one.event_id) for one in receipts[:4]]
    assert [span.attributes["waylink.duplicate"] for span in spans["receive"]] == [False, False, False, True]
    assert [span.parent and span.parent.span_id for span in spans["receive"]] == [1, None, 3, 9]
    assert are_linked(spans["store"])
    with database.read() as session:
        stored = {event.id: event.traceparent for event in session.query(Event)}
    for span, receipt in zip(spans["receive"][:3], receipts, strict=False):
        assert stored[receipt.event_id] == (
            f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-0{int(span.context.trace_flags)}"
        )
    assert stored[receipts[4].event_id] is None


def test_a_webhook_that_could_not_be_stored_ends_its_span_as_failed(database, recorded):
    class Away:
        def __init__(self, writer):
            self.writer = writer

        async def store(self, _deliveries):
            raise DatabaseUnavailable(OSError("away"))

        def __getattr__(self, name):
            return getattr(self.writer, name)

    async def scenario():
        commit = group_commit(database, Announcements(database), wrapped=Away)
        commit.spans = recorded.traces.webhooks
        commit.start()
        waiting = asyncio.ensure_future(commit.store(delivery(b"a body")._replace(traceparent=trace(1))))
        await asyncio.sleep(0)
        end_the_hold(commit)
        with pytest.raises(StoreUnavailable):
            await waiting
        await commit.stop()

    asyncio.run(scenario())
    spans = recorded.spans()
    [span] = spans.pop("receive")
    assert (span.context.trace_id, span.attributes["error.type"], spans) == (1, "not_stored", {})
    assert recorded.traces.webhooks._open == {}


def test_each_attempt_is_a_span_with_what_it_was_answered(open_world, broker_url, valkey, recorded):
    world = open_world(teams_url=valkey.url(1))
    add(world, "crm")
    fill(world, "crm", 3)
    valkey.stop()
    worker = Deliverer(world.database, world.broker, world.clock, spans=recorded.traces.attempts)
    assert worker.deliver().failed == 3
    valkey.start()
    world.clock.move(3600)
    worker._polled_at = 0.0
    assert worker.deliver().completed >= 1
    worker.close()
    spans = recorded.spans()["deliver"]
    failed = [span for span in spans if not span.status.is_ok]
    assert len(failed) == 3
    assert {span.attributes["waylink.outcome"] for span in failed} == {"failed"}
    assert {span.attributes["waylink.attempt"] for span in failed} == {1}
    accepted = [span for span in spans if span.status.is_ok]
    assert {(span.attributes["waylink.outcome"], span.attributes["waylink.attempt"]) for span in accepted} == {
        ("accepted", 2)
    }
    assert recorded.traces.attempts._open == {}

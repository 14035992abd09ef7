"""Events that are made to be costly are stored, routed and reported, and hold no write lock while they are routed."""

import json
from datetime import timedelta

import pytest
from sqlalchemy import update

from app.db import bounded_reads, event_claims, events
from app.db import event_actions as event_rows
from app.db.models import Event
from app.domain import routing
from app.domain.patterns import compile_pattern
from app.domain.states import EventState
from app.errors import Conflict
from app.services.events import claiming, processor
from app.services.routing import backfills, explanations, precomputed_matches, replays
from app.services.routing.backfills import Span
from app.services.routing.cache import RouteCache
from app.services.routing.replays import ReplayOutcome, Routes
from app.telemetry import ROUTES_UNDECIDED
from tests.growth import counting_writes
from tests.integration.world import DANA, auth, sync

NUMBERED = [{"prefix": f"p{number}"} for number in range(40)]
PATTERNS = {
    "values": {"payload": {"items": NUMBERED}},
    "objects": {"payload": {"items": {"id": [-1], "name": ["x"]}}},
    "missing": {"payload": {"items": {"gone": [{"exists": False}], "away": [{"exists": False}]}}},
    "choice": {"payload": {"items": {"id": [-1]}}, "$or": [{"payload": {"items": {"b": [1]}}}, {"tags": {"x": ["y"]}}]},
    "dots": {"payload": {"a": {"x": [1]}}},
    "text": {"payload": {"text": [{"wildcard": f"*{number}*z"} for number in range(40)]}},
}
HOSTILE = {
    "names with dots": {f"a.{number}": 1 for number in range(6_000)},
    "texts in an array": {"items": ["p"] * 6_000},
    "objects in an array": {"items": [{"id": number} for number in range(3_000)]},
    "empty objects": {"items": [{}] * 6_000},
    "nested arrays": {"items": [[[[]]]] * 3_000},
    "a long text": {"text": "1" * 40_000},
}


def forward(payload, **members):
    return sync(type="forward", **{"from": "hubspot"}, payload=payload, **members)


@pytest.fixture
def world(world, monkeypatch):
    monkeypatch.setattr(precomputed_matches, "ROOM", 500)
    world.route(**PATTERNS)
    world.handle(auth(tags=DANA))
    return world


def work_within_writes(world, payload):
    receipts = world.receive(forward(payload), forward({"id": 1}, model=json.dumps(payload)[:20]))
    with counting_writes() as counted:
        world.process(*receipts)
    assert [world.event(receipt.event_id).state for receipt in receipts] == [EventState.PROCESSED] * 2
    return counted.steps


@pytest.mark.parametrize("kind", HOSTILE)
def test_nothing_of_what_a_hostile_payload_costs_is_done_under_the_write_lock(world, kind):
    """Twice what a plain one costs, since its batch is applied twice, and the room that is tried first."""
    work_within_writes(world, {"id": 0})  # makes statements that are kept
    plain = work_within_writes(world, {"id": 7})
    hostile = work_within_writes(world, HOSTILE[kind])
    assert hostile < 2 * plain + 500 * 100


@pytest.mark.parametrize("payload", [{"id": 7}, *HOSTILE.values()], ids=["plain", *HOSTILE])
def test_what_is_matched_before_its_transaction_is_decided_as_within_it(world, monkeypatch, payload):
    before = world.handle(forward(payload))
    monkeypatch.setattr(precomputed_matches, "ROOM", 10**9)
    within = world.handle(forward(payload, model="other"))
    routes = [sorted(job.route for job in world.jobs() if job.event_id == event_id) for event_id in (before, within)]
    assert routes[0] == routes[1]
    decisions = explanations.explain(world.database, before).decisions
    assert routes[0] == [decision.route.name for decision in decisions if decision.matched]


def test_a_new_owner_is_the_same_in_each_try(world):
    world.route(mine={"user": {"external_id": ["usr_new"]}, "payload": {"items": [5]}}, **PATTERNS)
    bodies = [auth(connection_id="c-2", tags={"end_user_id": "usr_new"})]
    bodies.append(sync("c-2", type="forward", **{"from": "hubspot"}, payload={"items": [*range(3000)]}))
    tries = []
    begin = precomputed_matches.Matches.begin
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            precomputed_matches.Matches, "begin", lambda matches_: tries.append(matches_) or begin(matches_)
        )
        world.process(*world.receive(*bodies))
    [job] = world.jobs("mine")
    assert world.event(job.event_id).document["user"]["external_id"] == "usr_new"
    assert len(tries) == 2


COSTLY = {"items": ["p"] * 6_000}


def test_an_event_that_costs_too_much_is_kept_noted_and_counted_and_the_others_go_on(world, monkeypatch):
    counter = ROUTES_UNDECIDED.labels("crm")
    before = counter._value.get()
    monkeypatch.setattr(routing, "MAX_STEPS", 20_000)
    world.route(all={"type": ["nango.forward"]}, **PATTERNS)
    receipts = world.receive(forward(COSTLY), forward({"id": 1}))
    world.process(*receipts)
    costly, plain = (world.event(receipt.event_id) for receipt in receipts)
    assert (costly.state, costly.problem) == (
        EventState.PROCESSED,
        "1 route not decided, for it would take too much work: explain the event to see which",
    )
    assert (plain.state, plain.problem) == (EventState.PROCESSED, None)
    assert len(world.jobs("all")) == 2
    assert counter._value.get() == before + 1


def test_replaying_such_an_event_says_so_and_leaves_it_alone(world, monkeypatch):
    monkeypatch.setattr(routing, "MAX_STEPS", 20_000)
    event_id = world.handle(forward(COSTLY))
    found = replays.match(world.database, event_id, Routes.NOW, RouteCache().current(world.database))
    with world.database.write() as session:
        done = replays.replay(session, found, again=False, actor="cli:test", now=world.clock.now)
    [step] = [step for step in done.steps if step.decision.route.name == "values"]
    assert (step.outcome, step.why) == (ReplayOutcome.LEFT_ALONE, "it would take too much work to decide")


def late_route(world):
    world.route(**PATTERNS, late={"payload": {"items": {"id": [-1]}}})
    with world.database.read() as session:
        route = backfills.live_route(session, team="crm", name="late")
    span = Span(world.clock.now - timedelta(days=1), world.clock.now + timedelta(days=1))
    *_, found = backfills.scan(world.database, route, span, limit=10)
    return route, found


def test_replaying_matches_before_the_write_lock(world):
    ids = [world.handle(forward({"items": [{"id": 0}] * size + [{"id": -1, "name": "x"}]})) for size in (1, 1, 1_500)]
    spent = []
    for event_id in ids:
        found = replays.match(world.database, event_id, Routes.NOW, RouteCache().current(world.database))
        with counting_writes() as counted, world.database.write() as session:
            done = replays.replay(session, found, again=False, actor="cli:test", now=world.clock.now)
        assert "objects" in {step.decision.route.name for step in done.steps}
        spent.append(counted.steps)
    assert spent[2] < 1.5 * spent[1]


def test_filling_matches_before_the_write_lock(world):
    spent = []
    for size in (1, 2, 1_500):
        world.route(**PATTERNS)
        world.handle(forward({"items": [{"id": 0}] * size + [{"id": -1, "name": "x"}]}))
        route, found = late_route(world)
        with counting_writes() as counted:
            [made] = backfills.fill(
                world.database, route, found, per_second=20, asked={}, actor="cli:test", clock=world.clock
            )
        assert len(made) == 1
        spent.append(counted.steps)
    assert spent[2] < 1.5 * spent[1]


def test_what_changed_after_it_was_matched_gets_no_job_by_what_it_was(world, monkeypatch):
    event_id = world.handle(forward({"items": [{"id": -1, "name": "Dana"}]}))
    route, found = late_route(world)
    matching_now = replays.match(world.database, event_id, Routes.NOW, RouteCache().current(world.database))
    erased = {**world.event(event_id).document, "payload": None}
    read = event_rows.texts

    def erase_meanwhile(session, ids, **options):
        texts = read(session, ids, **options)
        with world.database.write() as other:
            other.execute(update(Event).where(Event.id == event_id).values(document=erased))
        return texts

    monkeypatch.setattr(event_rows, "texts", erase_meanwhile)
    steps = backfills.fill(world.database, route, found, per_second=20, asked={}, actor="cli:test", clock=world.clock)
    assert list(steps) == [[]]
    assert world.jobs("late") == []
    with world.database.write() as session, pytest.raises(Conflict, match="changed meanwhile"):
        replays.replay(session, matching_now, again=False, actor="cli:test", now=world.clock.now)


def test_a_history_of_large_events_is_read_in_portions_of_bytes(world, monkeypatch):
    monkeypatch.setattr(bounded_reads, "BYTES", 30_000)
    for number in range(5):
        world.handle(forward({"text": f"{number}" * 20_000}))
    read = []
    routed = events.routed
    monkeypatch.setattr(events, "routed", lambda *asked, **options: read.append(routed(*asked, **options)) or read[-1])
    pattern = compile_pattern({"payload": {"text": [{"prefix": "4"}]}})
    *_, trial = explanations.try_on_history(
        world.database, pattern, now=world.clock.now, since=timedelta(days=1), at_most=100
    )
    assert [len(chunk) for chunk in read] == [2, 2, 3, 0]
    assert (trial.scanned, trial.matched, trial.complete) == (7, 1, True)
    monkeypatch.setattr(bounded_reads, "BYTES", 10**9)
    _, found = late_route(world)
    monkeypatch.setattr(bounded_reads, "BYTES", 30_000)
    assert late_route(world)[1] == found


def test_a_batch_of_large_bodies_is_several_transactions(world, monkeypatch):
    monkeypatch.setattr(processor, "BYTES", 50_000)
    monkeypatch.setattr(precomputed_matches, "ROOM", 10**9)
    receipts = world.receive(*[forward({"text": "x" * size}) for size in (20_000, 20_001, 20_002, 60_000, 10, 11)])
    sizes = []
    load = processor.Batch.load
    monkeypatch.setattr(
        processor.Batch, "load", lambda *asked, **options: sizes.append(len(asked[3])) or load(*asked, **options)
    )
    world.process(*receipts)
    assert sizes == [2, 1, 1, 2]


def test_an_event_whose_document_cannot_be_read_stops_no_reading_of_history(world):
    good, bad = (world.handle(forward({"items": [{"id": -1, "name": "x"}]}, model=str(number))) for number in (1, 2))
    broken = "'[1]'" if not world.database.is_sqlite else "'{'"
    with world.database.engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE events SET document = {broken} WHERE id = '{bad.hex}'")
    _, found = late_route(world)
    assert (found.event_ids, found.undecided) == ([good], 1)
    pattern = compile_pattern({"payload": {"items": {"id": [-1]}}})
    *_, trial = explanations.try_on_history(
        world.database, pattern, now=world.clock.now, since=timedelta(days=1), at_most=100
    )
    assert (trial.matched, trial.undecided, trial.complete) == (1, 1, True)


def test_no_more_is_claimed_than_can_be_read_at_once_and_the_rest_is_not_leased(world, monkeypatch):
    monkeypatch.setattr(claiming, "CLAIMED_BYTES", 50_000)
    monkeypatch.setattr(event_claims, "INLINE", 10_000)
    monkeypatch.setattr(event_claims, "_due", event_claims._due.__wrapped__)
    ids = []
    for size in (9_000, 1_000, 12_000, 11_000, 4, 5):
        ids += [receipt.event_id for receipt in world.receive(forward({"text": f"{size}" * size}))]
        world.clock.move(1)
    claims, process = [], processor.Processor._process

    def note(processor, batch):
        with world.database.read() as session:
            free = event_claims.due(session, limit=10, now=world.clock.now)
        claims.append([sorted(ids.index(event.id) for event in some) for some in (batch.events, free)])
        assert all(len(event.body) == event.size for event in batch.events)
        return process(processor, batch)

    monkeypatch.setattr(processor.Processor, "_process", note)
    world.process()
    assert claims == [[[0, 1], [2, 3, 4, 5]], [[2], [3, 4, 5]], [[3], [4, 5]], [[4, 5], []]]
    assert {event.state for event in world.all(Event)} == {EventState.PROCESSED}

"""Promise 9: every decision can be explained later, also of routes that did not match, and a pattern can be tried."""

import json
from datetime import timedelta

import pytest
from sqlalchemy import update

from app.clock import utc_now
from app.db.models import Event, RouteVersion
from app.domain.patterns import compile_pattern
from app.errors import Conflict, NotFound
from app.ids import first_id, new_id
from app.services.routing import explanations
from app.services.routing.explanations import explain, try_on_history
from tests.integration.world import DANA, auth

CREATED, LINKED = {"type": ["connection.created"]}, {"type": ["connection.linked"]}
PRO, FREE = {"tags": {"plan": ["pro"]}}, {"tags": {"plan": ["free"]}}


def decided(world, event_id, **options):
    found = explain(world.database, event_id, **options)
    return {decision.route.name: decision.matched for decision in found.decisions}


def history(world, clock, pattern, *, against=None, since=timedelta(days=7), at_most=1000):
    before = compile_pattern(against) if against else None
    *_, trial = try_on_history(
        world.database, compile_pattern(pattern), now=clock(), since=since, against=before, at_most=at_most
    )
    return trial


def tagged(number, plan):
    return auth(connection_id=f"c-{number}", tags={**DANA, "plan": plan})


def test_every_route_is_explained_with_each_condition(world):
    world.route(match={**CREATED, **PRO}, other={**CREATED, **FREE})
    event_id = world.handle(tagged(1, "pro"))
    found = explain(world.database, event_id)
    match, other = found.decisions
    assert (match.route.name, match.matched, other.route.name, other.matched) == ("match", True, "other", False)
    plan = next(condition for condition in other.conditions if condition.path == "tags.plan")
    assert (plan.expected, plan.actual, plan.present, plan.matched) == (["free"], "pro", True, False)
    assert found.suppressed is None


def test_an_event_that_matched_nothing_is_explained_too(world):
    world.route(other=FREE)
    assert decided(world, world.handle(tagged(1, "pro"))) == {"other": False}


def test_a_decision_is_explained_by_the_routes_of_its_time(world):
    world.route(a=PRO, gone=CREATED)
    event_id = world.handle(tagged(1, "pro"))
    world.route(a=FREE, new=CREATED)
    assert decided(world, event_id) == {"a": True, "gone": True}
    assert decided(world, event_id, now=True) == {"a": False, "new": True}
    assert [job.route for job in world.jobs() if job.event_id == event_id] == ["a", "gone"]


def test_an_event_keeps_the_document_it_was_routed_by(world):
    world.route(a=PRO)
    event_id = world.handle(tagged(1, "pro"))
    world.handle(auth("override", connection_id="c-1", tags={**DANA, "plan": "free"}))
    assert decided(world, event_id) == {"a": True}


def test_an_event_that_was_never_routed_is_a_conflict(world):
    with pytest.raises(NotFound):
        explain(world.database, new_id())
    [receipt] = world.receive(tagged(1, "pro"))
    with pytest.raises(Conflict, match="it waits to be processed"):
        explain(world.database, receipt.event_id)
    with world.database.write() as session:
        session.execute(update(Event).values(state="failed", failure="not_confirmed"))
    with pytest.raises(Conflict, match="it failed: not_confirmed"):
        explain(world.database, receipt.event_id)


def test_an_event_of_an_announced_generation_is_explained_as_not_routed(open_world, nango, base_url, connection_id):
    world = open_world(base_url=base_url)
    world.route(a=CREATED)
    body = auth(connection_id=connection_id, tags=DANA)
    nango.post("/sandbox/connections", json=json.loads(body)).raise_for_status()
    world.handle(body)
    again = world.handle(auth(connection_id=connection_id, tags=DANA, provider="other"))
    found = explain(world.database, again)
    assert [decision.matched for decision in found.decisions] == [True]
    assert found.suppressed == "the creation of this generation was routed before"
    assert len(world.jobs()) == 1


def test_a_pattern_is_tried_on_what_is_stored_newest_first(world, clock):
    world.route(a=CREATED)
    for number, plan in enumerate(["pro", "free", "pro", "ent"]):
        clock.move(60)
        world.handle(tagged(number, plan))
    trial = history(world, clock, {**CREATED, **PRO})
    assert (trial.scanned, trial.matched, trial.complete) == (8, 2, True)  # each was linked, too
    assert [event.document["connection_id"] for event in trial.samples["matched"]] == ["c-2", "c-0"]


def test_a_trial_against_a_route_counts_gained_and_lost_matches(world, clock):
    for number, plan in enumerate(["pro", "free", "ent", "ent"]):
        world.handle(tagged(number, plan))
    ent_or_pro = {**CREATED, "tags": {"plan": ["ent", "pro"]}}
    trial = history(world, clock, ent_or_pro, against={**CREATED, "tags": {"plan": ["pro", "free"]}})
    assert (trial.matched, trial.gained, trial.lost, trial.unchanged) == (3, 2, 1, 1)
    assert {kind: [event.document["tags"]["plan"] for event in events] for kind, events in trial.samples.items()} == {
        "gained": ["ent", "ent"],
        "lost": ["free"],
    }


def test_a_trial_is_bounded_in_time_and_number_and_says_so(world, monkeypatch):
    monkeypatch.setattr(explanations, "CHUNK", 2)
    now = utc_now()
    world.add(*(routed_at(now - timedelta(minutes=minutes)) for minutes in (1, 2, 3, 29, 31, 90)))
    recent = history(world, lambda: now, CREATED, since=timedelta(minutes=30))
    assert (recent.scanned, recent.matched, recent.complete) == (4, 4, True)
    assert recent.oldest == now - timedelta(minutes=29)
    cut = history(world, lambda: now, CREATED, at_most=5)
    assert (cut.scanned, cut.complete) == (5, False)


def routed_at(at):
    return Event(
        id=first_id(at), environment="default", origin="webhook", state="processed", type="connection.created",
        received_at=at, last_seen_at=at, duplicates=0, body=b"{}", next_at=at, attempts=0, looks=0,
        document={"type": "connection.created"}, route_set=0,
    )  # fmt: skip


def test_a_trial_can_be_stopped_and_has_its_result_so_far(world, clock, monkeypatch):
    monkeypatch.setattr(explanations, "CHUNK", 2)
    for number in range(4):
        world.handle(tagged(number, "pro"))
    steps = try_on_history(world.database, compile_pattern(CREATED), now=clock(), since=timedelta(days=1), at_most=1000)
    trial = next(steps)
    steps.close()
    assert (trial.scanned, trial.complete) == (2, False)


def test_a_route_that_this_release_cannot_read_does_not_hide_the_others(world):
    world.route(a=CREATED, b=CREATED)
    event_id = world.handle(tagged(1, "pro"))
    with world.database.write() as session:
        session.execute(update(RouteVersion).where(RouteVersion.name == "a").values(pattern={"type": "text"}))
    assert decided(world, event_id) == {"b": True}


def test_the_pattern_of_a_route_is_its_newest(world):
    world.route(a=PRO)
    world.route(a=FREE)
    with world.database.read() as session:
        assert explanations.pattern_of(session, team="crm", name="a").source == FREE
        with pytest.raises(NotFound):
            explanations.pattern_of(session, team="crm", name="nobody")

"""Retries, replays and backfills of events: one job per event and route, whose id stays."""

import random
from datetime import timedelta

import pytest
from msgspec import Raw
from sqlalchemy import update

from app.db import decisions as decision_rows
from app.db import event_actions as rows
from app.db import job_actions as job_rows
from app.db.event_actions import EventFilters
from app.db.jobs import EventDocument, QueueHead, claim
from app.db.models import Audit, Destination, Event, Job, Team
from app.deadlines import JOB_LEASE
from app.domain.job_actions import JobAction
from app.domain.routing import ANNOUNCED_BEFORE, Route
from app.domain.states import EventState, JobState
from app.errors import Conflict, NotFound
from app.ids import EVENT, first_id, new_id, show
from app.services.delivery import job_actions
from app.services.delivery.deliverer import _document
from app.services.routing import backfills, replays
from app.services.routing.backfills import Span
from app.services.routing.cache import RouteCache
from app.services.routing.replays import ReplayOutcome, Routes
from tests.drawing import seeds
from tests.integration.world import DANA, auth, in_threads, rewrite_as_before

CREATED = {"type": ["connection.created"]}
PRO = {"type": ["connection.created"], "tags": {"plan": ["pro"]}}
LONG_AGO = timedelta(days=1)


@pytest.fixture
def world(world):
    world.route(created=CREATED)
    return world


def processed_events(world, number=1, **tags):
    """Ids of `number` processed creations."""
    return [world.handle(auth(connection_id=new_id().hex, tags=DANA | tags)) for _ in range(number)]


def change(world, model, ids, **changes):
    with world.database.write() as session:
        session.execute(update(model).where(model.id.in_(ids)).values(**changes))


def fail(world, ids, failure="error", **changes):
    facts = {"state": "failed", "failure": failure, "problem": "it broke", "attempts": 3, "looks": 2}
    change(world, Event, ids, **facts, processed_at=world.clock.now, **changes)


def retry(world, ids):
    with world.database.read() as session:
        found = rows.get_many(session, ids)
    steps = replays.retry(world.database, found, asked={}, actor="cli:test", clock=world.clock)
    return [retried for chunk in steps for retried in chunk]


def replay(world, event_id, *, by=Routes.NOW, again=False, route=None):
    current = RouteCache().current(world.database)
    matching = replays.match(world.database, event_id, by, current)
    with world.database.write() as session:
        return replays.replay(session, matching, again=again, route=route, actor="cli:test", now=world.clock.now)


def outcomes(done):
    return {step.decision.route.name: step.outcome for step in done.steps}


def scan(world, name, *, limit=1000, at_most=None, until=None, newest_first=False, after=None):
    with world.database.read() as session:
        route = backfills.live_route(session, team="crm", name=name)
    span = Span(world.clock.now - LONG_AGO, until or world.clock.now + LONG_AGO, newest_first, after)
    *_, found = backfills.scan(world.database, route, span, limit=limit, at_most=at_most)
    return route, found


def backfill(world, name, *, per_second=20.0, **options):
    """Ids of the jobs that were made."""
    route, found = scan(world, name, **options)
    steps = backfills.fill(
        world.database, route, found, per_second=per_second, asked={}, actor="cli:test", clock=world.clock
    )
    return [job_id for chunk in steps for job_id in chunk]


def decisions(world, event_id):
    with world.database.read() as session:
        return decision_rows.of_event(session, event_id)


# Failed events


def test_a_retried_event_is_due_as_if_just_received_and_routed_once(world, clock):
    world.route()
    [receipt] = world.receive(auth(tags=DANA))
    fail(world, [receipt.event_id])
    world.route(created=CREATED)
    assert retry(world, [receipt.event_id]) == [receipt.event_id]
    event = world.event(receipt.event_id)
    assert (event.state, event.failure, event.problem, event.attempts, event.looks) == ("received", None, None, 0, 0)
    assert (event.next_at, event.processed_at) == (clock.now, None)
    assert retry(world, [receipt.event_id]) == []  # twice is once
    world.process(receipt)
    assert world.event(receipt.event_id).state == EventState.PROCESSED
    assert [job.event_id for job in world.jobs()] == [receipt.event_id]


def test_what_did_not_fail_is_left_alone(world):
    [processed] = processed_events(world)
    [waiting] = world.receive(auth(connection_id="c-2", tags=DANA))
    assert retry(world, [processed, waiting.event_id]) == []
    assert world.event(processed).state == EventState.PROCESSED


def test_failed_events_are_chosen_by_what_is_known_of_them(world):
    made = processed_events(world, 3)
    fail(world, made[:1], "not_confirmed", connection_id="c-x")
    fail(world, made[1:2], "crashed", type="nango.sync")

    def chosen(**filters):
        with world.database.read() as session:
            return [event.id for event in rows.choose_failed(session, EventFilters(**filters), limit=10)]

    assert chosen() == made[:2]
    assert chosen(failure="crashed") == chosen(type="nango.sync") == made[1:2]
    assert chosen(connection_id="c-x", origin="webhook", environment="default", integration="oauth2") == made[:1]
    assert chosen(environment="other") == []
    assert chosen(since=world.clock.now - LONG_AGO, until=world.clock.now + LONG_AGO) == made[:2]
    assert chosen(until=world.clock.now - LONG_AGO) == []


# Replay


@pytest.fixture(params=["in its job", "in a row"])
def of_form(world, request):
    """Rewrites what is stored so far to one of the two forms of decisions."""
    return (lambda: rewrite_as_before(world.database)) if request.param == "in a row" else (lambda: None)


def test_a_route_that_is_new_gets_its_job_and_the_others_keep_theirs(world, clock, of_form):
    [event_id] = processed_events(world, plan="pro")
    of_form()
    [before] = world.jobs()
    then = decisions(world, event_id)
    world.route(created=CREATED, pro=PRO)
    clock.move(60)
    done = replay(world, event_id)
    assert outcomes(done) == {"created": ReplayOutcome.LEFT_ALONE, "pro": ReplayOutcome.NEW}
    [made] = world.jobs("pro")
    assert done.due == [made.id]
    assert (made.event_id, made.state, made.next_at) == (event_id, JobState.AVAILABLE, clock.now)
    assert world.jobs("created")[0].next_at == before.next_at
    *kept, added = decisions(world, event_id)
    assert kept == then
    assert (added.team, added.route, added.route_version) == ("crm", "pro", 1)
    assert {"path": "tags.plan", "expected": ["pro"], "actual": "pro"} in added.conditions
    again = replay(world, event_id)
    assert set(outcomes(again).values()) == {ReplayOutcome.LEFT_ALONE}
    assert len(world.jobs()) == 2


@pytest.mark.parametrize(
    ("state", "outcome"),
    [
        ("discarded", ReplayOutcome.RETRIED),
        ("cancelled", ReplayOutcome.RETRIED),
        ("retryable", ReplayOutcome.RETRIED),
        ("completed", ReplayOutcome.REDELIVERED),
        ("running", ReplayOutcome.LEFT_ALONE),
        ("available", ReplayOutcome.LEFT_ALONE),
    ],
)
def test_existing_jobs_are_delivered_again_with_again_only(world, state, outcome):
    [event_id] = processed_events(world)
    [job] = world.jobs()
    change(world, Job, [job.id], state=state, attempts=4)
    assert outcomes(replay(world, event_id)) == {"created": ReplayOutcome.LEFT_ALONE}
    assert outcomes(replay(world, event_id, again=True)) == {"created": outcome}
    [found] = world.jobs()
    assert (found.id, found.attempts) == (job.id, 4)
    assert found.state == (state if outcome is ReplayOutcome.LEFT_ALONE else "available")


def test_a_repeated_job_goes_where_the_route_in_force_says(world, of_form):
    [event_id] = processed_events(world)
    of_form()
    [job] = world.jobs()
    change(world, Job, [job.id], state="completed")
    then = decisions(world, event_id)
    assert [decision.route_version for decision in then] == [1]
    world.route(created=PRO)
    world.route(created=CREATED)
    for version in (3, 5):
        replay(world, event_id, again=True)
        [found] = world.jobs()
        assert (found.id, found.route_version) == (job.id, version)
        assert decisions(world, event_id) == then  # what was decided then stays
        change(world, Job, [job.id], state="completed")
        world.route(created=PRO)
        world.route(created=CREATED)


def test_a_route_of_another_team_gets_a_job_of_its_own_and_leaves_the_first(world):
    [event_id] = processed_events(world)
    [job] = world.jobs()
    change(world, Job, [job.id], state="completed")
    world.add(Team(name="sales", source="api", created_at=world.clock.now))
    place = {"name": "jobs", "kind": "celery", "queue": "team.sales.jobs", "source": "api"}
    world.add(Destination(team="sales", created_at=world.clock.now, **place))
    current = RouteCache().current(world.database)
    [route] = current.routes
    theirs = Route(route.name, 1, "sales", "jobs", "sales.x", route.pattern)
    routes = current.changed(current.version + 1, removed=[("crm", "created")], added=[theirs])
    for outcome in (ReplayOutcome.NEW, ReplayOutcome.LEFT_ALONE):
        matching = replays.match(world.database, event_id, Routes.NOW, routes)
        with world.database.write() as session:
            done = replays.replay(session, matching, again=False, actor="cli:test", now=world.clock.now)
        assert outcomes(done) == {"created": outcome}
    assert [(left.team, left.state) for left in world.jobs()] == [("crm", "completed"), ("sales", "available")]
    assert world.jobs()[0].id == job.id


def test_a_replay_by_the_routes_of_then_makes_missing_jobs_and_retries_discarded_ones(world, of_form):
    world.route(created=CREATED, pro=PRO)
    [event_id] = processed_events(world, plan="pro")
    then = decisions(world, event_id)
    of_form()
    created, pro = world.jobs()
    change(world, Job, [created.id], state="discarded")
    with world.database.write() as session:
        session.delete(session.get(Job, pro.id))
    world.route()
    assert outcomes(replay(world, event_id)) == {}
    done = replay(world, event_id, by=Routes.THEN)
    assert outcomes(done) == {"created": ReplayOutcome.RETRIED, "pro": ReplayOutcome.NEW}
    assert {job.route: job.state for job in world.jobs()} == {"created": "available", "pro": "available"}
    assert created.id in {job.id for job in world.jobs()}
    assert decisions(world, event_id) == then
    change(world, Job, [created.id], state="cancelled")
    assert outcomes(replay(world, event_id, by=Routes.THEN))["created"] == ReplayOutcome.LEFT_ALONE


def test_a_replay_can_be_limited_to_one_route_and_a_preview_changes_nothing(world):
    [event_id] = processed_events(world, plan="pro")
    world.route(created=CREATED, pro=PRO, other=CREATED)
    matching = replays.match(world.database, event_id, Routes.NOW, RouteCache().current(world.database))
    with world.database.read() as session:
        shown = replays.preview(session, matching, again=False, route=("crm", "pro"))
    assert outcomes(shown) == {"pro": ReplayOutcome.NEW}
    assert len(world.jobs()) == 1
    replay(world, event_id, route=("crm", "pro"))
    assert sorted(job.route for job in world.jobs()) == ["created", "pro"]


def test_an_event_that_was_never_routed_cannot_be_replayed(world):
    [receipt] = world.receive(auth(tags=DANA))
    for state, words in (("received", "waits"), ("failed", "retry it")):
        change(world, Event, [receipt.event_id], state=state)
        with pytest.raises(Conflict, match=words):
            replay(world, receipt.event_id)
    with pytest.raises(NotFound):
        replay(world, new_id())


def test_a_replay_is_audited_with_what_it_did(world):
    [event_id] = processed_events(world, plan="pro")
    world.route(created=CREATED, pro=PRO)
    replay(world, event_id)
    [row] = world.all(Audit, Audit.action == "event.replayed")
    assert row.subject == show(EVENT, event_id)
    assert row.detail == {
        "routes": "now", "again": False, "route": None, "new": 1, "retried": 0, "redelivered": 0, "left_alone": 1,
    }  # fmt: skip


# Backfill


def test_backfilled_jobs_are_marked_and_spread(world, clock, of_form):
    events = processed_events(world, 3, plan="pro")
    processed_events(world, 2)
    of_form()
    world.route(created=CREATED, pro=PRO)
    made = backfill(world, "pro", per_second=2)
    jobs = world.jobs("pro")
    assert [job.id for job in jobs] == made
    assert [job.event_id for job in jobs] == events
    assert {job.backfill for job in jobs} == {True}
    assert [(job.next_at - clock.now).total_seconds() for job in jobs] == [0, 0.5, 1]
    assert {job.backfill for job in world.jobs("created")} == {False}
    shown = [(found.route, found.route_version) for found in decisions(world, events[0])]
    assert shown == [("created", 1), ("pro", 1)]
    assert backfill(world, "pro") == []  # twice is once


def test_only_backfilled_jobs_are_marked_in_their_documents(world, clock):
    processed_events(world, plan="pro")
    world.route(created=CREATED, pro=PRO)
    backfill(world, "pro")
    with world.database.write() as session:
        claimed = claim(session, [QueueHead("crm", "jobs", 9, clock.now + JOB_LEASE)], now=clock.now)
    documents = {job.route: _document(job, EventDocument(Raw(b"{}"))) for job in claimed}
    assert documents["pro"]["backfill"] is True
    assert "backfill" not in documents["created"]


def test_a_second_backfill_waits_behind_the_first(world, clock):
    processed_events(world, 4, plan="pro")
    world.route(created=CREATED, pro=PRO)
    backfill(world, "pro", per_second=1, limit=2)
    backfill(world, "pro", per_second=1)
    assert [(job.next_at - clock.now).total_seconds() for job in world.jobs("pro")] == [0, 1, 2, 3]


def test_a_backfill_is_capped_and_goes_on_where_it_ended(world, monkeypatch):
    monkeypatch.setattr(backfills, "CHUNK", 2)
    events = processed_events(world, 5, plan="pro")
    world.route(created=CREATED, pro=PRO)
    _, found = scan(world, "pro", limit=2)
    assert (found.event_ids, found.complete) == (events[:2], False)
    backfill(world, "pro", limit=2)
    backfill(world, "pro", limit=2, newest_first=True)
    assert {job.event_id for job in world.jobs("pro")} == {*events[:2], *events[3:]}
    _, found = scan(world, "pro")
    assert (found.matched, found.had_job, found.event_ids, found.complete) == (5, 4, events[2:3], True)


@pytest.mark.parametrize("newest_first", [False, True])
def test_a_scan_can_be_stopped_and_continued(world, monkeypatch, newest_first):
    monkeypatch.setattr(backfills, "CHUNK", 2)
    events = processed_events(world, 7, plan="pro")
    world.route(created=CREATED, pro=PRO)
    seen, after = [], None
    for _ in range(5):
        _, found = scan(world, "pro", at_most=3, newest_first=newest_first, after=after)
        assert found.scanned <= 3
        seen += found.event_ids
        after = found.after
        if found.complete:
            break
    assert seen == (events[::-1] if newest_first else events)
    assert found.complete


def test_only_events_of_the_time_are_taken(world):
    early, late = processed_events(world, 2, plan="pro")
    old = first_id(world.clock.now - timedelta(hours=2))
    with world.database.write() as session:
        session.execute(update(Job).where(Job.event_id == early).values(event_id=late, route="elsewhere"))
        session.execute(update(Event).where(Event.id == early).values(id=old))
    world.route(pro=PRO)
    _, found = scan(world, "pro", until=world.clock.now - timedelta(hours=1))
    assert found.event_ids == [old]


def test_suppressed_events_are_not_backfilled(world):
    announced, suppressed, of_earlier_release = processed_events(world, 3, plan="pro")
    change(world, Event, [suppressed], untold=ANNOUNCED_BEFORE)
    change(world, Event, [of_earlier_release], problem=ANNOUNCED_BEFORE)
    world.route(pro=PRO)
    backfill(world, "pro")
    assert [job.event_id for job in world.jobs("pro")] == [announced]


def test_a_change_of_the_route_stops_a_backfill_and_its_committed_jobs_stay(world, monkeypatch):
    monkeypatch.setattr(backfills, "FILLED", 2)
    processed_events(world, 4, plan="pro")
    world.route(pro=PRO)
    route, found = scan(world, "pro")
    steps = backfills.fill(
        world.database, route, found, per_second=20, asked={"x": 1}, actor="cli:test", clock=world.clock
    )
    assert len(next(steps)) == 2
    world.route(pro=CREATED)
    with pytest.raises(Conflict, match="changed meanwhile"):
        next(steps)
    assert len(world.jobs("pro")) == 2
    [row] = world.all(Audit, Audit.action == "route.backfilled")
    assert (row.outcome, row.detail) == ("failed", {"x": 1, "count": 2})


def test_a_missing_route_cannot_be_backfilled(world):
    with pytest.raises(NotFound):
        scan(world, "nothing")


def test_two_backfills_at_once_make_each_job_once(world, open_world):
    events = processed_events(world, 12, plan="pro")
    world.route(pro=PRO)
    made = in_threads(*[lambda: backfill(world, "pro")] * 2)
    assert sorted(made[0] + made[1]) == sorted(job.id for job in world.jobs("pro"))
    assert sorted(job.event_id for job in world.jobs("pro")) == sorted(events)


# Actions in any order


@seeds(*range(6))
def test_in_any_order_of_actions_an_event_has_one_job_per_route_and_its_id_stays(world, clock, seed):
    chance = random.Random(seed)
    events = processed_events(world, 3, plan="pro")
    ids = {}

    def change_jobs(what):
        jobs = chance.sample(world.jobs(), min(2, len(world.jobs())))
        with world.database.read() as session:
            found = job_rows.get_many(session, [job.id for job in jobs])
        list(job_actions.carry_out(world.database, what, found, asked={}, actor="cli:test", clock=clock))

    def end_some():
        for job in chance.sample(world.jobs(), min(3, len(world.jobs()))):
            change(world, Job, [job.id], state=chance.choice(list(JobState)), attempts=job.attempts + 1)

    steps = [
        lambda: change_jobs(JobAction.RETRY),
        lambda: change_jobs(JobAction.CANCEL),
        lambda: change_jobs(JobAction.REDELIVER),
        lambda: replay(world, chance.choice(events), again=chance.random() < 0.5),
        lambda: replay(world, chance.choice(events), by=Routes.THEN, again=chance.random() < 0.5),
        lambda: backfill(world, "pro", limit=chance.randint(1, 3)),
        lambda: world.route(**{name: CREATED for name in ("created", "other") if chance.random() < 0.7}, pro=PRO),
        end_some,
    ]
    world.route(created=CREATED, pro=PRO)
    for _ in range(25):
        chance.choice(steps)()
        clock.move(chance.random() * 100)
        found = {(job.event_id, job.route): job.id for job in world.jobs()}
        assert len(found) == len(world.jobs())
        assert found.items() >= ids.items(), "an id changed, or a job is gone"
        ids = found

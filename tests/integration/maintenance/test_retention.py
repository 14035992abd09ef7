"""Events and jobs go when they are over for long enough; what is unfinished never does."""

from datetime import timedelta

import pytest
from sqlalchemy import delete, event, func, insert, select

from app.db import bulk, decisions, event_actions
from app.db.models import Attempt, Decision, Event, Job
from app.errors import NotFound
from app.ids import first_id
from app.services.maintenance import retention
from app.services.maintenance.retention import Retention
from app.services.routing import backfills, replays
from app.services.routing.backfills import Span
from app.services.routing.cache import RouteCache
from app.services.routing.replays import Routes
from tests.integration.cli.test_status import a_job, an_event
from tests.integration.meeting import at_once, hold
from tests.integration.world import DANA, auth

KEEP = timedelta(days=30)
DAY = timedelta(days=1)


@pytest.fixture
def world(world):
    world.route(created={"type": ["connection.created"]})
    return world


@pytest.fixture
def old(world, clock):
    """Makes an event that long ago, with a job of each of these states that ended that long ago; their ids."""

    def make(age, *states, ended=None, **changes):
        at, over = clock.now - age, clock.now - (ended or age)
        event = an_event(at, **({"id": first_id(at), "state": "processed"} | changes))
        jobs = [
            a_job(at, event.id, id=first_id(at), state=state, route=f"r{place}", finished_at=over, fault="team")
            for place, state in enumerate(states)
        ]
        for place, job in enumerate(jobs):
            job.id = first_id(at + timedelta(milliseconds=place))
        world.add(event)
        world.add(*jobs)
        world.add(*[Attempt(job_id=job.id, number=1, started_at=at, latency_ms=1, outcome=job.state) for job in jobs])
        world.add(Decision(event_id=event.id, route="r0", route_version=1, conditions=[], created_at=at))
        return event.id

    return make


def forget(world, **options):
    return Retention(world.database, KEEP, world.clock).run(**options)


def count(world, model):
    with world.database.read() as session:
        return session.scalar(select(func.count()).select_from(model))


def test_where_history_is_kept_for_ever_none_of_it_goes(world, old):
    kept = old(4000 * DAY, "completed")
    Retention(world.database, None, world.clock).run()
    assert (len(world.all(Event, Event.id == kept)), count(world, Job)) == (1, 1)


def test_an_event_goes_with_its_decisions_jobs_and_attempts_when_its_time_is_over(world, old, clock):
    old(31 * DAY, "completed", "discarded", "cancelled")
    kept = old(29 * DAY, "completed")
    recent = world.handle(auth(tags=DANA))
    gone = forget(world)
    assert (gone.events, gone.jobs, gone.discarded) == (1, 3, 1)
    assert {event.id for event in world.all(Event)} >= {kept, recent}
    assert [count(world, model) for model in (Job, Attempt)] == [2, 1]
    assert forget(world).events == 0


@pytest.mark.parametrize("state", ["available", "running", "retryable"])
def test_an_unfinished_job_never_goes_nor_does_its_event(world, old, state):
    kept = old(400 * DAY, "completed", state)
    gone = forget(world)
    assert (gone.events, gone.jobs) == (0, 0)
    assert world.event(kept).state == "processed"
    assert [job.state for job in world.jobs()] == ["completed", state]


def test_an_event_that_waits_to_be_processed_never_goes(world, old):
    old(400 * DAY, state="received")
    assert forget(world).events == 0


def test_a_failed_event_goes_like_the_others(world, old):
    old(31 * DAY, state="failed", failure="error")
    assert forget(world).events == 1


def test_a_job_that_was_tried_again_stays_as_long_as_others_after_its_end(world, old, clock):
    kept = old(60 * DAY, "completed", ended=2 * DAY)
    assert forget(world).jobs == 0
    assert world.event(kept)
    clock.move((29 * DAY).total_seconds())
    gone = forget(world)
    assert (gone.events, gone.jobs) == (1, 1)


def test_an_event_stays_explained_until_the_last_of_its_jobs_goes_and_all_go_together(world, clock):
    world.route(one={"type": ["connection.created"]}, two={"type": ["connection.created"]})
    event_id = world.handle(auth(tags=DANA))
    first, second = world.jobs()

    def end(job):
        with world.database.write() as session:
            bulk.update(session, Job, [{"id": job.id, "state": "completed", "finished_at": clock.now}])

    end(first)
    clock.move((20 * DAY).total_seconds())
    end(second)
    clock.move((20 * DAY).total_seconds())
    assert forget(world).jobs == 0
    assert [job.id for job in world.jobs()] == [first.id, second.id]
    with world.database.read() as session:
        assert [decision.route for decision in decisions.of_event(session, event_id)] == ["one", "two"]
    clock.move((11 * DAY).total_seconds())
    gone = forget(world)
    assert gone.jobs == 2
    assert world.all(Event, Event.id == event_id) == world.jobs() == []


def test_what_could_not_go_is_checked_again_and_the_rest_is_not(world, old, clock):
    old(50 * DAY, "available")
    keeper = Retention(world.database, KEEP, clock)
    keeper.run()
    [job] = world.jobs()
    with world.database.write() as session:
        found = session.get(Job, job.id)
        found.state, found.finished_at = "completed", clock.now - 40 * DAY
    assert keeper.run().jobs == 0
    clock.move(retention.RESTART_AFTER.total_seconds())
    assert keeper.run().events == 1


def test_nothing_goes_where_everything_is_kept(world, old):
    old(4000 * DAY, "completed")
    assert Retention(world.database, None, world.clock).run().events == 0
    assert count(world, Event) == 1


def test_a_run_ends_in_time_and_the_next_goes_on(world, old):
    for day in range(3):
        old((40 + day) * DAY, "completed")
    keeper = Retention(world.database, KEEP, world.clock)
    keeper._pace.size = 1
    assert keeper.run(seconds=0).events == 0
    assert keeper.run().events == 3


def test_an_event_that_gets_a_job_meanwhile_is_left(world, old, clock):
    kept = old(31 * DAY, "completed")
    with world.database.write() as session:
        session.execute(delete(Job))
    made = []

    def meanwhile(_connection, _cursor, sql, *_):
        if sql.startswith("DELETE FROM jobs") and not made:
            made.append(sql)
            job = a_job(clock.now, kept)
            columns = {column.name: getattr(job, column.name) for column in Job.__table__.columns}
            given = {name: value for name, value in columns.items() if value is not None}
            _connection.execute(insert(Job).values(**given))

    event.listen(world.database.engine, "before_cursor_execute", meanwhile)
    try:
        assert forget(world).events == 0
    finally:
        event.remove(world.database.engine, "before_cursor_execute", meanwhile)
    assert [job.event_id for job in world.jobs()] == [kept]


# PostgreSQL has no foreign key from jobs to events: who makes a job locks its event. SQLite has one writer at a time.


def job_maker(world, maker, event_id):
    """A call that makes the event's missing job, and returns how many were made."""
    routes = RouteCache().current(world.database)
    if maker == "replay":
        matching = replays.match(world.database, event_id, Routes.NOW, routes)

        def make():
            with world.database.write() as session:
                done = replays.replay(session, matching, again=False, actor="cli:test", now=world.clock.now)
            return len(done.due)

        return make
    with world.database.read() as session:
        route = backfills.live_route(session, team="crm", name="late")
    span = Span(world.clock.now - 40 * DAY, world.clock.now, newest_first=False)
    *_, scanned = backfills.scan(world.database, route, span, limit=10)
    assert scanned.event_ids == [event_id]
    filling = {"per_second": 1.0, "asked": {}, "actor": "cli:test", "clock": world.clock}
    return lambda: sum(len(made) for made in backfills.fill(world.database, route, scanned, **filling))


@pytest.fixture
def missing(world, old):
    """An old event without a job, which the route `late` takes."""
    world.route(late={"type": ["x"]})
    event_id = old(31 * DAY, type="x", document={"type": "x"}, route_set=1)
    with world.database.write() as session:
        session.execute(delete(Decision))
    return event_id


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@pytest.mark.parametrize("maker", ["replay", "backfill"])
def test_an_event_is_left_while_a_job_of_it_is_being_made(world, missing, monkeypatch, maker):
    make, real = job_maker(world, maker, missing), event_actions.add_jobs

    def add_jobs(*arguments):
        monkeypatch.undo()
        assert forget(world).events == 0
        return real(*arguments)

    monkeypatch.setattr(event_actions, "add_jobs", add_jobs)
    assert make() == 1
    assert [job.event_id for job in world.jobs()] == [missing]
    assert forget(world).events == 0


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@pytest.mark.parametrize("maker", ["replay", "backfill"])
def test_no_job_is_made_of_an_event_that_is_being_deleted(world, missing, monkeypatch, maker):
    make = job_maker(world, maker, missing)
    there = hold(monkeypatch, world, retention.rows, "forget")

    def refused():
        try:
            return make()
        except NotFound:
            return 0

    gone, made = at_once(lambda: forget(world), there, refused)
    assert (gone.events, made) == (1, 0)
    assert world.jobs() == []


def test_it_goes_in_transactions_as_large_as_fit_their_time(world, clock, monkeypatch):
    monkeypatch.setattr(retention, "FEWEST", 1)
    keeper = Retention(world.database, KEEP, clock)
    keeper._pace.took(1.0)
    assert keeper._pace.size < retention.FIRST
    for _ in range(20):
        keeper._pace.took(0.0001)
    assert keeper._pace.size == retention.MOST

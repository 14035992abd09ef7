"""The canary: stored, claimed, applied and delivered by the code of any event and job, and shown in no list."""

import asyncio
from datetime import timedelta

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import func, select, text, update

from app.brokers.hints import Hints
from app.db import canary as rows
from app.db import event_actions, job_actions
from app.db.event_actions import EventFilters
from app.db.job_actions import JobFilters
from app.db.models import Canary, Delivery, Destination, DestinationHealth, Discards, Event, Job, Team
from app.db.read import arrivals, backlog, definitions, destination_troubles, figures, listing
from app.db.read import canary as reads
from app.db.read import unseen as seen
from app.db.read.definitions import DefinitionFilters
from app.db.read.listing import ListFilters
from app.deadlines import JOB_LEASE, MAX_CLAIMS
from app.domain import canary
from app.domain.definitions import wrong_job, wrong_name
from app.domain.liveness import ProcessKind
from app.domain.states import EventState, JobState
from app.errors import NotFound
from app.ids import first_id, new_id
from app.sealing import new_key, sealer_with
from app.services.definitions.signing_secrets import Keyring
from app.services.delivery import queues
from app.services.delivery.deliverer import Delivered, Deliverer, Http
from app.services.events.intake import writers_for
from app.services.liveness.pulse import Pulse
from app.services.liveness.reporter import Reporter
from app.services.metrics.gauges import CANARY_AGE
from app.services.metrics.state import of_processes
from app.web.announcing import Announcer
from app.web.canaries import Canaries
from app.web.group_commit import GroupCommit
from tests.integration.world import DANA, WINDOW, auth
from tests.waiting import PATIENCE, soon

EVERY = timedelta(seconds=15)
MATCHES_ALL = {"environment": [{"exists": True}]}


@pytest.fixture
def world(open_world, broker_url, valkey):
    return open_world(teams_url=valkey.url(1))


@pytest.fixture
def io(world):
    """The deliverer of an io worker."""
    keyring = Keyring(sealer_with(new_key()))
    deliverer = Deliverer(world.database, world.broker, world.clock, http=Http(lambda: None, keyring))
    yield deliverer
    deliverer.close()


class NoBroker:
    def send(self, messages):
        """Take hints, and do nothing about them."""


def turn(world, *, every=EVERY):
    """One report of a web process, with its canary, until that is stored."""

    async def scenario():
        store = GroupCommit(writers_for(world.database, WINDOW, world.clock), Announcer(Hints(NoBroker())))
        canaries = Canaries(world.database, store, every, world.clock)
        reporter = Reporter(
            world.database, Pulse(ProcessKind.WEB, ("event loop",), clock=world.clock), [canaries.begin]
        )
        store.start()
        canaries.start()
        try:
            await asyncio.to_thread(reporter.report)
            await asyncio.sleep(0)
            await soon("nothing waits", lambda: not store._waiting and not store._in_flight)
        finally:
            await asyncio.wait_for(store.stop(), PATIENCE)

    asyncio.run(scenario())


def begin(world):
    """The first canary, after the report that prepares for it."""
    turn(world)
    turn(world)


def ages(world):
    with world.database.read() as session:
        return {stage.stage: stage for stage in reads.stages(session, now=world.clock())}


def row(world):
    with world.database.read() as session:
        return session.scalar(select(Canary))


def count(world, model):
    with world.database.read() as session:
        return session.scalar(select(func.count()).select_from(model))


def passage(world):
    with world.database.read() as session:
        return rows.passage_of(session, row(world).event_id)


def test_a_canary_goes_the_whole_way_by_the_code_of_any_event(world, io):
    begin(world)
    assert passage(world).under_way
    assert (passage(world).processed_at, passage(world).delivered_at) == (None, None)
    assert world.process().canaries == 1
    [job] = world.jobs()
    assert (job.state, job.team, job.name) == (JobState.AVAILABLE, canary.TEAM, canary.JOB)
    assert io.deliver() == Delivered(canaries=1)
    assert passage(world).delivered_at is not None
    assert not passage(world).under_way
    assert [job.state for job in world.jobs()] == [JobState.COMPLETED]


def test_metrics_have_the_ages_of_the_stages_that_one_has_passed(world, io):
    def told():
        with world.database.read() as session:
            readings = of_processes(session, now=world.clock())
            return {labels[0]: value for gauge, labels, value in readings if gauge is CANARY_AGE}

    assert told() == {}
    begin(world)
    assert told().keys() == {"stored"}
    world.process()
    io.deliver()
    assert told().keys() == {"stored", "processed", "delivered"}
    assert all(0 <= age < PATIENCE for age in told().values())


def test_it_is_one_per_period_and_the_one_before_is_gone(world, io):
    for number in range(3):
        begin(world)
        assert count(world, Event) == 1, number
        before = row(world).event_id
        begin(world)  # another process, within the period
        assert row(world).event_id == before
        world.process()
        io.deliver()
        world.clock.move(EVERY.total_seconds())
    assert (count(world, Event), count(world, Job), count(world, Delivery)) == (1, 1, 1)


def test_none_begins_while_one_is_on_its_way_and_the_ages_of_the_stages_grow(world, io):
    begin(world)
    world.process()
    io.deliver()
    world.clock.move(15)
    begin(world)
    stuck = row(world).event_id
    for _ in range(4):
        world.clock.move(15)
        begin(world)
    assert row(world).event_id == stuck
    assert count(world, Event) == 1
    if world.database.is_sqlite:  # PostgreSQL's clock is not the test's
        found = ages(world)
        assert (found["stored"].passed, found["processed"].passed, found["processed"].waiting) == (60, 75, 60)
        world.process()
        found = ages(world)
        assert (found["processed"].passed, found["processed"].waiting) == (0, None)
        assert (found["delivered"].passed, found["delivered"].waiting) == (75, 60)
    world.process()
    io.deliver()
    begin(world)
    assert row(world).event_id == stuck
    world.clock.move(15)
    begin(world)
    assert row(world).event_id != stuck


def test_before_the_first_one_and_where_they_are_off_there_are_no_stages(world):
    turn(world, every=timedelta(0))
    turn(world, every=timedelta(0))
    assert ages(world) == {}
    assert count(world, Team) == 0
    turn(world)
    assert ages(world) == {}


def test_one_that_was_lost_before_it_was_stored_is_followed_by_another(world):
    begin(world)
    lost = row(world).event_id
    with world.database.write() as session:
        rows._forget(session, lost)
    world.clock.move(15)
    begin(world)
    assert row(world).event_id != lost
    assert passage(world).under_way


def test_one_that_was_given_up_is_followed_by_another_and_passes_no_stage(world, io):
    begin(world)
    with world.database.write() as session:
        session.execute(update(Event).values(state=EventState.FAILED, failure="crashed", processed_at=world.clock()))
    world.clock.move(15)
    begin(world)
    assert row(world).processed_at is None
    assert passage(world).under_way


def test_no_team_and_no_list_sees_it_at_any_stage(world, io):
    world.route(everything=MATCHES_ALL)
    metrics = dict(samples())
    begin(world)
    unseen(world)
    applied = world.process()
    assert (applied.finished, applied.outcomes, applied.waiting) == (0, {}, 0)
    unseen(world)
    io.deliver()
    unseen(world)
    with world.database.write() as session:
        session.execute(update(Event).values(state=EventState.FAILED, failure="crashed"))
        session.execute(update(Job).values(state=JobState.DISCARDED, fault="ours"))
    unseen(world)
    assert dict(samples()) == metrics
    assert [job.route for job in world.jobs()] == [canary.ROUTE]
    assert count(world, DestinationHealth) == 0


def samples():
    """All counts of webhooks, events, jobs and attempts."""
    for metric in REGISTRY.collect():
        if metric.name in {"waylink_webhooks", "waylink_events", "waylink_jobs"} or "seconds" in metric.name:
            for sample in metric.samples:
                if not sample.name.endswith("_created") and "process_" not in sample.name:
                    yield (sample.name, tuple(sorted(sample.labels.items()))), sample.value


def unseen(world):
    now, everything = world.clock(), ListFilters(limit=100)
    since, later = now - timedelta(days=1), now + timedelta(days=1)
    with world.database.read() as session:
        assert listing.events(session, everything) == []
        assert listing.jobs(session, everything) == []
        with pytest.raises(NotFound):
            listing.event(session, row(world).event_id)
        for job in session.scalars(select(Job)):
            with pytest.raises(NotFound):
                listing.job(session, job.id)
        found = figures.events(session, now=later)
        assert (found.waiting, found.oldest_due, figures.held_events(session)) == (0, None, [])
        jobs = figures.jobs(session, now=later)
        assert (jobs.unfinished, jobs.parked, jobs.oldest_due) == ({}, {}, None)
        assert seen.dead_letters(session) == ([], 0)
        assert seen.failed_events(session) is None
        assert arrivals.counts(session, since=since, until=later) == {}
        assert destination_troubles.troubled(session) == ([], 0)
        for in_force in (True, False, None):
            names = DefinitionFilters(in_force=in_force)
            assert {team["name"] for team in definitions.teams(session, names)} <= {"crm"}
            assert {found["team"] for found in definitions.destinations(session, names)} <= {"crm"}
        assert {found.team for found in backlog.destinations(session)} <= {"crm"}
        assert queues.summary(session) == []
        assert event_actions.choose_failed(session, EventFilters(), limit=10) == []
        assert job_actions.choose(session, JobFilters(states=tuple(JobState)), limit=10) == []
        ids = {"since": first_id(since), "until": new_id(), "newest_first": True, "suppressed": (), "limit": 10}
        assert event_actions.history(session, team="crm", route="everything", **ids) == []


def test_real_events_beside_it_are_counted_as_ever(world, io):
    world.route(everything=MATCHES_ALL)
    begin(world)
    world.receive(auth(tags=DANA))
    applied = world.process()
    assert (applied.canaries, applied.finished) == (1, 1)
    done = io.deliver()
    assert done.canaries == 1
    assert done.completed == len(world.jobs("everything"))


def test_a_worker_that_does_not_know_it_puts_it_off_and_routes_nothing(world, io, monkeypatch):
    """As one of an earlier release, while a deployment replaces the processes."""
    world.route(everything=MATCHES_ALL)
    begin(world)
    with monkeypatch.context() as before:
        before.setattr("app.services.events.processor.canary.ENVIRONMENT", "another")
        applied = world.process()
    assert (applied.waiting, applied.finished, world.jobs()) == (1, 0, [])
    world.clock.move(60)
    assert world.process().canaries == 1
    assert [job.route for job in world.jobs()] == [canary.ROUTE]


def test_a_job_that_an_earlier_release_parked_is_delivered(world, io):
    begin(world)
    world.process()
    earlier = Deliverer(world.database, world.broker, world.clock)
    earlier.slots.takes_http = True
    with pytest.MonkeyPatch.context() as before:
        before.setattr("app.db.destinations._as_canary", lambda target: target)
        earlier.deliver()
    assert [job.blocked_by for job in world.jobs()] == ["disabled"]
    io.deliver()
    assert [job.state for job in world.jobs()] == [JobState.COMPLETED]


def test_an_events_worker_leaves_it_to_the_io_workers(world):
    begin(world)
    world.process()
    events = Deliverer(world.database, world.broker, world.clock)
    events.deliver()
    assert canary.KEY not in events.direct_destinations()
    assert [job.state for job in world.jobs()] == [JobState.AVAILABLE]


def test_one_whose_claims_bring_no_result_is_given_up_and_nobody_is_told(world, io):
    begin(world)
    world.process()
    with world.database.write() as session:
        session.execute(update(Job).values(state=JobState.RUNNING, crashes=MAX_CLAIMS, attempts=MAX_CLAIMS))
    world.clock.move(JOB_LEASE.total_seconds())
    io.deliver()
    assert [job.state for job in world.jobs()] == [JobState.DISCARDED]
    assert count(world, Discards) == 0
    world.clock.move(15)
    begin(world)
    assert passage(world).under_way


def test_its_team_and_destination_cannot_be_named_by_others(world):
    begin(world)
    with world.database.read() as session:
        [destination] = session.scalars(select(Destination))
        assert destination.retired_at is not None
        assert destination.disabled_at is not None
        assert session.execute(text("SELECT name FROM teams")).all() == [(canary.TEAM,)]
    assert wrong_name(canary.TEAM) is not None
    assert wrong_name(canary.ENVIRONMENT) is not None
    assert wrong_job(canary.JOB) is not None

"""Promise 10: at least once, with a stable id, on a published schedule, ending completed or discarded with a reason."""

import base64
import json
from contextlib import suppress
from datetime import timedelta

import psycopg
import pytest
import redis
from sqlalchemy import event, func, select
from sqlalchemy.exc import OperationalError

from app.brokers.celery_broker import DELIVER_JOBS, IO_QUEUE, PROCESS_EVENTS, Broker, hint
from app.db import bulk, destinations, job_actions
from app.db import jobs as job_rows
from app.db.jobs import QueueHead
from app.db.models import Attempt, Event, Job
from app.deadlines import JOB_LEASE, MAX_CLAIMS
from app.domain.job_actions import JobAction
from app.domain.retrying import JITTER, SCHEDULE
from app.domain.states import Block, JobState
from app.ids import EVENT, JOB, new_id, show
from app.services.delivery.deliverer import Delivered
from app.services.delivery.results import record
from tests.integration.delivery.destinations import attempts_of
from tests.integration.world import DANA, KilledError, auth, dying_at, in_threads, refusing
from tests.ports import free_port

LEASE = JOB_LEASE.total_seconds() + 1
QUEUE = "team.crm.jobs"


@pytest.fixture
def teams_url(broker_url, valkey):
    return valkey.url(1)


@pytest.fixture
def world(open_world, teams_url):
    made = open_world(teams_url=teams_url)
    made.route(created={"type": ["connection.created"]})
    return made


@pytest.fixture
def down(open_world):
    """The same workers while the teams' broker is away."""
    return open_world(teams_url=f"redis://127.0.0.1:{free_port()}/1")


def messages(url, queue=QUEUE):
    """The messages of a queue, raw, oldest first."""
    client = redis.Redis.from_url(url)
    try:
        return [json.loads(raw) for raw in reversed(client.lrange(queue, 0, -1))]
    finally:
        client.close()


def body_of(message):
    return json.loads(base64.b64decode(message["body"]))


def head(clock):
    return QueueHead("crm", "jobs", 9, clock.now + JOB_LEASE)


def count(world, model):
    with world.database.read() as session:
        return session.scalar(select(func.count()).select_from(model))


def wait_for_results(deliverer):
    with deliverer.in_flight.changed:
        assert deliverer.in_flight.changed.wait_for(lambda: not deliverer.in_flight.count, 20)


def test_a_job_arrives_as_a_plain_celery_message_of_protocol_2(world, teams_url):
    world.handle(auth(tags=DANA))
    [job] = world.jobs()
    assert world.deliverer.deliver([job.id]).completed == 1
    [message] = messages(teams_url)
    assert message["content-type"] == "application/json"
    assert message["headers"]["task"] == "crm.created"
    assert message["headers"]["id"] == message["properties"]["correlation_id"] == show(JOB, job.id)
    assert message["headers"]["lang"] == "py"
    assert message["properties"]["delivery_info"]["routing_key"] == QUEUE
    assert not message["properties"].get("reply_to")
    args, kwargs, embed = body_of(message)
    assert (args, list(kwargs)) == ([], ["job"])
    assert set(embed) == {"callbacks", "errbacks", "chain", "chord"}


def test_the_job_document_is_that_of_the_contract(world, teams_url):
    event_id = world.handle(auth(tags=DANA | {"name": "Žofie 😀"}))
    world.deliverer.deliver(())
    [job] = world.jobs()
    document = body_of(messages(teams_url)[0])[1]["job"]
    assert document == {
        "id": show(JOB, job.id),
        "name": "crm.created",
        "attempt": 1,
        "created_at": job.created_at.isoformat(),
        "route": {"name": "created", "version": 1},
        "event": world.event(event_id).document,
    }
    assert document["event"]["id"] == show(EVENT, event_id)
    assert document["event"]["tags"]["name"] == "Žofie 😀"
    assert document["event"]["user"]["external_id"] == "usr_1042"


def test_nothing_of_the_message_shows_tags_outside_its_body(world, teams_url):
    world.handle(auth(tags={"end_user_id": "very-private"}))
    world.deliverer.deliver(())
    [message] = messages(teams_url)
    assert "very-private" in json.dumps(body_of(message))
    assert "very-private" not in json.dumps({name: part for name, part in message.items() if name != "body"})


def test_a_delivered_job_is_completed_with_its_attempt_and_never_sent_again(world, clock, teams_url):
    world.handle(auth(tags=DANA))
    world.deliverer.deliver(())
    [job] = world.jobs()
    assert (job.state, job.attempts, job.crashes, job.problem) == (JobState.COMPLETED, 1, 0, None)
    assert job.finished_at == clock.now
    [attempt] = attempts_of(world, job)
    assert (attempt.number, attempt.outcome, attempt.error, attempt.started_at) == (1, "completed", None, clock.now)
    assert attempt.latency_ms > 0
    clock.move(LEASE)
    world.deliverer.deliver([job.id])
    assert len(messages(teams_url)) == 1


def test_a_job_that_a_broker_takes_at_once_is_one_row_which_later_attempts_leave_alone(world, clock, teams_url):
    world.handle(auth(tags=DANA))
    world.deliverer.deliver(())
    [job] = world.jobs()
    [first] = attempts_of(world, job)
    assert count(world, Attempt) == 0
    for number in (2, 3):
        clock.move(60)
        with world.database.write() as session:
            job_actions.take(session, JobAction.REDELIVER, [job.id], now=clock.now)
        world.deliverer.deliver(())
        [before, *_, last] = attempts_of(world, job)
        assert (before, last.number, last.started_at) == (first, number, clock.now)
    assert [attempt.number for attempt in attempts_of(world, job)] == [1, 2, 3]


def test_a_redelivery_that_fails_leaves_the_first_attempt_as_it_was(world, down, clock, teams_url):
    world.handle(auth(tags=DANA))
    world.deliverer.deliver(())
    [job] = world.jobs()
    with world.database.write() as session:
        job_actions.take(session, JobAction.REDELIVER, [job.id], now=clock.now)
    assert down.deliverer.deliver(()).failed == 1
    assert [(tried.number, tried.outcome, bool(tried.error)) for tried in attempts_of(world, job)] == [
        (1, "completed", False),
        (2, "retryable", True),
    ]


def test_an_attempt_after_a_crash_is_shown_under_its_number(world, clock, teams_url):
    world.handle(auth(tags=DANA))
    with world.database.write() as session:
        assert job_rows.claim(session, [head(clock)], now=clock.now)
    clock.move(LEASE)
    assert world.deliverer.deliver(()).completed == 1
    [job] = world.jobs()
    assert [(tried.number, tried.outcome) for tried in attempts_of(world, job)] == [(2, "completed")]


def test_a_team_whose_broker_is_down_gets_the_same_job_later(world, clock, valkey, teams_url):
    world.handle(auth(tags=DANA))
    [before] = world.jobs()
    valkey.stop()
    try:
        assert world.deliverer.deliver(()).failed == 1
    finally:
        valkey.start()
    [job] = world.jobs()
    assert (job.state, job.attempts, job.crashes) == (JobState.RETRYABLE, 1, 0)
    assert clock.now + SCHEDULE[0] <= job.next_at <= clock.now + SCHEDULE[0] * (1 + JITTER)
    assert "teams broker" in job.problem
    clock.move(4.9)
    assert world.deliverer.deliver([job.id]).completed == 0
    clock.move(1.2)
    assert world.deliverer.deliver(()).completed == 1
    [message] = messages(teams_url)
    assert message["headers"]["id"] == show(JOB, before.id)
    assert body_of(message)[1]["job"]["attempt"] == 2
    assert [attempt.outcome for attempt in attempts_of(world, job)] == ["retryable", "completed"]


def test_a_job_that_is_never_accepted_is_discarded_after_the_schedule_with_the_reason(world, down, clock):
    world.handle(auth(tags=DANA))
    [job] = world.jobs()
    with world.database.write() as session:  # the waits between are the domain's, and tested there
        session.get(Job, job.id).attempts = len(SCHEDULE)
    assert down.deliverer.deliver(()).failed == 1
    [job] = world.jobs()
    assert (job.state, job.attempts, job.finished_at) == (JobState.DISCARDED, len(SCHEDULE) + 1, clock.now)
    assert f"{len(SCHEDULE) + 1} attempts failed" in job.problem
    assert "teams broker" in job.problem
    [attempt] = attempts_of(world, job)
    assert (attempt.number, attempt.outcome) == (len(SCHEDULE) + 1, "discarded")
    assert attempt.error
    clock.move(timedelta(days=2).total_seconds())
    assert world.deliverer.deliver([job.id]).completed == 0


def test_a_job_claimed_five_times_without_a_result_is_discarded(world, clock, teams_url):
    world.handle(auth(tags=DANA))
    for number in range(MAX_CLAIMS):
        with world.database.write() as session:
            assert job_rows.claim(session, [head(clock)], now=clock.now, possibly_poison=number > 0)
        clock.move(LEASE)
    world.deliverer.deliver(())
    [job] = world.jobs()
    assert job.state == JobState.DISCARDED
    assert job.problem == f"claimed {MAX_CLAIMS} times without a result"
    assert messages(teams_url) == []


def test_a_worker_killed_after_sending_sends_again_with_the_same_id(world, open_world, clock, teams_url):
    world.handle(auth(tags=DANA))
    with dying_at(world.database, "UPDATE jobs", "completed"), pytest.raises(KilledError):
        world.deliverer.deliver(())
    assert world.jobs()[0].state == JobState.RUNNING
    other = open_world(teams_url=teams_url)
    assert other.deliverer.deliver(()).completed == 0
    clock.move(LEASE)
    assert other.deliverer.deliver(()).completed == 1
    first, second = messages(teams_url)
    assert first["headers"]["id"] == second["headers"]["id"]


def test_a_worker_whose_lease_ran_out_does_not_record(world, clock, teams_url):
    world.handle(auth(tags=DANA))
    [job] = world.jobs()
    world.deliverer.tick()
    wait_for_results(world.deliverer)
    clock.move(LEASE)
    with world.database.write() as session:
        assert job_rows.claim(session, [head(clock)], now=clock.now, possibly_poison=True)
    assert world.deliverer.tick() == Delivered()
    assert world.all(Job)[0].state == JobState.RUNNING
    assert attempts_of(world, job) == []


def test_an_outcome_of_a_job_that_runs_no_more_changes_nothing(world, clock, teams_url):
    """Its lease ran out and it was set aside: it is at the same attempt as ours."""
    world.handle(auth(tags=DANA))
    [job] = world.jobs()
    world.deliverer.tick()
    wait_for_results(world.deliverer)
    with world.database.write() as session:
        bulk.update(session, Job, [{"id": job.id, "state": JobState.RETRYABLE, "blocked_by": Block.BREAKER}])
    assert world.deliverer.tick() == Delivered()
    assert world.all(Job)[0].state == JobState.RETRYABLE
    assert attempts_of(world, job) == []


class Away:
    """A database that is away for one transaction."""

    def __init__(self, database):
        self.database, self.answers = database, False

    def __getattr__(self, name):
        return getattr(self.database, name)

    def write(self, **options):
        if self.answers:
            return self.database.write(**options)
        self.answers = True
        raise OperationalError("", {}, psycopg.OperationalError("server closed the connection"))


def results_kept_for_longer_than_a_lease(deliverer, clock):
    """Results that come while the database is away, which is long."""
    deliverer.tick()
    wait_for_results(deliverer)
    deliverer.database = Away(deliverer.database)
    with pytest.raises(OperationalError):
        deliverer.tick()
    clock.move(LEASE)


def test_results_kept_over_an_outage_are_recorded_before_their_jobs_can_be_claimed_again(world, clock, teams_url):
    world.handle(auth(tags=DANA))
    with world.database.write() as session:
        bulk.update(session, Job, [{"id": world.jobs()[0].id, "crashes": MAX_CLAIMS - 1}])
    results_kept_for_longer_than_a_lease(world.deliverer, clock)
    assert world.deliverer.deliver().completed == 1
    [job] = world.jobs()
    assert (len(messages(teams_url)), job.state, job.attempts) == (1, JobState.COMPLETED, 1)


def test_jobs_accepted_before_their_destination_was_disabled_are_completed(world, clock, teams_url):
    world.process(*world.receive(*[auth(connection_id=f"c-{number}", tags=DANA) for number in range(20)]))
    results_kept_for_longer_than_a_lease(world.deliverer, clock)
    with world.database.write() as session:
        destinations.disable(session, team="crm", destination="jobs", reason="by an operator", now=clock.now)
    assert world.deliverer.deliver().completed == 20
    assert {job.state for job in world.jobs()} == {JobState.COMPLETED}


def test_a_process_that_slept_for_longer_than_a_lease_records_first(world, clock, teams_url):
    world.handle(auth(tags=DANA))
    world.deliverer.tick()
    wait_for_results(world.deliverer)
    clock.move(LEASE)
    assert world.deliverer.deliver().completed == 1
    [job] = world.jobs()
    assert (len(messages(teams_url)), job.state, job.attempts) == (1, JobState.COMPLETED, 1)


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)  # only a server can be away for one statement
def test_nothing_more_is_sent_while_results_cannot_be_recorded(world, teams_url):
    world.process(*world.receive(*[auth(connection_id=f"c-{number}", tags=DANA) for number in range(40)]))
    with refusing(world.database, "jobs", "state", "completed", writing="UPDATE", away=True):
        for _ in range(4):
            with suppress(OperationalError):
                world.deliverer.tick(limit=10)
            wait_for_results(world.deliverer)
    assert len(messages(teams_url)) == 20, "ten, and ten while it was not known yet"


@pytest.mark.parametrize("accepted", [True, False])
def test_results_are_recorded_after_the_next_jobs_are_sent_only_where_all_went_well(
    world, down, teams_url, monkeypatch, accepted
):
    """A failure may open the breaker or ask for time, which has to be recorded before more jobs are sent."""
    world.process(*world.receive(*[auth(connection_id=f"c-{number}", tags=DANA) for number in range(2)]))
    deliverer, seen = (world if accepted else down).deliverer, []

    def recording(session, alerts, results, *, now):
        seen.append((len(results), deliverer.slots.of(("crm", "jobs")).in_flight))
        return record(session, alerts, results, now=now)

    monkeypatch.setattr("app.services.delivery.deliverer.record", recording)
    deliverer.tick(limit=1)
    wait_for_results(deliverer)
    deliverer.tick(limit=1)
    wait_for_results(deliverer)
    assert seen == ([(0, 0), (0, 0), (1, 1)] if accepted else [(0, 0), (1, 0)])
    deliverer.tick(claims=False)
    assert sum(len(attempts_of(world, job)) for job in world.jobs()) == 2


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)  # SQLite has one writer at a time
def test_results_are_recorded_in_the_order_in_which_actions_lock_jobs(world):
    """In whatever order they completed: two transactions that lock the same rows in two orders deadlock."""
    ids = [new_id() for _ in range(9)]
    sent = []

    def note(_connection, _cursor, sql, parameters, _context, _executemany):
        if sql.startswith("UPDATE jobs"):
            sent.extend(row["id"] for row in json.loads(parameters["rows"]))

    event.listen(world.database.engine, "before_cursor_execute", note)
    with world.database.write() as session:
        changes = [{"id": job_id, "attempts": 1, "state": JobState.COMPLETED} for job_id in reversed(ids)]
        assert job_rows.record_results(session, changes) == set()
    assert sent == [job_id.hex for job_id in ids]


def test_two_workers_on_one_backlog_send_each_job_once(world, open_world, teams_url):
    world.receive(*[auth(connection_id=f"c-{number}", tags=DANA) for number in range(40)])
    world.process()
    other = open_world(teams_url=teams_url)

    def drain(worker):
        while worker.deliverer.deliver((), limit=7).completed:
            pass

    in_threads(lambda: drain(world), lambda: drain(other))
    sent = [message["headers"]["id"] for message in messages(teams_url)]
    assert len(sent) == len(set(sent)) == 40
    assert {job.state for job in world.jobs()} == {JobState.COMPLETED}


def test_parked_and_cancelled_jobs_are_left_alone(world, teams_url):
    world.receive(*[auth(connection_id=f"c-{number}", tags=DANA) for number in range(2)])
    world.process()
    parked, cancelled = world.jobs()
    with world.database.write() as session:
        session.get(Job, parked.id).blocked_by = "operator"
        session.get(Job, cancelled.id).state = JobState.CANCELLED
    world.deliverer.deliver([parked.id, cancelled.id])
    assert messages(teams_url) == []


def test_jobs_of_a_route_that_is_gone_are_still_delivered(world, teams_url):
    world.handle(auth(tags=DANA))
    world.route()
    assert world.deliverer.deliver(()).completed == 1
    assert len(messages(teams_url)) == 1


def test_internal_messages_hold_nothing_but_ids(broker_url):
    ids = [show(EVENT, new_id()) for _ in range(3)]
    broker = Broker.at("internal", broker_url)
    try:
        broker.send([hint(PROCESS_EVENTS, "t-1", ids), hint(DELIVER_JOBS, "t-2", expires=timedelta(seconds=30))])
        assert (broker.queue_length("waylink.events"), broker.queue_length(IO_QUEUE)) == (1, 1)
    finally:
        broker.close()
    [message] = messages(broker_url, "waylink.events")
    assert body_of(message)[:2] == [[], {"ids": ids}]
    assert message["headers"]["kwargsrepr"] == message["headers"]["argsrepr"] == "(…)"
    assert messages(broker_url, IO_QUEUE)[0]["headers"]["expires"] is not None


def test_deliveries_leave_the_events_as_they_were(world):
    event_id = world.handle(auth(tags=DANA))
    before = world.event(event_id)
    world.deliverer.deliver(())
    after = world.event(event_id)
    columns = Event.__table__.columns.keys()
    assert [getattr(after, name) for name in columns] == [getattr(before, name) for name in columns]

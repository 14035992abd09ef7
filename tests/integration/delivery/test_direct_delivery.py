"""Jobs that leave right after the commit that made them, and all cases in which they do not."""

import json
import threading
from contextlib import closing, contextmanager

import pytest
import redis
from msgspec import structs
from sqlalchemy import update

from app.brokers.celery_broker import Broker
from app.db import attempts as attempt_rows
from app.db import jobs as job_rows
from app.db.models import Destination, Job
from app.deadlines import BATCH, JOB_LEASE
from app.domain.destination_breaker import MIN_FAILURES
from app.domain.states import JobState
from app.errors import BrokerUnavailable
from app.ids import EVENT, JOB, show
from app.services.delivery import celery_transport, slots
from app.services.delivery.celery_transport import TOO_SLOW, CeleryTransport
from app.services.delivery.deliverer import Deliverer
from app.services.delivery.in_flight import InFlight
from app.services.delivery.loop import DeliveryLoop
from tests.integration.delivery.destinations import add, attempts_of, fill, health, jobs
from tests.integration.world import KilledError, auth, dying_at, refusing
from tests.ports import free_port
from tests.waiting import PATIENCE

LEASE = JOB_LEASE.total_seconds() + 1
QUEUE = "team.crm.jobs"


class ByHand(DeliveryLoop):
    """The loop without its thread."""

    def turn(self):
        """Send what was handed over, wait for the answers and record them, and read the destinations anew."""
        self._tick((), claims=False)
        in_flight = self.deliverer.in_flight
        with in_flight.changed:
            assert in_flight.changed.wait_for(lambda: not in_flight.count, PATIENCE)
        self.deliverer._polled_at = 0.0
        self._tick((), claims=False)


@contextmanager
def direct(world, broker):
    """The processor with a loop of its own, as a worker for events has."""
    loop = ByHand(Deliverer(world.database, broker, world.clock), claims=False)
    world.processor.deliveries = loop
    loop.turn()
    try:
        yield loop
    finally:
        loop.deliverer.close()


@pytest.fixture
def world(open_world, broker_url, valkey):
    made = open_world(teams_url=valkey.url(1))
    made.route(new={"type": ["connection.created"]})
    return made


@pytest.fixture
def loop(world):
    with direct(world, world.broker) as made:
        yield made


@pytest.fixture
def away(world):
    """A loop for which the teams' broker is away."""
    broker = Broker.at("teams", f"redis://127.0.0.1:{free_port()}/1")
    with direct(world, broker) as made:
        yield made
    broker.close()


def waiting(valkey):
    """The jobs in the team's queue, oldest first."""
    with closing(redis.Redis.from_url(valkey.url(1))) as client:
        return [json.loads(message) for message in client.lrange(QUEUE, 0, -1)[::-1]]


def the_job(world):
    [job] = world.jobs()
    return job


def test_a_job_leaves_with_the_commit_that_made_it_and_no_claim(world, loop, valkey, monkeypatch):
    applied = world.process(*world.receive(auth()))
    job = the_job(world)
    assert (job.state, job.attempts, job.next_at) == (JobState.RUNNING, 1, world.clock() + JOB_LEASE)
    assert (applied.job_ids, [claimed.job.id for claimed in applied.claimed]) == ([], [job.id])
    monkeypatch.setattr(job_rows, "claim", lambda *_, **__: pytest.fail("it was claimed"))
    loop.turn()
    job = the_job(world)
    assert (job.state, job.attempts, job.crashes, job.finished_at) == (JobState.COMPLETED, 1, 0, world.clock())
    [attempt] = attempts_of(world, job)
    assert (attempt.number, attempt.outcome, attempt.error) == (1, "completed", None)
    [message] = waiting(valkey)
    assert message["headers"]["id"] == show(JOB, job.id)
    assert health(world, "crm").succeeded == 1


def test_the_document_that_leaves_is_the_stored_one(world, loop):
    world.receive(auth(tags={"end_user_id": "u", "é": '"\u2028', "plan": "pro"}))
    applied = world.processor.process()
    [claimed] = applied.claimed
    with world.database.read() as session:
        stored = job_rows.documents(session, [claimed.job.event_id])
    assert json.loads(bytes(claimed.event.document)) == json.loads(bytes(stored[claimed.job.event_id].document))
    assert json.loads(bytes(claimed.event.document))["id"] == show(EVENT, claimed.job.event_id)


def set_destination(world, **columns):
    with world.database.write() as session:
        session.execute(update(Destination).values(**columns))


@pytest.mark.parametrize(
    "close",
    [
        lambda world: set_destination(world, disabled_at=world.clock(), disabled_reason="410"),
        lambda world: set_destination(world, rate_per_second=5.0),
        lambda world: set_destination(world, kind="http", url="http://127.0.0.1:9/", queue=None),
        lambda world: fill(world, "crm", 1),
    ],
    ids=["disabled", "limited", "http", "something waits"],
)
def test_a_job_waits_to_be_claimed_where_it_could_not_leave_at_once(world, loop, close):
    close(world)
    loop.turn()
    before = {job.id for job in world.jobs()}
    applied = world.process(*world.receive(auth()))
    [job] = [job for job in world.jobs() if job.id not in before]
    assert (job.state, job.attempts) == (JobState.AVAILABLE, 0)
    assert (list(applied.job_ids), list(applied.claimed)) == ([job.id], [])


def test_no_more_jobs_leave_at_once_than_a_broker_can_be_expected_to_take(world, loop, monkeypatch):
    monkeypatch.setattr(slots, "MOST_DIRECT", 2)
    send = threading.Event()
    real = world.broker.send
    monkeypatch.setattr(Broker, "send", lambda _self, messages: send.wait(PATIENCE) and real(messages))
    for number in range(2):
        world.handle(auth(connection_id=f"c-{number}"))
    loop._tick((), claims=False)
    world.handle(auth(connection_id="c-2"))
    assert sorted(job.state for job in world.jobs()) == ["available", "running", "running"]
    send.set()
    loop.turn()
    monkeypatch.undo()
    world.deliverer.deliver()
    loop.turn()
    world.handle(auth(connection_id="c-3"))
    assert [job.state for job in world.jobs()] == ["completed", "completed", "completed", "running"]


def test_a_job_whose_worker_died_between_commit_and_publish_is_delivered_under_its_own_id(world, loop, valkey):
    world.handle(auth())
    job = the_job(world)
    assert world.deliverer.deliver().completed == 0, "its lease holds it"
    world.clock.move(LEASE)
    assert world.deliverer.deliver().completed == 1
    [message] = waiting(valkey)
    assert message["headers"]["id"] == show(JOB, job.id)
    assert [attempt.number for attempt in attempts_of(world, the_job(world))] == [2]


def test_a_job_whose_worker_died_between_publish_and_record_is_sent_again_under_its_own_id(world, loop, valkey):
    world.handle(auth())
    statement = "UPDATE jobs"
    with dying_at(world.database, statement), pytest.raises(KilledError):
        loop.turn()
    world.clock.move(LEASE)
    assert world.deliverer.deliver().completed == 1
    assert {message["headers"]["id"] for message in waiting(valkey)} == {show(JOB, the_job(world).id)}
    assert len(waiting(valkey)) == 2


def test_the_late_result_of_a_job_that_was_claimed_again_is_left_out(world, loop):
    world.handle(auth())
    loop._send_claimed()
    with loop.deliverer.in_flight.changed:
        assert loop.deliverer.in_flight.changed.wait_for(lambda: not loop.deliverer.in_flight.count, PATIENCE)
    world.clock.move(LEASE)
    assert world.deliverer.deliver().completed == 1
    finished_at = the_job(world).finished_at
    world.clock.move(5)
    loop.turn()
    job = the_job(world)
    assert (job.attempts, job.finished_at, job.started_at) == (2, finished_at, None)


def test_a_job_that_was_cancelled_in_flight_stays_cancelled(world, loop):
    world.handle(auth())
    with world.database.write() as session:
        session.execute(update(Job).values(state=JobState.CANCELLED, finished_at=world.clock()))
    loop.turn()
    assert (the_job(world).state, the_job(world).started_at) == (JobState.CANCELLED, None)


def test_nothing_leaves_of_a_transaction_that_was_rolled_back(world, loop, valkey):
    bodies = [auth(connection_id=f"c-{number}") for number in range(4)]
    with refusing(world.database, "connections", "connection_id", "c-2"):
        world.process(*world.receive(*bodies))
    loop.turn()
    assert [event.state for event in world.events("connection.created")] == [
        "processed",
        "processed",
        "failed",
        "processed",
    ]
    sent = [message["headers"]["id"] for message in waiting(valkey)]
    assert sorted(sent) == sorted(show(JOB, job.id) for job in world.jobs())
    assert len(sent) == 3


def test_a_broker_that_is_away_costs_an_attempt_and_opens_the_breaker(world, away):
    for number in range(MIN_FAILURES):
        world.receive(auth(connection_id=f"c-{number}"))
    world.process()
    assert {job.state for job in world.jobs()} == {JobState.RUNNING}
    away.turn()
    assert {job.state for job in world.jobs()} == {JobState.RETRYABLE}
    assert health(world, "crm").failing_since is not None
    assert away.direct == frozenset()
    world.handle(auth(connection_id="c-later"))
    assert sorted({job.state for job in world.jobs()}) == ["available", "retryable"]


def test_a_dead_broker_does_not_hold_up_another(world, away, valkey):
    own = Broker.at("ops", valkey.url(1))
    away.deliverer._brokers.own = lambda _target: own
    add(world, "ops", broker_sealed=b"own")
    away.turn()
    assert away.direct == {("crm", "jobs"), ("ops", "jobs")}
    world.handle(auth())
    ids = fill(world, "ops", 1)
    with world.database.write() as session:
        session.execute(update(Job).where(Job.id == ids[0]).values(**job_rows.claimed_until(world.clock() + JOB_LEASE)))
    [job] = jobs(world, "ops")
    values = {name: getattr(job, name) for name in job_rows.ClaimedJob.__struct_fields__}
    away.send([job_rows.JobToSend(job_rows.ClaimedJob(**values), job_rows.EventDocument(job_rows.Raw(b"{}")))])
    away.turn()
    assert {job.team: job.state for job in world.jobs()} == {"crm": JobState.RETRYABLE, "ops": JobState.COMPLETED}
    own.close()


def test_while_the_database_is_away_nothing_is_taken_for_direct(world, loop, monkeypatch):
    monkeypatch.setattr("app.services.delivery.loop.PAUSE_SECONDS", 0.0)
    assert loop.direct
    with dying_as_away(world.database):
        loop.turn()
    assert loop.direct == frozenset()
    loop.turn()
    assert loop.direct


@contextmanager
def dying_as_away(database):
    """Every transaction fails to begin."""
    write, database.write = database.write, _fails
    try:
        yield
    finally:
        database.write = write


@contextmanager
def _fails():
    raise BrokerUnavailable("database", RuntimeError("away"))
    yield


def test_the_loop_sends_what_it_was_handed_before_it_ends(world, valkey):
    loop = DeliveryLoop(Deliverer(world.database, world.broker, world.clock), claims=False)
    loop._tick((), claims=False)
    world.processor.deliveries = loop
    world.handle(auth())
    loop.ask_to_stop()
    loop.start()
    loop.stop()
    assert the_job(world).state == JobState.COMPLETED
    assert len(waiting(valkey)) == 1


# The transport


class Slow:
    """A broker whose first batch waits for `go`; keeps the ids of each batch."""

    def __init__(self):
        self.go, self.begun, self.batches = threading.Event(), threading.Event(), []

    def send(self, messages):
        self.batches.append([message.task_id for message in messages])
        self.begun.set()
        assert self.go.wait(PATIENCE)

    def close(self):
        pass


@pytest.fixture
def slow():
    return Slow()


@pytest.fixture
def transport(world, slow):
    made = CeleryTransport(slow, lambda _target: slow, InFlight(), world.clock)
    yield made
    slow.go.set()
    made.close()


class Taken:
    """A transport that keeps what it is given."""

    def __init__(self):
        self.attempts = []

    def start(self, attempts):
        self.attempts += attempts

    def close_unused(self):
        pass


def batch_of(world, count):
    """Attempts of `count` claimed jobs."""
    fill(world, "crm", count)
    deliverer = Deliverer(world.database, world.broker, world.clock)
    deliverer._brokers.close()
    deliverer._brokers = Taken()
    deliverer.tick(limit=count)
    assert len(deliverer._brokers.attempts) == count
    return deliverer._brokers.attempts


def results_of(transport, count):
    with transport.in_flight.changed:
        assert transport.in_flight.changed.wait_for(lambda: transport.in_flight.completed >= count, PATIENCE)
    return transport.in_flight.take()


def test_batches_that_come_while_one_is_published_leave_together_in_order(world, transport, slow):
    first, second, third = (batch_of(world, 2) for _ in range(3))
    transport.start(first)
    assert slow.begun.wait(PATIENCE)
    transport.start(second)
    transport.start(third)
    assert transport.is_busy(None)
    slow.go.set()
    assert [result.answer.error for result in results_of(transport, 6)] == [None] * 6
    ids = [[show(JOB, attempt.job.id) for attempt in batch] for batch in (first, second, third)]
    assert slow.batches == [ids[0], ids[1] + ids[2]]
    assert not transport.is_busy(None)


def test_a_batch_that_waited_too_long_fails_unsent_so_that_its_lease_is_not_outlived(
    world, transport, slow, monkeypatch
):
    first, second = batch_of(world, 2), batch_of(world, 2)
    transport.start(first)
    assert slow.begun.wait(PATIENCE)
    monkeypatch.setattr(celery_transport, "LONGEST_WAIT", -1.0)
    transport.start(second)
    slow.go.set()
    errors = {result.attempt.job.id: result.answer.error for result in results_of(transport, 4)}
    assert [errors[attempt.job.id] for attempt in first + second] == [None, None, TOO_SLOW, TOO_SLOW]
    assert len(slow.batches) == 1


def test_a_possibly_poison_job_is_published_alone(world, transport, slow):
    first, second = batch_of(world, 2), batch_of(world, 3)
    poison = second[1]
    poison = type(poison)(structs.replace(poison.job, crashes=2), poison.target, poison.document)
    transport.start(first)
    assert slow.begun.wait(PATIENCE)
    transport.start([second[0], poison, second[2]])
    slow.go.set()
    results_of(transport, 5)
    ids = [show(JOB, attempt.job.id) for attempt in second]
    assert slow.batches[1:] == [[ids[0], ids[2]], [ids[1]]]


def test_the_limit_of_waiting_is_what_the_lease_leaves(world):
    assert celery_transport.LONGEST_WAIT > 0
    assert BATCH * 8 == slots.MOST_DIRECT


def test_the_first_attempt_of_a_batch_is_one_statement_for_all_published_together(world, loop, monkeypatch):
    bodies = [auth(connection_id=f"c-{number}") for number in range(20)]
    world.process(*world.receive(*bodies))
    calls = []
    real = job_rows.complete_first_attempts
    monkeypatch.setattr(
        job_rows, "complete_first_attempts", lambda *args, **kwargs: calls.append(len(args[1])) or real(*args, **kwargs)
    )
    monkeypatch.setattr(attempt_rows, "insert", lambda *_: pytest.fail("a row for an attempt"))
    loop.turn()
    assert calls == [20]
    assert {job.state for job in world.jobs()} == {JobState.COMPLETED}

"""Promise 10: one dead or slow destination never delays another, and burns none of its jobs' attempts."""

import socket
from datetime import timedelta

import pytest
from sqlalchemy import update

from app.brokers.celery_broker import Broker
from app.clock import utc_now
from app.db import jobs as job_rows
from app.db.jobs import QueueHead
from app.db.models import Job
from app.deadlines import BATCH, JOB_LEASE
from app.domain.addresses import read_networks
from app.domain.destination_breaker import MIN_FAILURES, PROBE_WAITS
from app.domain.retrying import SCHEDULE
from app.domain.states import JobState
from app.sealing import new_key, sealer_with
from app.services.definitions import destination_states
from app.services.definitions.destination_alerts import Alerts
from app.services.definitions.team_brokers import OwnBrokers, broker_purpose
from app.services.delivery.deliverer import Deliverer
from app.services.delivery.loop import DeliveryLoop
from tests.integration.delivery.destinations import add, attempts, attempts_of, fill, health, jobs, states
from tests.integration.world import dump, in_threads
from tests.ports import free_port
from tests.waiting import PATIENCE, until

SOON = PROBE_WAITS[0].total_seconds() * 1.21


class RecordedAlerts(Alerts):
    """Keeps what it announces, besides announcing it."""

    def __init__(self):
        super().__init__()
        self.changes, self.discarded = [], []

    def destinations_changed(self, session, changes, *, now):
        self.changes += [(change.team, str(change.change)) for change in changes]
        super().destinations_changed(session, changes, now=now)

    def jobs_discarded(self, session, jobs, *, now):
        self.discarded += jobs
        super().jobs_discarded(session, jobs, now=now)


@pytest.fixture
def announced():
    return RecordedAlerts()


@pytest.fixture
def world(open_world, broker_url, valkey, announced):
    made = open_world(teams_url=valkey.url(1))
    made.deliverer.alerts = announced
    return made


@pytest.fixture
def down(open_world, announced):
    """Another worker, for which the teams' broker is away."""
    made = open_world(teams_url=f"redis://127.0.0.1:{free_port()}/1")
    made.deliverer.alerts = announced
    return made


@pytest.fixture
def silent():
    """A server that takes connections and never answers; closing it closes them."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def wait_for_results(deliverer):
    with deliverer.in_flight.changed:
        assert deliverer.in_flight.changed.wait_for(lambda: not deliverer.in_flight.count, PATIENCE)


def fail(down, team):
    """Let as many attempts fail as open the breaker."""
    fill(down, team, MIN_FAILURES)
    assert down.deliverer.deliver().failed == MIN_FAILURES


def test_a_backlog_does_not_stand_before_the_jobs_of_others(world):
    add(world, "big")
    add(world, "small")
    fill(world, "big", 3 * BATCH, late=60)
    fill(world, "small", 3)
    world.deliverer.deliver()
    assert states(world, "small") == {"completed": 3}
    assert states(world, "big") == {"completed": BATCH // 2, "available": 3 * BATCH - BATCH // 2}


def test_the_jobs_of_one_destination_leave_in_the_order_in_which_they_became_due(world):
    add(world, "crm")
    late = fill(world, "crm", 5)
    early = fill(world, "crm", 5, late=60)
    world.deliverer.deliver(late, limit=5)
    assert {job.id for job in jobs(world, "crm", Job.state == JobState.COMPLETED)} == set(early)


def test_a_broker_that_is_silent_delays_its_own_jobs_only(world, silent):
    add(world, "mute", broker_sealed=b"own")
    add(world, "crm")
    fill(world, "mute", 10)
    fill(world, "crm", 3 * BATCH)

    def own(target):
        broker = Broker.at(target.team, f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        broker.app.conf.broker_transport_options |= {"socket_timeout": PATIENCE}
        return broker

    deliverer = Deliverer(world.database, world.broker, world.clock, own_broker=own)
    deliverer.tick()
    while states(world, "crm") != {"completed": 3 * BATCH}:
        with deliverer.in_flight.changed:
            assert deliverer.in_flight.changed.wait_for(lambda: deliverer.in_flight.completed, PATIENCE)
        deliverer.tick()
    assert deliverer.in_flight.count == 10
    silent.close()
    wait_for_results(deliverer)
    deliverer.tick()
    assert states(world, "mute") == {"retryable": 10}
    deliverer.close()


def test_a_broker_of_its_own_gets_the_jobs_and_is_let_go_when_nothing_goes_there(world, valkey, monkeypatch):
    add(world, "crm", broker_sealed=b"own")
    fill(world, "crm", 2)
    opened = []

    def own(target):
        opened.append(Broker.at(target.team, valkey.url(3)))
        return opened[-1]

    deliverer = Deliverer(world.database, world.broker, world.clock, own_broker=own)
    assert deliverer.deliver().completed == 2
    assert opened[0].queue_length("team.crm.jobs") == 2
    fill(world, "crm", 1)
    assert deliverer.deliver().completed == 1
    assert len(opened) == 1, "one connection pool for each broker"
    monkeypatch.setattr("app.services.delivery.celery_transport.UNUSED_SECONDS", -1.0)
    deliverer.deliver()
    assert deliverer._brokers._opened == {}
    deliverer.close()


def test_a_destination_that_fails_has_its_jobs_parked_without_an_attempt(down, announced):
    add(down, "crm")
    fail(down, "crm")
    fill(down, "crm", 700)
    assert down.deliverer.deliver().failed == 0
    down.deliverer.deliver()
    assert states(down, "crm") == {"retryable": MIN_FAILURES, "breaker": 700}
    assert {job.attempts for job in jobs(down, "crm", Job.blocked_by == "breaker")} == {0}
    assert health(down, "crm").failing_since == down.clock.now
    assert "teams broker" in health(down, "crm").last_error
    assert announced.changes == [("crm", "failing")], "announced once, not with each failure"


def test_a_probe_that_fails_uses_up_no_schedule_and_the_next_one_is_another_job(down, clock):
    add(down, "crm")
    fail(down, "crm")
    with down.database.write() as session:  # those have a time of their own
        session.execute(update(Job).values(state=JobState.CANCELLED))
    first, second = fill(down, "crm", 2)
    for number, probed in enumerate((first, second, first), 1):
        clock.move(PROBE_WAITS[min(number, len(PROBE_WAITS) - 1)].total_seconds() * 1.21)
        assert down.deliverer.deliver().failed == 1
        assert health(down, "crm").probes == number
        [job] = jobs(down, "crm", Job.id == probed)
        assert (job.attempts, job.attempts - job.schedule_from) == ((number + 1) // 2, 0)
        assert (job.blocked_by, job.crashes) == ("breaker", 0)
    assert len(attempts(down, "crm")) == MIN_FAILURES + 3


def test_a_probe_that_succeeds_releases_all_jobs(world, down, clock, announced):
    add(world, "crm")
    fail(down, "crm")
    ids = fill(world, "crm", 2 * BATCH)
    world.deliverer.deliver()
    assert states(world, "crm")["breaker"] == 2 * BATCH
    clock.move(SOON)
    rounds = 0
    while states(world, "crm") != {"completed": 2 * BATCH + MIN_FAILURES}:
        world.deliverer.deliver()
        rounds += 1
        assert rounds < 20
    assert health(world, "crm").failing_since is None
    assert announced.changes == [("crm", "failing"), ("crm", "recovered")]
    sent = {job.id: len(attempts_of(world, job)) for job in jobs(world, "crm", Job.id.in_(ids))}
    assert sent == dict.fromkeys(ids, 1)


def test_what_waited_does_not_come_back_as_a_herd(world, down, clock):
    add(world, "crm")
    fail(down, "crm")
    fill(world, "crm", BATCH)
    world.deliverer.deliver()
    clock.move(SOON)
    world.deliverer.tick()
    wait_for_results(world.deliverer)
    done = []
    for _ in range(5):
        world.deliverer.tick()
        wait_for_results(world.deliverer)
        done.append(len(jobs(world, "crm", Job.state == JobState.COMPLETED)))
    assert done == [1, 2, 4, 8, 16], "each accepted job opens the window by one"


def test_of_two_workers_one_probes(world, open_world, down, clock, valkey):
    add(world, "crm")
    fail(down, "crm")
    fill(world, "crm", 10)
    world.deliverer.deliver()
    other = open_world(teams_url=valkey.url(1))
    clock.move(SOON)
    in_threads(world.deliverer.tick, other.deliverer.tick)
    wait_for_results(world.deliverer)
    wait_for_results(other.deliverer)
    assert (
        len(attempts(world, "crm")) + sum(worker.deliverer.in_flight.completed for worker in (world, other))
        == MIN_FAILURES + 1
    )


def test_a_disabled_destination_parks_its_jobs_until_it_is_enabled(world, announced):
    add(world, "crm")
    fill(world, "crm", 7)
    with world.database.write() as session:
        named = {"team": "crm", "destination": "jobs"}
        assert destination_states.disable(session, announced, **named, reason="by an operator", now=world.clock())
        assert not destination_states.disable(session, announced, **named, reason="again", now=world.clock())
    assert world.deliverer.deliver().completed == 0
    assert states(world, "crm") == {"disabled": 7}
    with world.database.write() as session:
        assert destination_states.enable(session, announced, **named, now=world.clock())
        assert not destination_states.enable(session, announced, **named, now=world.clock())
    assert world.deliverer.deliver().completed == 7
    assert announced.changes == [("crm", "disabled"), ("crm", "recovered")]


def test_the_lost_job_of_a_killed_worker_is_parked_with_the_others(world, clock, announced):
    add(world, "crm")
    [job_id] = fill(world, "crm", 1)
    with world.database.write() as session:
        assert job_rows.claim(session, [QueueHead("crm", "jobs", 1, clock.now + JOB_LEASE)], now=clock.now)
        destination_states.disable(session, announced, team="crm", destination="jobs", reason="", now=clock.now)
    clock.move(JOB_LEASE.total_seconds() + 1)
    world.deliverer.deliver()
    [job] = jobs(world, "crm")
    assert (job.id, job.state, job.blocked_by) == (job_id, JobState.RETRYABLE, "disabled")


def test_a_rate_limit_holds_over_several_workers_and_burns_no_attempt(world, open_world, clock, valkey):
    add(world, "crm", rate_per_second=10.0)
    add(world, "free")
    fill(world, "crm", 60)
    fill(world, "free", 60)
    other = open_world(teams_url=valkey.url(1))
    done = []
    for _ in range(4):
        for worker in (world, other):
            worker.deliverer.deliver()
        done.append(len(jobs(world, "crm", Job.state == JobState.COMPLETED)))
        clock.move(1)
    assert done == [11, 21, 31, 41]
    assert states(world, "free") == {"completed": 60}
    assert {job.attempts for job in jobs(world, "crm", Job.state == JobState.AVAILABLE)} == {0}


def test_a_slow_rate_lets_one_through_at_a_time(world, clock):
    add(world, "crm", rate_per_second=0.1)
    fill(world, "crm", 5)
    done = []
    for _ in range(5):
        world.deliverer.deliver()
        done.append(len(jobs(world, "crm", Job.state == JobState.COMPLETED)))
        clock.move(5)
    assert done == [1, 1, 2, 2, 3]


def test_what_has_to_wait_for_its_rate_leaves_the_worker_nothing_to_do(world, announced):
    """Not even where parked jobs were released meanwhile."""
    add(world, "crm", rate_per_second=0.1)
    fill(world, "crm", 5)
    with world.database.write() as session:
        session.execute(update(Job).values(blocked_by="disabled"))
    world.deliverer.deliver()
    world.deliverer.deliver()
    assert len(jobs(world, "crm", Job.state == JobState.COMPLETED)) == 1
    assert not world.deliverer.has_work


def test_all_that_waits_for_a_dead_destination_is_parked_before_the_worker_rests(down):
    add(down, "crm")
    fail(down, "crm")
    fill(down, "crm", 1200)
    down.deliverer.deliver()
    while down.deliverer.has_work:
        down.deliverer.tick()
    assert states(down, "crm") == {"retryable": MIN_FAILURES, "breaker": 1200}


def test_a_lost_job_of_a_failing_destination_is_parked_and_probes_later(world, down, clock):
    add(world, "crm")
    [lost] = fill(world, "crm", 1)
    with world.database.write() as session:
        assert job_rows.claim(session, [QueueHead("crm", "jobs", 1, clock.now + JOB_LEASE)], now=clock.now)
    fail(down, "crm")
    with world.database.write() as session:
        session.execute(update(Job).where(Job.id != lost).values(state=JobState.CANCELLED))
    clock.move(JOB_LEASE.total_seconds() + 1)
    world.deliverer.deliver()
    world.deliverer.deliver()
    assert states(world, "crm") == {"completed": 1, "cancelled": MIN_FAILURES}


def test_a_broker_whose_url_does_not_open_is_our_fault_and_keeps_the_url(world, valkey, announced):
    sealer, other = sealer_with(new_key()), sealer_with(new_key())
    away = f"redis://:canary-password@127.0.0.1:{free_port()}/3"
    add(world, "crm", broker_sealed=sealer.seal(away, purpose=broker_purpose(("crm", "jobs"))))
    add(world, "shop", broker_sealed=other.seal(valkey.url(3), purpose=broker_purpose(("shop", "jobs"))))
    add(world, "good", broker_sealed=sealer.seal(valkey.url(3), purpose=broker_purpose(("good", "jobs"))))
    for team in ("crm", "shop", "good"):
        fill(world, team, 1)
    with world.database.write() as session:
        session.execute(update(Job).values(attempts=len(SCHEDULE)))
    deliverer = Deliverer(
        world.database, world.broker, world.clock, announced, OwnBrokers(sealer, read_networks("127.0.0.0/8")).of
    )
    deliverer.deliver()
    deliverer.close()
    [refused], [closed], [good] = jobs(world, "crm"), jobs(world, "shop"), jobs(world, "good")
    assert (good.state, refused.fault, closed.fault) == (JobState.COMPLETED, "team", "ours")
    assert "broker URL of shop/jobs" in closed.problem
    assert "canary" not in f"{dump(world.database)}{deliverer!r}"


def test_the_loop_delivers_without_a_hint_and_records_what_is_in_flight_when_it_stops(world):
    add(world, "crm")
    deliverer = Deliverer(world.database, world.broker, utc_now)
    loop = DeliveryLoop(deliverer)
    loop.start()
    fill(world, "crm", 3 * BATCH, late=timedelta(hours=1).total_seconds())
    until("all are delivered", lambda: states(world, "crm") == {"completed": 3 * BATCH}, every=0.1)
    fill(world, "crm", 50, late=timedelta(hours=1).total_seconds())
    loop.hint(())
    loop.stop()
    assert set(states(world, "crm")) <= {"completed", "available"}, "nothing is left in the hands of a stopped process"

"""Promise 10 over HTTP: signed, a stable id, hundreds in flight, and no destination waits for another's endpoint."""

import base64
import hmac
import json
from datetime import timedelta
from ipaddress import ip_network

import pytest

from app.db.models import Destination, Job
from app.db.read import listing
from app.deadlines import HTTP_TIMEOUT, JOB_LEASE
from app.domain.destination_breaker import MIN_FAILURES
from app.domain.retrying import JITTER, SCHEDULE
from app.domain.standard_webhooks import read_secret
from app.domain.states import JobState
from app.ids import JOB, show
from app.outbound.sending import HttpSender
from app.sealing import new_key, sealer_with
from app.services.definitions import destination_states, signing_secrets
from app.services.definitions.signing_secrets import Keyring
from app.services.delivery.deliverer import Deliverer, Http
from app.services.delivery.slots import IN_FLIGHT, PER_DESTINATION
from tests.integration.delivery.destinations import add, attempts, fill, health, jobs, states
from tests.integration.delivery.endpoints import endpoints as serve
from tests.integration.delivery.test_isolation import RecordedAlerts, wait_for_results
from tests.waiting import PATIENCE, until

LOOPBACK = [ip_network("127.0.0.0/8")]
SEALER = sealer_with(new_key())
PATIENT = 600.0  # seconds: a machine under load must not let that time out which hangs on purpose


@pytest.fixture
def announced():
    return RecordedAlerts()


@pytest.fixture(scope="module")
def _server():
    with serve() as made:
        yield made


@pytest.fixture
def server(_server):
    _server.forget()
    yield _server
    _server.let_go()


@pytest.fixture
def open_worker(world, announced):
    opened = []

    def make(allowed=LOOPBACK):
        http = Http(lambda: HttpSender(allowed=allowed), Keyring(SEALER))
        opened.append(Deliverer(world.database, None, world.clock, announced, http=http))
        return opened[-1]

    yield make
    for opened_world in opened:
        opened_world.close()


@pytest.fixture
def worker(open_worker):
    return open_worker()


def add_http(world, server, team, path, *, sealer=SEALER, **columns):
    """An HTTP destination; its signing secret."""
    add(world, team, kind="http", url=f"{server.url}{path}", **{"timeout_seconds": PATIENT} | columns)
    named = {"team": team, "destination": "jobs"}
    with world.database.write() as session:
        return signing_secrets.rotate(session, sealer, **named, actor="test", now=world.clock()).value


def signature(call, secret):
    signed = f"{call.headers['webhook-id']}.{call.headers['webhook-timestamp']}.".encode() + call.body
    return "v1," + base64.b64encode(hmac.digest(read_secret(secret), signed, "sha256")).decode()


def test_a_sender_that_cannot_be_opened_leaves_no_job_in_flight(world, server, announced):
    """It is our fault, and said so; what comes later finds the sender open."""
    add_http(world, server, "crm", "/204")
    fill(world, "crm", 2)
    ways = [OSError("no more files"), OSError("no more files")]

    def opening():
        if ways:
            raise ways.pop()
        return HttpSender(allowed=LOOPBACK)

    worker = Deliverer(world.database, None, world.clock, announced, http=Http(opening, Keyring(SEALER)))
    assert worker.deliver().failed == 2
    assert {job.problem for job in jobs(world, "crm")} == {"a fault of Waylink's: OSError"}
    world.clock.move(SCHEDULE[0].total_seconds() * (1 + JITTER) + 1)
    assert worker.deliver().completed == 2
    worker.close()


def test_a_job_arrives_signed_with_its_own_id(world, server, worker):
    secret = add_http(world, server, "crm", "/204")
    [job_id] = fill(world, "crm", 1)
    assert worker.deliver().completed == 1
    [call] = server.calls
    [job] = jobs(world, "crm")
    assert call.headers["webhook-id"] == call.job["id"] == show(JOB, job_id)
    assert (call.job["name"], call.job["attempt"], call.job["event"]["type"]) == ("crm.job", 1, "connection.created")
    assert call.headers["webhook-signature"] == signature(call, secret)
    assert (job.state, job.attempts, job.crashes, job.problem) == (JobState.COMPLETED, 1, 0, None)
    [attempt] = attempts(world, "crm")
    assert (attempt.outcome, attempt.status, attempt.error) == ("completed", 204, None)
    assert attempt.latency_ms > 0


def test_a_worker_that_has_signed_with_a_secret_stops_when_it_is_replaced(world, server, worker):
    old = add_http(world, server, "crm", "/204")
    fill(world, "crm", 1)
    worker.deliver()
    named = {"team": "crm", "destination": "jobs", "actor": "test", "now": world.clock()}
    with world.database.write() as session:
        new = signing_secrets.rotate(session, SEALER, **named, overlap=timedelta(0)).value
    fill(world, "crm", 1)
    worker.deliver()
    assert [call.headers["webhook-signature"] for call in server.calls] == [
        signature(call, secret) for call, secret in zip(server.calls, (old, new), strict=True)
    ]


@pytest.mark.parametrize("status", [302, 400, 404, 422, 429, 500, 503])
def test_an_answer_that_accepts_nothing_is_tried_again_with_the_same_id(world, server, worker, clock, status):
    add_http(world, server, "crm", f"/{status}")
    fill(world, "crm", 1)
    assert worker.deliver().failed == 1
    [job] = jobs(world, "crm")
    assert (job.state, job.blocked_by, job.fault) == (JobState.RETRYABLE, None, None)
    assert job.problem.startswith(f"answered {status}")
    assert clock.now + SCHEDULE[0] <= job.next_at <= clock.now + SCHEDULE[0] * (1 + JITTER)
    [attempt] = attempts(world, "crm")
    assert (attempt.status, attempt.response_excerpt) == (status, f"this is {status}")
    with world.database.read() as session:
        (shown,) = listing.job(session, job.id)["attempt_log"]
    assert (shown["status"], shown["response_excerpt"]) == (status, f"this is {status}")
    clock.move(6.1)
    worker.deliver()
    first, second = server.calls
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert (first.job["attempt"], second.job["attempt"]) == (1, 2)


def test_retry_after_is_heeded(world, server, worker, clock):
    add_http(world, server, "crm", "/503")
    fill(world, "crm", 1)
    server.headers["retry-after"] = "600"
    worker.deliver()
    [job] = jobs(world, "crm")
    assert clock.now + timedelta(minutes=10) <= job.next_at <= clock.now + timedelta(minutes=10) * (1 + JITTER)


def test_410_disables_the_destination_and_keeps_its_jobs(world, server, worker, clock, announced):
    add_http(world, server, "crm", "/410")
    fill(world, "crm", 300)
    worker.deliver()
    worker.deliver(limit=500)
    assert states(world, "crm") == {"disabled": 300}
    assert 1 <= len(server.calls) <= PER_DESTINATION
    assert {job.attempts - job.schedule_from for job in jobs(world, "crm")} == {0}, "no schedule was used up"
    assert announced.changes == [("crm", "disabled")]
    with world.database.read() as session:
        assert "410" in session.get(Destination, ("crm", "jobs")).disabled_reason
    with world.database.write() as session:
        session.get(Destination, ("crm", "jobs")).url = f"{server.url}/200"
        destination_states.enable(session, announced, team="crm", destination="jobs", now=clock.now)
    while states(world, "crm") != {"completed": 300}:
        assert worker.deliver(limit=500).completed


def test_a_410_of_the_address_before_does_not_disable_the_new_one(world, server, worker):
    add_http(world, server, "crm", "/410")
    fill(world, "crm", 1)
    worker.tick()
    wait_for_results(worker)
    with world.database.write() as session:
        session.get(Destination, ("crm", "jobs")).url = f"{server.url}/200"
    worker.tick(claims=False)
    with world.database.read() as session:
        assert session.get(Destination, ("crm", "jobs")).disabled_at is None
    worker.deliver()
    assert states(world, "crm") == {"completed": 1}


@pytest.mark.parametrize(("status", "failing"), [(500, True), (401, True), (404, True), (302, True), (422, False)])
def test_what_is_about_the_endpoint_opens_its_breaker_and_what_is_about_a_job_does_not(
    world, server, worker, *, announced, status, failing
):
    add_http(world, server, "crm", f"/{status}")
    fill(world, "crm", MIN_FAILURES)
    worker.deliver()
    known = health(world, "crm")
    assert (known is not None and known.failing_since is not None) is failing
    assert announced.changes == ([("crm", "failing")] if failing else [])


def test_hundreds_are_in_flight_at_the_same_time(world, server, worker):
    for number in range(3):
        add_http(world, server, f"t{number}", f"/together/60/{number}")
        fill(world, f"t{number}", 60)
    worker.deliver(limit=IN_FLIGHT)
    assert [states(world, f"t{number}") for number in range(3)] == [{"completed": 60}] * 3
    assert [server.most[f"/together/60/{number}"] for number in range(3)] == [60] * 3


def test_an_endpoint_that_hangs_takes_nothing_from_nine_others(world, server, worker):
    add_http(world, server, "mute", "/hang")
    fill(world, "mute", 1000)
    others = [f"t{number}" for number in range(9)]
    for team in others:
        add_http(world, server, team, f"/200/{team}")
        fill(world, team, 200)
    worker.tick()
    while any(states(world, team) != {"completed": 200} for team in others):
        with worker.in_flight.changed:
            assert worker.in_flight.changed.wait_for(lambda: worker.in_flight.completed, PATIENCE)
        worker.tick()
    assert 0 < worker.in_flight.count <= PER_DESTINATION
    assert states(world, "mute")["running"] == worker.in_flight.count, "none of them has been answered"


def test_however_many_hang_the_next_one_finds_room(world, server, worker):
    for number in range(20):
        add_http(world, server, f"mute{number}", f"/hang/{number}")
        fill(world, f"mute{number}", 200)
    for _ in range(3):
        worker.tick()
    assert worker.in_flight.count <= IN_FLIGHT
    assert min(len(jobs(world, f"mute{number}", Job.state == JobState.RUNNING)) for number in range(20)) >= 1
    add_http(world, server, "crm", "/200")
    fill(world, "crm", 10)
    worker._polled_at = 0.0
    while states(world, "crm") != {"completed": 10}:
        worker.tick()
        with worker.in_flight.changed:
            worker.in_flight.changed.wait_for(lambda: worker.in_flight.completed, 0.1)


def test_a_time_out_is_a_failure_and_the_lease_covers_it(world, server, worker, clock):
    add_http(world, server, "crm", "/hang/short", timeout_seconds=0.2)
    add_http(world, server, "slow", "/hang/long", timeout_seconds=30.0)
    fill(world, "crm", 1)
    fill(world, "slow", 1)
    worker.tick()
    [slow], [short] = jobs(world, "slow"), jobs(world, "crm")
    assert slow.next_at == clock.now + JOB_LEASE + timedelta(seconds=30) - HTTP_TIMEOUT
    assert short.next_at == clock.now + JOB_LEASE
    with worker.in_flight.changed:
        assert worker.in_flight.changed.wait_for(lambda: worker.in_flight.completed, PATIENCE)
    worker.tick()
    [job] = jobs(world, "crm")
    assert (job.state, job.problem) == (JobState.RETRYABLE, "no answer within 0.2 s")


def test_an_address_that_is_refused_is_our_fault_in_the_end(world, server, open_worker, clock, announced):
    add_http(world, server, "crm", "/200")
    [job_id] = fill(world, "crm", 1)
    with world.database.write() as session:
        session.get(Job, job_id).attempts = len(SCHEDULE)
    open_worker(allowed=[]).deliver()
    [job] = jobs(world, "crm")
    assert (job.state, job.fault) == (JobState.DISCARDED, "ours")
    assert "attempts failed; last: " in job.problem
    assert [(job.id, job.fault) for job in announced.discarded] == [(job_id, "ours")]
    assert server.calls == []


def test_without_a_secret_that_opens_nothing_leaves_unsigned(world, server, worker):
    add(world, "crm", kind="http", url=f"{server.url}/200")
    fill(world, "crm", MIN_FAILURES)
    worker.deliver()
    assert server.calls == []
    assert {job.problem for job in jobs(world, "crm")} == {
        "it has no signing secret that can be read, and nothing leaves unsigned"
    }
    assert health(world, "crm").failing_since is not None, "its jobs are parked until it gets one"


def test_a_restarted_schedule_is_counted_from_there(world, server, worker, clock):
    add_http(world, server, "crm", "/500")
    [job_id] = fill(world, "crm", 1)
    with world.database.write() as session:
        job = session.get(Job, job_id)
        job.attempts = job.schedule_from = 9
    worker.deliver()
    [job] = jobs(world, "crm")
    assert (job.state, job.attempts) == (JobState.RETRYABLE, 10)
    assert job.next_at <= clock.now + SCHEDULE[0] * (1 + JITTER)


@pytest.mark.parametrize("begun", [True, False])
def test_a_stopping_worker_gives_back_what_was_not_answered(world, server, open_worker, clock, begun):
    add_http(world, server, "crm", "/hang/stop")
    fill(world, "crm", 3)
    worker = open_worker()
    worker.tick()
    if begun:
        until("all are asked", lambda: server.waiting.get("/hang/stop", 0) == 3)
    worker.close()
    worker.tick(claims=False)
    for job in jobs(world, "crm"):
        assert (job.state, job.attempts, job.schedule_from, job.crashes) == (JobState.RETRYABLE, 1, 1, 0)
        assert job.next_at == clock.now
    assert {attempt.error for attempt in attempts(world, "crm")} == {
        "the worker was told to stop before an answer came"
    }
    assert health(world, "crm") is None, "it says nothing of the endpoint"


def test_documents_are_passed_on_as_they_were_routed(world, server, worker):
    add_http(world, server, "crm", "/200")
    fill(world, "crm", 1)
    worker.deliver()
    [call] = server.calls
    assert json.loads(call.body) == call.job
    assert call.headers["content-type"] == "application/json"

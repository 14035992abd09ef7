"""A team's own RabbitMQ: jobs are confirmed, kept, and wait while it is away."""

import json

import pytest
import trustme
from kombu import Connection

from app.brokers.celery_broker import Broker
from app.db.models import Job
from app.domain.states import JobState
from app.errors import BrokerUnavailable
from app.ids import JOB, show
from app.services.delivery.deliverer import Deliverer
from tests.certificates import issue
from tests.integration.delivery.destinations import add, fill, jobs, states
from tests.rabbit import RabbitServer

pytestmark = [
    pytest.mark.rabbitmq,
    pytest.mark.timeout(400),  # a slow machine takes half a minute for each start of it
    pytest.mark.skipif(not RabbitServer.program.exists(), reason="needs Debian's rabbitmq-server"),
]
QUEUE = "team.crm.jobs"
on_one_database = pytest.mark.parametrize("database", ["sqlite"], indirect=True)  # which one makes no difference here


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def server(authority, tmp_path_factory):
    made = RabbitServer(issue(tmp_path_factory.mktemp("tls"), authority))
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def rabbit(server):
    """It runs, and the queue is not there."""
    server.start()
    with Connection(server.url()) as connection:
        connection.default_channel.queue_delete(QUEUE)
    return server


@pytest.fixture
def broker(rabbit):
    made = Broker.of_team("crm", rabbit.url())
    yield made
    made.close()


@pytest.fixture
def world(open_world, broker_url, valkey):
    return open_world(teams_url=valkey.url(1))


@pytest.fixture
def deliverer(world, broker):
    add(world, "crm", broker_sealed=b"own")
    made = Deliverer(world.database, world.broker, world.clock, own_broker=lambda _target: broker)
    yield made
    made.close()


def taken(url):
    """All messages of the queue, in order."""
    with Connection(url) as connection, connection.channel() as channel:
        found = []
        while (message := channel.basic_get(QUEUE, no_ack=True)) is not None:
            found.append(message)
        return found


@on_one_database
def test_a_teams_worker_finds_its_jobs_as_tasks(world, deliverer, rabbit):
    ids = fill(world, "crm", 3)
    assert deliverer.deliver().completed == 3
    messages = taken(rabbit.url())
    assert {message.headers["id"] for message in messages} == {show(JOB, job_id) for job_id in ids}
    for message in messages:
        _, kwargs, _ = json.loads(message.body)
        assert kwargs["job"]["id"] == message.headers["id"]
        assert message.properties["delivery_mode"] == 2


@on_one_database
def test_a_queue_as_the_team_declared_it_is_taken_as_it_is(world, deliverer, rabbit):
    with Connection(rabbit.url()) as connection:
        connection.default_channel.queue_declare(
            QUEUE, durable=True, auto_delete=False, arguments={"x-queue-type": "quorum"}
        )
    fill(world, "crm", 2)
    assert deliverer.deliver().completed == 2
    assert len(taken(rabbit.url())) == 2


@on_one_database
def test_a_message_that_it_refuses_does_not_count_as_delivered(world, deliverer, rabbit):
    with Connection(rabbit.url()) as connection:
        connection.default_channel.queue_declare(
            QUEUE,
            durable=True,
            auto_delete=False,
            arguments={"x-max-length": 2, "x-overflow": "reject-publish"},
        )
    fill(world, "crm", 5)
    assert deliverer.deliver().completed < 5
    assert states(world, "crm")["retryable"] >= 1
    assert 2 <= len(taken(rabbit.url())) < 5


@on_one_database
def test_while_it_is_away_jobs_wait_and_the_same_connection_goes_on_after(world, deliverer, rabbit, clock):
    fill(world, "crm", 1)
    assert deliverer.deliver().completed == 1
    rabbit.stop()
    [late] = fill(world, "crm", 1)
    assert deliverer.deliver().failed == 1
    [waiting] = jobs(world, "crm", Job.state == JobState.RETRYABLE)
    assert (waiting.id, waiting.attempts) == (late, 1)
    rabbit.start()
    clock.now = waiting.next_at
    assert deliverer.deliver().completed == 1
    assert len(taken(rabbit.url())) == 2


@on_one_database
def test_its_restart_loses_nothing_confirmed_and_costs_no_attempt(world, deliverer, rabbit, broker):
    """The connections that it closed meanwhile are seen to be closed before a job is tried on one."""
    fill(world, "crm", 5)
    assert deliverer.deliver().completed == 5
    rabbit.restart()
    fill(world, "crm", 1)
    assert deliverer.deliver().completed == 1
    assert {job.attempts for job in jobs(world, "crm")} == {1}
    assert broker.queue_length(QUEUE) == 6


def test_a_queue_that_is_not_there_is_empty(broker):
    assert broker.queue_length(QUEUE) == 0
    broker.ping()


def test_tls_goes_by_the_name_and_an_operators_authority_is_trusted(rabbit, authority, tmp_path):
    file = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(file)
    url = rabbit.tls_url()
    trusted = Broker.of_team("crm", url, authorities=file)
    trusted.ping()
    trusted.close()
    for host, authorities in (("127.0.0.1", None), ("127.1", file)):  # a stranger, and another name
        stranger = Broker.of_team("crm", url.replace("127.0.0.1", host), authorities=authorities)
        with pytest.raises(BrokerUnavailable, match="its certificate is not trusted"):
            stranger.ping()
        stranger.close()


def test_a_wrong_password_is_reported_and_not_shown(rabbit):
    wrong = Broker.of_team("crm", rabbit.url().replace("guest@", "hunter2@"))
    with pytest.raises(BrokerUnavailable) as refused:
        wrong.ping()
    wrong.close()
    assert "hunter2" not in str(refused.value)
    assert "the user or the password is refused" in str(refused.value)

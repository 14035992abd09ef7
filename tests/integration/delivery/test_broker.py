"""The only producer: what its messages hold, that it never hangs, and that it recovers by itself."""

import base64
import json
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import timedelta

import pytest
import redis

from app.brokers import redis_messages
from app.brokers.celery_broker import (
    EVENTS_QUEUE,
    IO_QUEUE,
    PROCESS_EVENTS,
    QUEUE_OF,
    SWEEP,
    Broker,
    hint,
    make_celery,
)
from app.brokers.messages import Message
from app.deadlines import VISIBILITY_TIMEOUT
from app.domain.status import CheckKind, Level
from app.errors import BrokerUnavailable
from app.services.policy import Policy
from app.services.status.brokers import INTERNAL, TEAM, checks
from app.services.status.installation import Installation
from tests.ports import free_port
from tests.proxy import proxied
from tests.servers import ValkeyServer

JOB = {"job": {"id": "job_1", "event": {"tags": {"é": '\u2028 "waylink-template"', "n": 1e300}}}}


@pytest.fixture
def broker(broker_url: str) -> Iterator[Broker]:
    broker = Broker.at("internal", broker_url)
    yield broker
    broker.close()


def waiting(valkey: ValkeyServer, queue: str) -> list[dict]:
    client = valkey._client()
    try:
        return [json.loads(message) for message in client.lrange(queue, 0, -1)]
    finally:
        client.close()


def test_a_hint_is_a_plain_protocol_2_message_with_ids_alone(broker: Broker, valkey: ValkeyServer) -> None:
    broker.send([hint(PROCESS_EVENTS, "a1", ["evt_1", "evt_2"])])
    (message,) = waiting(valkey, EVENTS_QUEUE)
    headers = message["headers"]
    assert (headers["task"], headers["id"], headers["lang"]) == (PROCESS_EVENTS, "a1", "py")
    assert headers["ignore_result"] is True
    assert "evt_" not in json.dumps(headers)
    args, kwargs, _ = json.loads(base64.b64decode(message["body"]))
    assert (args, kwargs) == ([], {"ids": ["evt_1", "evt_2"]})


def test_each_message_goes_to_its_own_queue_and_lasts_over_a_restart(broker: Broker, valkey: ValkeyServer) -> None:
    broker.send([hint(PROCESS_EVENTS, "a"), hint(SWEEP, "b"), Message("team.crm.jobs", "crm.go", "c", {"job": {}})])
    assert [len(waiting(valkey, queue)) for queue in (EVENTS_QUEUE, IO_QUEUE, "team.crm.jobs")] == [1, 1, 1]
    (message,) = waiting(valkey, "team.crm.jobs")
    assert message["properties"]["delivery_mode"] == 2
    assert (message["headers"]["task"], message["headers"]["id"]) == ("crm.go", "c")
    assert broker.queue_length("team.crm.jobs") == 1
    assert broker.queue_length("team.nobody.jobs") == 0


def test_what_a_job_says_of_people_is_not_repeated_in_its_headers(broker: Broker, valkey: ValkeyServer) -> None:
    broker.send([Message("team.crm.jobs", "crm.go", "c", {"job": {"email": "person@example.test"}})])
    (message,) = waiting(valkey, "team.crm.jobs")
    assert "person@example.test" not in json.dumps(message["headers"]) + json.dumps(message["properties"])


def test_ticks_expire(broker: Broker, valkey: ValkeyServer) -> None:
    broker.send([hint(SWEEP, "a", expires=timedelta(seconds=30)), hint(SWEEP, "b")])
    assert sorted(bool(message["headers"]["expires"]) for message in waiting(valkey, IO_QUEUE)) == [False, True]


def test_nothing_to_send_is_no_error(broker: Broker) -> None:
    broker.send([])


def test_it_sends_again_after_the_broker_was_away(broker: Broker, valkey: ValkeyServer) -> None:
    broker.send([hint(SWEEP, "before")])
    valkey.stop()
    try:
        for _ in range(2):
            with pytest.raises(BrokerUnavailable):
                broker.send([hint(SWEEP, "away")])
    finally:
        valkey.start()
    broker.send([hint(SWEEP, "after")])
    broker.ping()
    assert {message["headers"]["id"] for message in waiting(valkey, IO_QUEUE)} == {"before", "after"}


def test_it_sends_again_after_a_restart_that_it_did_not_notice(broker: Broker, valkey: ValkeyServer) -> None:
    broker.send([hint(SWEEP, "before")])
    valkey.restart()
    try:
        broker.send([hint(SWEEP, "after")])
    except BrokerUnavailable:
        broker.send([hint(SWEEP, "after")])
    assert "after" in {message["headers"]["id"] for message in waiting(valkey, IO_QUEUE)}


def test_a_frozen_broker_is_given_up(broker: Broker, valkey: ValkeyServer) -> None:
    broker.send([hint(SWEEP, "before")])
    valkey._process.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(BrokerUnavailable):
            broker.send([hint(SWEEP, "frozen")])
    finally:
        valkey._process.send_signal(signal.SIGCONT)
    broker.send([hint(SWEEP, "after")])


def test_failures_do_not_use_the_connections_up(broker: Broker, valkey: ValkeyServer) -> None:
    for _ in range(30):
        with pytest.raises(BrokerUnavailable):
            broker.send([hint(SWEEP, "good"), Message(IO_QUEUE, "bad", "bad", {"no": object()})])
    broker.send([hint(SWEEP, "after")])
    assert "after" in {message["headers"]["id"] for message in waiting(valkey, IO_QUEUE)}


def test_an_error_names_the_broker_and_never_its_password() -> None:
    port = free_port()
    broker = Broker.at("team", f"redis://:hunter2@127.0.0.1:{port}/0")
    with pytest.raises(BrokerUnavailable) as failed:
        broker.ping()
    broker.close()
    assert "the team broker" in str(failed.value)
    causes = [failed.value, failed.value.__cause__]
    assert not any("hunter2" in repr(cause) for cause in causes)


def test_a_look_at_a_broker_that_is_away_does_not_wait_for_a_second_try(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("kombu.utils.functional.sleep", waits.append)
    broker = Broker.at("team", f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(BrokerUnavailable):
        broker.ping()
    broker.close()
    assert waits == []


def test_what_was_measured_to_keep_messages_whole_is_set() -> None:
    app = make_celery("redis://127.0.0.1:1/0")
    options = app.conf.broker_transport_options
    assert options["visibility_timeout"] == VISIBILITY_TIMEOUT.total_seconds()
    assert 0 < options["socket_connect_timeout"] <= options["socket_timeout"] <= 10
    assert app.conf.task_acks_late is True
    assert app.conf.task_reject_on_worker_lost is True
    assert app.conf.task_ignore_result is True
    assert app.conf.accept_content == ["json"]
    assert app.conf.broker_channel_error_retry is True
    assert app.conf.worker_enable_remote_control is False
    assert {route["queue"] for route in app.conf.task_routes.values()} == {EVENTS_QUEUE, IO_QUEUE}
    assert QUEUE_OF[PROCESS_EVENTS] == EVENTS_QUEUE
    app.close()


@pytest.mark.parametrize("scheme", ["redis", "rediss", "amqp", "amqps"])
def test_a_broker_that_takes_connections_and_says_nothing_is_away(scheme: str) -> None:
    with proxied(free_port()) as silent:
        silent.stop_passing()
        broker = Broker.of_team("team", f"{scheme}://127.0.0.1:{silent.port}/0")
        with closing(broker):
            for act in (broker.ping, lambda: broker.send([Message("q", "t", "i", {})])):
                with pytest.raises(BrokerUnavailable):
                    act()
        assert silent.connections()


def test_a_message_from_a_template_is_kombus_own_but_for_its_delivery_tag(
    broker: Broker, valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with broker.app.producer_pool.acquire(block=True) as producer:
        broker._publish(producer, Message("team.a.jobs", "a.b", "job_1", JOB))
    [theirs] = waiting(valkey, "team.a.jobs")
    monkeypatch.setattr(Broker, "_publish", lambda *_: pytest.fail("kombu wrote it"))
    for number in range(3):  # the first makes the template
        broker.send([Message("team.a.jobs", "a.b", "job_1", JOB)])
        ours, *_ = waiting(valkey, "team.a.jobs")
        assert ours["properties"].pop("delivery_tag") not in {"", theirs["properties"]["delivery_tag"]}
        assert {**ours, "properties": {**ours["properties"], "delivery_tag": None}} == {
            **theirs,
            "properties": {**theirs["properties"], "delivery_tag": None},
        }, number
        assert json.loads(base64.b64decode(ours["body"])) == [
            [],
            JOB,
            dict.fromkeys(("callbacks", "errbacks", "chain", "chord")),
        ]


def test_messages_of_one_batch_keep_their_order_and_each_its_own_id_and_tag(
    broker: Broker, valkey: ValkeyServer
) -> None:
    broker.send([Message(f"team.{number % 2}.jobs", "a.b", f"job_{number}", {"job": number}) for number in range(6)])
    for parity in (0, 1):
        found = waiting(valkey, f"team.{parity}.jobs")[::-1]  # workers take from the list's end
        assert [message["headers"]["id"] for message in found] == [f"job_{parity + 2 * place}" for place in range(3)]
        assert len({message["properties"]["delivery_tag"] for message in found}) == 3


@pytest.mark.parametrize(
    "message",
    [
        Message("q", "t", "i", {}, expires=5.0),  # the moment is in the headers
        Message("q", "t", 'an "id" that JSON escapes', {}),
    ],
    ids=["expires", "id"],
)
def test_a_message_that_a_template_cannot_hold_is_written_by_kombu(
    broker: Broker, valkey: ValkeyServer, message: Message
) -> None:
    broker.send([Message("q", "t", "first", {}), message])
    assert [found["headers"]["id"] for found in waiting(valkey, "q")] == [message.task_id, "first"]


def test_kombu_writes_the_messages_that_the_template_would_write_otherwise(
    broker: Broker, valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_messages, "body_of", lambda _kwargs: b"[]")  # as if Celery's body had changed
    for number in range(2):
        broker.send([Message("q", "t", f"i{number}", {"job": number})])
    bodies = [json.loads(base64.b64decode(found["body"]))[1] for found in waiting(valkey, "q")]
    assert bodies == [{"job": 1}, {"job": 0}]


def test_templates_are_kept_within_bounds(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_messages, "MOST_TEMPLATES", 3)
    for number in range(10):
        broker.send([Message("q", f"task-{number}", "i", {})])
        assert len(broker._templates._templates) <= 3


@contextmanager
def _without_memory(client: redis.Redis) -> Iterator[None]:
    client.config_set("maxmemory", "1")
    try:
        yield
    finally:
        client.config_set("maxmemory", "0")


@contextmanager
def _a_replica(client: redis.Redis) -> Iterator[None]:
    client.execute_command("REPLICAOF", "127.0.0.1", str(free_port()))
    try:
        yield
    finally:
        client.execute_command("REPLICAOF", "NO", "ONE")


@pytest.mark.parametrize(
    ("fault", "why"), [(_without_memory, "it is out of memory"), (_a_replica, "it takes no writes: it is a replica")]
)
def test_a_broker_that_answers_and_takes_no_messages_is_told_by_its_fault(
    broker: Broker, valkey: ValkeyServer, fault: Callable[[redis.Redis], AbstractContextManager[None]], why: str
) -> None:
    broker.ping()
    installation = Installation(
        policy=Policy(environments={}), brokers={INTERNAL: valkey.url(0)}, nango_requests_per_minute=200
    )
    with closing(valkey._client()) as client, fault(client):
        with pytest.raises(BrokerUnavailable, match=f"the internal broker takes no messages: {why}") as refused:
            broker.ping()
        assert refused.value.refuses
        [told] = checks(installation)
        assert (told.kind, told.level, told.value) == (CheckKind.INTERNAL_BROKER, Level.RED, "takes no messages")
        assert why in told.cause
    broker.ping()
    assert {check.level for check in checks(installation)} == {Level.OK}


@pytest.mark.parametrize(
    ("policy", "maxmemory", "hint"),
    [("allkeys-lru", "100mb", True), ("allkeys-lru", "0", False), ("volatile-lru", "100mb", False)],
)
def test_a_broker_that_may_delete_queues_is_hinted_at(
    broker_url: str, valkey: ValkeyServer, policy: str, maxmemory: str, *, hint: bool
) -> None:
    brokers = {INTERNAL: broker_url, TEAM: valkey.url(1)}
    installation = Installation(policy=Policy(environments={}), brokers=brokers, nango_requests_per_minute=200)
    with closing(valkey._client()) as client:
        client.config_set("maxmemory-policy", policy)
        client.config_set("maxmemory", maxmemory)
        try:
            found = {check.kind: check for check in checks(installation)}
        finally:
            client.config_set("maxmemory", "0")
            client.config_set("maxmemory-policy", "noeviction")
    for kind, lost in (
        (CheckKind.INTERNAL_BROKER, "messages to workers"),
        (CheckKind.TEAM_BROKER, "count as delivered"),
    ):
        assert found[kind].level is (Level.HINT if hint else Level.OK)
        assert not hint or (policy in found[kind].cause and lost in found[kind].cause)


def test_a_look_at_a_broker_writes_nothing(broker: Broker, valkey: ValkeyServer) -> None:
    broker.ping()
    with closing(valkey._client()) as client:
        assert client.dbsize() == 0


def test_a_user_who_may_write_to_queues_alone_is_well(broker: Broker, valkey: ValkeyServer) -> None:
    with closing(valkey._client()) as client:
        client.execute_command("ACL", "SETUSER", "queues", "on", ">pw", f"~{EVENTS_QUEUE}", "+@all", "-info")
        try:
            with closing(Broker.at("internal", f"redis://queues:pw@127.0.0.1:{valkey.port}/0")) as narrow:
                narrow.ping()
                assert narrow.eviction() is None
        finally:
            client.execute_command("ACL", "DELUSER", "queues")

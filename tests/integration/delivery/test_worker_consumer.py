"""A worker's connection to its broker: what a failure of one message leaves behind."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery
from kombu import Connection, Queue
from kombu.message import Message

from tests.proxy import Proxy, proxied
from tests.servers import ValkeyServer
from tests.waiting import until
from workers.celery_consumer import Consumer


@pytest.fixture
def proxy(valkey: ValkeyServer) -> Iterator[Proxy]:
    with proxied(valkey.port) as proxy:
        yield proxy


@pytest.fixture
def connection(valkey: ValkeyServer, broker_url: str, proxy: Proxy) -> Iterator[Any]:
    """As a worker connects that takes one message at a time, with less patience."""
    options = {"socket_timeout": 0.3, "socket_connect_timeout": 5}
    url = broker_url.replace(f":{valkey.port}/", f":{proxy.port}/")
    consumer = Consumer.__new__(Consumer)
    consumer.app, consumer.first_connection_attempt = Celery("test", broker=url), True
    with Connection(url, transport_options=options) as connection:
        connected = consumer.ensure_connected(connection)
        connected.default_channel.basic_qos(0, 1, False)
        yield connected


@pytest.mark.parametrize(
    "settle", [Message.ack, Message.reject, Message.requeue], ids=["acknowledged", "rejected", "given back"]
)
def test_a_message_that_could_not_be_acknowledged_does_not_keep_the_worker_from_the_next(
    connection: Any, proxy: Proxy, settle: Callable[[Message], None]
) -> None:
    taken: list[Message] = []
    queue = Queue("things")(connection.default_channel)
    queue.declare()
    producer = connection.Producer(connection.default_channel)
    for name in ("first", "second"):
        producer.publish({"name": name}, routing_key="things")
    with connection.Consumer([queue], callbacks=[lambda _body, message: taken.append(message)]):
        connection.drain_events(timeout=30)
        assert not connection.default_channel.qos.can_consume()
        proxy.stop_passing()
        with pytest.raises(connection.connection_errors):
            settle(taken[0])
        proxy.resume()
        assert connection.default_channel.qos.can_consume()

        def next_is_taken() -> bool:
            connection.drain_events(timeout=30)
            return any(message.payload["name"] == "second" for message in taken)

        until("the next one comes", next_is_taken)

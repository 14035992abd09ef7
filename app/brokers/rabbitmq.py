"""Requirements of RabbitMQ that Redis does not have: queues are declared, and each message is confirmed."""

from collections.abc import Collection
from typing import Any, Final

import kombu
from amqp.exceptions import NotFound

# Each publish waits for the broker's confirmation; nothing waits for ever.
OPTIONS: Final = {"confirm_publish": True, "read_timeout": 5, "write_timeout": 5}


def make_ready(producer: "kombu.Producer", queues: Collection[str]) -> None:
    """Make sure that the connection is alive and every queue exists: a message for a missing queue would be dropped.

    A broker closes idle connections, which only the next call shows: so a first failure leads to a reconnect. After an
    error of any kind kombu closes a pooled connection and hands it out again closed.
    """
    connection: Any = producer.connection
    if not connection.connected:
        _connect(producer)
    try:
        _declare(connection, queues)
    except connection.recoverable_connection_errors:
        _connect(producer)
        _declare(connection, queues)


def _connect(producer: "kombu.Producer") -> None:
    connection: Any = producer.connection
    connection.collect()
    # One try: `default_channel` alone would retry for ever, and `connect` once after two seconds.
    connection.ensure_connection(max_retries=0, reraise_as_library_errors=False)
    producer.revive(connection.default_channel)


def length(connection: "kombu.Connection", queue: str) -> int:
    """Number of messages in a queue; 0 if it does not exist."""
    try:
        return int(_inspect(connection, queue).message_count)
    except NotFound:
        return 0


def _declare(connection: Any, queues: Collection[str]) -> None:
    for queue in sorted(queues):
        try:
            _inspect(connection, queue)
        except NotFound:
            # As Celery workers declare queues, since the team's worker declares the same one.
            with connection.channel() as channel:
                channel.queue_declare(queue, durable=True, auto_delete=False)


def _inspect(connection: Any, queue: str) -> Any:
    """Declare passively, on a channel of its own: the broker closes the channel if the queue does not exist."""
    with connection.channel() as channel:
        return channel.queue_declare(queue, passive=True)

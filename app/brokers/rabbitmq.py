"""What a team's RabbitMQ needs besides what Redis does: its queue declared, and each message confirmed."""

from collections.abc import Collection
from typing import Any, Final

import kombu
from amqp.exceptions import NotFound

# Each publish waits for the broker's word that it has the message; nothing waits for ever.
OPTIONS: Final = {"confirm_publish": True, "read_timeout": 5, "write_timeout": 5}


def make_ready(producer: "kombu.Producer", queues: Collection[str]) -> None:
    """A connection that is alive, on which every queue is there: a message for a queue that is not would be dropped.

    A broker hangs up on whoever is silent for long, and only the next call shows it: so the first failure is no news.
    After an error of any kind kombu closes a pooled connection and hands it out again like that.
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
    # Tried once: `default_channel` alone would try for ever, and `connect` once more after two seconds.
    connection.ensure_connection(max_retries=0, reraise_as_library_errors=False)
    producer.revive(connection.default_channel)


def length(connection: "kombu.Connection", queue: str) -> int:
    """How many messages wait in a queue; none in one that is not there."""
    try:
        return int(_look(connection, queue).message_count)
    except NotFound:
        return 0


def _declare(connection: Any, queues: Collection[str]) -> None:
    for queue in sorted(queues):
        try:
            _look(connection, queue)
        except NotFound:
            # As a Celery worker of the team's would: its own declaration of the same queue has to fit ours.
            with connection.channel() as channel:
                channel.queue_declare(queue, durable=True, auto_delete=False)


def _look(connection: Any, queue: str) -> Any:
    """On a channel of its own, since the broker closes the one on which a queue is asked for that is not there."""
    with connection.channel() as channel:
        return channel.queue_declare(queue, passive=True)

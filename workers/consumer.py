"""Celery's consumer, back soon after the broker is, and not stopped by a message that it could not acknowledge."""

from functools import partial
from typing import Any, Final

from celery.worker import consumer
from kombu.transport import redis, virtual

RECONNECT_SECONDS: Final = 2  # between two tries; Celery's own go up to 30 s apart, and have no setting


class Consumer(consumer.Consumer):
    """Named in `worker_consumer`."""

    def ensure_connected(self, conn: Any) -> Any:
        conn.ensure_connection = partial(
            conn.ensure_connection, interval_start=0.5, interval_step=0.5, interval_max=RECONNECT_SECONDS
        )
        connected = super().ensure_connected(conn)
        if isinstance(channel := connected.default_channel, redis.Channel):
            channel.QoS = QoS  # before anything is consumed
        return connected


class QoS(redis.QoS):
    """Which messages are out. One whose acknowledgement fails is not, whatever the broker knows of it.

    kombu counts it for good, so that a worker that takes one at a time would never take another. Where the broker still
    has it, it gives it out again after the visibility timeout: every task may run twice without harm.
    """

    def ack(self, delivery_tag: Any) -> None:
        try:
            super().ack(delivery_tag)
        except Exception:
            virtual.QoS.ack(self, delivery_tag)
            raise

    def reject(self, delivery_tag: Any, requeue: bool = False) -> None:
        try:
            super().reject(delivery_tag, requeue=requeue)
        except Exception:
            virtual.QoS.ack(self, delivery_tag)
            raise

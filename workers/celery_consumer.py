"""Celery's consumer, which reconnects within seconds and survives messages that it could not acknowledge."""

from functools import partial
from typing import Any, Final

from celery.worker import consumer
from kombu.transport import redis, virtual

RECONNECT_SECONDS: Final = 2  # between two tries; Celery's grow to 30 s, without a setting


class Consumer(consumer.Consumer):
    """The `worker_consumer` of the app."""

    def ensure_connected(self, conn: Any) -> Any:
        conn.ensure_connection = partial(
            conn.ensure_connection, interval_start=0.5, interval_step=0.5, interval_max=RECONNECT_SECONDS
        )
        connected = super().ensure_connected(conn)
        if isinstance(channel := connected.default_channel, redis.Channel):
            channel.QoS = QoS  # before anything is consumed
        return connected


class QoS(redis.QoS):
    """The unacknowledged messages. One whose acknowledgement failed no longer counts as such.

    kombu would count it for ever, so that a worker with a prefetch of one would never take another. If the broker still
    has it, it is delivered again after the visibility timeout: every task may run twice without harm.
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

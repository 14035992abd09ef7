"""Celery's consumer, which reconnects within seconds and survives messages that it could not acknowledge."""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Final

from celery.worker import consumer
from kombu.transport import redis, virtual

from app.services.liveness.pulse import EVERY_SECONDS, Pulse

CONSUMER: Final = "consumer"  # the part of the process that the pulse knows it by
RECONNECT_SECONDS: Final = 2  # between two tries; Celery's grow to 30 s, without a setting


class Consumer(consumer.Consumer):
    """The `worker_consumer` of the app. pulse: answered from the worker's loop, and between two tries to connect."""

    pulse: ClassVar[Pulse | None] = None

    def register_with_event_loop(self, hub: Any) -> None:
        super().register_with_event_loop(hub)
        self._answer()
        hub.timer.call_repeatedly(EVERY_SECONDS, self._answer)  # cancelled with the connection's other timers

    def _answer(self) -> None:
        if self.pulse is not None:
            self.pulse.answered_beside_pool(CONSUMER)

    def ensure_connected(self, conn: Any) -> Any:
        connect = conn.ensure_connection

        def ensure(*arguments: Any, callback: Callable[[], None] | None = None, **options: Any) -> Any:
            def between_tries() -> None:
                self._answer()
                if callback is not None:
                    callback()

            return connect(*arguments, callback=between_tries, **options)

        conn.ensure_connection = partial(ensure, interval_start=0.5, interval_step=0.5, interval_max=RECONNECT_SECONDS)
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

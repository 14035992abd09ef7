"""Celery's consumer, back soon after the broker is."""

from functools import partial
from typing import Any, Final

from celery.worker import consumer

RECONNECT_SECONDS: Final = 2  # between two tries; Celery's own go up to 30 s apart, and have no setting


class Consumer(consumer.Consumer):
    """Named in `worker_consumer`."""

    def ensure_connected(self, conn: Any) -> Any:
        conn.ensure_connection = partial(
            conn.ensure_connection, interval_start=0.5, interval_step=0.5, interval_max=RECONNECT_SECONDS
        )
        return super().ensure_connected(conn)

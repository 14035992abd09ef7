"""Celery brokers: the internal one for hints, and the teams' for jobs; names of queues and tasks; the only producer.

Messages are Celery protocol 2, sent in batches and without Celery's bookkeeping per call.

Names of celery and kombu are used in full: these packages load submodules on access, and commands that send nothing
start 0.15 s sooner.
"""

import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import celery
import certifi
import kombu

from app.brokers import rabbitmq
from app.brokers.messages import CONTENT_ENCODING, CONTENT_TYPE, PERSISTENT, Message, as_json, task_message
from app.brokers.redis_messages import RedisMessages
from app.brokers.tls import verified
from app.deadlines import VISIBILITY_TIMEOUT
from app.errors import BrokerUnavailable

EVENTS_QUEUE: Final = "waylink.events"  # fast work on the database
IO_QUEUE: Final = "waylink.io"  # deliveries, refreshes, upkeep: work that waits for other systems

PROCESS_EVENTS: Final = "waylink.process_events"
DELIVER_JOBS: Final = "waylink.deliver_jobs"
REFRESH_DUE: Final = "waylink.refresh_due"
SWEEP: Final = "waylink.sweep"
RECONCILE: Final = "waylink.reconcile"
LINK_WAITING: Final = "waylink.link_waiting"
BULK_RUNS: Final = "waylink.bulk_runs"
PRUNE: Final = "waylink.prune"

QUEUE_OF: Final = {
    PROCESS_EVENTS: EVENTS_QUEUE,
    DELIVER_JOBS: IO_QUEUE,
    REFRESH_DUE: IO_QUEUE,
    SWEEP: IO_QUEUE,
    RECONCILE: IO_QUEUE,
    LINK_WAITING: IO_QUEUE,
    BULK_RUNS: IO_QUEUE,
    PRUNE: IO_QUEUE,
}
PROBED_LIST: Final = "waylink.probe"  # of no queue, and never made
CONFIRM_SECONDS: Final = 5  # for an AMQP broker to confirm a message


def make_celery(url: str, *, name: str = "waylink") -> "celery.Celery":
    """A Celery app on `url`, with the settings that were measured to survive faults (visibility, timeouts, acks)."""
    app = celery.Celery(name, broker=url, set_as_current=False)
    app.conf.update(
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # An answer of Redis that it takes no writes, as after a failover, would end the worker.
        broker_channel_error_retry=True,
        broker_pool_acquire_timeout=5,
        broker_transport_options={
            # The same for every app on this broker: the shortest wins.
            "visibility_timeout": VISIBILITY_TIMEOUT.total_seconds(),
            # kombu's default cadence looks for lost messages every 100 s.
            "unacked_restore_interval": 1,
            "unacked_restore_throttle": 1,
            # Without these a frozen Redis blocks a publisher for ever.
            "socket_timeout": 5,
            "socket_connect_timeout": 3,
            "socket_keepalive": True,
            # A consumer whose connection died silently notices after one to two of these.
            "health_check_interval": 5,
        },
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_default_queue=EVENTS_QUEUE,
        task_queues=[kombu.Queue(EVENTS_QUEUE), kombu.Queue(IO_QUEUE)],
        task_routes={task: {"queue": queue} for task, queue in QUEUE_OF.items()},
        task_create_missing_queues=False,
        task_serializer="json",
        accept_content=["json"],
        worker_prefetch_multiplier=1,
        worker_soft_shutdown_timeout=10.0,
        worker_enable_soft_shutdown_on_idle=False,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        enable_utc=True,
        timezone="UTC",
    )
    return app


class _NotPermitted(Exception):
    """The user of Redis may not do this."""


@dataclass(slots=True)
class Broker:
    """Sends batches of tasks. Every failure raises BrokerUnavailable within seconds."""

    name: str
    app: "celery.Celery"
    speaks_amqp: bool = False
    _templates: RedisMessages = field(init=False)

    def __post_init__(self) -> None:
        self._templates = RedisMessages(self.app)

    @classmethod
    def at(cls, name: str, url: str) -> "Broker":
        """One of Waylink's brokers. TLS is verified, by the authorities that the URL names or the public ones."""
        return cls._made(name, verified(url))

    @classmethod
    def _made(cls, name: str, url: str) -> "Broker":
        app = make_celery(url, name=name)
        # Publishing does not wait for a broker that is away: the row stays due in the database.
        app.conf.broker_transport_options |= {"max_retries": 1, "interval_start": 0, "interval_max": 0.2}
        return cls(name, app)

    @classmethod
    def of_team(cls, name: str, url: str, *, authorities: Path | None = None) -> "Broker":
        """A team's own broker, Redis or AMQP. TLS is verified against its name, as in calls to Nango.

        `authorities`: a PEM file of further authorities.
        """
        broker = cls._made(name, url)
        scheme = url.partition("://")[0]
        trusted = {"ca_certs": certifi.where(), "ca_data": authorities.read_text() if authorities else None}
        if scheme == "rediss":
            broker.app.conf.broker_use_ssl = {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True} | {
                f"ssl_{name}": value for name, value in trusted.items()
            }
        if scheme in {"amqp", "amqps"}:
            broker.speaks_amqp = True
            broker.app.conf.update(
                broker_transport_options=rabbitmq.OPTIONS, broker_heartbeat=0, broker_connection_timeout=3
            )
        if scheme == "amqps":
            context = {"check_hostname": True, "cafile": trusted["ca_certs"], "cadata": trusted["ca_data"]}
            # None: the URL's host. The handshake comes later, as py-amqp sets the socket's timeout after wrapping.
            how = {"server_hostname": None, "do_handshake_on_connect": False}
            broker.app.conf.broker_use_ssl = {"context": context, **how}
        return broker

    def send(self, messages: Sequence[Message]) -> None:
        """Send all messages. After BrokerUnavailable some may be sent; receivers recognise repeats by the task id."""
        if not messages:
            return
        try:
            with self.app.producer_pool.acquire(block=True, timeout=5) as producer:
                if self.speaks_amqp:
                    rabbitmq.make_ready(producer, {message.queue for message in messages})
                else:
                    messages = self._templates.send(producer.channel, messages)
                with producer.batch(max_size=max(1, len(messages))):  # type: ignore[attr-defined]  # new in kombu 5.7
                    for message in messages:
                        self._publish(producer, message)
        except Exception as failed:
            # kombu and redis-py raise a dozen unrelated classes for "not reachable".
            # The pool stays open: redis-py reconnects by itself, and a pool closed by force cannot be used again.
            raise BrokerUnavailable(self.name, failed) from failed

    def _publish(self, producer: "kombu.Producer", message: Message) -> None:
        built = task_message(self.app, message)
        producer.publish(
            as_json(built.body),
            exchange="",
            routing_key=message.queue,
            content_type=CONTENT_TYPE,
            content_encoding=CONTENT_ENCODING,
            delivery_mode=PERSISTENT,
            headers=built.headers,
            retry=False,
            confirm_timeout=CONFIRM_SECONDS,
            **built.properties,
        )

    def queue_length(self, queue: str) -> int:
        """Number of messages in a queue. Raises BrokerUnavailable."""
        try:
            with self.app.connection_for_read() as connection:
                # One try: kombu by itself makes a second one after two seconds, for which people and probes would wait.
                connection.ensure_connection(max_retries=0, reraise_as_library_errors=False)
                if self.speaks_amqp:
                    return rabbitmq.length(connection, queue)
                with connection.channel() as channel:
                    return int(channel._size(queue))  # type: ignore[attr-defined]  # Redis: the list's length
        except Exception as failed:
            raise BrokerUnavailable(self.name, failed) from failed

    def ping(self) -> None:
        """Raise BrokerUnavailable if the broker does not answer within its timeouts, or if a Redis takes no writes."""
        if self.speaks_amqp:
            self.queue_length(EVENTS_QUEUE)
        else:
            self._require_writes()

    def eviction(self) -> str | None:
        """The policy by which a Redis deletes queues once its memory is short; None where it does not, or that is not
        told to this user. Raises BrokerUnavailable.
        """
        if self.speaks_amqp:
            return None
        with suppress(_NotPermitted), self._redis() as client:
            memory = client.info("memory")
            policy = str(memory.get("maxmemory_policy", ""))
            return policy if policy.startswith("allkeys-") and memory.get("maxmemory") else None
        return None

    def _require_writes(self) -> None:
        """Write to a list that is not there, which changes nothing: a replica, or a server without memory, refuses it.

        A user who may not write to this list may still write to queues.
        """
        with suppress(_NotPermitted), self._redis() as client:
            client.lpushx(PROBED_LIST, "")

    @contextmanager
    def _redis(self) -> Iterator[Any]:
        """The client of Redis, over one try to connect. Raises _NotPermitted and BrokerUnavailable."""
        try:
            with self.app.connection_for_write() as connection:
                connection.ensure_connection(max_retries=0, reraise_as_library_errors=False)
                with connection.channel() as channel, channel.conn_or_acquire() as client:  # type: ignore[attr-defined]
                    yield client
        except Exception as failed:
            # By its name, as commands that send nothing do not load redis.
            if type(failed).__name__ == "NoPermissionError":
                raise _NotPermitted from failed
            raise BrokerUnavailable(self.name, failed) from failed

    def close(self) -> None:
        self.app.close()


def hint(task: str, task_id: str, ids: Sequence[str] = (), *, expires: timedelta | None = None) -> Message:
    """A message to a worker. `ids` are hints; the database is the truth."""
    return Message(
        queue=QUEUE_OF[task],
        task=task,
        task_id=task_id,
        kwargs={"ids": list(ids)},
        expires=expires.total_seconds() if expires else None,
    )

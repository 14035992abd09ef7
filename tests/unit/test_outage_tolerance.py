"""A worker's task while the database is away, and its consumer while the broker is."""

import sqlite3
import uuid
from types import SimpleNamespace

import psycopg
import pytest
from celery import Celery
from kombu import Connection
from sqlalchemy.exc import DataError, OperationalError

from workers import outage_tolerance
from workers.celery_consumer import RECONNECT_SECONDS, Consumer


@pytest.fixture
def run(monkeypatch):
    pauses = []
    monkeypatch.setattr(outage_tolerance, "time", SimpleNamespace(sleep=pauses.append))
    app = Celery("test", broker="memory://")
    app.task_cls = "workers.outage_tolerance:PatientTask"

    def run(work):
        @app.task(name=f"test.{uuid.uuid4().hex}")
        def task():
            return work()

        return task(), pauses

    return run


def fails_with(error):
    def work():
        raise error

    return work


def test_a_task_that_succeeds_is_left_alone(run):
    assert run(lambda: 7) == (7, [])


@pytest.mark.parametrize("cause", [psycopg.OperationalError("gone"), psycopg.errors.AdminShutdown()])
def test_a_task_whose_database_is_away_ends_quietly_after_a_pause(run, cause):
    assert run(fails_with(OperationalError("SELECT", {}, cause))) == (None, [outage_tolerance.PAUSE_SECONDS])


@pytest.mark.parametrize(
    "error",
    [
        OperationalError("SELECT", {}, sqlite3.OperationalError("no such table")),
        DataError("SELECT", {}, psycopg.errors.InvalidTextRepresentation()),
        ValueError("ours"),
    ],
)
def test_any_other_fault_of_a_task_is_shown(run, error):
    with pytest.raises(type(error)):
        run(fails_with(error))


def test_a_consumer_is_back_soon_after_its_broker(monkeypatch):
    tries = {}
    connection = Connection("memory://")
    monkeypatch.setattr(Connection, "ensure_connection", lambda self, *_args, **options: tries.update(options) or self)
    app = Celery("test")
    consumer = Consumer.__new__(Consumer)
    consumer.app, consumer.first_connection_attempt = app, False
    assert consumer.ensure_connected(connection) is connection
    assert 0 < tries["interval_start"] <= tries["interval_max"] == RECONNECT_SECONDS

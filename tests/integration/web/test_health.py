"""`/healthz` and `/readyz`: the process and its work."""

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import make_url, text

from app.brokers.celery_broker import Broker
from app.db import ingest
from app.web import health
from tests.integration.web.web_server import WebServer, body_of, serve
from tests.servers import PostgresServer, ValkeyServer
from tests.waiting import PATIENCE, until


@pytest.fixture
def web(broker_url, tmp_path):
    with serve(database_url=f"sqlite:///{tmp_path}/waylink.db", broker_url=broker_url, folder=tmp_path) as server:
        yield server


def test_a_living_process_says_ok(web: WebServer) -> None:
    answer = web.client.get("/healthz")
    assert (answer.status_code, answer.text) == (200, "ok\n")
    assert web.client.head("/healthz").status_code == 200


def test_ready_names_each_part(web: WebServer) -> None:
    answer = web.client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json() == {"ready": True, "database": "ok", "broker": "ok"}


def test_without_its_broker_it_is_not_ready_but_lives_and_recovers(web: WebServer, valkey: ValkeyServer) -> None:
    valkey.stop()
    try:
        answer = web.client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json() == {"ready": False, "database": "ok", "broker": "unreachable"}
        assert web.client.get("/healthz").status_code == 200
    finally:
        valkey.start()
    assert web.client.get("/readyz").status_code == 200


def test_a_schema_of_another_release_is_not_ready(web: WebServer) -> None:
    with web.database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = 'other'"))
    answer = web.client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["database"] == "not migrated"


def test_a_schema_of_a_later_release_is_served_on(web: WebServer) -> None:
    with web.database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    answer = web.client.get("/readyz")
    assert (answer.status_code, answer.json()["database"]) == (200, "newer")


def test_a_request_during_a_running_check_shares_it(web: WebServer, monkeypatch) -> None:
    asked, looks, go, checked = [], [], threading.Event(), health.HealthEndpoints._checked

    def count(self, what, check):
        asked.append(what)
        return checked(self, what, check)

    monkeypatch.setattr(health.HealthEndpoints, "_checked", count)
    monkeypatch.setattr(Broker, "ping", lambda _self: looks.append(1) or go.wait(PATIENCE))
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(lambda: web.client.get("/readyz").json()) for _ in range(8)]
        until("all have asked", lambda: asked.count("broker") == 8)
        go.set()
        assert [answer.result() for answer in answers] == [{"ready": True, "database": "ok", "broker": "ok"}] * 8
    assert len(looks) == 1


def test_a_check_that_does_not_end_is_not_waited_for(web: WebServer, monkeypatch) -> None:
    go = threading.Event()
    monkeypatch.setattr(health, "CHECK_SECONDS", 0.2)
    monkeypatch.setattr(Broker, "ping", lambda _self: go.wait(2 * PATIENCE))
    answer = web.client.get("/readyz")
    go.set()
    assert (answer.status_code, answer.json()["broker"]) == (503, "unreachable")


def test_without_its_database_it_is_not_ready_and_recovers(
    postgres: PostgresServer, postgres_url: str, broker_url: str, tmp_path
) -> None:
    with serve(database_url=postgres_url, broker_url=broker_url, folder=tmp_path) as web:
        postgres.stop()
        try:
            answer = web.client.get("/readyz")
            assert answer.status_code == 503
            assert answer.json() == {"ready": False, "database": "connection refused", "broker": "ok"}
            assert web.client.get("/healthz").status_code == 200
        finally:
            postgres.start()
        until("it is ready", lambda: web.client.get("/readyz").status_code == 200)


def test_while_webhooks_cannot_be_stored_it_is_not_ready_though_the_database_answers(
    postgres_url: str, broker_url: str, tmp_path
) -> None:
    """And ready again by itself, though no webhook comes that would show it."""
    with serve(database_url=postgres_url, broker_url=broker_url, folder=tmp_path) as web:
        web.store.hold_seconds = 0.1
        web.webhooks.slow_refusal_seconds = 0.0
        with web.database.engine.connect() as blocker:
            blocker.exec_driver_sql("LOCK TABLE deliveries, alembic_version IN SHARE MODE")
            assert web.post(body_of(1)).status_code == 503
            # The trouble alone may be that of a probe, which another writer makes while the commit still waits.
            until("the commit has failed", lambda: web.store.proof.trouble is not None and not web.store._in_flight)
            assert not web.store.storing
            answer = web.client.get("/readyz")
            assert answer.status_code == 503
            assert answer.json() == {"ready": False, "database": "locked", "broker": "ok"}
            assert REGISTRY.get_sample_value("waylink_storing") == 0
            assert not web.store._waiting
        until("it is ready", lambda: web.client.get("/readyz").status_code == 200)
        assert REGISTRY.get_sample_value("waylink_storing") == 1
        assert web.events() == {}


@pytest.mark.parametrize("told", ["by the server", "by a webhook"])
def test_with_a_read_only_server_it_is_not_ready(
    postgres: PostgresServer, postgres_url: str, broker_url: str, tmp_path, told: str
) -> None:
    name = make_url(postgres_url).database
    with serve(database_url=postgres_url, broker_url=broker_url, folder=tmp_path) as web:
        postgres.administer(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        postgres.administer(f"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = '{name}'")
        held = None
        with ThreadPoolExecutor(1) as pool:
            if told == "by a webhook":
                held = pool.submit(web.post, body_of(1))
                until("it is held", lambda: not web.store.storing)
            answer = web.client.get("/readyz")
            assert (answer.status_code, answer.json()["database"]) == (503, "read-only")
            postgres.administer(f"ALTER DATABASE {name} RESET default_transaction_read_only")
            postgres.administer(
                f"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = '{name}'"
            )
            assert held is None or held.result().status_code == 202
        until("it is ready", lambda: web.client.get("/readyz").status_code == 200)


def test_a_write_lock_that_another_holds_is_told(web: WebServer, monkeypatch) -> None:
    other = sqlite3.connect(web.database.engine.url.database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr(health, "CHECK_SECONDS", 0.5)

    def told() -> str:
        answer = web.client.get("/readyz")
        assert answer.json()["ready"] is (answer.status_code == 200)
        return answer.json()["database"]

    try:
        until("the last write is too old to prove anything", lambda: told() != "ok")
        assert told() == "locked"
        assert web.client.get("/healthz").status_code == 200
    finally:
        other.execute("ROLLBACK")
        other.close()
    until("it is ready again", lambda: told() == "ok")


def test_a_full_disk_is_told(web: WebServer, monkeypatch) -> None:
    class Disk:
        f_bavail, f_frsize = 1, 4096

    monkeypatch.setattr("app.db.storing_troubles.os.statvfs", lambda _path: Disk)
    answer = web.client.get("/readyz")
    assert (answer.status_code, answer.json()["database"]) == (503, "disk full")


def test_storing_is_proven_by_a_write_of_the_last_seconds_and_by_one_write_for_all_who_ask(
    web: WebServer, monkeypatch
) -> None:
    probes, probe = [], ingest.probe
    monkeypatch.setattr(ingest, "probe", lambda session: (probes.append(1), probe(session)))
    monkeypatch.setattr("app.web.answering.PROVE_SECONDS", float("inf"))
    assert web.client.get("/readyz").status_code == 200  # after the write that the process asked for by itself
    probes.clear()
    web.store.proof._at = float("-inf")
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(lambda: web.client.get("/readyz").status_code) for _ in range(8)]
        assert [answer.result() for answer in answers] == [200] * 8
    assert len(probes) == 1
    assert web.post(body_of(1)).status_code == 202
    assert web.client.get("/readyz").status_code == 200
    assert len(probes) == 1


def test_a_commit_that_never_comes_back_is_no_life(web: WebServer, monkeypatch) -> None:
    assert web.client.get("/healthz").status_code == 200
    store = web.store
    monkeypatch.setattr("app.web.group_commit.STUCK_SECONDS", -1.0)
    store._committers[0].since = 0.0
    answer = web.client.get("/healthz")
    store._committers[0].since = None
    assert (answer.status_code, answer.text) == (503, "a commit stands still\n")


@pytest.mark.parametrize("path", ["/", "/console"])
def test_the_pages_run_no_script_and_stay_out_of_frames(web: WebServer, path: str) -> None:
    answer = web.client.get(path, follow_redirects=True)
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "script" not in answer.text

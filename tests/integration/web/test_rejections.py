"""Every refusal and every key's use is kept, within bounds, and reveals no secret (promises 7 and 11)."""

import json
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from unittest import mock

import pytest
from prometheus_client import REGISTRY, generate_latest
from pydantic import SecretStr
from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from app.config.nango_environment import Environment, SigningKeys, key_name
from app.db import rejections
from app.db.models import Rejection, SigningKeyUse
from app.domain.signature import HEADER
from app.services.maintenance import upkeep
from app.web.ingest_counters import CLIP, LIVE_EVERY, IngestRecord
from tests.integration.web.web_server import KEY, OLD_KEY, WEBHOOK, raw_request, serve
from tests.integration.world import WINDOW, Clock, dump, in_threads

NEW, OLD, PEER = "0b9d1f5e-8f0e-4a51-9d0c-new", "6a1c7c2e-2f1e-4b7a-8d35-old", "192.0.2.7"


@pytest.fixture
def clock():
    """At the start of a minute, so that no test crosses one by chance."""
    made = Clock()
    made.now = datetime(2026, 8, 21, 12, 0, tzinfo=UTC)
    return made


@pytest.fixture
def environments():
    keys = SigningKeys((SecretStr(NEW), SecretStr(OLD)))
    return {name: Environment(name, "http://127.0.0.1:1", "acme", keys) for name in ("default", "other")}


@pytest.fixture
def open_record(database, environments, clock):
    """Makes records of further web processes on the one database."""
    return lambda: IngestRecord(database, environments, clock)


@pytest.fixture
def record(open_record):
    return open_record()


def refuse(record, cause="bad_signature", *, environment="default", times=1, **facts):
    for _ in range(times):
        record.refused(environment, cause, **({"status": 401, "peer": PEER} | facts))


def rows(database, model=Rejection):
    with database.read() as session:
        return list(session.scalars(select(model).order_by(*model.__table__.primary_key)))


def report(record):
    with capture_logs() as said:
        record.report()
    return [line for line in said if line["event"] == "webhook_refused"]


# Refusals


def test_a_refusal_is_a_row_with_all_that_is_known(record, database, clock):
    refuse(record, "too_large", status=413, detail="9000000 bytes declared")
    clock.move(90)
    record.write()
    [row] = rows(database)
    assert (row.environment, row.cause, row.status, row.count) == ("default", "too_large", 413, 1)
    assert (row.last_peer, row.last_detail) == (PEER, "9000000 bytes declared")
    assert row.minute == row.last_at == datetime(2026, 8, 21, 12, 0, tzinfo=UTC)


def test_refusals_of_a_minute_add_up_in_one_row_per_environment_and_cause(record, database, clock):
    for _ in range(3):
        refuse(record, times=1000)
        refuse(record, "overload", environment="other")
        record.write()
        clock.move(15)
    assert [(row.environment, row.cause, row.count) for row in rows(database)] == [
        ("default", "bad_signature", 3000),
        ("other", "overload", 3),
    ]
    clock.move(30)
    refuse(record)
    record.write()
    assert [row.count for row in rows(database)] == [3000, 3, 1], "the next minute has its own"


def test_nothing_new_writes_nothing(record, database, clock):
    refuse(record)
    record.write()
    with mock.patch.object(database, "write", side_effect=AssertionError("a transaction without need")):
        record.write()


def test_a_sender_that_invents_environments_gets_one_row_and_one_line(record, database):
    for number in range(1000):
        refuse(record, "unknown_environment", environment=f"nowhere-{number}", status=404)
    assert len(report(record)) == 1
    record.write()
    [row] = rows(database)
    assert (row.environment, row.count, row.last_detail) == ("", 1000, "nowhere-999")


@pytest.mark.parametrize("name", ["\x00\x1b[2J\r\n\u202e", "x" * 10_000, "\ud800", "\x07" * 200], ids=ascii)
def test_text_from_outside_is_clipped_and_harmless(record, database, name):
    refuse(record, "unknown_environment", environment=name, peer=name)
    [said] = report(record)
    record.write()
    [row] = rows(database)
    for text in (row.last_detail, row.last_peer, said["detail"], said["peer"]):
        assert 0 < len(text) <= CLIP
        assert text.isprintable()


def test_the_peak_is_the_most_within_ten_seconds_of_all_web_processes(open_record, database, clock):
    first, second = open_record(), open_record()
    for times in (2, 3, 1):  # in three windows
        refuse(first, times=times)
        first.write()
        clock.move(1)
        refuse(second, times=times)
        second.write()
        clock.move(9)
    [row] = rows(database)
    assert (row.count, row.peak) == (12, 6)


def test_two_web_processes_that_write_at_once_make_one_sum(open_record, database):
    records = [open_record() for _ in range(4)]
    for record in records:
        for cause in ("a", "b", "c") if record is records[0] else ("c", "b", "a"):
            refuse(record, cause, times=10)
            refuse(record, cause, environment="other", times=10)
    for _ in range(5):
        in_threads(*[record.write for record in records])
        for record in records:
            refuse(record, "a")
    in_threads(*[record.write for record in records])
    counts = {(row.environment, row.cause): row.count for row in rows(database)}
    assert counts == {("default", "a"): 60, **{("default", cause): 40 for cause in "bc"}} | {
        ("other", cause): 40 for cause in "abc"
    }


def test_what_a_database_that_is_away_did_not_take_is_written_later_and_once(record, database, clock):
    away = OperationalError("", {}, Exception("away"))
    with mock.patch.object(database, "write", side_effect=away), capture_logs() as said:
        for _ in range(10_000):
            refuse(record)
        for _ in range(100):
            refuse(record)
            record.signed_with("default", NEW)
            record.write()
            clock.move(60)
    assert [line["event"] for line in said] == ["record_not_written"], "said once, not once a second"
    assert rows(database) == rows(database, SigningKeyUse) == []
    record.write()
    record.write()
    assert [row.count for row in rows(database)] == [10_100], "no row for each minute without a database"
    assert {(row.environment, row.key): row.count for row in rows(database, SigningKeyUse)}[
        "default", key_name(NEW)
    ] == 100


def test_a_flood_is_a_line_per_environment_and_cause_with_its_count(record):
    assert report(record) == []
    refuse(record, times=5000)
    refuse(record, "no_signature", times=7)
    refuse(record, environment="other")
    said = {(line["environment"], line["cause"]): line for line in report(record)}
    assert {key: line["count"] for key, line in said.items()} == {
        ("default", "bad_signature"): 5000,
        ("default", "no_signature"): 7,
        ("other", "bad_signature"): 1,
    }
    assert said["default", "bad_signature"].items() >= {"status": 401, "peer": PEER, "log_level": "warning"}.items()
    refuse(record)
    assert [line["count"] for line in report(record)] == [1], "since the last line"


def test_newest_first_filtered_and_limited(record, database, clock):
    start = clock.now
    for cause in ("a", "b", "a"):
        refuse(record, cause)
        refuse(record, cause, environment="other")
        record.write()
        clock.move(60)

    def found(**filters):
        with database.read() as session:
            listed = rejections.newest(session, **({"since": start} | filters))
        return [f"{row.minute.minute}{row.environment[0]}{row.cause}" for row in listed]

    assert found() == ["2oa", "2da", "1ob", "1db", "0oa", "0da"]
    assert found(limit=2) == ["2oa", "2da"]
    assert found(environment="other", cause="a") == ["2oa", "0oa"]
    assert found(since=start + timedelta(minutes=2)) == ["2oa", "2da"]


# Keys


def test_each_key_is_counted_by_its_name_and_a_live_one_is_known_before_its_first_use(record, database, clock):
    start = clock.now
    record.write()
    clock.move(5)
    for _ in range(3):
        record.signed_with("default", OLD)
    record.write()
    known = {(row.environment, row.key): row for row in rows(database, SigningKeyUse)}
    assert known.keys() == {(name, key_name(key)) for name in ("default", "other") for key in (NEW, OLD)}
    used, unused = known["default", key_name(OLD)], known["default", key_name(NEW)]
    assert (used.count, used.first_at, used.last_at) == (3, start, clock.now)
    assert (unused.count, unused.first_at, unused.last_at) == (0, start, None)
    clock.move(LIVE_EVERY.total_seconds())
    record.write()
    [again] = [row for row in rows(database, SigningKeyUse) if row.count]
    assert (again.count, again.last_at) == (3, used.last_at)


def test_a_live_key_stays_known_and_one_that_is_live_no_more_is_forgotten(record, database, environments, clock):
    record.write()
    environments["other"] = Environment("other", "http://127.0.0.1:1", "acme", SigningKeys((SecretStr(NEW),)))
    for _ in range(8 * 24):
        clock.move(LIVE_EVERY.total_seconds())
        record.write()
    assert upkeep.prune(database, window=WINDOW, clock=clock) == 1
    left = {(row.environment, row.key) for row in rows(database, SigningKeyUse)}
    assert left == {("default", key_name(NEW)), ("default", key_name(OLD)), ("other", key_name(NEW))}


def test_the_metric_counts_by_name_and_only_what_is_new(record):
    def counted(key):
        labels = {"environment": "default", "key": key_name(key)}
        return REGISTRY.get_sample_value("waylink_webhook_keys_total", labels) or 0

    before = counted(NEW), counted(OLD)
    record.signed_with("default", NEW)
    record.signed_with("default", OLD)
    record.signed_with("default", OLD)
    for _ in range(2):
        record.report()
        assert (counted(NEW) - before[0], counted(OLD) - before[1]) == (1, 2)


def test_a_keys_name_is_steady_and_distinguishes_keys_without_showing_them():
    assert key_name(NEW) == key_name(NEW) != key_name(OLD)
    assert len(key_name("")) == 8
    assert key_name(NEW) not in NEW


def test_no_key_reaches_table_log_or_metrics(record, database):
    record.signed_with("default", NEW)
    refuse(record, times=3)
    with capture_logs() as said:
        record.report()
    record.write()
    seen = dump(database) + json.dumps(said, default=str) + generate_latest().decode() + repr(record)
    assert key_name(NEW) in seen, "its name does"
    assert NEW not in seen
    assert OLD not in seen


# Through the web side


@pytest.fixture(params=["sqlite", "postgresql"])
def start_web(request, tmp_path, broker_url):
    """Starts a server on a database of the kind."""
    kind = request.param
    url = f"sqlite:///{tmp_path / 'waylink.db'}" if kind == "sqlite" else request.getfixturevalue("postgres_url")
    return lambda: serve(database_url=url, broker_url=broker_url, folder=tmp_path, WAYLINK_BODY_LIMIT_BYTES="65536")


def test_a_flood_from_strangers_costs_a_handful_of_rows_and_lines(start_web):
    secret = "Bearer 0123456789abcdef-of-somebody"
    began = time.monotonic()
    with capture_logs() as said, start_web() as web:
        for number in range(500):
            unsigned = web.client.post(WEBHOOK, content=b"{}", headers={"authorization": secret, "cookie": secret})
            invented = web.client.post(f"{WEBHOOK}/nowhere-{number}", content=b"{}")
            forged = web.client.post(WEBHOOK, content=b"{}", headers={HEADER: f"{number:064x}"})
            assert (unsigned.status_code, invented.status_code, forged.status_code) == (401, 404, 401)
        assert web.exchange(raw_request(b"", "content-length: 70000"))[0] == 413
        assert web.client.get(WEBHOOK).status_code == 405
        web.stop()
        reports = time.monotonic() - began + 2
        kept, seen = rows(web.database), dump(web.database)
    expected = {
        ("default", "no_signature"): 500,
        ("", "unknown_environment"): 500,
        ("default", "bad_signature"): 500,
        ("default", "too_large"): 1,
        ("default", "method"): 1,
    }
    counted, logged = Counter(), Counter()
    for row in kept:
        counted[row.environment, row.cause] += row.count
    lines = [line for line in said if line["event"] == "webhook_refused"]
    for line in lines:
        logged[line["environment"], line["cause"]] += line["count"]
    assert counted == logged == expected
    assert len(kept) <= 2 * len(expected), "a row per minute"
    assert len(lines) <= reports * len(expected), "a line per second"
    assert {row.cause: row.last_detail for row in kept}.items() >= {
        "too_large": "70000 bytes declared",
        "method": "GET",
        "unknown_environment": "nowhere-499",
    }.items()
    assert any(line["event"] == "nango_breaker_open_likely" for line in said)
    seen += json.dumps(said, default=str) + generate_latest().decode()
    assert not [text for text in (KEY, OLD_KEY, secret) if text in seen]


def test_which_key_signed_is_known_after_a_stop(start_web):
    with start_web() as web:
        statuses = [web.post(b"%d" % number, key=OLD_KEY).status_code for number in range(3)]
        assert statuses == [202] * 3
        assert web.post(b"{}", key="neither").status_code == 401
        web.stop()
        uses = {row.key: row.count for row in rows(web.database, SigningKeyUse)}
    assert uses == {key_name(KEY): 0, key_name(OLD_KEY): 3}


def test_a_stop_does_not_wait_for_a_database_that_hangs(start_web, monkeypatch):
    """The server has to end within its patience, and what could not be written is in the log."""
    monkeypatch.setattr("app.web.ingest_counters.STOP_SECONDS", 0.2)
    release = threading.Event()
    with capture_logs() as said, start_web() as web:
        record = web.app.webhooks.record
        with mock.patch.object(record.database, "write", side_effect=lambda **_: release.wait(60)):
            assert web.client.get(WEBHOOK).status_code == 405
            try:
                web.stop()
            finally:
                release.set()
    assert [line["count"] for line in said if line["event"] == "webhook_refused"] == [1]


# Forgetting


def test_refusals_are_forgotten_after_seven_days_in_chunks(record, database, clock):
    minutes = [clock.now - timedelta(minutes=number) for number in range(upkeep.PRUNE_CHUNK + 5)]
    with database.write() as session:
        rejections.add(session, [rejections.RefusalCount("default", "a", 401, 1, at, PEER, "") for at in minutes])
    clock.move(7 * 86_400 + 1)
    assert upkeep.prune(database, window=WINDOW, clock=clock) == upkeep.PRUNE_CHUNK + 5
    assert rows(database) == []


def test_what_is_seven_days_old_is_still_there(record, database, clock):
    refuse(record)
    record.write()
    clock.move(7 * 86_400)
    assert upkeep.prune(database, window=WINDOW, clock=clock) == 0
    assert len(rows(database)) == 1

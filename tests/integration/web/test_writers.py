"""Committing a batch: again when its result is unknown, and given up when the database is stuck."""

import asyncio
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from sqlalchemy import select, text

from app.db.async_statements import Statement
from app.db.engine import Database, connect
from app.db.ingest import NewDelivery
from app.db.migrate import upgrade
from app.db.models import Event
from app.domain.signature import fingerprint
from app.domain.states import EventState
from app.errors import DatabaseUnavailable
from app.ids import new_id
from app.services.events import intake as writers
from app.services.events.intake import Receipt, Writer, writer_for

NOW = datetime(2026, 8, 21, 12, 0, tzinfo=UTC)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path):
    kind = request.param
    url = f"sqlite:///{tmp_path}/waylink.db" if kind == "sqlite" else request.getfixturevalue("postgres_url")
    with closing(connect(url)) as database:
        upgrade(database)
        yield database


def delivery(body: bytes) -> NewDelivery:
    return NewDelivery(new_id(), "default", fingerprint("default", body), body, NOW)


def events(database: Database) -> dict[bytes, Event]:
    with database.read() as session:
        return {event.body: event for event in session.scalars(select(Event))}


def run(database: Database, scenario):
    async def whole():
        writer = writer_for(database, timedelta(seconds=150), lambda: NOW)
        try:
            return await scenario(writer)
        finally:
            await writer.close()

    return asyncio.run(whole())


@pytest.mark.parametrize("count", [1, 7, 8, 9, 200])
def test_storing_again_what_may_have_been_committed_changes_nothing(database: Database, count: int) -> None:
    batch = [delivery(b"%d" % number) for number in range(count)]

    async def scenario(writer: Writer):
        return [await writer.store(batch) for _ in range(2)]

    first, again = run(database, scenario)
    assert first == again == [Receipt(delivery.event_id, False) for delivery in batch]
    stored = events(database)
    assert {event.id: event.duplicates for event in stored.values()} == {delivery.event_id: 0 for delivery in batch}


@pytest.mark.parametrize("numbers", [(1, 1), (2, 2), (1, 2, 1, 3)])
def test_each_delivery_of_a_batch_keeps_the_number_of_its_key(database: Database, numbers) -> None:
    batch = [delivery(b"key %d %d" % pair)._replace(signing_key=pair[1]) for pair in enumerate(numbers)]

    async def scenario(writer: Writer):
        await writer.store(batch)

    run(database, scenario)
    assert [events(database)[each.body].signing_key for each in batch] == list(numbers)


def test_a_batch_with_new_and_known_deliveries_answers_each_in_order(database: Database) -> None:
    known = [delivery(b"known %d" % number) for number in range(9)]
    new = [delivery(b"new %d" % number) for number in range(9)]
    mixed = [
        each for pair in zip(map(delivery, [delivery.body for delivery in known]), new, strict=True) for each in pair
    ]

    async def scenario(writer: Writer):
        await writer.store(known)
        return await writer.store([*mixed, mixed[-1]._replace(event_id=new_id())])

    receipts = run(database, scenario)
    assert [receipt.duplicate for receipt in receipts] == [True, False] * 9 + [True]
    assert [receipt.event_id for receipt in receipts[:-1:2]] == [delivery.event_id for delivery in known]
    stored = events(database)
    assert len(stored) == 18
    assert {body: event.duplicates for body, event in stored.items() if event.duplicates} == {
        **{delivery.body: 1 for delivery in known},
        new[-1].body: 1,
    }


def test_a_duplicate_of_a_processed_event_makes_it_due_and_of_a_waiting_one_does_not(database: Database) -> None:
    settled, waiting = delivery(b"settled"), delivery(b"waiting")
    later = NOW + timedelta(hours=1)

    async def scenario(writer: Writer):
        await writer.store([settled, waiting])
        with database.write() as session:
            session.execute(text("UPDATE events SET attempts = 3, looks = 2, state = 'failed', failure = 'error'"))
            for event in session.scalars(select(Event)):
                event.next_at = later
                if event.body == waiting.body:
                    event.state, event.failure = EventState.RECEIVED, None
        await writer.store([delivery._replace(event_id=new_id()) for delivery in (settled, waiting)])

    run(database, scenario)
    stored = events(database)
    revived, patient = stored[b"settled"], stored[b"waiting"]
    assert (revived.state, revived.failure, revived.attempts, revived.looks) == (EventState.RECEIVED, None, 0, 0)
    assert revived.next_at == NOW
    assert (patient.attempts, patient.looks, patient.next_at) == (3, 2, later)
    assert revived.duplicates == patient.duplicates == 1


def test_a_commit_that_is_stuck_is_given_up_and_the_next_one_succeeds(postgres_url: str, monkeypatch) -> None:
    with closing(connect(postgres_url)) as database:
        upgrade(database)

        async def scenario(writer: Writer):
            await writer.store([delivery(b"before")])
            with database.write() as session:
                session.execute(text("LOCK TABLE events"))
                with monkeypatch.context() as patched:
                    patched.setattr(writers, "STUCK_SECONDS", 0.3)
                    with pytest.raises(DatabaseUnavailable):
                        await writer.store([delivery(b"stuck")])
            return await writer.store([delivery(b"after")])

        [receipt] = run(database, scenario)
        assert not receipt.duplicate
        assert {b"before", b"after"} <= events(database).keys()


def test_a_connection_that_was_closed_by_the_server_is_replaced(postgres_url: str) -> None:
    with closing(connect(postgres_url)) as database:
        upgrade(database)

        async def scenario(writer: Writer):
            await writer.store([delivery(b"before")])
            with database.write() as session:
                others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                session.execute(text(f"{others} AND datname = current_database()"))
            with pytest.raises(DatabaseUnavailable):
                await writer.store([delivery(b"lost")])
            return await writer.store([delivery(b"after")])

        assert not run(database, scenario)[0].duplicate


def test_a_locked_sqlite_file_is_a_database_that_is_away(tmp_path, monkeypatch) -> None:
    with closing(connect(f"sqlite:///{tmp_path}/waylink.db")) as database:
        upgrade(database)
        database.engine.dispose()
        monkeypatch.setattr("app.db.engine.SQLITE_BUSY_SECONDS", 0)
        with closing(sqlite3.connect(tmp_path / "waylink.db")) as other:
            other.execute("BEGIN IMMEDIATE")

            async def scenario(writer: Writer):
                with pytest.raises(DatabaseUnavailable):
                    await writer.store([delivery(b"locked out")])
                other.rollback()
                return await writer.store([delivery(b"locked out")])

            assert not run(database, scenario)[0].duplicate


def test_a_connection_that_lost_what_it_had_prepared_is_replaced(postgres_url: str) -> None:
    with closing(connect(postgres_url)) as database:
        upgrade(database)

        async def scenario(writer: Writer):
            await writer.store([delivery(b"before")])
            await Statement(writer._store.connection, b"forget", b"DISCARD ALL").run()
            with pytest.raises(psycopg.errors.InvalidSqlStatementName):
                await writer.store([delivery(b"first")])
            return await writer.store([delivery(b"first")])

        assert not run(database, scenario)[0].duplicate


def test_a_row_that_another_transaction_keeps_locked_is_not_waited_for(postgres_url: str) -> None:
    with closing(connect(postgres_url)) as database:
        upgrade(database)
        first = delivery(b"first")

        async def scenario(writer: Writer):
            await writer.store([first])
            with database.write() as session:
                session.execute(text("SELECT id FROM events FOR UPDATE"))
                with pytest.raises(DatabaseUnavailable) as refused:
                    await writer.store([first._replace(event_id=new_id())])
                assert refused.value.answered, "so each of the batch is tried alone"
                assert not (await writer.store([delivery(b"other")]))[0].duplicate
            return await writer.store([first._replace(event_id=new_id())])

        assert run(database, scenario)[0].duplicate


@pytest.mark.parametrize("theirs", ["options=-c%20search_path%3Dpublic", "connect_timeout=9"])
def test_what_the_url_says_counts_beside_our_own(postgres_url: str, theirs: str) -> None:
    with closing(connect(f"{postgres_url}{'&' if '?' in postgres_url else '?'}{theirs}")) as database:
        with database.read() as session:
            assert session.scalar(text("SHOW lock_timeout")) == "10s"
            assert session.scalar(text("SHOW search_path")) == ("public" if "search" in theirs else '"$user", public')
        assert int(database.driver_arguments["connect_timeout"]) == (9 if "connect" in theirs else 5)

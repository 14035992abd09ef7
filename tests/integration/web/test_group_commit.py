"""Group commit: an answered webhook is committed, one that cannot be hurts no other, and memory has bounds."""

import asyncio
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import chain

import pytest
from sqlalchemy import select, text

from app.brokers.celery_broker import PROCESS_EVENTS
from app.brokers.hints import Hints
from app.brokers.messages import Message
from app.db.engine import Database, connect
from app.db.ingest import NewDelivery
from app.db.migrate import upgrade
from app.db.models import Event
from app.deadlines import BATCH
from app.domain.signature import fingerprint
from app.errors import BrokerUnavailable, DatabaseUnavailable
from app.ids import EVENT, new_id, parse
from app.services.events.intake import Writer, writer_for, writers_for
from app.web import group_commit as group_commit_module
from app.web.announcing import Announcer
from app.web.group_commit import GroupCommit, StoreUnavailable
from tests.waiting import PATIENCE, soon

NOW = datetime(2026, 8, 21, 12, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _a_stop_waits_for_a_slow_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit_module, "STOP_SECONDS", PATIENCE)


class Announcements:
    """Stands in for the broker: keeps what is sent, and asks the database at that moment."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.sent: list[Message] = []
        self.known_when_sent: list[bool] = []
        self.fails: list[Exception] = []

    def send(self, messages: Sequence[Message]) -> None:
        if self.fails:
            raise self.fails.pop(0)
        stored = {id_.hex for id_ in stored_ids(self.database)}
        for message in messages:
            self.sent.append(message)
            self.known_when_sent += [id_.removeprefix("evt_") in stored for id_ in message.kwargs["ids"]]

    @property
    def ids(self) -> list[str]:
        return [id_ for message in self.sent for id_ in message.kwargs["ids"]]


def stored_ids(database: Database):
    with database.read() as session:
        return list(session.scalars(select(Event.id)))


def stored_bodies(database: Database) -> dict[bytes, int]:
    with database.read() as session:
        return {bytes(body): count for body, count in session.execute(text("SELECT body, duplicates FROM events"))}


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path):
    kind = request.param
    url = f"sqlite:///{tmp_path}/waylink.db" if kind == "sqlite" else request.getfixturevalue("postgres_url")
    with closing(connect(url)) as database:
        upgrade(database)
        yield database


@pytest.fixture
def broker(database: Database) -> Announcements:
    return Announcements(database)


def delivery(body: bytes, *, received_at: datetime = NOW) -> NewDelivery:
    return NewDelivery(
        event_id=new_id(),
        environment="default",
        fingerprint=fingerprint("default", body),
        body=body,
        received_at=received_at,
    )


def group_commit(database: Database, broker, *, clock=lambda: NOW, wrapped=None) -> GroupCommit:
    window = timedelta(seconds=150)
    writers = [wrapped(writer_for(database, window, clock))] if wrapped else writers_for(database, window, clock)
    return GroupCommit(writers, Announcer(Hints(broker)), hold_seconds=PATIENCE)


def end_the_hold(commit: GroupCommit) -> None:
    """End the time that each waiting webhook may be held."""
    for held in (*chain.from_iterable(lane.taken for lane in commit._committers), *commit._waiting):
        held.arrived -= 2 * PATIENCE


async def some_rounds() -> None:
    """Let pending callbacks of the event loop run."""
    for _ in range(50):
        await asyncio.sleep(0)


def run(database: Database, broker, scenario, *, wrapped=None):
    """Run `scenario(commit)` against a started GroupCommit, which is stopped afterwards."""

    async def whole():
        commit = group_commit(database, broker, wrapped=wrapped)
        commit.start()
        try:
            return await scenario(commit)
        finally:
            await asyncio.wait_for(commit.stop(), PATIENCE)

    return asyncio.run(whole())


def test_an_answered_webhook_is_committed_before_it_is_announced(database: Database, broker: Announcements) -> None:
    bodies = [b"body %d" % number for number in range(BATCH + 50)]

    async def scenario(commit: GroupCommit):
        return await asyncio.gather(*(commit.store(delivery(body)) for body in bodies))

    receipts = run(database, broker, scenario)
    assert stored_bodies(database) == dict.fromkeys(bodies, 0)
    assert not any(receipt.duplicate for receipt in receipts)
    assert sorted(parse(EVENT, id_) for id_ in broker.ids) == sorted(receipt.event_id for receipt in receipts)
    assert all(broker.known_when_sent)


def test_an_announcement_is_a_bounded_list_of_ids_and_nothing_else(database: Database, broker: Announcements) -> None:
    async def scenario(commit: GroupCommit):
        await asyncio.gather(*(commit.store(delivery(b"secret %d" % number)) for number in range(2 * BATCH + 1)))

    run(database, broker, scenario)
    for message in broker.sent:
        assert message.task == PROCESS_EVENTS
        assert list(message.kwargs) == ["ids"]
        assert 0 < len(message.kwargs["ids"]) <= BATCH
        assert all(parse(EVENT, id_) for id_ in message.kwargs["ids"])


def test_equal_bodies_of_one_commit_are_one_event_announced_once(database: Database, broker: Announcements) -> None:
    async def scenario(commit: GroupCommit):
        return await asyncio.gather(*(commit.store(delivery(b"same")) for _ in range(5)))

    receipts = run(database, broker, scenario)
    assert sorted(receipt.duplicate for receipt in receipts) == [False, True, True, True, True]
    assert stored_bodies(database) == {b"same": 4}
    assert len(set(broker.ids)) == 1


def test_one_row_that_cannot_be_stored_does_not_fail_its_mates(database: Database, broker: Announcements) -> None:
    poison = delivery(b"poison")._replace(body=_Unstorable())

    async def scenario(commit: GroupCommit):
        mates = [delivery(b"before"), poison, delivery(b"after")]
        return await asyncio.gather(*(commit.store(mate) for mate in mates), return_exceptions=True)

    before, refused, after = run(database, broker, scenario)
    assert isinstance(refused, StoreUnavailable)
    assert not before.duplicate
    assert not after.duplicate
    assert stored_bodies(database) == {b"before": 0, b"after": 0}


class _Unstorable:
    """Neither driver knows what to do with it."""

    def __len__(self) -> int:
        return 6


def test_a_request_whose_client_has_gone_is_stored_all_the_same(database: Database, broker: Announcements) -> None:
    async def scenario(commit: GroupCommit):
        gone = asyncio.ensure_future(commit.store(delivery(b"gone")))
        stays = asyncio.ensure_future(commit.store(delivery(b"stays")))
        await asyncio.sleep(0)
        gone.cancel()
        await stays

    run(database, broker, scenario)
    assert stored_bodies(database) == {b"gone": 0, b"stays": 0}


class _Stuck:
    """A writer whose commits wait for `go`."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.writer: Writer | None = None

    def __call__(self, writer: Writer) -> "_Stuck":
        self.writer = writer
        return self

    async def store(self, deliveries):
        await self.go.wait()
        return await self.writer.store(deliveries)

    def cut(self) -> None:
        self.go.set()

    async def close(self) -> None:
        await self.writer.close()


def test_waiting_requests_are_bounded_in_number(database: Database, broker: Announcements, monkeypatch) -> None:
    monkeypatch.setattr(group_commit_module, "MAX_WAITING", 10)
    stuck = _Stuck()

    async def scenario(commit: GroupCommit):
        first = asyncio.ensure_future(commit.store(delivery(b"in flight")))
        await soon("it is being committed", lambda: commit._in_flight)
        waiting = [asyncio.ensure_future(commit.store(delivery(b"%d" % number))) for number in range(10)]
        await asyncio.sleep(0)
        with pytest.raises(StoreUnavailable):
            await commit.store(delivery(b"one too many"))
        stuck.go.set()
        await asyncio.gather(first, *waiting)
        await commit.store(delivery(b"later"))

    run(database, broker, scenario, wrapped=stuck)
    assert b"one too many" not in stored_bodies(database)
    assert len(stored_bodies(database)) == 12


def test_waiting_requests_are_bounded_in_bytes(database: Database, broker: Announcements, monkeypatch) -> None:
    monkeypatch.setattr(group_commit_module, "MAX_WAITING_BYTES", 1000)
    stuck = _Stuck()

    async def scenario(commit: GroupCommit):
        first = asyncio.ensure_future(commit.store(delivery(b"x" * 600)))
        await soon("it is being committed, which counts too", lambda: commit._in_flight)
        with pytest.raises(StoreUnavailable):
            await commit.store(delivery(b"y" * 401))
        second = asyncio.ensure_future(commit.store(delivery(b"z" * 400)))
        await asyncio.sleep(0)
        stuck.go.set()
        await asyncio.gather(first, second)
        assert commit._bytes == 0
        await commit.store(delivery(b"y" * 401))

    run(database, broker, scenario, wrapped=stuck)


def test_no_webhook_waits_longer_than_the_hold_for_a_stuck_commit(
    database: Database, broker: Announcements, monkeypatch
) -> None:
    monkeypatch.setattr(group_commit_module, "OVERDUE_SECONDS", 0.02)
    stuck = _Stuck()

    async def scenario(commit: GroupCommit):
        first = asyncio.ensure_future(commit.store(delivery(b"in flight")))
        await soon("it is being committed", lambda: commit._in_flight)
        behind = asyncio.ensure_future(commit.store(delivery(b"behind")))
        await soon("it waits", lambda: commit._waiting)
        end_the_hold(commit)
        outcomes = await asyncio.wait_for(asyncio.gather(first, behind, return_exceptions=True), PATIENCE)
        assert [type(outcome) for outcome in outcomes] == [StoreUnavailable, StoreUnavailable]
        assert not commit._waiting
        assert commit._bytes == 0
        stuck.go.set()
        # Nango sends again: the event that was stored after all is recognised.
        assert (await commit.store(delivery(b"in flight"))).duplicate
        assert not (await commit.store(delivery(b"behind"))).duplicate

    run(database, broker, scenario, wrapped=stuck)


class _Away:
    """A writer whose commits and probes fail while it is away; `tried` are the probes."""

    def __init__(self) -> None:
        self.away, self.tried = True, 0
        self.writer: Writer | None = None

    def __call__(self, writer: Writer) -> "_Away":
        self.writer = writer
        return self

    async def store(self, deliveries):
        self.fail()
        return await self.writer.store(deliveries)

    async def probe(self) -> None:
        self.tried += 1
        self.fail()
        await self.writer.probe()

    def fail(self) -> None:
        if self.away:
            raise DatabaseUnavailable(OSError("away"))

    def cut(self) -> None: ...

    async def close(self) -> None:
        await self.writer.close()


def test_that_storing_fails_is_known_until_it_works_again_though_nothing_waits(
    database: Database, broker: Announcements, monkeypatch
) -> None:
    monkeypatch.setattr(group_commit_module, "PROBE_SECONDS", 0.01)
    monkeypatch.setattr(group_commit_module, "RETRY_SECONDS", 0.01)
    writer = _Away()

    async def scenario(commit: GroupCommit):
        assert commit.storing
        commit.hold_seconds = 0.0
        with pytest.raises(StoreUnavailable):
            await commit.store(delivery(b"refused"))
        await soon("it is tried", lambda: writer.tried > 2)
        assert not commit.storing
        writer.away = False
        await soon("it works", lambda: commit.storing)
        tried = writer.tried
        await commit.store(delivery(b"later"))
        await some_rounds()
        assert writer.tried == tried, "nothing is probed while all is well"

    run(database, broker, scenario, wrapped=writer)
    assert stored_bodies(database) == {b"later": 0}


def test_a_commit_that_takes_long_is_known_before_it_has_failed(
    database: Database, broker: Announcements, monkeypatch
) -> None:
    monkeypatch.setattr(group_commit_module, "SLOW_SECONDS", 0.05)
    stuck = _Stuck()

    async def scenario(commit: GroupCommit):
        first = asyncio.ensure_future(commit.store(delivery(b"slow")))
        await soon("it takes long", lambda: not commit.storing)
        stuck.go.set()
        await first
        assert commit.storing

    run(database, broker, scenario, wrapped=stuck)


class _Lanes:
    """Two writers whose commits wait for `go`; `sizes` are those of the batches, as they began."""

    def __init__(self, database: Database) -> None:
        self.go, self.sizes = asyncio.Event(), []
        self.writers = [_Lane(self, writer_for(database, timedelta(seconds=150), lambda: NOW)) for _ in range(2)]


class _Lane:
    def __init__(self, lanes: _Lanes, writer: Writer) -> None:
        self.lanes, self.writer = lanes, writer

    async def store(self, deliveries):
        self.lanes.sizes.append(len(deliveries))
        await self.lanes.go.wait()
        return await self.writer.store(deliveries)

    def cut(self) -> None:
        self.lanes.go.set()

    async def close(self) -> None:
        await self.writer.close()


@pytest.mark.parametrize("stopped", [False, True])
def test_a_second_commit_begins_when_as_many_wait_as_are_being_committed(postgres_url: str, stopped: bool) -> None:
    async def whole(database: Database, broker: Announcements):
        lanes = _Lanes(database)
        commit = GroupCommit(lanes.writers, Announcer(Hints(broker)), hold_seconds=PATIENCE)
        commit.start()
        tasks = []

        async def arrive(count: int) -> None:
            for _ in range(count):
                tasks.append(asyncio.ensure_future(commit.store(delivery(b"%d" % len(tasks)))))
            await some_rounds()

        await arrive(3)
        await arrive(2)
        assert lanes.sizes == [3], "two wait, three are being committed"
        await arrive(1)
        assert lanes.sizes == [3, 3]
        await arrive(50)
        assert lanes.sizes == [3, 3], "there are two writers"
        lanes.go.set()
        if stopped:
            await commit.stop()
        await asyncio.gather(*tasks)
        if not stopped:
            await commit.stop()
        assert sum(lanes.sizes) == len(tasks)

    with closing(connect(postgres_url)) as database:
        upgrade(database)
        broker = Announcements(database)
        asyncio.run(asyncio.wait_for(whole(database, broker), PATIENCE))
        assert len(stored_bodies(database)) == 56
        assert len(broker.ids) == 56


def test_the_same_bytes_in_two_commits_at_once_are_one_event(postgres_url: str) -> None:
    async def whole(database: Database, broker: Announcements):
        writers = writers_for(database, timedelta(seconds=150), lambda: NOW)
        commit = GroupCommit(writers, Announcer(Hints(broker)), hold_seconds=PATIENCE)
        commit.start()
        tasks = []
        for _ in range(20):
            tasks += [asyncio.ensure_future(commit.store(delivery(b"%d" % number))) for number in range(30)]
            await asyncio.sleep(0)
        receipts = await asyncio.gather(*tasks)
        await commit.stop()
        return receipts

    with closing(connect(postgres_url)) as database:
        upgrade(database)
        receipts = asyncio.run(asyncio.wait_for(whole(database, Announcements(database)), PATIENCE))
        assert sum(not receipt.duplicate for receipt in receipts) == 30
        assert stored_bodies(database) == {b"%d" % number: 19 for number in range(30)}


def test_stopping_commits_and_announces_what_waits(database: Database, broker: Announcements) -> None:
    stuck = _Stuck()
    answers = []

    async def scenario(commit: GroupCommit):
        for number in range(5):
            waiting = asyncio.ensure_future(commit.store(delivery(b"%d" % number)))
            waiting.add_done_callback(answers.append)
        await soon("they wait", lambda: commit._bytes == 5)
        stopping = asyncio.ensure_future(commit.stop())
        await some_rounds()
        assert not stopping.done()
        stuck.go.set()
        await stopping

    run(database, broker, scenario, wrapped=stuck)
    assert len(stored_bodies(database)) == 5
    assert len(broker.ids) == 5
    assert sorted(answer.result().event_id for answer in answers) == sorted(stored_ids(database))


def test_after_stopping_nothing_is_taken(database: Database, broker: Announcements) -> None:
    async def scenario(commit: GroupCommit):
        await commit.stop()
        with pytest.raises(StoreUnavailable):
            await commit.store(delivery(b"late"))

    run(database, broker, scenario)
    assert stored_bodies(database) == {}


@pytest.mark.parametrize("failure", [BrokerUnavailable("internal", OSError()), RuntimeError("of some client")])
def test_a_broker_that_fails_loses_one_announcement_and_not_the_next(
    database: Database, broker: Announcements, failure: Exception
) -> None:
    broker.fails.append(failure)

    async def scenario(commit: GroupCommit):
        await commit.store(delivery(b"first"))
        await soon("it has failed", lambda: not broker.fails)
        return await commit.store(delivery(b"second"))

    second = asyncio.run(asyncio.wait_for(_as_coroutine(database, broker, scenario), PATIENCE))
    assert [parse(EVENT, id_) for id_ in broker.ids] == [second.event_id]
    assert len(stored_bodies(database)) == 2


async def _as_coroutine(database: Database, broker: Announcements, scenario):
    commit = group_commit(database, broker)
    commit.start()
    try:
        return await scenario(commit)
    finally:
        await commit.stop()


def test_the_window_starts_at_the_first_receipt_and_never_slides(database: Database, broker: Announcements) -> None:
    times = [NOW, NOW + timedelta(seconds=149), NOW + timedelta(seconds=151), NOW + timedelta(seconds=160)]
    clock = iter(times)

    async def whole():
        commit = group_commit(database, broker, clock=lambda: next(clock))
        commit.start()
        receipts = [await commit.store(delivery(b"same", received_at=moment)) for moment in times]
        await commit.stop()
        return receipts

    first, inside, later, again = asyncio.run(whole())
    assert [receipt.duplicate for receipt in (first, inside, later, again)] == [False, True, False, True]
    assert first.event_id == inside.event_id != later.event_id == again.event_id


class _Refusing:
    """A writer of a database that refuses one delivery with an error that looks as if it will pass."""

    def __init__(self, refused: bytes, *, answered: bool = True) -> None:
        self.refused, self.answered = refused, answered
        self.writer: Writer | None = None

    def __call__(self, writer: Writer) -> "_Refusing":
        self.writer = writer
        return self

    async def store(self, deliveries):
        if any(delivery.body == self.refused for delivery in deliveries):
            raise DatabaseUnavailable(OSError("of one row"), answered=self.answered)
        return await self.writer.store(deliveries)

    def cut(self) -> None:
        self.writer.cut()

    async def close(self) -> None:
        await self.writer.close()


def test_a_row_that_is_refused_as_if_the_database_were_away_does_not_hold_its_mates(
    database: Database, broker: Announcements, monkeypatch
) -> None:
    monkeypatch.setattr(group_commit_module, "RETRY_SECONDS", 0.01)
    bodies = [b"%d" % number for number in range(BATCH)]

    async def scenario(commit: GroupCommit):
        tasks = {
            body: asyncio.ensure_future(commit.store(delivery(body))) for body in [*bodies[:7], b"bad", *bodies[7:]]
        }
        bad = tasks.pop(b"bad")
        await asyncio.wait_for(asyncio.gather(*tasks.values()), PATIENCE)
        assert not bad.done(), "it is held, in case the database was the reason"
        await commit.store(delivery(b"later"))
        end_the_hold(commit)
        with pytest.raises(StoreUnavailable):
            await bad

    run(database, broker, scenario, wrapped=_Refusing(b"bad"))
    assert stored_bodies(database).keys() == {*bodies, b"later"}


def test_while_the_database_is_away_no_row_is_tried_alone(
    database: Database, broker: Announcements, monkeypatch
) -> None:
    monkeypatch.setattr(group_commit_module, "RETRY_SECONDS", 0.01)
    writer = _Refusing(b"any", answered=False)
    sizes = []

    async def counted(deliveries):
        sizes.append(len(deliveries))
        raise DatabaseUnavailable(OSError("away"))

    writer.store = counted

    async def scenario(commit: GroupCommit):
        waiting = [asyncio.ensure_future(commit.store(delivery(b"%d" % number))) for number in range(5)]
        await soon("they are tried again and again", lambda: len(sizes) > 5)
        end_the_hold(commit)
        assert all(
            isinstance(result, StoreUnavailable) for result in await asyncio.gather(*waiting, return_exceptions=True)
        )

    run(database, broker, scenario, wrapped=writer)
    assert set(sizes) == {5}


@pytest.mark.parametrize("answered", [True, False])
def test_no_webhook_is_held_longer_than_the_hold_however_many_wait(
    database: Database, broker: Announcements, monkeypatch, answered: bool
) -> None:
    monkeypatch.setattr(group_commit_module, "RETRY_SECONDS", 0.01)
    refusing = _Refusing(b"", answered=answered)
    tries = []

    async def refuse(deliveries):
        tries.append(len(deliveries))
        await asyncio.sleep(0)
        raise DatabaseUnavailable(OSError("away"), answered=answered)

    refusing.store = refuse

    async def scenario(commit: GroupCommit):
        waiting = [asyncio.ensure_future(commit.store(delivery(b"%d" % number))) for number in range(10 * BATCH)]
        await soon("they are tried", lambda: len(tries) > 2)
        end_the_hold(commit)
        before = len(tries)
        await asyncio.wait(waiting)
        assert all(isinstance(future.exception(), StoreUnavailable) for future in waiting)
        # A batch at a time, the last of the ten would have been tried after all others.
        assert len(tries) - before < 8

    run(database, broker, scenario, wrapped=refusing)

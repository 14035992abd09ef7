"""Counts of several processes together: none falls, is lost or counted twice, whichever of the processes end."""

import random
from contextlib import contextmanager
from unittest import mock

import pytest
from sqlalchemy.exc import OperationalError

from app.clock import utc_now
from app.db import process_metrics
from app.db.engine import Database
from app.db.models import ProcessMetrics
from app.domain.metric_counts import Kind, Shape, add
from app.services.metrics.reporting import CountsWriter
from tests.drawing import seeds

SENT = Shape("waylink_sent", Kind.COUNTER, ("kind",))


class Process:
    """A process with one counter."""

    def __init__(self, database: Database) -> None:
        self.count = 0
        self.writer = CountsWriter(database, "web", utc_now, self.counted)

    def counted(self):
        return {SENT: {("x",): (self.count,)}}


def shown(database: Database) -> int:
    with database.read() as session:
        rows = process_metrics.read(session, now=utc_now())
    return add(row.counts for row in rows).get(SENT, {}).get(("x",), (0,))[0]


def silent_for_long(database: Database) -> None:
    with database.write() as session:
        session.query(ProcessMetrics).update({"seen_at": utc_now() - 2 * process_metrics.SILENT})


def retire(database: Database) -> int:
    with database.write() as session:
        return process_metrics.retire(session, now=utc_now(), limit=100)


@contextmanager
def broken(database: Database, *, committed: bool):
    """The next transaction's outcome is unknown to the process."""
    write = database.write

    @contextmanager
    def lost(**options):
        if not committed:
            raise OperationalError("x", {}, Exception("connection lost"))
        with write(**options) as session:
            yield session
        raise OperationalError("x", {}, Exception("connection lost"))

    with mock.patch.object(database, "write", lost):
        yield


def test_a_process_that_ends_leaves_its_counts_once(database: Database) -> None:
    one, two = Process(database), Process(database)
    one.count, two.count = 3, 4
    one.writer.write()
    two.writer.write(last=True)
    assert shown(database) == 7
    assert [retire(database), retire(database)] == [1, 0]
    assert shown(database) == 7
    with database.read() as session:
        assert session.query(ProcessMetrics).count() == 2


def test_what_was_counted_before_the_writer_was_made_is_not_counted(database: Database) -> None:
    one = Process(database)
    one.count = 3
    other = CountsWriter(database, "web", utc_now, one.counted)
    one.count = 5
    other.write()
    assert shown(database) == 2


def test_a_process_that_was_silent_for_long_goes_on_without_counting_twice(database: Database) -> None:
    one = Process(database)
    one.count = 3
    one.writer.write()
    silent_for_long(database)
    assert retire(database) == 1
    one.count = 5
    one.writer.write()
    assert shown(database) == 5
    one.writer.write()
    assert shown(database) == 5


def test_a_living_process_is_not_taken_as_ended(database: Database) -> None:
    one = Process(database)
    one.writer.write()
    silent_for_long(database)
    one.writer.write()
    assert retire(database) == 0


@pytest.mark.parametrize("committed", [True, False])
def test_a_write_whose_outcome_is_unknown_counts_once(database: Database, *, committed: bool) -> None:
    one = Process(database)
    for count in (2, 5):
        one.count = count
        with broken(database, committed=committed), pytest.raises(OperationalError):
            one.writer.write()
    one.count = 6
    one.writer.write()
    assert shown(database) == 6


@seeds(1, 2, 3, 4, 5, 6)
def test_whatever_happens_to_processes_no_count_falls_and_none_is_doubled(database: Database, seed: int) -> None:
    chance = random.Random(seed)
    processes = [Process(database) for _ in range(3)]
    lost = before = gone = 0
    for _ in range(120):
        one = chance.choice(processes)
        match chance.randrange(7):
            case 0 | 1:
                one.count += chance.randint(1, 9)
            case 2:
                one.writer.write()
            case 3:
                with broken(database, committed=chance.random() < 0.5), pytest.raises(OperationalError):
                    one.writer.write()
            case 4:
                silent_for_long(database)
                retire(database)
            case 5:
                one.writer.write(last=True)
                gone += one.count
                processes[processes.index(one)] = Process(database)
            case 6:  # kill -9
                gone += one.count
                lost += one.count
                processes[processes.index(one)] = Process(database)
        total = gone + sum(process.count for process in processes)
        now = shown(database)
        assert before <= now <= total
        before = now
    assert before > 0

"""The cost of an event while a transaction stays open, as pg_dump has one: rows that it could see are not removed.

`python -m bench.snapshot [--quick]` runs it alone: the whole product under a steady load, an open REPEATABLE READ
transaction that has read, and the processor time per event of workers, Beat and PostgreSQL in the last minute against
the first. The quick form takes a minute and compares ten seconds.
"""

import argparse
import asyncio
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Final

import redis
from sqlalchemy import create_engine, text

from bench.processes import Failed, pid_of, repeating
from bench.processor_time import Samples, sampled
from bench.product import QUEUE, Product, product
from bench.report import Figure, Report, figure, progress
from bench.soak import RATE, left_over, send_steadily

COUNTED: Final = ("events-1", "io-1", "beat")
SAMPLE_EVERY, EMPTY_EVERY = 0.25, 5.0  # seconds
GOAL: Final = 1.25
COMPLETED: Final = (
    "SELECT count(*) FROM jobs WHERE state = 'completed'"
    " AND finished_at >= to_timestamp(:began) AND finished_at < to_timestamp(:ended)"
)


@dataclass(frozen=True, slots=True)
class Size:
    """Seconds: of the load before the transaction, of the load beside it, and of both parts that are compared."""

    warm_up: float
    open: float
    compared: float


FULL, QUICK = Size(30.0, 600.0, 60.0), Size(10.0, 60.0, 10.0)


@dataclass(frozen=True, slots=True)
class Span:
    """A span of the load: the events that were finished in it, and the processor time that they took."""

    seconds: float
    events: int
    processor: float  # seconds

    @property
    def microseconds(self) -> float:
        return self.processor / self.events * 1e6


def measure(report: Report, size: Size, rate: int = RATE) -> None:
    with product(["web", *COUNTED], {"created": ["connection.created"]}) as running, _queue_emptied(running):
        assert running.postgres is not None  # it is not on SQLite
        pids = {name: running.processes[name].pid for name in COUNTED} | {"postgresql": pid_of(running.postgres)}
        port = running.waylink.port
        asyncio.run(send_steadily(port, rate, size.warm_up))
        with sampled(every=SAMPLE_EVERY, **pids) as samples, _open_snapshot(running):
            began = time.time()
            answers = asyncio.run(send_steadily(port, rate, size.open))
            ended = time.time()
        left = left_over(running)
        first = _span(running, samples, began, began + size.compared)
        last = _span(running, samples, ended - size.compared, ended)
    progress(f"snapshot: {dict(answers)}, {left} events left; {first}; {last}")
    report.figures |= figures(first, last, rate)


def figures(first: Span, last: Span, rate: int) -> dict[str, Figure]:
    of = f"an open snapshot at {rate}/s"
    if not first.events or not last.events:
        raise Failed("no event was finished")
    return {
        f"{of}: processor time per event, first {first.seconds:.0f} s": figure(first.microseconds, "µs"),
        f"{of}: processor time per event, last {last.seconds:.0f} s": figure(last.microseconds, "µs"),
        f"{of}: processor time, last / first": figure(last.microseconds / first.microseconds, "ratio", at_most=GOAL),
        f"{of}: finished of sent, last {last.seconds:.0f} s": figure(last.events / last.seconds / rate, "ratio"),
    }


def _span(running: Product, samples: Samples, began: float, ended: float) -> Span:
    engine = create_engine(running.database_url)
    try:
        with engine.connect() as connection:
            done = connection.execute(text(COMPLETED), {"began": began, "ended": ended}).scalar_one()
    finally:
        engine.dispose()
    return Span(ended - began, int(done), sum(samples.between(began, ended).values()))


@contextmanager
def _open_snapshot(running: Product) -> Iterator[None]:
    engine = create_engine(running.database_url, isolation_level="REPEATABLE READ")
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT count(*) FROM events"))
            yield
            connection.execute(text("SELECT 1"))  # it was open until now
    finally:
        engine.dispose()


@contextmanager
def _queue_emptied(running: Product) -> Iterator[None]:
    """No worker of a team takes the jobs."""
    with (
        closing(redis.Redis.from_url(running.teams.url(1))) as teams,
        repeating(lambda: teams.delete(QUEUE), every=EMPTY_EVERY),
    ):
        yield


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.snapshot", description="Measure beside an open transaction.")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK.open:.0f} seconds instead of {FULL.open:.0f}")
    report = Report()
    with report.part("snapshot"):
        measure(report, QUICK if parser.parse_args().quick else FULL)
    report.print()


if __name__ == "__main__":
    main()

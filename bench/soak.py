"""Memory over time: the whole product under a steady open load, the size of each process written down.

`python -m bench.soak [--seconds 600] [--rate 500]` prints the growth of each process between a fifth of the time, when
pools and caches are filled, and the end. No worker of a team takes the jobs, so their queue is emptied at every sample.
"""

import argparse
import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Final

import redis
from sqlalchemy import create_engine, text

from app.db.engine import connect
from app.services.maintenance import integrity
from bench.load import request
from bench.openloop import Sender, on_schedule
from bench.processes import Failed, repeating, resident_bytes
from bench.product import QUEUE, Product, product
from bench.report import Report, figure, progress

PROCESSES: Final = {"web": "web", "events-1": "events worker", "io-1": "io worker", "beat": "beat"}
RATE: Final = 500  # events per second
FULL_SECONDS, QUICK_SECONDS = 600.0, 10.0
SAMPLE_EVERY: Final = 10.0  # seconds
FILLED: Final = 0.2  # of the time
CATCH_UP: Final = 60.0  # seconds for the workers, after the last event
GOAL: Final = 1.1

Sizes = dict[str, list[int]]  # bytes by process, from the first sample to the last


def measure(report: Report, *, seconds: float, rate: int = RATE) -> None:
    with product(list(PROCESSES), {"created": ["connection.created"]}) as running:
        sizes: Sizes = {name: [] for name in PROCESSES}
        with _sampling(running, sizes, every=min(SAMPLE_EVERY, seconds / 15)):
            answers = asyncio.run(send_steadily(running.waylink.port, rate, seconds))
        left = left_over(running)
        with closing(connect(running.database_url)) as database:
            broken = integrity.broken(database)
    progress(f"soak: {dict(answers)}, {left} events left; {sizes}")
    stored = answers[202]
    report.figures["soak, events stored"] = figure(stored, "events")
    report.figures["soak, stored of sent"] = figure(stored / answers.total(), "ratio", at_least=1)
    for name, shown in PROCESSES.items():
        grown = growth(sizes[name])
        report.figures[f"soak, memory of {shown}: last / after a fifth"] = figure(grown, "ratio", at_most=GOAL)
    if broken:
        raise Failed(f"references that name no row: {broken}")
    if left:
        raise Failed(f"{left} events were not processed {CATCH_UP:.0f} s after the last one")


def growth(sizes: list[int]) -> float:
    """The last size against that at a fifth of the time; more than 1 is growth."""
    return sizes[-1] / sizes[int(len(sizes) * FILLED)]


async def send_steadily(port: int, rate: int, seconds: float) -> Counter[int]:
    """Answers by status; 0 is no answer."""
    sender, answers = Sender(port), Counter[int]()

    async def post(_number: int) -> None:
        try:
            answer = await sender.post(request(str(uuid.uuid4())))
        except (OSError, TimeoutError):
            answers[0] += 1
        else:
            answers[answer.status] += 1

    began = asyncio.get_running_loop().time()
    for second in range(int(seconds)):  # piecemeal, so that finished requests are not kept until the end
        await on_schedule([began + second + number / rate for number in range(rate)], post)
    sender.close()
    return answers


@contextmanager
def _sampling(running: Product, sizes: Sizes, *, every: float) -> Iterator[None]:
    """Write down how large the processes are, and empty the team's queue, until the block ends."""

    def sample() -> None:
        teams.delete(QUEUE)
        for name, process in running.processes.items():
            sizes[name].append(resident_bytes(process.pid))

    with closing(redis.Redis.from_url(running.teams.url(1))) as teams, repeating(sample, every=every):
        yield


def left_over(running: Product) -> int:
    """The number of events that stay unprocessed, once it no longer falls."""
    engine = create_engine(running.database_url)
    give_up = time.monotonic() + CATCH_UP
    try:
        while True:
            with engine.connect() as connection:
                left = connection.execute(text("SELECT count(*) FROM events WHERE state = 'received'")).scalar_one()
            if not left or time.monotonic() > give_up:
                return int(left)
            time.sleep(0.5)
    finally:
        engine.dispose()


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.soak", description="Measure memory over time.")
    parser.add_argument("--seconds", type=float, default=FULL_SECONDS)
    parser.add_argument("--rate", type=int, default=RATE, help="events per second")
    options = parser.parse_args()
    report = Report()
    with report.part("soak"):
        measure(report, seconds=options.seconds, rate=options.rate)
    report.print()


if __name__ == "__main__":
    main()

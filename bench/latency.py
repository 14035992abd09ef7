"""Open-loop latency of the whole product: `python -m bench.latency [--quick]`.

Webhooks are sent on a fixed schedule, and every latency counts from the time its webhook was due, so that a stall is
not hidden by a sender that waits for it. Measured (a) to the 202 and (b) to the job in the team's queue, which another
process reads. One web process, one worker of each kind, Beat, PostgreSQL, one route, confirm off.
"""

import argparse
import asyncio
import base64
import json
import math
import signal
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any, Final

import redis
import uvloop

from bench.load import request
from bench.openloop import Sender, on_schedule
from bench.product import QUEUE, Product, product
from bench.report import Figure, figure

RATES: Final = (200, 1000, 2000)  # webhooks per second
PERCENTILES: Final = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
GOALS: Final = {(1000, "job", "p50"): 45.0, (1000, "job", "p99"): 150.0}  # ms
PROCESSES: Final = ("web", "events-1", "io-1", "beat")
LEAD: Final = 0.5  # seconds to get ready
DRAIN: Final = 20.0  # seconds that jobs may come late


@dataclass(frozen=True, slots=True)
class Size:
    """Seconds of each rate, and of the same load before what counts."""

    seconds: float
    warm_up: float


FULL, QUICK = Size(10.0, 2.0), Size(1.5, 0.5)


@dataclass(slots=True)
class Measured:
    """One rate. Latencies in seconds, those of webhooks that got nothing are infinite."""

    rate: int
    to_202: list[float] = field(default_factory=list)
    to_job: list[float] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)
    reached: float = 0.0  # jobs per second, as a share of the rate
    sent_late: float = 0.0  # p99 of what the sender itself was late, in seconds


@dataclass(slots=True)
class Sending:
    """The sender's facts of each webhook, by its number; times are CLOCK_MONOTONIC, the same in all processes."""

    connection_ids: Sequence[str]
    due: Sequence[float]
    begun: list[float]
    answered: list[float]
    answers: Counter[str] = field(default_factory=Counter)


def figures(quick: bool) -> dict[str, Figure]:
    """For the benchmarks' table: every percentile at every rate, and the share of each rate that was reached.

    A value is None where so many webhooks got no 202, or no job in time, that the percentile is one of them.
    """
    table: dict[str, Figure] = {}
    for measured in measure(QUICK if quick else FULL):
        for name, latencies in (("202", measured.to_202), ("job", measured.to_job)):
            for label, share in PERCENTILES.items():
                goal = GOALS.get((measured.rate, name, label))
                late = percentile(latencies, share) * 1000
                table[f"open loop, {measured.rate}/s, to the {name}, {label}"] = figure(late, "ms", at_most=goal)
        table[f"open loop, {measured.rate}/s, reached"] = figure(measured.reached, "ratio")
    return table


def measure(size: Size, rates: Sequence[int] = RATES) -> list[Measured]:
    """One after the other, on one installation."""
    with (
        product(PROCESSES, {"import": ["connection.created"]}) as running,
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as reader,
    ):
        reader.submit(arrivals, running.teams.url(1), 0, 0.0).result()  # its process is up before anything is timed
        return [_measure(running, reader.submit, rate, size) for rate in rates]


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all values does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def arrivals(url: str, expected: int, until: float) -> dict[str, float]:
    """Read the team's queue until this many jobs arrived, or the time is over; the arrival of each connection's job."""
    taken: list[tuple[float, bytes]] = []
    with closing(redis.Redis.from_url(url)) as client:
        while len(taken) < expected and time.monotonic() < until:
            # Several at once, where several are there: a reader that falls behind would measure itself.
            found: Any = client.blmpop(0.5, 1, QUEUE, direction="RIGHT", count=100)
            now = time.monotonic()
            taken += [(now, message) for message in (found[1] if found else ())]
    first: dict[str, float] = {}
    for at, message in taken:
        _, kwargs, _ = json.loads(base64.b64decode(json.loads(message)["body"]))
        first.setdefault(kwargs["job"]["event"]["connection_id"], at)
    return first


def _measure(running: Product, submit: Callable[..., Future[dict[str, float]]], rate: int, size: Size) -> Measured:
    warm_up, count = int(size.warm_up * rate), int((size.warm_up + size.seconds) * rate)
    connection_ids = [str(uuid.uuid4()) for _ in range(count)]
    requests = [request(connection_id) for connection_id in connection_ids]
    started = time.monotonic() + LEAD
    due = [started + number / rate for number in range(count)]
    reading = submit(arrivals, running.teams.url(1), count, due[-1] + DRAIN)
    sending = Sending(connection_ids, due, begun=[0.0] * count, answered=[math.inf] * count)
    uvloop.run(_send(running.waylink.port, requests, sending))
    return measured(rate, sending, reading.result(), skip=warm_up)


async def _send(port: int, requests: Sequence[bytes], sending: Sending) -> None:
    sender = Sender(port)

    async def begin(number: int) -> None:
        sending.begun[number] = time.monotonic()
        try:
            answer = await sender.post(requests[number])
        except OSError as failed:
            sending.answers[type(failed).__name__] += 1
            return
        sending.answers[str(answer.status)] += 1
        if answer.status == 202:
            sending.answered[number] = time.monotonic()

    ahead = asyncio.get_running_loop().time() - time.monotonic()
    await on_schedule([due + ahead for due in sending.due], begin)
    sender.close()


def measured(rate: int, sending: Sending, jobs: dict[str, float], *, skip: int) -> Measured:
    """Compare due times with arrivals; the first `skip` webhooks were the warm-up."""
    measured = Measured(rate, answers=sending.answers)
    for number in range(skip, len(sending.due)):
        due = sending.due[number]
        measured.to_202.append(sending.answered[number] - due)
        measured.to_job.append(jobs.get(sending.connection_ids[number], math.inf) - due)
    came = [due + late for due, late in zip(sending.due[skip:], measured.to_job, strict=True) if math.isfinite(late)]
    if came:
        measured.reached = min(1.0, len(came) / (max(came) - sending.due[skip]) / rate)
    measured.sent_late = percentile([begun - due for begun, due in zip(sending.begun, sending.due, strict=True)], 0.99)
    return measured


def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # an end by `kill` cleans up like one by Ctrl-C
    parser = argparse.ArgumentParser(prog="bench.latency", description="Latency at fixed rates, of the whole product.")
    parser.add_argument("--quick", action="store_true", help="1.5 seconds per rate instead of 10")
    parser.add_argument("--rates", type=int, nargs="+", default=RATES, help="webhooks per second")
    given = parser.parse_args()
    columns = [f"{name} {label}" for name in ("202", "job") for label in PERCENTILES]
    print(f"{'rate/s':>7}{'reached':>9}" + "".join(f"{column:>11}" for column in columns))
    for measured in measure(QUICK if given.quick else FULL, given.rates):
        cells = [
            percentile(late, share) * 1000
            for late in (measured.to_202, measured.to_job)
            for share in PERCENTILES.values()
        ]
        print(f"{measured.rate:7}{measured.reached:9.0%}" + "".join(f"{cell:8.1f} ms" for cell in cells), end="")
        print(f"   answers {dict(measured.answers)}, sender late p99 {measured.sent_late * 1000:.1f} ms")


if __name__ == "__main__":
    main()

"""Delivery over HTTP: how many jobs one worker delivers, and what a destination that hangs costs the others.

`python -m bench.delivery [--quick]` runs it alone. The jobs are made by the product from webhooks, once, in a database
that each run gets a copy of; the worker is `python -m workers io`, and the endpoints are a process of their own.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import text

from bench.ladder import Bench, bench
from bench.latency import percentile
from bench.processes import Failed, cpu_seconds, pid_of, python, run, running, steady_cpu_seconds
from bench.report import Figure, Report, figure, progress, ratio
from bench.stand import DONE_WITHIN, Delivering, Jobs, delivering, endpoints, prepare
from tests.ports import free_port

HTTP, TUTORIAL = "delivery, http, one io worker", "delivery, requests.post in a task per job"
WELL, HANGING = "delivery, nine of ten, all are well", "delivery, nine of ten, the tenth hangs"
GOAL, TIMES_GOAL, ISOLATED_GOAL = 1500, 10, 0.95  # jobs/s, times the tutorial, share of the others' rate that is left
TEN: Final = 10
POOL: Final = ("prefork", 2)  # of the tutorial's worker: the fastest for this load
FEED_EVERY: Final = 0.02  # seconds between two hints, as after the commits of a busy events worker


@dataclass(frozen=True, slots=True)
class Size:
    """Numbers of jobs, so chosen that each run takes some seconds; `rate` is jobs per second to all ten together."""

    rounds: int
    jobs: int
    tutorial: int
    backlog: int
    paced: int
    rate: int


FULL, QUICK = Size(5, 20_000, 2_000, 30_000, 6_000, 500), Size(1, 3_000, 500, 1_500, 1_500, 500)


@dataclass(frozen=True, slots=True)
class Run:
    """Result of one run. Microseconds of processor time per job; delays in seconds from due to arrival."""

    per_second: float
    cpu_us: float = math.nan  # worker, PostgreSQL and Valkey
    worker_us: float = math.nan  # of that, the worker
    delay_p99: float = math.nan


Measured = dict[str, list[Run]]


def measure(report: Report, size: Size) -> None:
    """All in turn, `size.rounds` times."""
    measured: Measured = {}
    with bench() as on:
        one, ten = prepare(on, 1, size.jobs), prepare(on, TEN, size.backlog)
        paced = ten if size.paced == size.backlog else prepare(on, TEN, size.paced)
        ways: dict[str, Callable[[], Run]] = {
            TUTORIAL: lambda: _tutorial(on, size.tutorial),
            HTTP: lambda: _backlog(on, one),
            WELL: lambda: _nine(on, ten, paced, size.rate, hanging=False),
            HANGING: lambda: _nine(on, ten, paced, size.rate, hanging=True),
        }
        for number in range(1, size.rounds + 1):
            for name, way in ways.items():
                with report.part(name):
                    on.valkey.flush()
                    done = way()
                    measured.setdefault(name, []).append(done)
                    progress(f"round {number}  {name:46} {done.per_second:8.0f}/s")
    report.figures |= figures(measured)


def figures(measured: Mapping[str, Sequence[Run]]) -> dict[str, Figure]:
    """Medians over the rounds, and ratios taken within each."""
    rates = {name: [run.per_second for run in runs] for name, runs in measured.items()}
    found = {
        name: figure(statistics.median(values), "jobs/s", at_least=GOAL if name == HTTP else None)
        for name, values in rates.items()
    }
    if HTTP in measured:
        found[f"{HTTP}: CPU per job"] = figure(_median(measured[HTTP], "cpu_us"), "µs")
        found[f"{HTTP}: CPU per job, the worker"] = figure(_median(measured[HTTP], "worker_us"), "µs")
    if HTTP in measured and TUTORIAL in measured:
        times = ratio(rates[HTTP], rates[TUTORIAL])
        found[f"{HTTP} / requests.post"] = figure(times, "ratio", at_least=TIMES_GOAL)
    if WELL in measured and HANGING in measured:
        left = ratio(rates[HANGING], rates[WELL])
        found["delivery, nine of ten, the tenth hangs / is well"] = figure(left, "ratio", at_least=ISOLATED_GOAL)
    for name in (WELL, HANGING):
        if name in measured:
            found[f"{name}: p99 from due to arrival"] = figure(_median(measured[name], "delay_p99") * 1000, "ms")
    return found


def _median(runs: Sequence[Run], name: str) -> float:
    return float(statistics.median(getattr(run, name) for run in runs))


def _backlog(on: Bench, jobs: Jobs) -> Run:
    """Every job to one endpoint that is well: from the first hint until the last result is recorded."""
    with delivering(on, jobs) as now:
        ids, pids = now.job_ids(), [now.worker.pid, pid_of(on.postgres), pid_of(on.valkey)]
        before, worker_before = steady_cpu_seconds(pids), cpu_seconds([now.worker.pid])
        began = time.time()
        now.announce(ids)
        now.endpoints.wait_for(jobs.count, now.worker)
        ended = _recorded(now, jobs.count)
        cpu, worker_cpu = steady_cpu_seconds(pids) - before, cpu_seconds([now.worker.pid]) - worker_before
    return Run(jobs.count / (ended - began), cpu / jobs.count * 1e6, worker_cpu / jobs.count * 1e6)


def _recorded(now: Delivering, count: int) -> float:
    """The time at which the last of the jobs was completed, in unix seconds. Raises Failed."""
    asked = text("SELECT count(*), extract(epoch FROM max(finished_at)) FROM jobs WHERE state = 'completed'")
    give_up = time.monotonic() + DONE_WITHIN
    while True:
        with now.database.read() as session:
            done, last = session.execute(asked).one()
        if done >= count:
            return float(last)
        if time.monotonic() > give_up or now.worker.poll() is not None:
            raise Failed(f"{done} of {count} jobs were recorded as completed")
        time.sleep(0.05)


def _nine(on: Bench, backlog: Jobs, paced: Jobs, rate: int, *, hanging: bool) -> Run:
    """Nine of ten: how fast their share of a backlog arrives, and how late jobs do that become due at a steady rate."""
    with delivering(on, backlog, hanging=hanging) as now:
        count, began = _of_nine(backlog), time.time()
        now.announce(now.job_ids())
        per_second = count / (now.endpoints.wait_for(count, now.worker) - began)
    on.valkey.flush()
    with delivering(on, paced, hanging=hanging) as now:
        due = _spread(now, rate)
        _feed(now, due)
        now.endpoints.wait_for(_of_nine(paced), now.worker)
        arrivals = [pair for arrived in now.endpoints.arrivals("/arrivals").values() for pair in arrived.items()]
    return Run(per_second, delay_p99=percentile([at - due[job] for job, at in arrivals], 0.99))


def _of_nine(jobs: Jobs) -> int:
    return jobs.count // TEN * (TEN - 1)


def _spread(now: Delivering, rate: int) -> dict[str, float]:
    """Let the jobs become due one after the other, from in half a second on; when each does, in unix seconds."""
    ids, start = now.job_ids(), time.time() + 0.5
    moved = text(
        "UPDATE jobs SET next_at = to_timestamp(CAST(:start AS float) + place.number / CAST(:rate AS float)) FROM"
        " (SELECT id, row_number() OVER (ORDER BY id) - 1 AS number FROM jobs) AS place WHERE place.id = jobs.id"
    )
    with now.database.write() as session:
        session.execute(moved, {"start": start, "rate": rate})
    return {id_: start + number / rate for number, id_ in enumerate(ids)}


def _feed(now: Delivering, due: Mapping[str, float]) -> None:
    """Announce each job when it is due."""
    waiting = list(due.items())
    while waiting:
        moment = time.time()
        ready = [job for job, at in waiting if at <= moment]
        waiting = waiting[len(ready) :]
        now.announce(ready)
        time.sleep(FEED_EVERY)


def _tutorial(on: Bench, count: int) -> Run:
    """From the first request to the last, so that the worker's start does not count."""
    port, variables = free_port(), {"TUTORIAL_BROKER_URL": on.valkey.url(3)}
    run(python("bench.tutorial_post", "enqueue", f"http://127.0.0.1:{port}/waylink", count), variables)
    with (
        endpoints(on, [port]) as serving,
        running(python("bench.tutorial_post", "worker", *POOL), variables, on.folder / "tutorial.log") as worker,
    ):
        last = serving.wait_for(count, worker, counted="requests")
        first = serving.arrivals()[str(port)]["first_at"]
    return Run((count - 1) / (last - first))


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.delivery", description="Measure delivery over HTTP.")
    parser.add_argument("--quick", action="store_true", help="one round of small runs")
    report = Report()
    measure(report, QUICK if parser.parse_args().quick else FULL)
    report.print()


if __name__ == "__main__":
    main()

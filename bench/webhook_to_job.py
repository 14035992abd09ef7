"""Webhook to delivered job: Waylink's pipeline against the tutorial's, on the same servers, in turn.

Both by the clock and by processor time: that of Python and of all of PostgreSQL. Receiving webhooks and Valkey are left
out on both sides. `python -m bench.webhook_to_job [--quick]` runs it alone.
"""

import argparse
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

from sqlalchemy import create_engine, text

from app.deadlines import BATCH
from bench.ladder import Bench, bench
from bench.load import KEY
from bench.pipeline import API_KEY
from bench.pipeline_cost import Checkout, Cost, cost
from bench.processes import Failed, pid_of, python, run, run_json, running, serving
from bench.processor_time import sampled
from bench.report import Figure, Report, figure, progress, ratio
from tests.ports import free_port

POSTGRES, SQLITE, TUTORIAL = "pipeline, postgresql", "pipeline, sqlite", "pipeline, tutorial"
WORKERS: Final = "pipeline, postgresql, a worker of each kind"
CONFIRMED: Final = "pipeline, postgresql, confirmed by the sandbox"
RATE_GOAL: Final = 40  # times the tutorial's rate
PROCESSOR_GOAL: Final = 25  # times less processor time than the tutorial
PROGRAMS: Final = {"python": "Python", "postgresql": "PostgreSQL"}
DONE_WITHIN: Final = 120.0  # seconds
WARM_UP: Final = 10  # one in ten of the tutorial's events: by then its worker has compiled and connected
# The number of jobs that are done, and from when to when, in unix seconds.
TUTORIAL_DONE: Final = (
    "SELECT count(*), extract(epoch FROM (SELECT created_at FROM jobs ORDER BY created_at OFFSET {skipped} LIMIT 1)),"
    " extract(epoch FROM max(created_at)) FROM jobs"
)
WORKERS_DONE: Final = (
    "SELECT count(*), extract(epoch FROM min(created_at)), extract(epoch FROM max(finished_at)) FROM jobs"
    " WHERE state = 'completed'"
)

Process = subprocess.Popen[bytes]
Measured = dict[str, list[Cost]]  # by the way of working, round by round


@dataclass(frozen=True, slots=True)
class Size:
    """Numbers of events, so chosen that each takes some seconds. `confirmed`: in whole batches, since fewer new
    connections than one wait for others to be asked for with.
    """

    rounds: int
    events: int
    tutorial: int
    confirmed: int


FULL, QUICK = Size(5, 20_000, 500, 2_000), Size(1, 4_000, 100, 400)


def measure(report: Report, size: Size) -> None:
    """The cost of an event by each way, `size.rounds` times in turn."""
    measured: Measured = {}
    with bench() as on:
        ways: dict[str, Callable[[], Cost]] = {
            TUTORIAL: lambda: _tutorial(on, size.tutorial),
            POSTGRES: lambda: _postgres(on, size.events),
            WORKERS: lambda: _workers(on, size.events),
            SQLITE: lambda: cost(on, Checkout("here"), f"sqlite:///{on.folder}/{time.monotonic_ns()}.db", size.events),
            CONFIRMED: lambda: _confirmed(on, size.confirmed),
        }
        for number in range(1, size.rounds + 1):
            for name, way in ways.items():
                with report.part(name):
                    on.valkey.flush()
                    one = way()
                    measured.setdefault(name, []).append(one)
                    progress(f"round {number}  {name:46} {one.per_second:8.0f}/s  {one.processor:8.0f} µs")
    report.figures |= figures(measured)


def figures(measured: Measured) -> dict[str, Figure]:
    """Rates, processor time per event, and both against the tutorial's."""
    found = {}
    for name, costs in measured.items():
        found[name] = figure(statistics.median(cost.per_second for cost in costs), "events/s")
        for part in ("python", "postgresql"):
            used = statistics.median(getattr(cost, part) for cost in costs)
            if used:
                found[f"{name}: processor time of {PROGRAMS[part]}"] = figure(used, "µs/event")
    tutorial = measured.get(TUTORIAL, [])
    for name in (POSTGRES, WORKERS):
        if name in measured and tutorial:
            rates = [[cost.per_second for cost in costs] for costs in (measured[name], tutorial)]
            found[f"{name} / tutorial"] = figure(ratio(*rates), "ratio", at_least=RATE_GOAL)
    if POSTGRES in measured and tutorial:
        used = ratio(*([cost.processor for cost in costs] for costs in (tutorial, measured[POSTGRES])))
        found[f"processor time per event, tutorial / {POSTGRES}"] = figure(used, "ratio", at_least=PROCESSOR_GOAL)
    return found


def _postgres(on: Bench, count: int) -> Cost:
    with _database(on) as url:
        return cost(on, Checkout("here"), url, count)


@contextmanager
def _database(on: Bench) -> Iterator[str]:
    """An empty one. What an earlier one left for the background is done before, and none is left for the next."""
    on.postgres.administer("CHECKPOINT")
    url = on.postgres.create_database()
    try:
        yield url
    finally:
        on.postgres.drop_database(url)


def _workers(on: Bench, count: int) -> Cost:
    """As it is run: a backlog, worked off by the two Celery workers side by side."""
    with _database(on) as url, ExitStack() as stack:
        variables = {
            "WAYLINK_DATABASE_URL": url,
            "WAYLINK_BROKER_URL": on.valkey.url(4),
            "WAYLINK_TEAM_BROKER_URL": on.valkey.url(1),
            "WAYLINK_NANGO_SIGNING_KEYS": KEY,
            "WAYLINK_LOG_LEVEL": "error",
        }
        run(python("bench.pipeline", url, count, "--announce", on.valkey.url(4)))
        workers = {
            kind: stack.enter_context(running(python("app.cli", "worker", kind), variables, on.folder / f"{kind}.log"))
            for kind in ("events", "io")
        }
        # The first batch was made before the first of these moments.
        return _cost_until_done(on, url, workers, WORKERS_DONE, count, before=BATCH)


def _confirmed(on: Bench, count: int) -> Cost:
    """With pauses in which the sandbox learns of connections, so that only Python's processor time is told."""
    port = free_port()
    sandbox = python("app.cli", "sandbox", "--port", port, "--api-key", API_KEY, "--signing-key", KEY)
    with serving(sandbox, {}, port, on.folder), _database(on) as url:
        options = ("--teams", on.valkey.url(1), "--sandbox", f"http://127.0.0.1:{port}")
        answer = run_json(python("bench.pipeline", url, count, *options))
    if answer["jobs"] != count:
        raise Failed(f"{answer['jobs']} jobs were delivered for {count} events")
    return Cost(1e6 / answer["per_second"], answer["cpu_us"], 0.0)


def _tutorial(on: Bench, count: int) -> Cost:
    """From a job after the first ones to the last, so that the worker's start does not count."""
    skipped = count // WARM_UP
    with _database(on) as url:
        variables = {"TUTORIAL_DATABASE_URL": url, "TUTORIAL_BROKER_URL": on.valkey.url(3)}
        for step in (("create",), ("enqueue", count)):
            run(python("bench.tutorial", *step), variables)
        with running(python("bench.tutorial", "worker"), variables, on.folder / "tutorial.log") as worker:
            return _cost_until_done(
                on, url, {"worker": worker}, TUTORIAL_DONE.format(skipped=skipped), count, before=skipped + 1
            )


def _cost_until_done(
    on: Bench, url: str, workers: Mapping[str, Process], looked_at: str, count: int, *, before: int
) -> Cost:
    """The cost of an event within the span that `looked_at` gives, when so many were done `before`. Raises Failed."""
    pids = {name: worker.pid for name, worker in workers.items()}
    with sampled(postgresql=pid_of(on.postgres), **pids) as samples:
        done, began, ended = _until_done(url, count, list(workers.values()), looked_at)
    used = samples.between(began, ended)
    postgresql, python = used.pop("postgresql"), sum(used.values())
    wall, *times = (seconds / (done - before) * 1e6 for seconds in (ended - began, python, postgresql))
    return Cost(wall, *times)


def _until_done(url: str, count: int, workers: Sequence[Process], looked_at: str) -> tuple[int, float, float]:
    """The number of jobs in the end, and the span of the work. Raises Failed."""
    give_up = time.monotonic() + DONE_WITHIN
    engine = create_engine(url)
    try:
        while True:
            with engine.connect() as connection:
                done, began, ended = connection.execute(text(looked_at)).one()
            if done >= count:
                return int(done), float(began), float(ended)
            if time.monotonic() > give_up or any(worker.poll() is not None for worker in workers):
                raise Failed(f"the workers did {done} of {count}")
            time.sleep(0.2)
    finally:
        engine.dispose()


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.webhook_to_job", description="Measure the pipelines.")
    parser.add_argument("--quick", action="store_true", help="one round of small runs")
    report = Report()
    measure(report, QUICK if parser.parse_args().quick else FULL)
    report.print()


if __name__ == "__main__":
    main()

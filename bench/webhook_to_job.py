"""Webhook to delivered job: Waylink's pipeline against the tutorial's, on the same servers, in turn.

`python -m bench.webhook_to_job [--quick]` runs it alone.
"""

import argparse
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from sqlalchemy import create_engine, text

from app.deadlines import BATCH
from bench.ladder import Bench, bench
from bench.load import KEY
from bench.pipeline import API_KEY
from bench.processes import Failed, python, run, run_json, running, serving
from bench.report import Report, figure, progress, ratio
from tests.ports import free_port

POSTGRES, SQLITE, TUTORIAL = "pipeline, postgresql", "pipeline, sqlite", "pipeline, tutorial"
WORKERS: Final = "pipeline, postgresql, a worker of each kind"
CONFIRMED: Final = "pipeline, postgresql, confirmed by the sandbox"
GOAL: Final = 50  # times the tutorial
DONE_WITHIN: Final = 120.0  # seconds
_BETWEEN: Final = "SELECT count(*), coalesce(extract(epoch FROM max({last}) - min(created_at)), 0) FROM jobs"
TUTORIAL_DONE: Final = _BETWEEN.format(last="created_at")
WORKERS_DONE: Final = _BETWEEN.format(last="finished_at") + " WHERE state = 'completed'"


@dataclass(frozen=True, slots=True)
class Size:
    """Numbers of events, so chosen that each takes some seconds. `confirmed`: in whole batches, since fewer new
    connections than one wait for others to be asked for with.
    """

    rounds: int
    events: int
    tutorial: int
    confirmed: int


FULL, QUICK = Size(5, 20_000, 500, 2_000), Size(1, 1_600, 100, 400)


def measure(report: Report, size: Size) -> None:
    """Events per second of each, `size.rounds` times in turn."""
    rates: dict[str, list[float]] = {}
    with bench() as on:
        ways: dict[str, Callable[[], float]] = {
            TUTORIAL: lambda: _tutorial(on, size.tutorial),
            POSTGRES: lambda: _waylink(on, on.postgres.create_database(), size.events),
            WORKERS: lambda: _workers(on, size.events),
            SQLITE: lambda: _waylink(on, f"sqlite:///{on.folder}/{time.monotonic_ns()}.db", size.events),
            CONFIRMED: lambda: _confirmed(on, size.confirmed),
        }
        for number in range(1, size.rounds + 1):
            for name, way in ways.items():
                with report.part(name):
                    on.valkey.flush()
                    rate = way()
                    rates.setdefault(name, []).append(rate)
                    progress(f"round {number}  {name:46} {rate:8.0f}/s")
    for name, values in rates.items():
        report.figures[name] = figure(statistics.median(values), "events/s")
    if POSTGRES in rates and TUTORIAL in rates:
        times = ratio(rates[POSTGRES], rates[TUTORIAL])
        report.figures[f"{POSTGRES} / tutorial"] = figure(times, "ratio", at_least=GOAL)
    if WORKERS in rates and TUTORIAL in rates:
        report.figures[f"{WORKERS} / tutorial"] = figure(ratio(rates[WORKERS], rates[TUTORIAL]), "ratio")


def _waylink(on: Bench, database: str, count: int, *options: str) -> float:
    answer = run_json(python("bench.pipeline", database, count, "--teams", on.valkey.url(1), *options))
    if answer["jobs"] != count:
        raise Failed(f"{answer['jobs']} jobs were delivered for {count} events")
    return float(answer["per_second"])


def _workers(on: Bench, count: int) -> float:
    """As it is run: a backlog, worked off by the two Celery workers side by side."""
    url = on.postgres.create_database()
    variables = {
        "WAYLINK_DATABASE_URL": url,
        "WAYLINK_BROKER_URL": on.valkey.url(4),
        "WAYLINK_TEAM_BROKER_URL": on.valkey.url(1),
        "WAYLINK_NANGO_SIGNING_KEYS": KEY,
        "WAYLINK_LOG_LEVEL": "error",
    }
    run(python("bench.pipeline", url, count, "--announce", on.valkey.url(4)))
    with ExitStack() as stack:
        kinds = ("events", "io")
        workers = [
            stack.enter_context(running(python("app.cli", "worker", kind), variables, on.folder / f"{kind}.log"))
            for kind in kinds
        ]
        done, seconds = _until_done(url, count, workers, WORKERS_DONE)
    # The first batch was made before the first of these moments.
    return (done - BATCH) / seconds


def _confirmed(on: Bench, count: int) -> float:
    port = free_port()
    sandbox = python("app.cli", "sandbox", "--port", port, "--api-key", API_KEY, "--signing-key", KEY)
    with serving(sandbox, {}, port, on.folder):
        return _waylink(on, on.postgres.create_database(), count, "--sandbox", f"http://127.0.0.1:{port}")


def _tutorial(on: Bench, count: int) -> float:
    """From the first job to the last, so that the worker's start does not count."""
    url = on.postgres.create_database()
    variables = {"TUTORIAL_DATABASE_URL": url, "TUTORIAL_BROKER_URL": on.valkey.url(3)}
    for step in (("create",), ("enqueue", count)):
        run(python("bench.tutorial", *step), variables)
    with running(python("bench.tutorial", "worker"), variables, on.folder / "tutorial.log") as worker:
        done, seconds = _until_done(url, count, [worker], TUTORIAL_DONE)
    return (done - 1) / seconds


def _until_done(
    url: str, count: int, workers: Sequence["subprocess.Popen[bytes]"], looked_at: str
) -> tuple[int, float]:
    """The number of jobs in the end, and the seconds between the first and the last. Raises Failed."""
    give_up = time.monotonic() + DONE_WITHIN
    engine = create_engine(url)
    try:
        while True:
            with engine.connect() as connection:
                done, seconds = connection.execute(text(looked_at)).one()
            if done >= count:
                return int(done), float(seconds)
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

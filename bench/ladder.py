"""The ladder: the same load against ever more work per request, all rungs in turn, round after round.

`python -m bench.ladder [--quick] [RUNG …]` runs it alone, or a few rungs of it.
"""

import argparse
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from bench import fastify
from bench.load import KEY
from bench.processes import (
    DurablePostgres,
    Failed,
    cpu_seconds,
    pid_of,
    python,
    run,
    run_json,
    serving,
    steady_cpu_seconds,
)
from bench.report import Figure, Report, figure, progress, ratio
from tests.ports import free_port
from tests.servers import ValkeyServer

CONNECTIONS: Final = 64
NOTHING, ENDPOINT = "starlette, nothing", "same endpoint, nothing stored"
POSTGRES, SQLITE, TWO = "waylink, postgresql", "waylink, sqlite", "waylink, postgresql, two web processes"
DELAY, INSERT = "tutorial, delay", "tutorial, insert and delay"
BULLMQ, BULLMQ_BULK = "fastify and bullmq", "fastify and bullmq, in bulk"

# (numerator, denominator, goal): how many times the other's rate.
RATE_GOALS: Final = (
    (POSTGRES, NOTHING, 0.55),
    (POSTGRES, ENDPOINT, 0.9),
    (POSTGRES, INSERT, 15),
    (POSTGRES, DELAY, 10),
    (SQLITE, NOTHING, 0.4),
    (POSTGRES, BULLMQ, 1),
    (POSTGRES, BULLMQ_BULK, None),
    (TWO, POSTGRES, None),
)
CPU_GOAL: Final = 15  # times less processor time per event than INSERT
QUICK_RUNGS: Final = (NOTHING, ENDPOINT, POSTGRES, TWO, SQLITE, DELAY, INSERT, BULLMQ)


@dataclass(frozen=True, slots=True)
class Rung:
    """`argv` without the port; `prepare` is run once, before the first round."""

    name: str
    argv: Callable[[int], Sequence[str]]
    variables: Mapping[str, str] = field(default_factory=dict)
    prepare: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Run:
    """One rung in one round. Microseconds of processor time are per event."""

    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float  # of the server and what it started, PostgreSQL and Valkey
    server_us: float  # of that, the server and what it started
    load_cpu_us: float  # of the load generator


@dataclass(frozen=True, slots=True)
class Size:
    """The amount of work: slow rungs end by time (seconds), fast ones by number (requests)."""

    rounds: int
    requests: int
    seconds: float


FULL, QUICK = Size(5, 40_000, 6), Size(1, 3_000, 1)
COLUMNS: Final = {
    "per_second": "9.0f",
    "p50_ms": "9.1f",
    "p99_ms": "9.1f",
    "cpu_us": "9.0f",
    "server_us": "9.0f",
    "load_cpu_us": "9.0f",
}
Measured = dict[str, list[Run]]


@dataclass(slots=True)
class Bench:
    """The servers that all rungs share."""

    folder: Path
    postgres: DurablePostgres
    valkey: ValkeyServer

    def run(self, rung: Rung, size: Size) -> Run:
        """Start it, warm it up, measure it."""
        self.valkey.flush()
        port = free_port()
        with serving(rung.argv(port), rung.variables, port, self.folder) as server:
            pids = [server.pid, *(pid_of(server) for server in (self.postgres, self.valkey))]
            self._load(port, size.requests // 10, size.seconds / 4)
            before, server_before = steady_cpu_seconds(pids), cpu_seconds([server.pid])
            answer = self._load(port, size.requests, size.seconds)
            cpu, server_cpu = steady_cpu_seconds(pids) - before, cpu_seconds([server.pid]) - server_before
        answered = answer["answered"]
        return Run(
            per_second=answered / answer["seconds"],
            p50_ms=answer["p50_ms"],
            p99_ms=answer["p99_ms"],
            cpu_us=cpu / answered * 1e6,
            server_us=server_cpu / answered * 1e6,
            load_cpu_us=answer["cpu_seconds"] / answered * 1e6,
        )

    def _load(self, port: int, requests: int, seconds: float) -> dict[str, Any]:
        answer = run_json(python("bench.load", port, requests, CONNECTIONS, seconds))
        if set(answer["statuses"]) != {"202"}:
            raise Failed(f"answered {answer['statuses']}")
        return answer


@contextmanager
def bench() -> Iterator[Bench]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="waylink-bench-")))
        postgres, valkey = DurablePostgres(), ValkeyServer()
        for server in (postgres, valkey):
            stack.callback(server.close)
            server.start()
        yield Bench(folder, postgres, valkey)


def rungs(on: Bench, notes: list[str]) -> list[Rung]:
    """All that can be had here, from the least work to the most."""
    sqlite, stub = f"sqlite:///{on.folder}/ingest.db", f"sqlite:///{on.folder}/nothing.db"
    found = [
        *(Rung(name, _rung(kind)) for name, kind in ((NOTHING, "nothing"), ("starlette, body", "body"))),
        Rung("starlette, verify and parse", _rung("verify")),
        _waylink(on, ENDPOINT, stub, _rung("endpoint")),
        _waylink(on, POSTGRES, on.postgres.create_database(), _web()),
        _waylink(on, SQLITE, sqlite, _web()),
        _tutorial(on, DELAY, "delay"),
        _tutorial(on, INSERT, "insert"),
    ]
    if "--processes" in run(python("app.cli", "web", "--help")):
        found.insert(5, _waylink(on, TWO, on.postgres.create_database(), _web("--processes", "2")))
    else:
        notes.append(f"`{TWO}` is left out: `waylink web` has no --processes here")
    missing = fastify.prepare()
    if missing is None:
        found += [
            Rung(name, fastify.argv(on.valkey.url(2), mode), {"SIGNING_KEY": KEY})
            for name, mode in ((BULLMQ, "add"), (BULLMQ_BULK, "bulk"))
        ]
    else:
        notes.append(f"`{BULLMQ}` is left out: {missing}")
    return found


def _rung(kind: str) -> Callable[[int], Sequence[str]]:
    return lambda port: python("bench.rungs", kind, port)


def _web(*options: str) -> Callable[[int], Sequence[str]]:
    return lambda port: ["env", f"WAYLINK_PORT={port}", *python("app.cli", "web", *options)]


def _waylink(on: Bench, name: str, database: str, argv: Callable[[int], Sequence[str]]) -> Rung:
    return Rung(name, argv, web_variables(on, database), python("app.cli", "migrate"))


def web_variables(on: Bench, database: str) -> dict[str, str]:
    """The settings of a web process."""
    return {
        "WAYLINK_DATABASE_URL": database,
        "WAYLINK_BROKER_URL": on.valkey.url(0),
        "WAYLINK_NANGO_SIGNING_KEYS": KEY,
        "WAYLINK_LOG_LEVEL": "error",
    }


def _tutorial(on: Bench, name: str, kind: str) -> Rung:
    variables = {"TUTORIAL_DATABASE_URL": on.postgres.create_database(), "TUTORIAL_BROKER_URL": on.valkey.url(3)}
    return Rung(name, _rung(kind), variables, python("bench.tutorial", "create"))


def measure(report: Report, size: Size, only: Sequence[str] = ()) -> None:
    """All rungs in turn, `size.rounds` times. A rung that fails is left out from then on."""
    measured: Measured = {}
    with bench() as on:
        todo = {rung.name: rung for rung in rungs(on, report.notes) if not only or rung.name in only}
        for rung in todo.values():
            if rung.prepare:
                run(rung.prepare, rung.variables, on.folder)
        for number in range(1, size.rounds + 1):
            for rung in list(todo.values()):
                done = len(report.failures)
                with report.part(rung.name):
                    result = on.run(rung, size)
                    measured.setdefault(rung.name, []).append(result)
                    progress(f"round {number}  {rung.name:40} {result.per_second:8.0f}/s")
                if len(report.failures) > done:
                    del todo[rung.name]
    report.tables.append(table(measured))
    report.figures |= figures(measured)


def figures(measured: Measured) -> dict[str, Figure]:
    """The result of each rung, and the ratios that have a goal."""
    found = {}
    for name, runs in measured.items():
        found[f"ingest, {name}"] = figure(_median(runs, "per_second"), "requests/s")
        found[f"ingest, {name}: p99"] = figure(_median(runs, "p99_ms"), "ms")
        found[f"ingest, {name}: CPU per event"] = figure(_median(runs, "cpu_us"), "µs")
    for above, below, goal in RATE_GOALS:
        if above in measured and below in measured:
            rates = [[run.per_second for run in measured[name]] for name in (above, below)]
            found[f"ingest, {above} / {below}"] = figure(ratio(*rates), "ratio", at_least=goal)
    if POSTGRES in measured and INSERT in measured:
        costs = [[run.cpu_us for run in measured[name]] for name in (INSERT, POSTGRES)]
        found[f"CPU per event, {INSERT} / {POSTGRES}"] = figure(ratio(*costs), "ratio", at_least=CPU_GOAL)
    return found


def table(measured: Measured) -> str:
    """The rungs below each other, against the first."""
    rounds = max(map(len, measured.values()), default=0)
    title = f"ingest, {CONNECTIONS} connections, {rounds} rounds"
    lines = [f"{title:40}{'req/s':>9}{'p50 ms':>9}{'p99 ms':>9}{'CPU µs':>9}{'server':>9}{'load µs':>9}{'ratio':>8}"]
    base = next(iter(measured.values()), [])
    for name, runs in measured.items():
        values = [_median(runs, column) for column in COLUMNS]
        against = ratio([run.per_second for run in runs], [run.per_second for run in base])
        cells = "".join(format(value, form) for value, form in zip(values, COLUMNS.values(), strict=True))
        lines.append(f"{name:40}{cells}{against:8.3f}")
    return "\n".join(lines)


def _median(runs: Sequence[Run], name: str) -> float:
    return float(statistics.median(getattr(run, name) for run in runs))


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.ladder", description="Measure ingest.")
    parser.add_argument("--quick", action="store_true", help="one round of small runs")
    parser.add_argument("rungs", nargs="*", metavar="RUNG", help="only these, by name")
    options = parser.parse_args()
    report = Report()
    measure(report, QUICK if options.quick else FULL, options.rungs or (QUICK_RUNGS if options.quick else ()))
    report.print()


if __name__ == "__main__":
    main()

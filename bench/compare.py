"""Two states of the code, measured in turn: `python -m bench.compare COMMIT [PART …] [--rounds 5] [--count 5000]`.

COMMIT is checked out into a temporary folder, and gets a virtual environment of its own where its locked dependencies
are not the same. It is compared with this folder as it is, changes that are not committed included. Every figure is a
cost, so that a ratio below 1 is better than COMMIT.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from bench.checkout import unpack
from bench.ladder import Bench, Rung, Size, bench, web_variables
from bench.pipeline_cost import Checkout, cost
from bench.processes import ROOT, Failed, run
from bench.report import progress, ratio

ROUNDS, COUNT, WARM_UP = 5, 5_000, 400
INGEST: Final = Size(1, 10_000, 6)
LOCK: Final = "requirements-dev.lock"

Costs = dict[str, float]  # by what is measured
Measured = dict[str, list[Costs]]  # by checkout, round by round


def pipeline_on_postgresql(on: Bench, checkout: Checkout, count: int) -> Costs:
    """Stored event to delivered job, on a database that has seen some events."""
    url = on.postgres.create_database()
    try:
        cost(on, checkout, url, WARM_UP)
        on.postgres.administer("CHECKPOINT")
        return _microseconds(asdict(cost(on, checkout, url, count)))
    finally:
        on.postgres.drop_database(url)


def pipeline_on_sqlite(on: Bench, checkout: Checkout, count: int) -> Costs:
    with TemporaryDirectory(dir=on.folder) as folder:
        url = f"sqlite:///{folder}/waylink.db"
        cost(on, checkout, url, WARM_UP)
        costs = asdict(cost(on, checkout, url, count))
    return _microseconds({name: costs[name] for name in ("wall", "python")})


def ingest_on_postgresql(on: Bench, checkout: Checkout, _count: int) -> Costs:
    url = on.postgres.create_database()
    try:
        return _ingest(on, checkout, url)
    finally:
        on.postgres.drop_database(url)


def ingest_on_sqlite(on: Bench, checkout: Checkout, _count: int) -> Costs:
    with TemporaryDirectory(dir=on.folder) as folder:
        return _ingest(on, checkout, f"sqlite:///{folder}/waylink.db")


def ingest_nothing(on: Bench, checkout: Checkout, _count: int) -> Costs:
    """A route that does nothing: what the machine, the server and the libraries do to all of ingest."""
    return _load(on, checkout, lambda port: ["bench.rungs", "nothing", str(port)], {})


PARTS: Final[Mapping[str, Callable[[Bench, Checkout, int], Costs]]] = {
    "postgresql": pipeline_on_postgresql,
    "sqlite": pipeline_on_sqlite,
    "ingest-postgresql": ingest_on_postgresql,
    "ingest-sqlite": ingest_on_sqlite,
    "ingest-nothing": ingest_nothing,
}


def _ingest(on: Bench, checkout: Checkout, url: str) -> Costs:
    variables = web_variables(on, url)
    run(
        [str(checkout.python), "-m", "app.cli", "migrate"],
        {**variables, **checkout.path()},
        checkout.folder,
    )
    return _load(on, checkout, lambda _port: ["app.cli", "web"], variables)


def _load(on: Bench, checkout: Checkout, module: Callable[[int], Sequence[str]], variables: Mapping[str, str]) -> Costs:
    def argv(port: int) -> list[str]:
        return ["env", f"WAYLINK_PORT={port}", str(checkout.python), "-m", *module(port)]

    done = on.run(Rung(checkout.name, argv, {**variables, **checkout.path()}), INGEST)
    return {**_microseconds({"wall": 1e6 / done.per_second, "processor": done.cpu_us}), "p99, ms": done.p99_ms}


def _microseconds(costs: Mapping[str, float]) -> Costs:
    return {f"{name}, µs": value for name, value in costs.items()}


@contextmanager
def checked_out(commit: str) -> Iterator[Checkout]:
    """The commit's files in a folder that is taken away at the end. Raises Failed."""
    with TemporaryDirectory(prefix="waylink-compare-") as name:
        folder = Path(name)
        unpack(commit, folder)
        if (folder / LOCK).read_bytes() == (ROOT / LOCK).read_bytes():
            yield Checkout(commit, folder)
            return
        progress(f"{commit} has other dependencies: they are installed")
        run(["make", "setup", f"PYTHON={sys.executable}"], folder=folder)
        yield Checkout(commit, folder, folder / ".venv" / "bin" / "python")


def measure(checkouts: Sequence[Checkout], part: str, rounds: int, count: int) -> Measured:
    """Each checkout in each round, the first one last in every second round."""
    measured: Measured = {checkout.name: [] for checkout in checkouts}
    with bench() as on:
        for number in range(rounds):
            for checkout in checkouts if number % 2 == 0 else reversed(checkouts):
                on.valkey.flush()
                costs = PARTS[part](on, checkout, count)
                measured[checkout.name].append(costs)
                shown = "  ".join(f"{name} {value:.1f}" for name, value in costs.items())
                progress(f"round {number + 1}  {part}, {checkout.name}: {shown}")
    return measured


def table(part: str, measured: Measured) -> str:
    """Minimum and median of both, and the median of the ratios within each round."""
    theirs, ours = measured.values()
    names = list(measured)
    lines = [f"{part:26}" + "".join(f"{name[:12]:>14}{'median':>10}" for name in names) + f"{'ratio':>9}"]
    for name in ours[0]:
        columns = [[costs[name] for costs in side] for side in (theirs, ours)]
        cells = "".join(f"{min(values):14.1f}{statistics.median(values):10.1f}" for values in columns)
        lines.append(f"{name:26}{cells}{ratio(columns[1], columns[0]):9.3f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.compare", description="Compare this folder with a commit.")
    parser.add_argument("commit", metavar="COMMIT")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; postgresql if none is given")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--count", type=int, default=COUNT, help="events of each run of the pipeline")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    began = time.monotonic()
    try:
        with checked_out(options.commit) as theirs:
            for part in options.parts or ["postgresql"]:
                measured = measure([theirs, Checkout("here")], part, options.rounds, options.count)
                print(f"\n{table(part, measured)}", flush=True)
    except Failed as failed:
        sys.exit(f"bench.compare: {failed}")
    progress(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()

"""`python -m bench [--quick]`: every figure in one interleaved run, medians, one table, and bench/results.json."""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench.load import KEY
from tests.servers import PostgresServer, ValkeyServer

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results.json"


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench", description="Measure ingest and pipeline.")
    parser.add_argument("--quick", action="store_true", help="one round of small runs")
    quick = parser.parse_args().quick
    rounds, requests, events = (1, 4_000, 4_000) if quick else (5, 20_000, 20_000)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="waylink-bench-")))
        postgres, valkey = PostgresServer(), ValkeyServer()
        for server in (postgres, valkey):
            server.start()
            stack.callback(server.close)
        rates = _ladder(folder, postgres, valkey, rounds=rounds, requests=requests)
        speeds = _pipelines(folder, postgres, rounds=1 if quick else 3, events=events)
    _report(rates, speeds)


def _ladder(
    folder: Path, postgres: PostgresServer, valkey: ValkeyServer, *, rounds: int, requests: int
) -> dict[str, list[dict[str, Any]]]:
    rungs: dict[str, list[str]] = {
        "starlette, nothing": ["bench.rungs", "noop"],
        "verify, store nothing": ["bench.rungs", "verify"],
        "waylink, sqlite": [f"sqlite:///{folder}/ingest.db"],
        "waylink, postgresql": [postgres.create_database()],
    }
    for target in rungs.values():
        if len(target) == 1:
            _run(["-m", "app.cli", "migrate"], _environment(target[0], valkey), folder)
    measured: dict[str, list[dict[str, Any]]] = {name: [] for name in rungs}
    for number in range(rounds + 1):
        for name, target in rungs.items():
            port = _free_port()
            if len(target) == 1:
                argv, variables = ["-m", "app.cli", "web"], _environment(target[0], valkey, port)
            else:
                argv, variables = ["-m", target[0], target[1], str(port)], {}
            with _serving(argv, variables, port, folder):
                count = requests if number else requests // 10
                answer = json.loads(_run(["-m", "bench.load", str(port), str(count), "64"], {}, ROOT))
            if set(answer["statuses"]) != {"202"}:
                raise SystemExit(f"{name}: {answer['statuses']}")
            if number:  # the first round warms up
                measured[name].append(answer)
                print(f"round {number}  {name:24} {answer['per_second']:8.0f}/s", file=sys.stderr)
    return measured


def _pipelines(folder: Path, postgres: PostgresServer, *, rounds: int, events: int) -> dict[str, list[float]]:
    speeds: dict[str, list[float]] = {"pipeline, sqlite": [], "pipeline, postgresql": []}
    for number in range(rounds):
        for name, url in (
            ("pipeline, sqlite", f"sqlite:///{folder}/pipeline-{number}.db"),
            ("pipeline, postgresql", postgres.create_database()),
        ):
            answer = json.loads(_run(["-m", "bench.pipeline", url, str(events)], {}, ROOT))
            speeds[name].append(answer["per_second"])
            print(f"round {number + 1}  {name:24} {answer['per_second']:8.0f}/s", file=sys.stderr)
    return speeds


def _report(rates: dict[str, list[dict[str, Any]]], speeds: dict[str, list[float]]) -> None:
    figures: dict[str, dict[str, Any]] = {}
    medians = {name: statistics.median(one["per_second"] for one in runs) for name, runs in rates.items()}
    base = medians["starlette, nothing"]
    print(f"\n{'ingest, 64 connections':26}{'req/s':>9}{'p50 ms':>9}{'p99 ms':>9}{'ratio':>8}")
    for name, runs in rates.items():
        p50 = statistics.median(one["p50_ms"] for one in runs)
        p99 = statistics.median(one["p99_ms"] for one in runs)
        print(f"{name:26}{medians[name]:9.0f}{p50:9.1f}{p99:9.1f}{medians[name] / base:8.2f}")
        figures[f"ingest, {name}"] = {"value": round(medians[name]), "unit": "requests/s", "goal": None, "met": None}
    for name, goal in (("waylink, postgresql", 0.55), ("waylink, sqlite", 0.4)):
        ratio = medians[name] / base
        figures[f"{name} / starlette"] = {
            "value": round(ratio, 3),
            "unit": "ratio",
            "goal": goal,
            "met": ratio >= goal,
        }
    print(f"\n{'confirm off, 20 routes':26}{'events/s':>9}")
    for name, runs in speeds.items():
        print(f"{name:26}{statistics.median(runs):9.0f}")
        figures[name] = {"value": round(statistics.median(runs)), "unit": "events/s", "goal": None, "met": None}
    RESULTS.write_text(json.dumps({"figures": figures}, indent=2) + "\n")


def _environment(database: str, valkey: ValkeyServer, port: int = 8080) -> dict[str, str]:
    return {
        "WAYLINK_DATABASE_URL": database,
        "WAYLINK_BROKER_URL": valkey.url(0),
        "WAYLINK_NANGO_SIGNING_KEYS": KEY,
        "WAYLINK_PORT": str(port),
        "WAYLINK_LOG_LEVEL": "error",
    }


@contextmanager
def _serving(argv: list[str], variables: dict[str, str], port: int, folder: Path) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, *argv], cwd=folder, env=_with_path(variables))
    try:
        deadline = time.monotonic() + 20
        while not _answers(port):
            if time.monotonic() > deadline or process.poll() is not None:
                raise SystemExit(f"{argv} did not start")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(30)


def _answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1)
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def _run(argv: list[str], variables: dict[str, str], folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, *argv],
        cwd=folder,
        env=_with_path(variables),
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=300,
    )
    return done.stdout


def _with_path(variables: dict[str, str]) -> dict[str, str]:
    return {**os.environ, **variables, "PYTHONPATH": str(ROOT)}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()

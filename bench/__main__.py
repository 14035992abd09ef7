"""`python -m bench [--quick] [PART …]`: every figure, one table, and bench/results.json.

Exit 1 when a part could not be measured. A goal that is missed is shown, and is no error of the benchmark.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import Final

from bench import delivery, ladder, pages, refresh, scale, snapshot, soak, status_faults, webhook_to_job, writes
from bench.report import Figure, Report, progress


def _ladder(report: Report, quick: bool) -> None:
    ladder.measure(report, *((ladder.QUICK, ladder.QUICK_RUNGS) if quick else (ladder.FULL,)))


def _pipeline(report: Report, quick: bool) -> None:
    webhook_to_job.measure(report, webhook_to_job.QUICK if quick else webhook_to_job.FULL)


def _writes(report: Report, quick: bool) -> None:
    writes.measure(report, quick=quick)


def _delivery(report: Report, quick: bool) -> None:
    delivery.measure(report, delivery.QUICK if quick else delivery.FULL)


def _scale(report: Report, quick: bool) -> None:
    scale.measure(report, quick=quick)


def _pages(report: Report, quick: bool) -> None:
    pages.measure(report, share=pages.QUICK_SHARE if quick else 1.0)


def _refresh(report: Report, quick: bool) -> None:
    refresh.measure(report, quick=quick)


def _soak(report: Report, quick: bool) -> None:
    soak.measure(report, seconds=soak.QUICK_SECONDS if quick else soak.FULL_SECONDS)


def _snapshot(report: Report, quick: bool) -> None:
    snapshot.measure(report, snapshot.QUICK if quick else snapshot.FULL)


def _figures(module: str, report: Report, quick: bool) -> None:
    figures: Callable[[bool], Mapping[str, Figure]] = import_module(module).figures
    report.figures |= figures(quick)


PARTS: Final[dict[str, Callable[[Report, bool], None]]] = {
    "ladder": _ladder,
    "latency": partial(_figures, "bench.latency"),
    "pipeline": _pipeline,
    "writes": _writes,
    "delivery": _delivery,
    "bulk": partial(_figures, "bench.bulk_retry"),
    "routing": partial(_figures, "bench.routing"),
    "scale": _scale,
    "pages": _pages,
    "reconcile": partial(_figures, "bench.reconcile"),
    "refresh": _refresh,
    "audit": partial(_figures, "bench.audit"),
    "soak": _soak,
    "snapshot": _snapshot,
    "status": lambda report, _quick: status_faults.measure(report),
}
NOT_QUICK: Final = {"snapshot", "status"}  # left out of the quick form, unless it is named


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench", description="Measure Waylink.")
    parser.add_argument("--quick", action="store_true", help="one round of small runs, in under five minutes")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"only these: {', '.join(PARTS)}")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    report = Report()
    for name in options.parts or (part for part in PARTS if not (options.quick and part in NOT_QUICK)):
        began = time.monotonic()
        with report.part(name):
            PARTS[name](report, options.quick)
        progress(f"{name}: {time.monotonic() - began:.0f} s")
        if not options.parts:
            report.write()  # after each part, so that an interrupted run leaves what it has
    report.print()
    sys.exit(1 if report.failures else 0)


if __name__ == "__main__":
    main()

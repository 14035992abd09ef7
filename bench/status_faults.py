"""Times until the status tells each fault of a running installation, and takes it back after its repair.

`python -m bench.status_faults [--write]` runs them alone, in some ten minutes; with `--write` its table goes into
docs/operations.md.
"""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from bench.processes import ROOT
from bench.report import Figure, Report, figure, progress
from tests.acceptance.fault_rounds import DATABASE_DISK_FULL, DISK_FULL, FILE_LOCKED, RABBITMQ_AND_CLOCK, ROUNDS
from tests.acceptance.status_faults import (
    Fault,
    Installation,
    Seen,
    installed,
    is_well,
    on_a_small_disk,
    round_of,
    with_rabbitmq,
)
from tests.servers import ValkeyServer

GOAL: Final = 30.0  # seconds
PAGE: Final = ROOT / "docs" / "operations.md"
BEGIN, END = "<!-- made by bench.status_faults -->\n", "<!-- end -->\n"


def measured() -> Iterator[Seen]:
    """Each fault, in rounds."""
    with tempfile.TemporaryDirectory() as folder, installed(Path(folder)) as at:
        for faults in [*ROUNDS.values(), *([DATABASE_DISK_FULL] if at.small_disk else [])]:
            yield from _seen(at, faults)
    with tempfile.TemporaryDirectory() as folder, with_rabbitmq(Path(folder)) as at:
        yield from _seen(at, RABBITMQ_AND_CLOCK)
    with closing(ValkeyServer()) as valkey:
        valkey.start()
        with on_a_small_disk(valkey.url(0)) as small:
            if small is not None:
                yield from round_of(small, DISK_FULL)
                yield from round_of(small, FILE_LOCKED)


def _seen(at: Installation, faults: Sequence[Fault]) -> Iterator[Seen]:
    for seen in round_of(at, faults):
        progress(seen.line())
        yield seen
    is_well(at)


def figures(seen: Sequence[Seen]) -> dict[str, Figure]:
    """The slowest of all faults."""
    reds = [max(one.red_by_api, one.red_by_command) for one in seen]
    greens = [max(one.green_by_api, one.green_by_command) for one in seen]
    return {
        "status: faults that are told by name": figure(len(seen), "faults"),
        "status: the slowest fault, until it is red": figure(max(reds), "s", at_most=GOAL),
        "status: the slowest repair, until it is not": figure(max(greens), "s", at_most=GOAL),
    }


def table(seen: Sequence[Seen]) -> str:
    """The rows as Markdown."""
    head = "| fault | check | red: API | command | repair | not red: API | command |\n|---|---|---|---|---|---|---|\n"
    rows = []
    for one in seen:
        check = one.check.partition("@")[0] if one.check.startswith("process:") else one.check
        check = "clock" if check.startswith("clock:") else check
        by_api = f"{one.red_by_api:.0f}" if one.fault.api else "no answer"
        greens = f"{one.green_by_api:.0f} | {one.green_by_command:.0f}"
        rows.append(
            f"| {one.fault.name} | `{check}` | {by_api} | {one.red_by_command:.0f} | {one.fault.repair} | {greens} |"
        )
    return head + "\n".join(rows) + "\n"


def write(rows: str, page: Path = PAGE) -> None:
    """Put the table into the page, in the place of the former one."""
    before, _, rest = page.read_text().partition(BEGIN)
    page.write_text(f"{before}{BEGIN}{rows}{END}{rest.partition(END)[2]}")


def measure(report: Report) -> None:
    seen = list(measured())
    report.tables.append(table(seen))
    report.figures |= figures(seen)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.status_faults", description="Measure how soon faults are told.")
    parser.add_argument("--write", action="store_true", help="put the table into docs/operations.md")
    options = parser.parse_args()
    seen = list(measured())
    if options.write:
        write(table(seen))
    report = Report(tables=[table(seen)], figures=figures(seen))
    report.print()


if __name__ == "__main__":
    main()

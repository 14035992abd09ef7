"""Results: figures with their goals, one table, and bench/results.json."""

import json
import math
import statistics
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

RESULTS: Final = Path(__file__).parent / "results.json"

Figure = dict[str, Any]  # value, unit, goal (None without one), met (None without a goal)


def figure(value: float, unit: str, *, at_least: float | None = None, at_most: float | None = None) -> Figure:
    """One figure, compared with its goal before rounding to four digits. NaN meets no goal and is written as null."""
    goal = at_least if at_least is not None else at_most
    met = None if goal is None else (value >= goal if at_least is not None else value <= goal)
    return {"value": rounded(value), "unit": unit, "goal": goal, "met": met}


def rounded(value: float) -> float | int | None:
    """Four significant digits; None for what is no number."""
    if not math.isfinite(value):
        return None
    if abs(value) >= 1000:
        return round(value)
    return float(f"{value:.4g}")


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median of the ratios within each round, so that what slows a whole round down does not count."""
    rounds = list(zip(above, below, strict=False))
    return statistics.median(first / other for first, other in rounds) if rounds else math.nan


@dataclass(slots=True)
class Report:
    """Collects figures; a part that fails is named at the end and does not lose the others."""

    figures: dict[str, Figure] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count an exception inside as a failure of this part only."""
        try:
            yield
        except Exception as failed:  # noqa: BLE001 - whatever it is, the other figures count
            traceback.print_exc()
            self.failures.append(f"{name}: {failed or type(failed).__name__}")

    def write(self, file: Path = RESULTS) -> None:
        """Whole or not at all: a reader never sees half a file."""
        half = file.with_suffix(".half")
        half.write_text(json.dumps({"figures": self.figures}, indent=2, allow_nan=False) + "\n")
        half.replace(file)

    def print(self) -> None:
        for table in self.tables:
            print(f"\n{table}")
        width = max(map(len, self.figures), default=0)
        print(f"\n{'figure':{width}}{'value':>12}  {'unit':12}{'goal':>8}  met")
        for name, figure in self.figures.items():
            goal = "" if figure["goal"] is None else f"{figure['goal']:g}"
            met = {None: "", True: "yes", False: "NO"}[figure["met"]]
            value = "-" if figure["value"] is None else f"{figure['value']:,}"
            print(f"{name:{width}}{value:>12}  {figure['unit']:12}{goal:>8}  {met}")
        for note in self.notes:
            print(f"note: {note}")
        for failure in self.failures:
            print(f"FAILED {failure}")


def progress(line: str) -> None:
    """Print progress to standard error, apart from the results on standard output."""
    print(line, file=sys.stderr, flush=True)

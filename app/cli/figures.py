"""`waylink figures`: what was counted over time."""

from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from datetime import timedelta
from typing import Any, Final

import click

from app.cli.options import AS_JSON, choice, read_duration
from app.cli.output import print_rows
from app.clock import utc_now
from app.config.loading import load_database
from app.db.engine import connect
from app.db.schema_version import require_current
from app.domain.figures import SAMPLED, FigureName, Step
from app.services.metrics import figure_points

WIDTH: Final = 40  # characters of the longest bar


@click.command()
@click.argument("name", type=choice(FigureName))
@click.option("--since", callback=read_duration, default="24h", show_default=True, help="Not longer ago.")
@click.option("--step", type=choice(Step), default="hour", show_default=True, help="Of one bar.")
@AS_JSON
def figures(*, name: str, since: timedelta, step: str, as_json: bool) -> None:
    """Show what was counted over time, a bar for each span; with `--json` by its labels, too."""
    figure = FigureName(name)
    with closing(connect(load_database().database)) as database:
        require_current(database)
        now = utc_now()
        with database.read() as session:
            points = figure_points.read(session, figure, Step(step), since=now - since, until=now)
    if as_json:
        print_rows(points, ("at", "labels", "value", "p50", "p99"), as_json=True)
    else:
        click.echo("\n".join(_chart(figure, points)) or "nothing was counted in this time")


def _chart(name: FigureName, points: Sequence[dict[str, Any]]) -> list[str]:
    """A line for each span: its beginning, a bar, the value of all labels together, or the highest."""
    values: dict[str, list[float]] = defaultdict(list)
    for point in points:
        values[point["at"]].append(point["value"])
    merged = {at: max(found) if name in SAMPLED else sum(found) for at, found in values.items()}
    highest = max(merged.values(), default=0.0) or 1.0
    return [f"{at[:16]}Z  {'#' * round(WIDTH * value / highest):<{WIDTH}}  {value:g}" for at, value in merged.items()]

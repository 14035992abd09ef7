"""The first page: what needs a person, with its cause and the command that repairs it."""

from functools import partial

from starlette.responses import Response

from app.domain.status import Check, Level, count, headline, in_order
from app.services.status.report import report
from app.web.console import figure_charts
from app.web.console.check_pages import page_of
from app.web.console.figure_charts import FigureChart
from app.web.console.serving import ConsoleContext, Visit


async def overview(context: ConsoleContext, visit: Visit) -> Response:
    """The checks of the status for those who may see all teams' rows; for others, where to go on.

    `?span=7d` is the time of the charts.
    """
    if visit.access.team is not None:
        return visit.page("start.html", team=visit.access.team)
    shown = figure_charts.chosen_span(visit.request.query_params.get("span"))
    checks, charts = await context.rows.run(partial(_look, context, visit, shown))
    return visit.page(
        "overview.html",
        headline=headline(checks),
        red=_of(checks, Level.RED),
        hints=_of(checks, Level.HINT),
        well=_of(checks, Level.OK),
        pages={check.id: found for check in checks if (found := page_of(check, visit.access))},
        is_well=not count(checks, Level.RED),
        now=context.clock().isoformat(timespec="seconds"),
        charts=charts,
        span=shown,
        spans=figure_charts.links_of(shown),
    )


def _look(context: ConsoleContext, visit: Visit, chosen: str) -> tuple[list[Check], list[FigureChart]]:
    now, installation = context.clock(), context.installation()
    checks = in_order(report(context.database, installation, now=now))
    pages = figure_charts.pages_of(visit, installation, now=now)
    with context.database.read() as session:
        return checks, figure_charts.read(session, chosen, now=now, pages=pages)


def _of(checks: list[Check], level: Level) -> list[Check]:
    return [check for check in checks if check.level is level]

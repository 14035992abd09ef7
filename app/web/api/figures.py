"""The endpoint for figures over time."""

from typing import Annotated, Final

from msgspec import Meta, Struct

from app.domain.access import Scope
from app.domain.figures import FigureName, Step
from app.services.metrics import figure_points
from app.timestamp_input import moment
from app.web.api.endpoint import Call, Endpoint, endpoint
from app.web.api.problems import INVALID_INPUT


class FiguresQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: Annotated[FigureName, Meta(description="What is counted.")]
    since: Annotated[str, Meta(description="From then on: a time with its zone, or an age such as `24h`.")] = "24h"
    until: Annotated[str | None, Meta(description="Before then; until now if it is absent.")] = None
    step: Annotated[Step, Meta(description="The span of one point.")] = Step.HOUR


class FigurePoint(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A count of a span, or the highest value in it. p50, p99: seconds, of what has a duration."""

    at: str
    labels: dict[str, str]
    value: float
    p50: float | None
    p99: float | None


class FigureSeries(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    step: str
    data: list[FigurePoint]


@endpoint("GET /figures", scope=Scope.VIEWER, problems=(INVALID_INPUT,))
def list_figures(call: Call, query: FiguresQuery) -> FigureSeries:
    """List a figure over time, the earliest first; spans without any are left out."""
    now = call.context.clock()
    since, until = moment(query.since, now=now), moment(query.until, now=now) if query.until else now
    with call.context.database.read() as session:
        found = figure_points.read(session, query.name, query.step, since=since, until=until)
    return FigureSeries(name=query.name, step=query.step, data=[FigurePoint(**point) for point in found])


ENDPOINTS: Final[tuple[Endpoint, ...]] = (list_figures,)

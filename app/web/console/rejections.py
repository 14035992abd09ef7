"""The list of refused webhooks."""

from typing import Final

from starlette.responses import Response

from app.web.api import records
from app.web.console.jobs import FOR_TIME
from app.web.console.lists import Filter, List
from app.web.console.serving import ConsoleContext, Visit

LIST: Final = List(
    records.list_rejections,
    (
        Filter("environment", hint="Of this environment."),
        Filter("cause"),
        Filter("since", check=FOR_TIME),
        Filter("until", check=FOR_TIME),
    ),
)


async def show_rejections(context: ConsoleContext, visit: Visit) -> Response:
    """Refused webhooks, newest first: a row per minute, environment and cause."""
    found = await LIST.read(context, visit)
    return visit.page("rejections.html", status=found.status, list=found)

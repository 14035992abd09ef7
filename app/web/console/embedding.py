"""Pages for portals within another site's page that show nothing any more: the page around may still show them."""

from functools import partial
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from app.db.engine import Database
from app.services.operators import team_portals
from app.web.api.pool import CallPool
from app.web.browser_sessions import Browsers
from app.web.console.rendering import framed, message

SPENT: Final = "This link does not work any more"
WHY_SPENT: Final = "It was used, has expired, or was revoked."
_AGAIN: Final = "Load the page around this one again: it opens the portal by a new link. Else ask those who run it."


async def embedding_origin(browsers: Browsers, request: Request, database: Database, pool: CallPool) -> str | None:
    """The origin of the page around a portal that was opened in it; None where the team's portal does not allow it."""
    known = browsers.embedder(request)
    if known is None:
        return None
    team, origin = known
    allowed: bool = await pool.run(partial(team_portals.allows, database, team, origin))
    return origin if allowed else None


def closed(origin: str) -> Response:
    """The page in place of a portal whose session has ended."""
    told = "Its session has expired, or was ended."
    return framed(message("The portal is closed", told, _AGAIN, status=401, action=None), origin)


def spent(origin: str | None) -> Response:
    """The page of a link that opens nothing, within another site's page."""
    return framed(message(SPENT, WHY_SPENT, _AGAIN, status=410, action=None), origin)

"""Pages by which a team's portal is opened by a link, and its style sheet."""

from functools import partial

from starlette.responses import Response

from app.domain.team_portal import Look, stylesheet
from app.errors import NotFound
from app.services.operators import sessions, team_portals
from app.telemetry import SIGN_INS
from app.web.browser_sessions import EMBEDDED, EMBEDDER, EMBEDDER_SECONDS, SESSION
from app.web.console import embedding
from app.web.console.rendering import HEADERS, framed, message, page
from app.web.console.serving import ConsoleContext, Visit
from app.web.console.sign_in import START, begun
from app.web.hosts import LOOPBACK, host_of


async def show_portal(context: ConsoleContext, visit: Visit) -> Response:
    """The form that opens the portal. The link stays: mail programs follow it, too. Within the page that may embed it,
    it is opened at once.
    """
    found: team_portals.Opening | None = await context.rows.run(partial(_found, context, _secret(visit)))
    if found is None:
        return await _spent(context, visit)
    if found.origin is not None and visit.request.headers.get("sec-fetch-dest") == "iframe":
        return await open_portal(context, visit)
    shown = page("portal.html", name=found.look.title or found.team, brand=found.look.title)
    return framed(shown, found.origin)


async def open_portal(context: ConsoleContext, visit: Visit) -> Response:
    """Spend a use of the link, and begin a session of the portal, in place of the one that the browser had."""
    secret = _secret(visit)
    found: team_portals.Opening | None = await context.rows.run(partial(_found, context, secret))
    if found is None:
        return await _spent(context, visit)
    is_local = host_of(visit.request.headers.get("host", "")) in LOOPBACK
    if found.is_embedded and not is_local and not context.browsers.is_secure(visit.request):
        told = "Browsers keep no session within another site's page without TLS: open Waylink over https."
        return message("The portal cannot be embedded", told, status=409)
    cookie = EMBEDDED if found.is_embedded else SESSION
    former = context.browsers.read(visit.request, cookie)
    begun_with: str | None = await context.rows.run(partial(_begin, context, visit, secret, former))
    if begun_with is None:
        return await _spent(context, visit)
    answer = begun(context, visit, begun_with, method="portal", onward=START, cookie=cookie)
    if found.origin is not None:
        whose = f"{found.team}|{found.origin}"
        context.browsers.write(visit.request, answer, EMBEDDER, whose, seconds=EMBEDDER_SECONDS)
    return answer


async def show_theme(context: ConsoleContext, visit: Visit) -> Response:
    """The style sheet with a team's colour; an empty one for a portal without. Raises NotFound."""
    team = visit.request.path_params["team"]
    if visit.access.team not in {None, team}:
        raise NotFound("team", team)
    look: Look = await context.rows.run(partial(_look, context, team))
    return Response(stylesheet(look.color) if look.color else "", headers=HEADERS, media_type="text/css")


def _secret(visit: Visit) -> str:
    return str(visit.request.path_params["secret"])


async def _spent(context: ConsoleContext, visit: Visit) -> Response:
    """The page of a link that opens nothing, for the page around it, too, where that may embed the portal."""
    SIGN_INS.labels("portal", "refused").inc()
    if visit.request.headers.get("sec-fetch-dest") != "iframe":
        told = "It was used, has expired, or was revoked."
        return message(
            "This link does not work any more", told, "Ask those who gave it to you for a new one.", status=410
        )
    origin: str | None = await context.rows.run(partial(_spent_origin, context, _secret(visit)))
    return embedding.spent(origin or await context.embedding_origin(visit.request))


def _spent_origin(context: ConsoleContext, secret: str) -> str | None:
    with context.database.read() as session:
        return team_portals.spent_origin(session, secret)


def _found(context: ConsoleContext, secret: str) -> team_portals.Opening | None:
    with context.database.read() as session:
        return team_portals.opening(session, secret, now=context.clock())


def _begin(context: ConsoleContext, visit: Visit, secret: str, former: str | None) -> str | None:
    now = context.clock()
    with context.database.write() as session:
        made = team_portals.begin(session, secret, visitor=visit.visitor, lives=context.lives, now=now)
        if made is not None and former is not None:
            sessions.end(session, former, now=now)
            team_portals.end(session, former, now=now)
        return made


def _look(context: ConsoleContext, team: str) -> Look:
    with context.database.read() as session:
        return team_portals.look(session, team)

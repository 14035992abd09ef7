"""Pages by which operators sign in with a password, set one by a link, and sign out."""

import math
from functools import partial
from typing import Final

from starlette.responses import Response

from app.domain.passwords import wrong_password
from app.errors import TooManyAttempts
from app.services.operators import hashing, links, sessions, team_portals
from app.services.operators import sign_in as passwords
from app.telemetry import SIGN_INS, get_logger
from app.web.browser_sessions import SESSION
from app.web.console.rendering import message, page, see_other
from app.web.console.serving import ConsoleContext, Visit
from app.web.hosts import LOOPBACK, host_of

START: Final = "/console"
WRONG: Final = "Name or password is wrong."

log = get_logger(__name__)


async def show_sign_in(context: ConsoleContext, visit: Visit) -> Response:
    """The form for name and password, and the way to the identity provider."""
    onward = own_path(visit.request.query_params.get("next"))
    return see_other(onward) if visit.signed_in else _form(context, visit, onward=onward)


async def sign_in(context: ConsoleContext, visit: Visit) -> Response:
    """Check name and password, and begin a session."""
    form = await visit.form()
    name, password, onward = form.get("name", ""), form.get("password", ""), own_path(form.get("next"))
    again = partial(_form, context, visit, onward=onward, name=name[:100])
    check = partial(
        passwords.sign_in,
        context.database,
        name=name,
        password=password,
        visitor=visit.visitor,
        lives=context.lives,
        now=context.clock(),
        former=context.browsers.read(visit.request, SESSION),
    )
    try:
        with context.one_of_few(visit.visitor.address):
            secret: str | None = await context.hashing.run(check)
    except TooManyAttempts as early:
        SIGN_INS.labels("password", "throttled").inc()
        seconds = max(1, math.ceil(early.retry_after.total_seconds()))
        told = f"Too many attempts have failed. Wait {seconds} second{'' if seconds == 1 else 's'}, and try again."
        return again(problem=told, status=429, headers={"retry-after": str(seconds)})
    if secret is None:
        SIGN_INS.labels("password", "refused").inc()
        log.info("sign_in_refused", method="password", address=visit.visitor.address)
        return again(problem=WRONG, status=422)
    return begun(context, visit, secret, method="password", onward=onward)


async def sign_out(context: ConsoleContext, visit: Visit) -> Response:
    """End the browser's session. Where the operator came from the provider, show the way to sign out there, too."""
    cookie, secret = context.browsers.session(visit.request) or (SESSION, None)
    if secret is not None:
        await context.rows.run(partial(_end, context, secret))
    elsewhere = None
    if context.provider is not None and visit.signed_in is not None and not visit.signed_in.local:
        back_to = f"{context.browsers.origin(visit.request)}/console/sign-in"
        elsewhere = await context.provider_calls.run(partial(context.provider.sign_out_url, back_to=back_to))
    name = context.provider.name if context.provider else ""
    answer = visit.framed(
        page("signed_out.html", elsewhere=elsewhere, provider=name, is_portal=visit.portal is not None)
    )
    context.browsers.clear(visit.request, answer, cookie)
    return answer


async def show_welcome(context: ConsoleContext, visit: Visit) -> Response:
    """The form with which a link's operator sets a password. The link stays: mail programs follow it, too."""
    secret = visit.request.path_params["secret"]
    name: str | None = await context.rows.run(partial(_name_of, context, secret))
    return _spent() if name is None else _welcome(name)


async def welcome(context: ConsoleContext, visit: Visit) -> Response:
    """Set the password, spend the link, and begin a session."""
    secret = visit.request.path_params["secret"]
    form = await visit.form()
    password = form.get("password", "")
    name: str | None = await context.rows.run(partial(_name_of, context, secret))
    if name is None:
        return _spent()
    if wrong := wrong_password(password, repeated=form.get("repeated", "")):
        return _welcome(name, problem=wrong, status=422)
    with context.one_of_few(visit.visitor.address):
        hashed: str = await context.hashing.run(partial(hashing.hashed, password))
    begin = partial(_use, context, visit, secret, hashed)
    begun_with: str | None = await context.rows.run(begin)
    return _spent() if begun_with is None else begun(context, visit, begun_with, method="link", onward=START)


def begun(
    context: ConsoleContext, visit: Visit, secret: str, *, method: str, onward: str, cookie: str = SESSION
) -> Response:
    """The answer that gives the browser its session, and leads on."""
    SIGN_INS.labels(method, "signed_in").inc()
    answer = see_other(onward)
    seconds = int(context.lives.longest.total_seconds())
    context.browsers.write(visit.request, answer, cookie, secret, seconds=seconds)
    return answer


def own_path(asked: str | None) -> str:
    """A path of the console to go on to: no other site's, whatever the query says."""
    if asked is None or not asked.startswith(("/console/", "/console?")) or len(asked) > 2000:
        return START
    plain = asked.isascii() and asked.isprintable() and not any(character in asked for character in '\\"<> ')
    return asked if plain and "//" not in asked and not asked.startswith("/console/sign-in") else START


def _form(
    context: ConsoleContext,
    visit: Visit,
    *,
    onward: str,
    name: str = "",
    problem: str | None = None,
    status: int = 200,
    headers: dict[str, str] | None = None,
) -> Response:
    request = visit.request
    is_local = host_of(request.headers.get("host", "")) in LOOPBACK
    return page(
        "sign_in.html",
        status=status,
        headers=headers,
        onward=onward,
        name=name,
        problem=problem,
        provider=context.provider.name if context.provider else None,
        unprotected=not context.browsers.is_secure(request) and not is_local,
    )


def _welcome(name: str, *, problem: str | None = None, status: int = 200) -> Response:
    return page("welcome.html", status=status, name=name, problem=problem)


def _spent() -> Response:
    told = "It was used, has expired, or another one took its place."
    more = "An operator makes a new one with `waylink operator link NAME`."
    return message("This link does not work any more", told, more, status=410)


def _name_of(context: ConsoleContext, secret: str) -> str | None:
    with context.database.read() as session:
        row = links.of_secret(session, secret, now=context.clock())
        return None if row is None else row.name


def _use(context: ConsoleContext, visit: Visit, secret: str, hashed: str) -> str | None:
    now = context.clock()
    with context.database.write() as session:
        row = links.use(session, secret, hashed, now=now)
        if row is None:
            return None
        former = context.browsers.read(visit.request, SESSION)
        return sessions.begin(
            session, row, method="link", visitor=visit.visitor, lives=context.lives, now=now, former=former
        )


def _end(context: ConsoleContext, secret: str) -> None:
    with context.database.write() as session:
        sessions.end(session, secret, now=context.clock())
        team_portals.end(session, secret, now=context.clock())

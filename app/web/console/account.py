"""The page of the operator's own account."""

from functools import partial
from uuid import UUID

from starlette.responses import Response

from app.db import operator_sessions
from app.db import operators as rows
from app.domain.passwords import wrong_password
from app.errors import TooManyAttempts
from app.services.operators import accounts, hashing, links, sessions
from app.services.operators import sign_in as passwords
from app.services.operators.sessions import SignedIn
from app.web.api.problems import FORBIDDEN, ApiRefusal
from app.web.console.browser_names import browser_name
from app.web.console.preferences import EVERY, Preferences, keep, preferences_of
from app.web.console.rendering import see_other
from app.web.console.serving import ConsoleContext, Visit
from app.web.console.sign_in import begun, own_path

ACCOUNT = "/console/account"


async def to_console(_context: ConsoleContext, _visit: Visit) -> Response:
    return see_other("/console")


async def show_account(context: ConsoleContext, visit: Visit) -> Response:
    """The operator's rights and sessions, and the form for another password; of a portal's visitor what they have."""
    if visit.portal is None:
        return await _account(context, visit)
    ends = f"{visit.portal.expires_at:%Y-%m-%d %H:%M} UTC"
    told = f"You came by a link to what is the team's: {visit.portal.team}. The session ends at {ends} at the latest."
    return visit.message("You have no account here", told, status=200)


async def change_password(context: ConsoleContext, visit: Visit) -> Response:
    """Set another password, which ends all sessions, and begin a new one for this browser."""
    operator, form = _of(visit), await visit.form()
    password = form.get("password", "")
    if not operator.local:
        return await _account(context, visit, problem="You sign in at the identity provider.", status=422)
    if wrong := wrong_password(password, repeated=form.get("repeated", "")):
        return await _account(context, visit, problem=wrong, status=422)
    change = partial(_change, context, visit, operator, form.get("present", ""), password)
    try:
        with context.one_of_few(visit.visitor.address):
            secret: str | None = await context.hashing.run(change)
    except TooManyAttempts:
        told = "Too many attempts have failed. Wait a while, and try again."
        return await _account(context, visit, problem=told, status=429)
    if secret is None:
        return await _account(context, visit, problem="The present password is wrong.", status=422)
    return begun(context, visit, secret, method="password", onward=ACCOUNT)


async def end_other_sessions(context: ConsoleContext, visit: Visit) -> Response:
    """Sign the operator out of all other browsers."""
    await context.rows.run(partial(_end_others, context, _of(visit)))
    return see_other(ACCOUNT)


async def set_preferences(context: ConsoleContext, visit: Visit) -> Response:
    """Keep what the viewer chose for this browser, and lead back to the page with the choice."""
    form, now = await visit.form(), preferences_of(visit.request)
    every = next((each for each in EVERY if form.get("every") == str(each)), None)
    chosen = Preferences(
        every if "every" in form else now.every, keys=form["keys"] == "on" if "keys" in form else now.keys
    )
    back = see_other(own_path(form.get("back")))
    is_embedded = visit.portal is not None and visit.portal.is_embedded
    keep(back, chosen, is_secure=context.browsers.is_secure(visit.request), is_embedded=is_embedded)
    return back


async def _account(context: ConsoleContext, visit: Visit, *, problem: str | None = None, status: int = 200) -> Response:
    operator = _of(visit)
    shown = await context.rows.run(partial(_shown, context, operator))
    return visit.page("account.html", status=status, local=operator.local, problem=problem, **shown)


def _shown(context: ConsoleContext, operator: SignedIn) -> dict[str, object]:
    with context.database.read() as session:
        row = rows.get(session, _id(operator))
        found = operator_sessions.of_operator(session, _id(operator))
    listed = [
        operator_sessions.shown(each) | {"here": each.id == operator.session_id, "name": browser_name(each.browser)}
        for each in found
    ]
    return {"account": rows.shown(row) if row else {}, "sessions": listed}


def _change(context: ConsoleContext, visit: Visit, operator: SignedIn, present: str, password: str) -> str | None:
    now, address = context.clock(), visit.visitor.address
    stored = passwords.verified(context.database, name=operator.name, password=present, address=address, now=now)
    if stored is None:
        return None
    hashed = hashing.hashed(password)
    with context.database.write() as session:
        row = rows.get(session, _id(operator))
        if row is None or row.disabled_at is not None or row.password_hash != stored:
            return None  # changed while it was checked
        links.set_password(session, row, hashed, now=now)
        return sessions.begin(
            session, row, method="password", visitor=visit.visitor, lives=context.lives, now=now, former=None
        )


def _end_others(context: ConsoleContext, operator: SignedIn) -> None:
    with context.database.write() as session:
        accounts.end_others(session, _id(operator), but=operator.session_id, now=context.clock())


def _of(visit: Visit) -> SignedIn:
    """The operator's session. Raises ApiRefusal for a visitor of a portal."""
    assert visit.signed_in is not None  # noqa: S101 - the access table asks for it
    if visit.signed_in.operator_id is None:
        raise ApiRefusal(FORBIDDEN, "You came by a link, and have no account here.")
    return visit.signed_in


def _id(operator: SignedIn) -> UUID:
    assert operator.operator_id is not None  # noqa: S101 - `_of` looks at it
    return operator.operator_id

"""Pages by which operators sign in at the identity provider."""

import secrets
from functools import partial
from typing import Final

from starlette.responses import Response

from app.errors import NotAllowed, ProviderUnavailable, SignInRefused
from app.openid.provider import Attempt, Person, Provider
from app.services.operators import single_sign_on
from app.telemetry import SIGN_INS, get_logger
from app.web.browser_sessions import OIDC, OIDC_SECONDS, SESSION
from app.web.console.rendering import message, see_other
from app.web.console.serving import ConsoleContext, Visit
from app.web.console.sign_in import START, begun

CALLBACK: Final = "/console/sign-in/oidc/callback"
AGAIN: Final = ("Sign in again", "/console/sign-in")

log = get_logger(__name__)


async def leave(context: ConsoleContext, visit: Visit) -> Response:
    """Lead the browser to the provider, with a cookie that its answer has to fit to."""
    provider = context.provider
    if provider is None:
        return _not_set_up()
    attempt = Attempt(secrets.token_urlsafe(32))
    asked = partial(provider.authorization_url, attempt, redirect_uri=_redirect_uri(context, visit))
    try:
        with context.one_of_few(visit.visitor.address):
            url: str = await context.provider_calls.run(asked)
    except ProviderUnavailable as away:
        return _unavailable(away)
    answer = see_other(url)
    context.browsers.write(visit.request, answer, OIDC, attempt.seed, seconds=OIDC_SECONDS)
    return answer


async def come_back(context: ConsoleContext, visit: Visit) -> Response:
    """Begin a session for the person that the provider names. The attempt is over, whatever its outcome."""
    provider = context.provider
    answer = _not_set_up() if provider is None else await _signed_in(context, visit, provider)
    context.browsers.clear(visit.request, answer, OIDC)
    return answer


async def _signed_in(context: ConsoleContext, visit: Visit, provider: Provider) -> Response:
    try:
        with context.one_of_few(visit.visitor.address):
            secret: str = await context.provider_calls.run(partial(_session, context, visit, provider))
    except ProviderUnavailable as away:
        return _unavailable(away)
    except SignInRefused as refused:
        SIGN_INS.labels("oidc", "refused").inc()
        log.info("sign_in_refused", method="oidc", address=visit.visitor.address, reason=refused.reason)
        told = f"{refused.reason[0].upper()}{refused.reason[1:]}."
        return message("You are not signed in", told, status=403, action=AGAIN)
    except NotAllowed as refused:
        SIGN_INS.labels("oidc", "not_allowed").inc()
        log.info("sign_in_refused", method="oidc", address=visit.visitor.address, reason=refused.reason)
        told = f"{provider.name} knows you, and {refused.reason}."
        groups = refused.groups
        return message("No access", told, status=403, action=AGAIN, groups=groups, claim=provider.groups_claim)
    return begun(context, visit, secret, method="oidc", onward=START)


def _session(context: ConsoleContext, visit: Visit, provider: Provider) -> str:
    seed = context.browsers.read(visit.request, OIDC)
    if not seed:
        raise SignInRefused("it was not begun by this browser, or too long ago")
    answer, now = dict(visit.request.query_params), context.clock()
    redirect_uri = _redirect_uri(context, visit)
    person: Person = provider.person(Attempt(seed), answer, redirect_uri=redirect_uri, now=now)
    return single_sign_on.sign_in(
        context.database,
        person,
        context.groups,
        visitor=visit.visitor,
        lives=context.lives,
        now=now,
        former=context.browsers.read(visit.request, SESSION),
    )


def _redirect_uri(context: ConsoleContext, visit: Visit) -> str:
    return context.browsers.origin(visit.request) + CALLBACK


def _not_set_up() -> Response:
    told = "WAYLINK_OIDC_ISSUER names no identity provider. Sign in with a password."
    return message("Single sign-on is not set up", told, status=404, action=AGAIN)


def _unavailable(away: ProviderUnavailable) -> Response:
    SIGN_INS.labels("oidc", "unavailable").inc()
    log.warning("identity_provider_unavailable", problem=away.reason, then="operators with passwords can sign in")
    told = "The log of the web process says why. Operators with a password of Waylink's can sign in meanwhile."
    return message("The identity provider cannot be used now", told, status=503, action=AGAIN)

"""The environment's settings over REST, for an account API key: /environments/{id} (Nango contract: Environments API).

The answer's shape follows Nango's public documentation, since there is no recording of it.
"""

from typing import Any

from starlette.responses import Response

from app.sandbox.checks import Checks
from app.sandbox.context import SandboxCall
from app.sandbox.scopes import ACCOUNT_READ_SECRET, require
from app.sandbox.wire import RefusedError


def get_environment(call: SandboxCall) -> Response:
    """GET: the webhook settings; `with_secrets=true` adds the signing key."""
    _own(call)
    checks = Checks(call.query, code="invalid_query_params")
    with_secrets = checks.flag("with_secrets")
    checks.done()
    if with_secrets:
        require(call.scopes, ACCOUNT_READ_SECRET)
    return call.answer({"data": _shown(call, with_secrets=with_secrets)})


def change_environment(call: SandboxCall) -> Response:
    """PATCH: `webhooks` with any of its members; the others stay."""
    _own(call)
    checks = Checks(call.body, code="invalid_body")
    webhooks = checks.child("webhooks")
    settings, urls = call.sandbox.webhooks, {}
    if webhooks is not None:
        for name in ("primary_url", "secondary_url"):
            if webhooks.has(name):
                urls[name] = webhooks.optional_text(name, minimum=0, maximum=2048, nullable=True) or None
        switches = {name: webhooks.flag(name) for name in settings.switches if webhooks.has(name)}
        webhooks.strict()
    checks.done()
    if webhooks is not None:
        settings.switches.update(switches)
        settings.primary_url = urls.get("primary_url", settings.primary_url)
        settings.secondary_url = urls.get("secondary_url", settings.secondary_url)
    return call.answer({"data": _shown(call, with_secrets=False)})


def _own(call: SandboxCall) -> None:
    if call.path("environment_id").lower() != call.sandbox.config.environment_id:
        raise RefusedError(404, "not_found", "Environment not found")


def _shown(call: SandboxCall, *, with_secrets: bool) -> dict[str, Any]:
    sandbox, settings = call.sandbox, call.sandbox.webhooks
    urls = {"primary_url": settings.primary_url, "secondary_url": settings.secondary_url}
    secret = {"signing_key": sandbox.courier.signing_key} if with_secrets else {}
    return {
        "uuid": sandbox.config.environment_id,
        "name": sandbox.config.environment,
        "webhooks": {**urls, **settings.switches, **secret},
    }

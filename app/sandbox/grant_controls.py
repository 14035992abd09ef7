"""Controls of tokens and grants: an integration's rules, a connection's grant, and the provider's token endpoint."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final, TypeVar

from starlette.responses import Response

from app.sandbox import grants
from app.sandbox.checks import INTEGRATION, Checks
from app.sandbox.connections import path_connection_id, query_integration
from app.sandbox.context import SandboxCall
from app.sandbox.entities import SandboxConnection, SandboxIntegration
from app.sandbox.grants import Lapse, Renewing, Reuse, TokenRules, Told
from app.sandbox.integrations import new
from app.sandbox.issuing import grant_of, issue, lifetime_of
from app.sandbox.serialization import iso_z
from app.sandbox.wire import RefusedError

LONGEST: Final = 100 * 366 * 86_400.0  # seconds
_Word = TypeVar("_Word", bound=StrEnum)


def get_rules(call: SandboxCall) -> Response:
    """GET /sandbox/integrations/{key}: its provider and the rules of its tokens."""
    call.refuse_query()
    integration = call.sandbox.store.integrations.get(call.path("integration"))
    if integration is None:
        raise RefusedError(404, "not_found", "Integration does not exist")
    return call.answer(_shown_rules(integration))


def put_rules(call: SandboxCall) -> Response:
    """PUT /sandbox/integrations/{key}: the rules of its tokens; what is left out is the default.

    An unknown integration is made, with `provider` and `auth_mode` (OAUTH2). Connections keep the tokens that they
    have, and the rules hold for these, too.
    """
    key = call.path("integration")
    path = Checks({"integration": key}, code="invalid_uri_params")
    path.text("integration", pattern=INTEGRATION)
    path.done()
    checks = Checks(call.body, code="invalid_body")
    provider, auth_mode = checks.optional_text("provider"), checks.optional_text("auth_mode")
    margin = checks.number("margin", minimum=0, maximum=86_400)
    rules = TokenRules(
        access_life=checks.number("access_life", minimum=0, maximum=LONGEST),
        refresh_life=checks.number("refresh_life", minimum=0, maximum=LONGEST),
        grant_life=checks.number("grant_life", minimum=0, maximum=LONGEST),
        idle_limit=checks.number("idle_limit", minimum=0, maximum=LONGEST),
        rotates=checks.flag("rotates", default=True),
        reuse=_word(checks, "reuse", Reuse) or Reuse.REFUSED,
        tells=_word(checks, "tells", Told),
        tells_expiry=checks.flag("tells_expiry", default=True),
        renews=_word(checks, "renews", Renewing) or Renewing.DUE,
        margin=grants.NANGO_MARGIN if margin is None else margin,
    )
    checks.done()
    integration = call.sandbox.store.integrations.get(key) or new(
        key, provider or key, now=call.now, auth_mode=auth_mode or "OAUTH2"
    )
    integration = replace(integration, tokens=rules, provider=provider or integration.provider, updated_at=call.now)
    return call.answer(_shown_rules(call.sandbox.store.put_integration(integration)))


def get_grant(call: SandboxCall) -> Response:
    """GET /sandbox/connections/{id}?provider_config_key=: its grant at the provider, without tokens."""
    connection_id, key = path_connection_id(call), query_integration(call)
    connection = call.sandbox.store.find(key, connection_id)
    if connection is None:
        raise RefusedError(404, "not_found", "Failed to find connection")
    rules, grant = call.sandbox.integration(key).tokens, grant_of(connection)
    at, trouble = grants.deadline(rules, grant), connection.trouble
    return call.answer(
        {
            "authorized_at": iso_z(grant.authorized_at),
            "issued_at": iso_z(grant.issued_at),
            "used_at": iso_z(grant.used_at),
            "lapses_at": at and iso_z(at),
            "lapsed": grants.lapse(rules, grant, now=call.now),
            "failing_days": trouble.attempts if trouble else 0,
            "exhausted": bool(trouble and trouble.exhausted),
        }
    )


def moved(connection: SandboxConnection, checks: Checks, call: SandboxCall) -> SandboxConnection:
    """The connection with `renewed_ago` (seconds since its last renewal) and `revoked`, where they are given."""
    ago = checks.number("renewed_ago", minimum=0, maximum=LONGEST)
    revoked = checks.flag("revoked") if checks.has("revoked") else None
    grant = grant_of(connection)
    if ago is not None:
        at = call.now - timedelta(seconds=ago)
        grant = replace(grant, authorized_at=min(grant.authorized_at, at), issued_at=at, used_at=at)
    if revoked is not None:
        grant = replace(grant, ended=Lapse.REVOKED if revoked else None)
    return replace(connection, grant=grant)


def take_token(call: SandboxCall) -> Response:
    """POST /sandbox/provider/token: the provider's token endpoint, by which an application renews past Nango.

    Body: `refresh_token`. 200 and the token response, of which Nango learns nothing; 400 `invalid_grant`.
    """
    checks = Checks(call.body, code="invalid_body")
    token = checks.text("refresh_token", maximum=10_000)
    checks.done(tolerated=("grant_type", "client_id", "client_secret"))
    found = next((kept for kept in call.sandbox.store.connections() if token in _tokens(kept)), None)
    if found is None:
        return call.answer({"error": "invalid_grant"}, status=400)
    integration = call.sandbox.integration(found.integration)
    grant, refused = grants.present(integration.tokens, grant_of(found), token=token, now=call.now)
    given = found.credentials | {"refresh_token": token}
    raw: Mapping[str, Any] = {}
    if refused is None:
        lifetime = lifetime_of(call.sandbox, integration)
        renewed, grant = issue(integration, now=call.now, lifetime=lifetime, given=given, grant=grant)
        raw = renewed["raw"]
    call.sandbox.store.put(replace(found, grant=grant), now=call.now)
    return call.answer({"error": "invalid_grant"}, status=400) if refused else call.answer(raw)


def _tokens(connection: SandboxConnection) -> set[str | None]:
    grant = grant_of(connection)
    return {grant.token, grant.previous_token} - {None}


def _word(checks: Checks, name: str, words: type[_Word]) -> _Word | None:
    text = checks.optional_text(name, nullable=True)
    if text is None or text in list(words):
        return None if text is None else words(text)
    checks.custom(f"Expected one of {', '.join(words)}", name)
    return None


def _shown_rules(integration: SandboxIntegration) -> dict[str, Any]:
    facts = {"provider": integration.provider, "auth_mode": integration.auth_mode}
    return {"unique_key": integration.unique_key, **facts, **asdict(integration.tokens)}

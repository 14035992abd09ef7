"""Integrations and the few providers of a sandbox (Nango contract: Integrations)."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from starlette.responses import Response

from app.sandbox import scopes, serialization
from app.sandbox.checks import INTEGRATION, Checks
from app.sandbox.context import SandboxCall
from app.sandbox.entities import SandboxIntegration
from app.sandbox.wire import RefusedError


@dataclass(frozen=True, slots=True)
class Provider:
    display_name: str
    auth_mode: str


PROVIDERS: Final = {
    "private-api-bearer": Provider("Private API (Bearer Auth)", "API_KEY"),
    "private-api-basic": Provider("Private API (Basic Auth)", "BASIC"),
    "unauthenticated": Provider("Unauthenticated", "NONE"),
    "local-oauth2": Provider("Local OAuth 2.0", "OAUTH2"),
    "local-oauth2-cc": Provider("Local OAuth 2.0 (Client Credentials)", "OAUTH2_CC"),
}
_AT_START: Final = {
    "apikey": "private-api-bearer",
    "basic": "private-api-basic",
    "unauth": "unauthenticated",
    "oauth2": "local-oauth2",
    "oauth2-cc": "local-oauth2-cc",
}
_INCLUDABLE: Final = ("webhook", "credentials")
_DOCS: Final = "https://nango.dev/docs/integrations/all"


def at_start(now: datetime) -> tuple[SandboxIntegration, ...]:
    return tuple(new(key, provider, now=now) for key, provider in _AT_START.items())


def new(
    unique_key: str, provider: str, *, now: datetime, auth_mode: str | None = None, display_name: str | None = None
) -> SandboxIntegration:
    """A new integration; for an unknown provider, the auth mode has to be given."""
    known = PROVIDERS.get(provider)
    return SandboxIntegration(
        unique_key=unique_key,
        provider=provider,
        auth_mode=auth_mode or (known.auth_mode if known else "NONE"),
        display_name=display_name or (known.display_name if known else unique_key),
        forward_webhooks=True,
        created_at=now,
        updated_at=now,
    )


def list_integrations(call: SandboxCall) -> Response:
    call.refuse_query()
    integrations = call.sandbox.store.integrations.values()
    return call.answer({"data": [_shown(call, integration) for integration in integrations]})


def get_integration(call: SandboxCall) -> Response:
    checks = Checks(call.query, code="invalid_query_params")
    named = checks.raw("include")
    included = named if isinstance(named, list) else [named] if named is not None else []
    if unknown := [name for name in included if name not in _INCLUDABLE]:
        checks.custom(f"Expected one of {', '.join(_INCLUDABLE)}, not {len(unknown)} other", "include")
    checks.done()
    if "credentials" in included:
        scopes.require(call.scopes, scopes.INTEGRATIONS_CREDENTIALS)
    integration = _existing(call)
    shown = _shown(call, integration)
    if "credentials" in included:
        shown["credentials"] = _credentials(integration)
    if "webhook" in included:
        shown["webhook_url"] = f"{call.sandbox.config.public_url}/webhook/sandbox/{integration.unique_key}"
    return call.answer({"data": shown})


def create_integration(call: SandboxCall) -> Response:
    checks = Checks(call.body, code="invalid_body")
    provider, key = checks.text("provider"), checks.text("unique_key", pattern=INTEGRATION)
    name = checks.optional_text("display_name")
    checks.done(tolerated=("credentials", "forward_webhooks"))
    if provider not in PROVIDERS:
        issue = {"code": "invalid_string", "message": "Invalid provider", "path": ["provider"]}
        raise RefusedError(400, "invalid_body", issues=[issue])
    if key in call.sandbox.store.integrations:
        issue = {"code": "invalid_string", "message": "Unique key already exists", "path": ["uniqueKey"]}
        raise RefusedError(400, "invalid_body", issues=[issue])
    integration = call.sandbox.store.put_integration(new(key, provider, now=call.now, display_name=name))
    return call.answer({"data": _shown(call, integration)})


def delete_integration(call: SandboxCall) -> Response:
    """Delete an integration with its connections, without webhooks (Nango contract: When auth webhooks are sent)."""
    call.sandbox.store.delete_integration(_existing(call).unique_key, now=call.now)
    return call.answer({"success": True})


def get_provider(call: SandboxCall) -> Response:
    name = call.path("provider")
    provider = PROVIDERS.get(name)
    if provider is None:
        raise RefusedError(404, "not_found", f"Unknown provider {name}")
    data: dict[str, Any] = {
        "display_name": provider.display_name,
        "categories": ["other"],
        "auth_mode": provider.auth_mode,
        "proxy": {"headers": {"authorization": "Bearer ${apiKey}"}, "base_url": "https://my-private-api"},
        "docs": f"{_DOCS}/{name}",
        "docs_connect": f"{_DOCS}/{name}/connect",
        "credentials": {"apiKey": {"type": "string", "title": "API Key", "description": "Your API Key"}},
        "name": name,
        "logo_url": serialization.logo(name, public_url=call.sandbox.config.public_url),
    }
    if provider.auth_mode != "API_KEY":
        del data["proxy"], data["credentials"]
    return call.answer({"data": data})


def _credentials(integration: SandboxIntegration) -> dict[str, str] | None:
    """The application's own credentials at the provider: fake and constant."""
    if integration.auth_mode not in {"OAUTH1", "OAUTH2"}:
        return None
    name = integration.unique_key
    facts = {"client_id": f"sandbox-client-{name}", "client_secret": f"sandbox-secret-{name}", "scopes": ""}
    return {"type": integration.auth_mode, **facts}


def _existing(call: SandboxCall) -> SandboxIntegration:
    integration = call.sandbox.store.integrations.get(call.path("integration"))
    if integration is None:
        raise RefusedError(404, "not_found", f'Integration "{call.path("integration")}" does not exist')
    return integration


def _shown(call: SandboxCall, integration: SandboxIntegration) -> dict[str, Any]:
    return serialization.integration(integration, public_url=call.sandbox.config.public_url)

"""Endpoints for the integrations of an environment, and for what is known of providers."""

from typing import Annotated, Final

from msgspec import Meta, Struct

from app.config.provider_catalogue import shipped_catalogue, shown_line
from app.domain.access import Scope
from app.services.connections import integrations as service
from app.web.api.endpoint import Call, Endpoint, endpoint, record


class IntegrationQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    environment: Annotated[str, Meta(description="Of this environment.")] = "default"


class IntegrationRow(Struct, frozen=True, kw_only=True):
    """An integration as Nango has it. `integration`: its unique key, which connections and routes name."""

    integration: str
    provider: str
    display_name: str
    forward_webhooks: bool
    created_at: str | None
    updated_at: str | None


class Integrations(Struct, frozen=True, kw_only=True):
    """All integrations of an environment; Nango does not page them."""

    data: list[IntegrationRow]


class ProviderRow(Struct, frozen=True, kw_only=True):
    """Documented lives of the tokens of a group of providers; null where none is documented. `names`: Nango's.

    `renews`: `due`, by a plain read shortly before the expiry; `forced`; `introspected`; or `never`.
    """

    names: list[str]
    access_life: str | None
    refresh_life: str | None
    idle_limit: str | None
    rotates: bool | None
    reuse: str | None
    renews: str
    nango_margin: str
    note: str | None
    source: str
    read: str


class Providers(Struct, frozen=True, kw_only=True):
    """The catalogue that this release ships."""

    data: list[ProviderRow]


@endpoint("GET /integrations", scope=Scope.VIEWER, asks_nango=True)
def list_integrations(call: Call, query: IntegrationQuery) -> Integrations:
    """List the integrations that an environment has at Nango."""
    with call.operations() as operations:
        rows = service.integrations(operations, query.environment)
    return Integrations(data=[record(row, IntegrationRow) for row in rows])


@endpoint("GET /providers", scope=Scope.VIEWER)
def list_providers(call: Call) -> Providers:  # noqa: ARG001 - every endpoint takes its call
    """List what providers document about the lives of their tokens."""
    return Providers(data=[record(shown_line(line), ProviderRow) for line in shipped_catalogue().lines])


ENDPOINTS: Final[tuple[Endpoint, ...]] = (list_integrations, list_providers)

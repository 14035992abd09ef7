"""The endpoint that imports a connection from credentials that the application has."""

from typing import Any, Final

from msgspec import Struct

from app.domain.access import Scope
from app.services.connections import importing
from app.services.connections.importing import ConnectionDraft
from app.web.api.connection_edits import SessionOrganization, SessionUser, owner_of
from app.web.api.endpoint import Call, Endpoint, endpoint


class ImportBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`credentials` have the form that Nango's import takes, such as `{"type": "API_KEY", "apiKey": "…"}`.

    `connection_id`: left out, Nango makes one up; an existing connection gets these credentials, tags and metadata.
    """

    environment: str = "default"
    integration: str
    credentials: dict[str, Any]
    connection_id: str | None = None
    tags: dict[str, str] = {}
    user: SessionUser | None = None
    organization: SessionOrganization | None = None
    metadata: dict[str, Any] = {}
    connection_config: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return f"ImportBody(integration={self.integration!r}, credentials hidden)"


class ConnectionImported(Struct, frozen=True, kw_only=True):
    """The connection as Nango made it. Waylink lists it within about a second."""

    environment: str
    integration: str
    connection_id: str
    provider: str
    tags: dict[str, str]


@endpoint("POST /connections/import", scope=Scope.OPERATOR, asks_nango=True, holds_secret=True, status=201)
def import_connection(call: Call, body: ImportBody) -> ConnectionImported:
    """Make a connection at Nango from credentials that the application has, and link it by its tags.

    The credentials pass through and are not stored. Nango tries them first where the provider allows it.
    """
    draft = ConnectionDraft(
        integration=body.integration,
        credentials=body.credentials,
        connection_id=body.connection_id,
        tags=body.tags,
        owner=owner_of(body.user, body.organization),
        metadata=body.metadata,
        connection_config=body.connection_config,
    )
    with call.operations() as operations:
        made = importing.import_connection(operations, body.environment, draft, actor=call.actor)
    return ConnectionImported(
        environment=body.environment,
        integration=made.integration,
        connection_id=made.connection_id,
        provider=made.provider,
        tags=dict(made.tags),
    )


ENDPOINTS: Final[tuple[Endpoint, ...]] = (import_connection,)

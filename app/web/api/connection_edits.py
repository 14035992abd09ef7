"""Endpoints for a connection's tags and metadata, and for connect and reconnect sessions."""

from typing import Annotated, Any, Final

from msgspec import Meta, Struct

from app.domain.access import Scope
from app.ids import CONNECTION
from app.services.connections import metadata, sessions, tags
from app.services.connections.sessions import ConnectOptions, OpenedSession, SessionOwner
from app.services.connections.tags import TagChange
from app.web.api.endpoint import Call, Endpoint, endpoint
from app.web.api.reading import identity

_INTEGRATIONS: Final = Meta(description="Integrations the end user may choose from; all, if empty.")
_DEFAULTS: Final = Meta(description="By integration; see Nango's documentation.")
_OVERRIDE: Final = Meta(description="Where the connection's webhooks go instead. Waylink gets none of them then.")


class TagsBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`expected`: refuse (409) where Nango has other tags than these by now."""

    tags: dict[str, str]
    expected: dict[str, str] | None = None


class TagBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    value: str


class Tags(Struct, frozen=True, kw_only=True):
    """The tags as Nango has them. `changed_elsewhere`: they had been changed there without Waylink."""

    tags: dict[str, str]
    changed: bool
    changed_elsewhere: bool


class MetadataBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    metadata: dict[str, Any]


class Metadata(Struct, frozen=True, kw_only=True):
    metadata: dict[str, Any]


class SessionUser(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: str
    email: str | None = None
    display_name: str | None = None


class SessionOrganization(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: str
    display_name: str | None = None


class SessionOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    integrations_config_defaults: Annotated[dict[str, Any] | None, _DEFAULTS] = None
    overrides: Annotated[dict[str, Any] | None, _DEFAULTS] = None
    webhook_url_override: Annotated[str | None, _OVERRIDE] = None

    def options(self) -> ConnectOptions:
        return ConnectOptions(self.integrations_config_defaults, self.overrides, self.webhook_url_override)


class ConnectBody(SessionOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`user` and `organization` fill in the tags by which Waylink will link the connection."""

    environment: str = "default"
    tags: dict[str, str] = {}
    user: SessionUser | None = None
    organization: SessionOrganization | None = None
    allowed_integrations: Annotated[list[str], _INTEGRATIONS] = []


class ReconnectBody(SessionOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`tags`: all that the connection shall have afterwards. Left out, it keeps its own, wiped ones included."""

    tags: dict[str, str] | None = None


class Session(Struct, frozen=True, kw_only=True):
    """A secret until it expires: its holder can connect in the end user's name. `tags`: what it will set."""

    token: str
    connect_link: str
    expires_at: str | None
    tags: dict[str, str]

    def __repr__(self) -> str:
        return f"Session(secret hidden, expires_at={self.expires_at})"


@endpoint("PUT /connections/{con_id}/tags", scope=Scope.OPERATOR, asks_nango=True)
def set_tags(call: Call, con_id: str, body: TagsBody) -> Tags:
    """Replace all tags of a connection.

    They are read back from Nango; record and link follow within about a second, as after `connection.tags_changed`.
    """
    ref = identity(CONNECTION, con_id)
    with call.operations() as operations:
        return _tags(tags.set_tags(operations, ref, body.tags, expected=body.expected, actor=call.actor))


@endpoint("PUT /connections/{con_id}/tags/{key:path}", scope=Scope.OPERATOR, asks_nango=True)
def put_tag(call: Call, con_id: str, key: str, body: TagBody) -> Tags:
    """Add or change one tag, and leave the others."""
    with call.operations() as operations:
        return _tags(tags.add_tags(operations, identity(CONNECTION, con_id), {key: body.value}, actor=call.actor))


@endpoint("DELETE /connections/{con_id}/tags/{key:path}", scope=Scope.OPERATOR, asks_nango=True)
def remove_tag(call: Call, con_id: str, key: str) -> Tags:
    """Remove one tag, and leave the others."""
    with call.operations() as operations:
        return _tags(tags.remove_tags(operations, identity(CONNECTION, con_id), [key], actor=call.actor))


@endpoint("POST /connections/{con_id}/restore-tags", scope=Scope.OPERATOR, asks_nango=True)
def restore_tags(call: Call, con_id: str) -> Tags:
    """Put back the tags that carried the link of a connection in drift.

    Current tags that name no owner stay as they are. Without a drift, or where its tags are not known, the answer is
    409.
    """
    with call.operations() as operations:
        return _tags(tags.restore_tags(operations, identity(CONNECTION, con_id), actor=call.actor))


@endpoint("GET /connections/{con_id}/metadata", scope=Scope.VIEWER, asks_nango=True)
def get_metadata(call: Call, con_id: str) -> Metadata:
    """Get a connection's metadata from Nango; Waylink does not store it."""
    with call.operations() as operations:
        return Metadata(metadata=dict(metadata.get_metadata(operations, identity(CONNECTION, con_id))))


@endpoint("PUT /connections/{con_id}/metadata", scope=Scope.OPERATOR, asks_nango=True)
def set_metadata(call: Call, con_id: str, body: MetadataBody) -> None:
    """Replace a connection's metadata."""
    with call.operations() as operations:
        metadata.set_metadata(operations, identity(CONNECTION, con_id), body.metadata, actor=call.actor)


@endpoint("PATCH /connections/{con_id}/metadata", scope=Scope.OPERATOR, asks_nango=True)
def update_metadata(call: Call, con_id: str, body: MetadataBody) -> None:
    """Merge into a connection's metadata, on its first level."""
    with call.operations() as operations:
        metadata.update_metadata(operations, identity(CONNECTION, con_id), body.metadata, actor=call.actor)


@endpoint("POST /connect-sessions", scope=Scope.OPERATOR, asks_nango=True, holds_secret=True, status=201)
def create_connect_session(call: Call, body: ConnectBody) -> Session:
    """Open a session with which an end user connects.

    Hand `token` or `connect_link` to the end user's browser. Until it expires it can make several connections.
    """
    with call.operations() as operations:
        made = sessions.connect(
            operations,
            body.environment,
            tags=body.tags,
            owner=owner_of(body.user, body.organization),
            allowed_integrations=body.allowed_integrations,
            options=body.options(),
            actor=call.actor,
        )
    return _session(made)


@endpoint(
    "POST /connections/{con_id}/reconnect-sessions",
    scope=Scope.OPERATOR,
    asks_nango=True,
    holds_secret=True,
    status=201,
)
def create_reconnect_session(call: Call, con_id: str, body: ReconnectBody) -> Session:
    """Open a session with which an end user authorizes a connection again.

    Waylink sends the connection's tags along, since Nango would wipe them.
    """
    ref = identity(CONNECTION, con_id)
    with call.operations() as operations:
        return _session(sessions.reconnect(operations, ref, tags=body.tags, options=body.options(), actor=call.actor))


def owner_of(user: SessionUser | None, organization: SessionOrganization | None) -> SessionOwner:
    return SessionOwner(
        user_id=user.id if user else None,
        user_email=user.email if user else None,
        user_name=user.display_name if user else None,
        organization_id=organization.id if organization else None,
        organization_name=organization.display_name if organization else None,
    )


def _tags(change: TagChange) -> Tags:
    return Tags(tags=dict(change.tags), changed=change.changed, changed_elsewhere=change.elsewhere)


def _session(made: OpenedSession) -> Session:
    return Session(
        token=made.token,
        connect_link=made.connect_link,
        expires_at=made.expires_at.isoformat() if made.expires_at else None,
        tags=dict(made.tags),
    )


ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    set_tags,
    put_tag,
    remove_tag,
    restore_tags,
    get_metadata,
    set_metadata,
    update_metadata,
    create_connect_session,
    create_reconnect_session,
)

"""Connect sessions, which an application hands to an end user. A reconnect never loses the tags."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from app.domain import tags as tag_rules
from app.domain.json_values import JsonObject
from app.domain.linking import TagKeys, restored_tags
from app.errors import FieldFault, InvalidFields
from app.nango.types import ConnectSession
from app.services.connections.current_tags import known_tags
from app.services.connections.operations import (
    Operations,
    read_connection,
    remaining,
    require_not_deleted,
    require_same,
)


@dataclass(frozen=True, slots=True)
class SessionOwner:
    """The future owner of a connection, by the application's own ids; its tags are filled in."""

    user_id: str | None = None
    user_email: str | None = None
    user_name: str | None = None
    organization_id: str | None = None
    organization_name: str | None = None


@dataclass(frozen=True, slots=True)
class ConnectOptions:
    """Options that Nango takes besides the tags (Nango contract: Connect sessions)."""

    integrations_config_defaults: JsonObject | None = None
    overrides: JsonObject | None = None
    webhook_url_override: str | None = None


@dataclass(frozen=True, slots=True)
class OpenedSession:
    """A session, which is a secret until it expires, and the tags its connections get."""

    token: str
    connect_link: str
    expires_at: datetime | None  # None where Nango's answer leaves it out
    tags: Mapping[str, str]

    def __repr__(self) -> str:
        return f"OpenedSession(secret hidden, expires_at={self.expires_at})"


def connect(
    operations: Operations,
    environment: str,
    *,
    tags: Mapping[str, str],
    owner: SessionOwner,
    allowed_integrations: Sequence[str],
    options: ConnectOptions,
    actor: str,
) -> OpenedSession:
    """Open a session for new connections. Raises InvalidTags and InvalidFields before Nango is asked, NangoError."""
    wanted = with_owner(tags, owner, operations.policy.tag_keys)
    client = operations.client(environment)
    detail = {"keys": sorted(wanted), "integrations": list(allowed_integrations)}
    with operations.audited(actor=actor, action="session.created", subject=environment, **detail):
        made = client.create_connect_session(
            tags=wanted,
            allowed_integrations=allowed_integrations,
            integrations_config_defaults=options.integrations_config_defaults,
            overrides=options.overrides,
            webhook_url_override=options.webhook_url_override,
            timeout=remaining(operations.ends_at()),
        )
    return _opened(made, wanted)


def reconnect(
    operations: Operations, connection_ref: UUID, *, tags: Mapping[str, str] | None, options: ConnectOptions, actor: str
) -> OpenedSession:
    """Open a session to authorize a connection again. Without `tags` the connection keeps its own.

    During a drift it gets back the tags that carried its link.

    Nango takes a session's tags for the connection's, and a session without any wipes them
    (Nango contract: Tag replacement), so they are always sent. Raises what `connect` raises, NotFound and Conflict.
    """
    connection = operations.find(connection_ref)
    require_not_deleted(connection)
    wanted = tag_rules.normalize(tags) if tags is not None else None
    client, ends_at = operations.client(connection.environment), operations.ends_at()
    with operations.audited(actor=actor, action="session.recreated", subject=connection.shown) as audited:
        if wanted is None:
            fetched = read_connection(client, connection, ends_at=ends_at)
            require_same(connection, fetched)
            # The list lags: where only it can be read, the last known tags are newer.
            read = fetched.snapshot.tags
            wanted = dict(read if fetched.exact else known_tags(operations, connection).tags or read)
            if connection.known_tags is not None:
                wanted = restored_tags(connection.known_tags, wanted, operations.policy.tag_keys)
        audited.detail["keys"] = sorted(wanted)
        made = client.create_reconnect_session(
            connection.integration,
            connection.connection_id,
            tags=wanted,
            integrations_config_defaults=options.integrations_config_defaults,
            overrides=options.overrides,
            webhook_url_override=options.webhook_url_override,
            timeout=remaining(ends_at),
        )
    return _opened(made, wanted)


def with_owner(tags: Mapping[str, str], owner: SessionOwner, keys: TagKeys) -> dict[str, str]:
    """The tags, completed by those that name the owner.

    Raises InvalidTags, and InvalidFields where a tag and `owner` contradict each other.
    """
    named = {
        keys.user_id: owner.user_id,
        keys.user_email: owner.user_email,
        keys.user_name: owner.user_name,
        keys.organization_id: owner.organization_id,
        keys.organization_name: owner.organization_name,
    }
    filled = {key: value for key, value in named.items() if value is not None}
    by_tag = {key.lower(): value for key, value in tag_rules.normalize(tags).items()}
    faults = [
        FieldFault(f"tags.{key}", "contradiction", "the tag and the owner that was given differ: give one of them")
        for key in sorted(filled.keys() & by_tag.keys())
        if filled[key] != by_tag[key]
    ]
    if faults:
        raise InvalidFields(faults)
    return tag_rules.normalize(by_tag | filled)


def _opened(made: ConnectSession, tags: Mapping[str, str]) -> OpenedSession:
    return OpenedSession(made.token, made.connect_link, made.expires_at, tags)

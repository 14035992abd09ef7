"""Import of a connection into Nango from credentials that the application has.

The credentials pass through memory only. Opens short transactions, none while Nango is asked.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.domain import tags as tag_rules
from app.domain.event import EventType
from app.domain.json_values import JsonObject
from app.domain.own_event import OwnEvent
from app.nango.types import ConnectionDetail
from app.services.connections.operations import Operations, remaining
from app.services.connections.sessions import SessionOwner, with_owner
from app.services.events.lookups import snapshot_of


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedConnection:
    """A connection that an import made or changed. tags: as Nango has them."""

    integration: str
    connection_id: str
    provider: str
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionDraft:
    """A connection to be imported. credentials: `{"type": …}` and its members (Nango contract: Credential types).

    connection_id: None lets Nango make one up; an existing one's credentials, tags and metadata are replaced.
    """

    integration: str
    credentials: JsonObject = field(repr=False)
    tags: Mapping[str, str]
    owner: SessionOwner
    connection_id: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    connection_config: JsonObject | None = field(default=None, repr=False)


def import_connection(
    operations: Operations, environment: str, draft: ConnectionDraft, *, actor: str
) -> ImportedConnection:
    """Make the connection at Nango, and store `connection.created` of it, which the workers link and route once.

    Raises InvalidTags, InvalidFields and InvalidInput before Nango is asked, NangoUnknownIntegration,
    NangoCredentialsRefused and other NangoErrors.
    """
    wanted = with_owner(tag_rules.normalize(draft.tags), draft.owner, operations.policy.tag_keys)
    client, ends_at = operations.client(environment), operations.ends_at()
    subject = f"{environment}/{draft.integration}/{draft.connection_id or '(made by Nango)'}"
    with operations.audited(actor=actor, action="connection.imported", subject=subject, keys=sorted(wanted)) as audited:
        made = client.import_connection(
            draft.integration,
            draft.credentials,
            tags=wanted,
            metadata=dict(draft.metadata),
            connection_id=draft.connection_id,
            connection_config=draft.connection_config,
            timeout=remaining(ends_at),
        )
        audited.detail["connection_id"] = made.connection_id
        with operations.database.write() as session:
            operations.store(session, [_created(made)], environment=environment)
            audited.conclude(session)
    return ImportedConnection(
        integration=made.integration, connection_id=made.connection_id, provider=made.provider, tags=dict(made.tags)
    )


def _created(made: ConnectionDetail) -> OwnEvent:
    """The event of a new connection; of one that was replaced it brings the record up to date, and routes nothing."""
    return OwnEvent(
        type=EventType.CONNECTION_CREATED,
        integration=made.integration,
        connection_id=made.connection_id,
        lookup=snapshot_of(made),
    )

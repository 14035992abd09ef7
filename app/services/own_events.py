"""Events of Waylink's own: found at Nango, or caused by an operator. They are stored, and processed as all others."""

from collections.abc import Collection, Sequence
from datetime import datetime
from functools import partial
from uuid import UUID

from sqlalchemy.orm import Session

from app.db import events as event_rows
from app.db.connections import ConnectionState
from app.domain.confirming import EDIT_LAG, Absent, Snapshot
from app.domain.event import EventType
from app.domain.own_event import OwnEvent, readable, write_own
from app.domain.refreshing.outcomes import CRASHED, TOKEN_EXPIRED
from app.domain.states import Origin


def store(
    session: Session,
    found: Sequence[OwnEvent],
    *,
    environment: str,
    origin: Origin,
    now: datetime,
    connection_ref: UUID | None = None,
) -> list[UUID]:
    """Store the events as received. Returns their ids, in order, to be hinted after the commit.

    connection_ref: row id of the connection that all are about, where it is stored.

    Raises ValueError for the origin webhook, which is for what Nango posted.
    """
    if origin is Origin.WEBHOOK:
        raise ValueError("an event of our own has an origin of our own")
    bodies = [write_own(event) for event in found]
    return event_rows.insert_own(
        session, bodies, environment=environment, origin=origin, now=now, connection_ref=connection_ref
    )


def edits_before(session: Session, snapshots: Collection[tuple[UUID, Snapshot]]) -> dict[UUID, Snapshot]:
    """The tags that operators last wrote or read by id, where these snapshots may be older; by connection's row id.

    snapshots: of the list, with their connections' row ids.
    """
    if not snapshots:
        return {}
    since = min(snapshot.observed_at for _, snapshot in snapshots) - EDIT_LAG
    refs = {connection_ref for connection_ref, _ in snapshots}
    stored = event_rows.own_since(session, refs, origin=Origin.OPERATOR, since=since)
    edits = [(connection_ref, edit) for connection_ref, body in stored for edit in readable([body])]
    return {
        connection_ref: edit.lookup
        for connection_ref, edit in edits
        if edit.type is EventType.CONNECTION_TAGS_CHANGED and isinstance(edit.lookup, Snapshot)
    }


def news_in(
    connection: ConnectionState, lookup: Snapshot | Absent, *, asked_at: datetime, token_lives: bool | None
) -> list[OwnEvent]:
    """The events that a GET's answer calls for, by comparison with the stored connection.

    token_lives: whether the credentials in the answer have not expired; None where it held none.
    """
    if connection.observed_at is not None and asked_at < connection.observed_at:
        return []  # a newer snapshot was stored while Nango was asked
    event = partial(OwnEvent, integration=connection.integration, connection_id=connection.connection_id, lookup=lookup)
    if isinstance(lookup, Absent):
        return [event(type=EventType.CONNECTION_DELETED)]
    if connection.nango_id != lookup.nango_id:
        return [event(type=EventType.CONNECTION_CREATED)]
    found = []
    if dict(lookup.tags) != connection.tags:
        found.append(event(type=EventType.CONNECTION_TAGS_CHANGED))
    if not lookup.auth_failing and _is_over(connection.last_error_type, token_lives=token_lives):
        found.append(event(type=EventType.CONNECTION_RECOVERED))
    return found


def _is_over(error_type: str | None, *, token_lives: bool | None) -> bool:
    """Whether this error is over, now that Nango shows none. An expired token is no recovery."""
    if error_type == TOKEN_EXPIRED:
        return token_lives is True  # Nango never showed this one: only a new token ends it
    return error_type not in {None, CRASHED} and token_lives is not False

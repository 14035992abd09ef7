"""The freshest known tags of a connection: from Nango by its id, else from Nango's list or our own record.

Opens short transactions, none while Nango is asked.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from app.db import events as event_rows
from app.domain.confirming import Snapshot
from app.domain.own_event import readable
from app.domain.states import Origin
from app.services.connections.operations import FetchedConnection, Operations, StoredConnection

LAG: Final = timedelta(seconds=60)  # of the replica behind Nango's list, as in confirmation (promise 3)
PENDING_EDITS: Final = timedelta(days=1)  # how far back unprocessed events of edits are searched


@dataclass(frozen=True, slots=True)
class KnownTags:
    """The newest tags that Waylink saw. `observed_at` is None where a webhook's body alone showed them."""

    tags: Mapping[str, str]
    observed_at: datetime | None


def known_tags(operations: Operations, connection: StoredConnection) -> KnownTags:
    """Tags of the newest edit whose event is not processed yet, else those of the record.

    The record is read again: between the first read and Nango's answer, the event of an earlier edit may have been
    stored or processed.
    """
    with operations.database.read() as session:
        # Events before the record: one that is processed between the two reads is in the record then.
        bodies = event_rows.own_waiting(
            session, connection.ref, origin=Origin.OPERATOR, since=operations.clock() - PENDING_EDITS
        )
    record = operations.find(connection.ref)
    for lookup in (event.lookup for event in readable(bodies)):
        if isinstance(lookup, Snapshot) and (record.observed_at is None or record.observed_at <= lookup.observed_at):
            return KnownTags(lookup.tags, lookup.observed_at)
    return KnownTags(record.tags, record.observed_at)


def freshest(fetched: FetchedConnection, ours: KnownTags) -> FetchedConnection:
    """The connection with the tags that an edit has to start from.

    Where only the list can be read, it may lag behind an edit of ours, which would then be undone.
    """
    if fetched.exact:
        return fetched
    if ours.observed_at is None or ours.observed_at < fetched.snapshot.observed_at - LAG:
        return fetched
    return replace(fetched, snapshot=replace(fetched.snapshot, tags=dict(ours.tags)))

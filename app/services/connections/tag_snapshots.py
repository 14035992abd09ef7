"""The tags of a connection, as far as they can be known: by its id from Nango, else by the list or by what we know."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from app.db import events as event_rows
from app.domain.confirming import View
from app.domain.own_event import readable
from app.domain.states import Origin
from app.services.connections.operations import Desk, Seen, Subject

LAG: Final = timedelta(seconds=60)  # that the list's replica may have, as confirmation waits for it (promise 3)
ON_ITS_WAY: Final = timedelta(days=1)  # for an edit's event; what has waited for longer is not looked for


@dataclass(frozen=True, slots=True)
class Known:
    """The newest tags that Waylink saw. `observed_at` None: by a body alone."""

    tags: Mapping[str, str]
    observed_at: datetime | None


def known(desk: Desk, subject: Subject) -> Known:
    """Those of an edit of ours whose event is on its way to the record, else the record's.

    The record is read again: between the first read and Nango's answer, the event of an earlier edit may have been
    stored or have arrived in it.
    """
    with desk.database.read() as session:
        # First these: one that arrives between the two looks is in the record then.
        bodies = event_rows.own_waiting(session, subject.ref, origin=Origin.OPERATOR, since=desk.clock() - ON_ITS_WAY)
    record = desk.subject(subject.ref)
    for look in (one.look for one in readable(bodies)):
        if isinstance(look, View) and (record.observed_at is None or record.observed_at <= look.observed_at):
            return Known(look.tags, look.observed_at)
    return Known(record.tags, record.observed_at)


def current(seen: Seen, ours: Known) -> Seen:
    """The connection as an edit has to take it.

    Where only the list can be read, it may lag behind an edit of ours, which would then be undone.
    """
    if seen.exact:
        return seen
    if ours.observed_at is None or ours.observed_at < seen.view.observed_at - LAG:
        return seen
    return replace(seen, view=replace(seen.view, tags=dict(ours.tags)))

"""Pages of events by a search (`app.domain.search`), within a bounded number of rows, however many there are.

Tags, owners, integrations, providers and ids of connections are those of connections as they are now, and are looked up
there first. With MOST_CONNECTIONS or fewer, the index of events by connection leads to their events over the whole
history, and that of events without a connection to those that say the same themselves. With more, and for what only
events have, a page looks at the newest rows, and says how far it came. A team's searches go by what its events say.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import JSON, ColumnElement, Select, Uuid, cast, func, or_, select, text, true, type_coerce
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from app.db import bulk
from app.db.models import Event
from app.db.read import searching
from app.db.read.searched_connections import PERSON_TAGS, Conditions, Rows, Wanted, contains, event_id_of, has
from app.db.read.searching import Page, Place
from app.db.read.tag_conditions import tagged_by_one
from app.domain.search import Field, Search, types_of
from app.ids import EVENT, show

AT_MOST: Final = 20_000  # rows that a page looks at
# As the index of these events has it.
_ALONE: Final = text("events.connection_ref IS NULL AND events.type IS NOT NULL")
_FURTHER: Final = (
    Field.TAG,
    Field.TEXT,
    Field.NAME,
    Field.CONTAINING,
    Field.USER,
    Field.ORGANIZATION,
    Field.INTEGRATION,
    Field.PROVIDER,
    Field.CONNECTION,
)
Read = Callable[[Select[Any]], Iterable[dict[str, Any]]]


def looks_further(search: Search) -> bool:
    """Whether a search asks for more than `conditions` and the times and the id of `ListFilters` have."""
    return bool(search.of(*_FURTHER))


def conditions(search: Search, of: Any) -> Conditions:
    """Conditions on what an event's own columns have. of: `Event`, or a subquery with its columns."""
    found: Conditions = []
    for term in search.of(Field.STATE, Field.ORIGIN, Field.ENVIRONMENT):
        found.append(getattr(of, term.field.value) == term.value)
    for term in search.of(Field.TYPE):
        found.append(of.type.in_(types_of(term.value)))
    return found


def page_of(
    session: Session,
    statement: Select[Any],
    search: Search,
    *,
    own: Rows,
    place: Place,
    team: str | None,
    read: Read,
) -> Page:
    """A page of the statement, which has `own` conditions, order and limit, of the events that meet the search."""
    if place.search is not None:
        place = Place(before=place.before, after=place.after, limit=place.limit, search=min(place.search, AT_MOST))
    if team is not None:
        statement = statement.where(*as_told(bulk.dialect(session), search))
        return searching.page_of(session, statement, Event.id, EVENT, place=place, read=read)
    wanted = Wanted(session, search)
    refs = wanted.connections() if wanted.is_of_connections else None
    statement = statement.where(*wanted.texts(Event))
    if refs is None:
        statement = statement.where(*wanted.rows())
        return searching.page_of(session, statement, Event.id, EVENT, place=place, read=read)

    def narrowed(of: Any) -> Conditions:
        return [*own(of), *wanted.texts(of)]

    found = _OfConnections(session, refs, narrowed, place)
    return found.page(statement, wanted.alone(), read)


def as_told(dialect: str, search: Search) -> Conditions:
    """Conditions on events by what they say themselves, in place of all that `Wanted` looks up."""
    found: Conditions = [has(dialect, Event.tags, {term.name: term.value}) for term in search.of(Field.TAG)]
    document = type_coerce(Event.document, JSON)
    for term in search.of(Field.CONNECTION):
        found.append(Event.connection_id == term.value)
    for term in search.of(Field.INTEGRATION):
        found.append(Event.integration == term.value)
    for term in search.of(Field.PROVIDER):
        found.append(document["provider"].as_string() == term.value)
    for term in search.of(Field.USER):
        is_id, is_email, _ = _is_owner(document, term.value)
        found.append(or_(is_id, is_email))
    for term in search.of(Field.ORGANIZATION):
        found.append(_is_owner(document, term.value)[2])
    for term in search.of(Field.NAME):
        is_person = tagged_by_one(dialect, Event.tags, PERSON_TAGS, term.value)
        found.append(or_(Event.connection_id == term.value, is_person, *_is_owner(document, term.value)))
    found += [contains(Event, term.value) for term in search.of(Field.CONTAINING)]
    for term in search.of(Field.TEXT):
        event_id = event_id_of(term.value)
        found.append(contains(Event, term.value) if event_id is None else Event.id == event_id)
    return found


def _is_owner(document: Any, word: str) -> tuple[ColumnElement[bool], ColumnElement[bool], ColumnElement[bool]]:
    """Conditions on the owner that an event tells of: a user's id, a user's e-mail address, an organization's id."""
    user, organization = document["user"], document["organization"]
    return (
        user["external_id"].as_string() == word,
        func.lower(user["email"].as_string()) == word.lower(),
        organization["external_id"].as_string() == word,
    )


class _OfConnections:
    """Pages of events of some connections, and of those without one. own: conditions on both."""

    def __init__(self, session: Session, refs: Sequence[UUID], own: Rows, place: Place) -> None:
        self._session, self._refs, self._own, self._place = session, refs, own, place
        self._most = place.search or AT_MOST
        self._each = max(place.limit, self._most // max(len(refs), 1))  # of a connection

    def page(self, statement: Select[Any], alone: Conditions, read: Read) -> Page:
        """alone: conditions on events without a connection. The next page begins where all of both are known."""
        rows, end, limit = list[dict[str, Any]](), self._end_alone(), self._place.limit
        if self._refs:
            rows += read(statement.where(self._is_among_newest()))
            end = max(filter(None, (end, self._end if len(rows) < limit else None)), default=None)
        apart = statement.where(_ALONE, *alone)
        rows += read(apart.where(Event.id >= end) if end is not None else apart)
        found = sorted(rows, key=lambda row: str(row["id"]), reverse=True)
        if end is None or (self._place.after is not None and end < self._place.after):
            return Page(found[:limit])
        reached = show(EVENT, end)
        page = Page([row for row in found if row["id"] >= reached][:limit])
        if len(page) < limit:
            page.searched_to = reached
        return page

    def _is_among_newest(self) -> ColumnElement[bool]:
        if bulk.dialect(self._session) != "postgresql":
            return Event.connection_ref.in_(self._refs)
        values, mine = self._newest(select(Event))
        newest = mine.limit(self._each).lateral("newest")
        found = select(newest.c.id).select_from(values.join(newest, true())).where(*self._own(newest.c))
        return Event.id.in_(found.order_by(newest.c.id.desc()).limit(self._place.limit))

    @property
    def _end(self) -> UUID | None:
        """The id down to which all events of the connections were looked at; None where none is left."""
        if bulk.dialect(self._session) != "postgresql":
            return None
        values, mine = self._newest(select(Event.id))
        last = mine.offset(self._each - 1).limit(1).lateral("last")
        ends = select(last.c.id).select_from(values.join(last, true()))
        found: UUID | None = self._session.scalar(ends.order_by(last.c.id.desc()).limit(1))
        return found

    def _newest(self, columns: Select[Any]) -> tuple[Any, Select[Any]]:
        """The connections as rows of PostgreSQL, and the events of each, newest first."""
        refs = func.unnest(cast([str(ref) for ref in self._refs], ARRAY(Uuid(as_uuid=False))), type_=Uuid())
        values = refs.table_valued("ref").render_derived()
        mine = columns.where(Event.connection_ref == values.c.ref).order_by(Event.id.desc())
        before, after = self._place.before, self._place.after
        mine = mine.where(Event.id < before) if before is not None else mine
        return values, mine.where(Event.id >= after) if after is not None else mine

    def _end_alone(self) -> UUID | None:
        """The id of the last event without a connection that a page looks at; None where fewer are left."""
        ids = select(Event.id).where(_ALONE).order_by(Event.id.desc()).offset(self._most - 1).limit(1)
        before = self._place.before
        found: UUID | None = self._session.scalar(ids.where(Event.id < before) if before is not None else ids)
        return found

"""The connections that a search (`app.domain.search`) means, and conditions on events by them."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Select,
    Text,
    cast,
    false,
    func,
    literal,
    or_,
    select,
    tuple_,
    type_coerce,
    union_all,
)
from sqlalchemy.orm import Session

from app.db import bulk
from app.db.models import Connection, Event, Link, Organization, User
from app.db.read.tag_conditions import tagged, tagged_by_one
from app.domain.search import Field, Search, Term
from app.errors import InvalidInput
from app.ids import EVENT, parse

MOST_CONNECTIONS: Final = 2_000  # whose events are looked up by the index
MOST_INTEGRATIONS: Final = 500
MOST_OWNERS: Final = 20  # users of one e-mail address
PERSON_TAGS: Final = (  # of end users and organizations, by Nango's names
    "end_user_id",
    "end_user_email",
    "end_user_display_name",
    "organization_id",
    "organization_display_name",
)
Conditions = list[ColumnElement[bool]]
Rows = Callable[[Any], Conditions]  # conditions on the rows of `Event`, or of a subquery with its columns


@dataclass(frozen=True, slots=True)
class Source:
    """An integration of an environment that has connections."""

    environment: str
    integration: str
    provider: str | None


def sources(session: Session) -> list[Source]:
    """The integrations that have connections, by environment and name; MOST_INTEGRATIONS at most.

    Each is a step along the unique index, which is not read as a whole.
    """
    key, found = (Connection.environment, Connection.integration), list[Source]()
    following = select(*key, Connection.provider).order_by(*key).limit(1)
    row = session.execute(following).first()
    while row is not None and len(found) < MOST_INTEGRATIONS:
        found.append(Source(*row))
        row = session.execute(following.where(tuple_(*key) > tuple_(literal(row[0]), literal(row[1])))).first()
    return found


def named(dialect: str, word: str) -> CompoundSelect[Any]:
    """The connections with this id, or whose owner or end user has this id, e-mail address or name.

    Each part of the union has an index, but those by tags on SQLite.
    """
    user = select(User.id).where(is_user(word))
    organization = select(Organization.id).where(Organization.external_id == word)
    owned = select(Link.connection_ref).where(Link.closed_at.is_(None))
    return union_all(
        select(Connection.id).where(Connection.connection_id == word),
        owned.where(Link.user_id.in_(user)),
        owned.where(Link.organization_id.in_(organization)),
        select(Connection.id).where(tagged_by_one(dialect, Connection.tags, PERSON_TAGS, word)),
    )


def is_user(word: str) -> ColumnElement[bool]:
    """The condition that a user has this id or e-mail address."""
    return or_(User.external_id == word, func.lower(User.email) == word.lower())


def is_name(session: Session, word: str) -> bool:
    """Whether a connection is `named` so."""
    return session.scalar(named(bulk.dialect(session), word).limit(1)) is not None


def resolved(session: Session, search: Search) -> Search:
    """The search for events with each word as `name:` or as `containing:`, but for ids of events.

    So it means the same rows for as long as an act on them takes, which itself may store connections.
    """
    return Search(tuple(_resolved(session, term) for term in search.terms))


def _resolved(session: Session, term: Term) -> Term:
    if term.field is not Field.TEXT or event_id_of(term.value) is not None:
        return term
    is_known = is_name(session, term.value) or _is_unknown(session, term.value)
    return Term(Field.NAME if is_known else Field.CONTAINING, term.value, at=term.at)


def _is_unknown(session: Session, word: str) -> bool:
    """Whether it is the id of a connection that events name and that is not known."""
    unknown = Event.connection_ref.is_(None), Event.connection_id.is_not(None), Event.connection_id == word
    return session.scalar(select(Event.id).where(*unknown).limit(1)) is not None


class Wanted:
    """A search for events, with what it names looked up. texts: conditions of words that are no names."""

    def __init__(self, session: Session, search: Search) -> None:
        search = resolved(session, search)
        self._session, self._search, self._dialect = session, search, bulk.dialect(session)
        self._texts = [term.value for term in search.of(Field.CONTAINING)]
        self._event_ids = [found for term in search.of(Field.TEXT) if (found := event_id_of(term.value)) is not None]
        self._named: list[tuple[str, Field, Any]] = []  # a word or id that is a name, and its connections as a select
        self._tags = {term.name: term.value for term in search.of(Field.TAG)}
        self._users = self._of(Field.USER, self._users_of)
        self._organizations = self._of(Field.ORGANIZATION, self._organizations_of)
        self._sources = self._find_sources()
        for term in search.of(Field.CONNECTION):
            its = select(Connection.id).where(Connection.connection_id == term.value)
            self._named.append((term.value, term.field, its))
        self._named += [(term.value, term.field, named(self._dialect, term.value)) for term in search.of(Field.NAME)]

    def texts(self, of: Any) -> Conditions:
        """Conditions of words that name no connection."""
        ids: Conditions = [of.id == event_id for event_id in self._event_ids]
        return [*ids, *(contains(of, word) for word in self._texts)]

    @property
    def is_of_connections(self) -> bool:
        """Whether it asks for anything that connections have."""
        asked = (self._users, self._organizations, self._sources)
        return bool(self._named or self._tags) or any(each is not None for each in asked)

    @property
    def is_narrowed(self) -> bool:
        """Whether it has words that name no connection."""
        return bool(self._texts or self._event_ids)

    @property
    def is_one_event(self) -> bool:
        return bool(self._event_ids)

    def connections(self) -> list[UUID] | None:
        """The connections that are meant; None for more than MOST_CONNECTIONS."""
        statement = select(Connection.id).limit(MOST_CONNECTIONS + 1)
        if owned := self._owned(Link.user_id, Link.organization_id):
            joined = (Link.connection_ref == Connection.id) & Link.closed_at.is_(None)
            statement = statement.join(Link, joined).where(*owned)
        if self._sources is not None:
            pairs = [(each.environment, each.integration) for each in self._sources]
            statement = statement.where(tuple_(Connection.environment, Connection.integration).in_(pairs))
        if self._tags:
            statement = statement.where(*tagged(self._dialect, Connection.tags, self._tags))
        for _word, _field, refs in self._named:
            statement = statement.where(Connection.id.in_(refs))
        found = list(self._session.scalars(statement))
        return found if len(found) <= MOST_CONNECTIONS else None

    def rows(self) -> Conditions:
        """Conditions on events by their connections as these are now, each a look into an index per row."""
        found, alone = self._of_integrations(), Event.connection_ref.is_(None)
        if owned := self._owned(Link.user_id, Link.organization_id):
            mine = Link.connection_ref == Event.connection_ref, Link.closed_at.is_(None)
            found.append(_exists(select(literal(1)).where(*mine, *owned)))
        if self._tags:
            tags = tagged(self._dialect, Connection.tags, self._tags)
            its = _exists(select(literal(1)).where(Connection.id == Event.connection_ref, *tags))
            found.append(or_(its, alone & has(self._dialect, Event.tags, self._tags)))
        for word, field, refs in self._named:
            found.append(or_(Event.connection_ref.in_(refs), alone & self._names(word, field)))
        return found

    def alone(self) -> Conditions:
        """Conditions on events without a connection, by what they say themselves."""
        if self._users is not None or self._organizations is not None:
            return [false()]
        tags = [has(self._dialect, Event.tags, self._tags)] if self._tags else []
        return [*self._of_integrations(), *tags, *(self._names(word, field) for word, field, _refs in self._named)]

    def _of(self, field: Field, look_up: Callable[[str], set[UUID]]) -> set[UUID] | None:
        value = self._search.value(field)
        return look_up(value) if value is not None else None

    def _find_sources(self) -> list[Source] | None:
        integration, provider = self._search.value(Field.INTEGRATION), self._search.value(Field.PROVIDER)
        if integration is None and provider is None:
            return None
        asked = [each for each in sources(self._session) if integration in {None, each.integration}]
        return [each for each in asked if provider in {None, each.provider}]

    def _users_of(self, word: str) -> set[UUID]:
        return self._ids(User.id, is_user(word))

    def _organizations_of(self, word: str) -> set[UUID]:
        return self._ids(Organization.id, Organization.external_id == word)

    def _ids(self, column: Any, *where: ColumnElement[bool], most: int = MOST_OWNERS) -> set[UUID]:
        return set(self._session.scalars(select(column).where(*where).limit(most)))

    def _names(self, word: str, field: Field) -> ColumnElement[bool]:
        is_id = Event.connection_id == word
        if field is Field.CONNECTION:
            return is_id
        return or_(is_id, tagged_by_one(self._dialect, Event.tags, PERSON_TAGS, word))

    def _owned(self, user: Any, organization: Any) -> Conditions:
        pairs = (user, self._users), (organization, self._organizations)
        return [column.in_(ids) for column, ids in pairs if ids is not None]

    def _of_integrations(self) -> Conditions:
        found: Conditions = []
        if (integration := self._search.value(Field.INTEGRATION)) is not None:
            found.append(Event.integration == integration)
        if self._search.value(Field.PROVIDER) is not None:
            pairs = [(each.environment, each.integration) for each in self._sources or ()]
            found.append(tuple_(Event.environment, Event.integration).in_(pairs))
        return found


def event_id_of(word: str) -> UUID | None:
    """The id of an event that a word is; None for any other word."""
    if not word.startswith(f"{EVENT}_"):
        return None
    try:
        return parse(EVENT, word)
    except InvalidInput:
        return None


def contains(of: Any, word: str) -> ColumnElement[bool]:
    """The condition that what an event says contains a text."""
    return containing(word, of.connection_id, of.integration, of.problem, tags=of.tags)


def containing(word: str, *columns: Any, tags: Any) -> ColumnElement[bool]:
    """The condition that one of these columns contains a text, in any case of letters."""
    stored = json.dumps(word, ensure_ascii=False)[1:-1]  # as JSON writes it
    found = [column.icontains(word, autoescape=True) for column in columns]
    return or_(*found, cast(type_coerce(tags, Text), Text).icontains(stored, autoescape=True))


def has(dialect: str, column: Any, tags: Mapping[str, str]) -> ColumnElement[bool]:
    """The condition that a column of tags has all of these."""
    first, *others = tagged(dialect, column, tags)
    for each in others:
        first &= each
    return first


def _exists(row: Select[Any]) -> ColumnElement[bool]:
    """The condition that there is a row, looked up for each event: PostgreSQL makes no join of it."""
    return row.limit(1).scalar_subquery().is_not(None)

"""Conditions on connections by a search (`app.domain.search`), whose terms are those of CONNECTION_FIELDS.

A word is a name where a connection has it, and is else looked for in what is stored of each. `resolved` decides that
once, so that a search means the same rows for as long as an act on them takes.
"""

from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Select, select
from sqlalchemy.orm import Session

from app.db import bulk
from app.db.models import Connection, Link, Organization, User
from app.db.read import searched_connections
from app.db.read.searched_connections import Conditions, containing, is_name, is_user, named
from app.db.read.tag_conditions import tagged
from app.domain.search import CONNECTION_FIELDS, Field, Search, Term, parse
from app.errors import InvalidInput
from app.ids import CONNECTION
from app.ids import parse as parse_id

# Those that an index has; on SQLite there is none for tags.
_INDEXED: Final = (Field.CONNECTION, Field.USER, Field.ORGANIZATION, Field.NAME, Field.TAG)
_COLUMNS: Final = (Field.ENVIRONMENT, Field.INTEGRATION, Field.PROVIDER)


def read(session: Session, text: str | None) -> Search:
    """Read a search for connections, with its words resolved; None and an empty text are one for all of them.

    Raises InvalidFields, with the position.
    """
    return resolved(session, parse(text or "", CONNECTION_FIELDS))


def resolved(session: Session, search: Search) -> Search:
    """The search with each word as `name:` or as `containing:`."""
    return Search(tuple(_resolved(session, term) for term in search.terms))


def is_indexed(session: Session, search: Search) -> bool:
    """Whether an index has what a resolved search asks for, or few enough connections to look through them all."""
    indexed = search.of(*_INDEXED)
    if not indexed or len(indexed) == len(search.terms):
        return bool(indexed)
    found = (
        select(Connection.id)
        .where(*conditions(session, Search(indexed)))
        .limit(searched_connections.MOST_CONNECTIONS + 1)
    )
    return len(session.scalars(found).all()) <= searched_connections.MOST_CONNECTIONS


def conditions(session: Session, search: Search) -> Conditions:
    """The conditions of a resolved search, each of a connection by itself."""
    dialect = bulk.dialect(session)
    found: Conditions = [getattr(Connection, term.field.value) == term.value for term in search.of(*_COLUMNS)]
    found += [Connection.connection_id == term.value for term in search.of(Field.CONNECTION)]
    for term in search.of(Field.USER):
        found.append(_is_linked(Link.user_id.in_(select(User.id).where(is_user(term.value)))))
    for term in search.of(Field.ORGANIZATION):
        ids = select(Organization.id).where(Organization.external_id == term.value)
        found.append(_is_linked(Link.organization_id.in_(ids)))
    if tags := {term.name: term.value for term in search.of(Field.TAG)}:
        found += tagged(dialect, Connection.tags, tags)
    for term in search.of(Field.NAME):
        own_id = _own_id(term.value)
        found.append(Connection.id == own_id if own_id else Connection.id.in_(named(dialect, term.value)))
    columns = Connection.connection_id, Connection.integration, Connection.provider
    found += [containing(term.value, *columns, tags=Connection.tags) for term in search.of(Field.CONTAINING)]
    return found


def _resolved(session: Session, term: Term) -> Term:
    if term.field is not Field.TEXT:
        return term
    is_named = _own_id(term.value) is not None or is_name(session, term.value)
    return Term(Field.NAME if is_named else Field.CONTAINING, term.value, at=term.at)


def _own_id(word: str) -> UUID | None:
    """Our id of a connection that a word is; None for any other word."""
    if not word.startswith(f"{CONNECTION}_"):
        return None
    try:
        return parse_id(CONNECTION, word)
    except InvalidInput:
        return None


def _is_linked(owner: ColumnElement[bool]) -> ColumnElement[bool]:
    links: Select[Any] = select(Link.connection_ref).where(Link.closed_at.is_(None), owner)
    return Connection.id.in_(links)

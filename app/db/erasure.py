"""Search for rows that name a person: a walk over every row of every table with text, in steps."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    Column,
    ColumnElement,
    LargeBinary,
    Select,
    Table,
    Text,
    UniqueConstraint,
    cast,
    delete,
    func,
    literal,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.orm import Session

from app.db import bounded_reads, bulk
from app.db.models import Attempt, Base, Connection, Delivery, Event, Job, Link, Repeat, User
from app.db.types import StoredJson
from app.domain.erasing import SHORTEST_WORD, Identity

STEP: Final = 1000  # rows that one statement searches
# Tables that are not searched: configuration, operators and their texts, other users, and answers, which are deleted.
ELSEWHERE: Final = frozenset(
    {"users", "organizations", "teams", "destinations", "routes", "route_set", "api_tokens", "leases", "event_leases",
     "deliveries", "repeats", "web_processes", "lost_answers", "signing_key_uses", "idempotent_calls",
     "alembic_version", "operators", "operator_links", "operator_sessions", "sign_in_attempts",
     "team_portals", "team_links", "team_sessions"}
)  # fmt: skip

_OWNED: Final = {"connections": "id", "events": "connection_ref"}  # columns with a connection's id
_CONNECTION_KEY: Final = ("environment", "integration", "connection_id")
_NAMES: Final = frozenset({"environment", "integration", "connection_id", "type"})  # copies of keys, and fixed values
_NO_TEXT: Final = frozenset({"fingerprint", "hash", "actor"})  # an actor is an operator, not the person

RowKey = tuple[Any, ...]
PersonalTable = Table  # a table whose rows may name a person
Row = Mapping[str, Any]

CONNECTIONS: Final = bulk.table(Connection)
EVENTS: Final = bulk.table(Event)
TABLES: Final[Sequence[Table]] = [table for table in Base.metadata.sorted_tables if table.name not in ELSEWHERE]


def key_of(table: Table) -> list[Column[Any]]:
    return list(table.primary_key.columns)


def last_of_step(session: Session, table: Table, after: RowKey | None) -> RowKey | None:
    """The last key of the next STEP rows; None without any."""
    key = key_of(table)
    rows = select(*key).order_by(*key).limit(STEP)
    step = (rows if after is None else rows.where(_beyond(key, after))).subquery()
    found = session.execute(select(*step.c).order_by(*(column.desc() for column in step.c)).limit(1)).first()
    return tuple(found) if found else None


def candidates(
    session: Session, table: Table, who: Identity, user_id: UUID, *, after: RowKey | None, until: RowKey
) -> list[RowKey]:
    """Keys of rows within a step that may name the person, or that belong to a connection that was ever theirs.

    A superset: `Identity` decides.
    """
    key = key_of(table)
    within = tuple_(*key) <= tuple_(*_values(key, until))
    step = select(*key).where(within, *([_beyond(key, after)] if after is not None else []))
    words = [*who.words, who.user] if table.name == "events" else who.words
    wanted = [_may_name(column, word, bulk.dialect(session)) for column in _texts(table) for word in words]
    if table.name in _OWNED:
        theirs = select(Link.connection_ref).where(Link.user_id == user_id)
        wanted.append(table.c[_OWNED[table.name]].in_(theirs))
    return [tuple(row) for row in session.execute(step.where(or_(*wanted)))] if wanted else []


def read_some(session: Session, table: Table, keys: Sequence[RowKey]) -> tuple[list[Row], list[RowKey]]:
    """As many rows of these keys as fit into one read, and the remaining keys."""
    body = table.c.get("body")
    found = bounded_reads.rows(
        session, _chosen(table, keys), size=lambda row: len(row.body or b"") if body is not None else 0
    )
    some: list[Row] = [dict(row._mapping) for row in found]
    if body is None or sum(len(row["body"] or b"") for row in some) < bounded_reads.BYTES:
        return some, []
    read = {key_in(table, row) for row in some}
    return some, [key for key in keys if key not in read]


def lock(session: Session, table: Table, keys: Sequence[RowKey]) -> list[Row]:
    """The rows of these keys, locked in the order that all transactions use."""
    return [dict(row) for row in session.execute(_chosen(table, keys).with_for_update()).mappings()]


def key_in(table: Table, row: Row) -> RowKey:
    return tuple(row[column.name] for column in key_of(table))


def _chosen(table: Table, keys: Sequence[RowKey]) -> Select[Any]:
    order = _CONNECTION_KEY if table.name == "connections" else [column.name for column in key_of(table)]
    wanted = tuple_(*key_of(table)).in_([tuple_(*_values(key_of(table), key)) for key in keys])
    return select(table).where(wanted).order_by(*(table.c[name] for name in order))


def change(session: Session, table: Table, row: Row, values: Mapping[str, Any]) -> None:
    """Write these columns of a locked row."""
    key = [column == row[column.name] for column in key_of(table)]
    session.execute(update(table).where(*key).values(**values))


def free_text(table: Table) -> list[Column[Any]]:
    """Columns whose text may be erased: no keys, and none with a constraint of the schema."""
    own = {column.name for column in table.primary_key.columns}
    bound = _NAMES | own | {key.parent.name for key in table.foreign_keys}
    for rule in table.constraints:
        if isinstance(rule, UniqueConstraint):
            bound |= {column.name for column in rule.columns}
        elif isinstance(rule, CheckConstraint):
            bound |= {column.name for column in table.columns if column.name in str(rule.sqltext)}
    return [column for column in _texts(table) if not isinstance(column.type, LargeBinary) and column.name not in bound]


def owned_by_others(session: Session, user_id: UUID, connections: Collection[UUID]) -> set[UUID]:
    """Those of these connections that belong to another user now."""
    if not connections:
        return set()
    links = bulk.table(Link).c
    theirs = select(links.connection_ref).where(
        bulk.among(bulk.dialect(session), links.connection_ref),
        links.closed_at.is_(None),
        links.user_id.is_not(None),
        links.user_id != user_id,
    )
    return set(session.scalars(theirs, bulk.keys(connections)))


def forget_answers(session: Session, events: Collection[UUID]) -> None:
    """Delete the teams' answers to the jobs of these events: they may repeat the job's content."""
    if events:
        jobs, attempts = bulk.table(Job), bulk.table(Attempt)
        sent = select(jobs.c.id).where(bulk.among(bulk.dialect(session), jobs.c.event_id))
        forgotten = update(attempts).where(attempts.c.job_id.in_(sent), attempts.c.response_excerpt.is_not(None))
        session.execute(forgotten.values(response_excerpt=None), bulk.keys(events))


def end_windows(session: Session, events: Collection[UUID]) -> None:
    """End the deduplication of these events, so that a repeated delivery is a new one: their bodies are gone."""
    if events:
        for table in (bulk.table(Delivery), bulk.table(Repeat)):
            ended = delete(table).where(bulk.among(bulk.dialect(session), table.c.event_id))
            session.execute(ended, bulk.keys(events))


def shares_email(session: Session, user_id: UUID, email: str) -> bool:
    """Whether another user has this address, too."""
    others = select(User.id).where(
        func.lower(User.email) == func.lower(email), User.id != user_id, User.removed_at.is_(None)
    )
    return session.scalar(others.limit(1)) is not None


def _texts(table: Table) -> list[Column[Any]]:
    return [
        column
        for column in table.columns
        if isinstance(column.type, Text | StoredJson | LargeBinary) and column.name not in _NO_TEXT
    ]


def _may_name(column: Column[Any], word: str, dialect: str) -> ColumnElement[bool]:
    """Whether the column contains the word, in any of its encodings and in any case."""
    plain = isinstance(column.type, Text)
    escaped = {json.dumps(word, ensure_ascii=False)[1:-1], json.dumps(word)[1:-1]}
    forms = {word} if plain else escaped
    if len(word) < SHORTEST_WORD and not plain:
        forms = {f'"{form}"' for form in forms}
    postgres = dialect == "postgresql"
    if isinstance(column.type, LargeBinary) and postgres:
        # Any bytes as text: `escape` writes those beyond ASCII as octal numbers.
        forms = {_octal(form) for form in forms}
        text: ColumnElement[Any] = func.encode(column, "escape")
    else:
        text = cast(column, Text)
    find = func.strpos if postgres else func.instr
    return or_(*(find(func.lower(text), func.lower(form)) > 0 for form in sorted(forms)))


def _octal(text: str) -> str:
    """Text in PostgreSQL's `escape` encoding."""
    return "".join(
        "\\\\" if byte == 0x5C else chr(byte) if 0 < byte < 0x80 else f"\\{byte:03o}" for byte in text.encode()
    )


def _beyond(key: Sequence[Column[Any]], after: RowKey) -> ColumnElement[bool]:
    return tuple_(*key) > tuple_(*_values(key, after))


def _values(key: Sequence[Column[Any]], values: RowKey) -> list[ColumnElement[Any]]:
    return [literal(value, column.type) for column, value in zip(key, values, strict=True)]

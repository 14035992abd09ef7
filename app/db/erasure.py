"""Where a person is named: a walk over every row of a table, some at a time, whatever its columns are."""

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

from app.db import bounded, bulk
from app.db.models import Attempt, Base, Connection, Decision, Delivery, Event, Job, Link, Repeat, User
from app.db.types import StoredJson
from app.domain.erasing import SHORTEST_WORD, Identity

STEP: Final = 1000  # rows that one statement looks through
# Configuration, and what is other people's own: an operator's words, and users who are not meant.
ELSEWHERE: Final = frozenset(
    {"users", "organizations", "teams", "destinations", "routes", "route_set", "api_tokens", "leases", "deliveries",
     "repeats", "web_processes", "lost_answers", "signing_key_uses", "alembic_version"}
)  # fmt: skip

_OWNED: Final = {"connections": "id", "events": "connection_ref"}  # by which column a connection's rows are found
_CONNECTION_KEY: Final = ("environment", "integration", "connection_id")
_NAMES: Final = frozenset({"environment", "integration", "connection_id", "type"})  # copies of keys, and closed words
_NO_TEXT: Final = frozenset({"fingerprint", "hash", "actor"})  # who acted is not the person, but an operator

Key = tuple[Any, ...]
PersonalTable = Table  # one whose rows may name a person
Row = Mapping[str, Any]

CONNECTIONS: Final = bulk.table(Connection)
EVENTS: Final = bulk.table(Event)
DECISIONS: Final = bulk.table(Decision)
TABLES: Final[Sequence[Table]] = [one for one in Base.metadata.sorted_tables if one.name not in ELSEWHERE]


def key_of(table: Table) -> list[Column[Any]]:
    return list(table.primary_key.columns)


def last_of_step(session: Session, table: Table, after: Key | None) -> Key | None:
    """The key that ends the next STEP rows; None where there are none left."""
    key = key_of(table)
    rows = select(*key).order_by(*key).limit(STEP)
    step = (rows if after is None else rows.where(_beyond(key, after))).subquery()
    found = session.execute(select(*step.c).order_by(*(one.desc() for one in step.c)).limit(1)).first()
    return tuple(found) if found else None


def suspects(
    session: Session, table: Table, who: Identity, user_id: UUID, *, after: Key | None, until: Key
) -> list[Key]:
    """The keys of rows within a step that may name the person, or that belong to a connection that was ever theirs.

    It finds some too many: `Identity` has the last word.
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


def some_of(session: Session, table: Table, keys: Sequence[Key]) -> tuple[list[Row], list[Key]]:
    """Rows of these keys, as many as fit into one read, and the keys that are left."""
    body = table.c.get("body")
    found = bounded.rows(
        session, _chosen(table, keys), size=lambda row: len(row.body or b"") if body is not None else 0
    )
    some: list[Row] = [dict(row._mapping) for row in found]
    if body is None or sum(len(row["body"] or b"") for row in some) < bounded.BYTES:
        return some, []
    read = {key_in(table, row) for row in some}
    return some, [key for key in keys if key not in read]


def lock(session: Session, table: Table, keys: Sequence[Key]) -> list[Row]:
    """The rows of these keys, locked in the order that all transactions lock them in."""
    return [dict(row) for row in session.execute(_chosen(table, keys).with_for_update()).mappings()]


def key_in(table: Table, row: Row) -> Key:
    return tuple(row[one.name] for one in key_of(table))


def _chosen(table: Table, keys: Sequence[Key]) -> Select[Any]:
    order = _CONNECTION_KEY if table.name == "connections" else [one.name for one in key_of(table)]
    wanted = tuple_(*key_of(table)).in_([tuple_(*_values(key_of(table), one)) for one in keys])
    return select(table).where(wanted).order_by(*(table.c[name] for name in order))


def change(session: Session, table: Table, row: Row, values: Mapping[str, Any]) -> None:
    """Write these columns of a row that is locked."""
    session.execute(update(table).where(*(one == row[one.name] for one in key_of(table))).values(**values))


def free_text(table: Table) -> list[Column[Any]]:
    """The columns whose text can be taken out: no key, and nothing that a rule of the schema is about."""
    bound = _NAMES | {one.name for one in table.primary_key.columns} | {key.parent.name for key in table.foreign_keys}
    for rule in table.constraints:
        if isinstance(rule, UniqueConstraint):
            bound |= {one.name for one in rule.columns}
        elif isinstance(rule, CheckConstraint):
            bound |= {one.name for one in table.columns if one.name in str(rule.sqltext)}
    return [one for one in _texts(table) if not isinstance(one.type, LargeBinary) and one.name not in bound]


def lives_of_others(session: Session, user_id: UUID, connections: Collection[UUID]) -> set[UUID]:
    """Of these connections, those that belong to another user now."""
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


def decisions_of(session: Session, events: Collection[UUID]) -> list[Row]:
    table = bulk.table(Decision)
    found = select(table).where(bulk.among(bulk.dialect(session), table.c.event_id))
    return [dict(row) for row in session.execute(found, bulk.keys(events)).mappings()] if events else []


def forget_answers(session: Session, events: Collection[UUID]) -> None:
    """What teams answered to the jobs of these events goes: it may repeat what they were sent."""
    if events:
        jobs, attempts = bulk.table(Job), bulk.table(Attempt)
        sent = select(jobs.c.id).where(bulk.among(bulk.dialect(session), jobs.c.event_id))
        forgotten = update(attempts).where(attempts.c.job_id.in_(sent), attempts.c.response_excerpt.is_not(None))
        session.execute(forgotten.values(response_excerpt=None), bulk.keys(events))


def end_windows(session: Session, events: Collection[UUID]) -> None:
    """A repeated delivery of these is a new event: they have no body any more that could be looked at again."""
    if events:
        for table in (bulk.table(Delivery), bulk.table(Repeat)):
            ended = delete(table).where(bulk.among(bulk.dialect(session), table.c.event_id))
            session.execute(ended, bulk.keys(events))


def shares_email(session: Session, user_id: UUID, email: str) -> bool:
    """Whether somebody else has this address, too."""
    others = select(User.id).where(
        func.lower(User.email) == func.lower(email), User.id != user_id, User.removed_at.is_(None)
    )
    return session.scalar(others.limit(1)) is not None


def _texts(table: Table) -> list[Column[Any]]:
    return [
        one
        for one in table.columns
        if isinstance(one.type, Text | StoredJson | LargeBinary) and one.name not in _NO_TEXT
    ]


def _may_name(column: Column[Any], word: str, dialect: str) -> ColumnElement[bool]:
    """The word in any of the forms in which it may stand there, in any case."""
    plain = isinstance(column.type, Text)
    escaped = {json.dumps(word, ensure_ascii=False)[1:-1], json.dumps(word)[1:-1]}
    forms = {word} if plain else escaped
    if len(word) < SHORTEST_WORD and not plain:
        forms = {f'"{form}"' for form in forms}
    postgres = dialect == "postgresql"
    if isinstance(column.type, LargeBinary) and postgres:
        # As text whatever the bytes are: `escape` writes those of no ASCII as octal numbers.
        forms = {_octal(form) for form in forms}
        text: ColumnElement[Any] = func.encode(column, "escape")
    else:
        text = cast(column, Text)
    find = func.strpos if postgres else func.instr
    return or_(*(find(func.lower(text), func.lower(form)) > 0 for form in sorted(forms)))


def _octal(text: str) -> str:
    """As PostgreSQL's `escape` encoding has it."""
    return "".join(
        "\\\\" if byte == 0x5C else chr(byte) if 0 < byte < 0x80 else f"\\{byte:03o}" for byte in text.encode()
    )


def _beyond(key: Sequence[Column[Any]], after: Key) -> ColumnElement[bool]:
    return tuple_(*key) > tuple_(*_values(key, after))


def _values(key: Sequence[Column[Any]], values: Key) -> list[ColumnElement[Any]]:
    return [literal(value, column.type) for column, value in zip(key, values, strict=True)]

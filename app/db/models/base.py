"""The base of all tables, their partial indexes, and foreign keys that only SQLite has."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar, Final
from uuid import UUID

from sqlalchemy import (
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    MetaData,
    Text,
    Uuid,
    text,
)
from sqlalchemy.orm import DeclarativeBase

from app.db.types import StoredInteger, StoredJson, UtcDateTime

BigInt = StoredInteger()

SQLITE_ONLY: Final = {"dialect": "sqlite"}


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: UtcDateTime(),
        UUID: Uuid(),
        str: Text(),
        bytes: LargeBinary(),
        dict[str, Any]: StoredJson(dict),
        list[Any]: StoredJson(list),
    }


def partial(name: str, *columns: str, where: str, unique: bool = False) -> Index:
    """A partial index, which stays small in a large table."""
    return Index(name, *columns, unique=unique, postgresql_where=text(where), sqlite_where=text(where))


def sqlite_foreign_key(
    columns: Sequence[str], target: Sequence[str], *, ondelete: str | None = None
) -> ForeignKeyConstraint:
    """A foreign key of a table that is written per event: on SQLite only.

    PostgreSQL would look up and lock the row that each new row names, eight times per event. There, the order of writes
    and the locks of `app.db.owner_locks` keep the references whole; the tests on SQLite prove the order, and
    `waylink check --integrity` finds what is broken. Other tables have their foreign keys on both.
    """
    return ForeignKeyConstraint(columns, target, ondelete=ondelete, info=SQLITE_ONLY).ddl_if(dialect="sqlite")

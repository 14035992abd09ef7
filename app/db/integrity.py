"""The search for broken references among those that PostgreSQL does not hold by a foreign key.

The list is made of the models' keys that only SQLite has. There the search finds what was written past them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Select, and_, bindparam, literal_column, select
from sqlalchemy.orm import Session
from sqlalchemy.schema import ForeignKeyConstraint

from app.db.models import SQLITE_FOREIGN_KEYS

STEP: Final = 5000  # rows that one statement searches


@dataclass(frozen=True, slots=True)
class Reference:
    """Columns of `table` that name a row of `target`. `name`: such as `links.user_id`."""

    key: ForeignKeyConstraint

    @property
    def table(self) -> str:
        return self.key.table.name

    @property
    def target(self) -> str:
        return self.key.referred_table.name

    @property
    def name(self) -> str:
        return f"{self.table}.{'+'.join(column.name for column in self.key.columns)}"


@dataclass(frozen=True, slots=True)
class Step:
    """rows: how many were searched. broken: the ids of those whose reference is. last: where the next step begins."""

    rows: int
    broken: Sequence[UUID]
    last: UUID | None


REFERENCES: Final[Sequence[Reference]] = [Reference(key) for key in SQLITE_FOREIGN_KEYS]


def search(session: Session, reference: Reference, *, after: UUID) -> Step:
    """Search the next STEP rows with an id after that one."""
    found = session.execute(_searching(reference), {"after": after}).all()
    broken = [id_ for id_, is_broken in found if is_broken]
    return Step(len(found), broken, found[-1][0] if found else None)


@cache
def _searching(reference: Reference) -> Select[Any]:
    table, target = reference.key.table, reference.key.referred_table
    # A removed user or organization keeps its row for past links; an open one to it is broken.
    removable = "removed_at" in target.c and "closed_at" in table.c
    columns = [table.c.id, *reference.key.columns, *([table.c.closed_at] if removable else [])]
    after = bindparam("after", type_=table.c.id.type)
    step = select(*columns).where(table.c.id > after).order_by(table.c.id).limit(STEP).subquery()
    pairs = [(step.c[part.parent.name], target.c[part.column.name]) for part in reference.key.elements]
    named: Select[Any] = select(literal_column("1")).where(*(own == theirs for own, theirs in pairs))
    if removable:
        named = named.where(target.c.removed_at.is_(None) | step.c.closed_at.is_not(None))
    # A subquery for a value is an index lookup per row. For EXISTS, PostgreSQL may read the whole target in each step.
    is_broken = and_(*(own.is_not(None) for own, _ in pairs), named.scalar_subquery().is_(None))
    return select(step.c.id, is_broken).order_by(step.c.id)

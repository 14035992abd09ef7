"""The check of all references that PostgreSQL does not hold by a foreign key (`app.db.models`).

Reads in short transactions, a step of one reference each, so that it may run beside all other work.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from app.db import integrity as rows
from app.db.engine import Database
from app.db.integrity import Reference
from app.ids import EVENT, JOB, LINK, USER, show

SHOWN: Final = 5
_PREFIX: Final = {"events": EVENT, "jobs": JOB, "links": LINK, "users": USER}


@dataclass(slots=True)
class ReferenceReport:
    """reference: such as `links.user_id`. rows: of its table. ids: public ids of SHOWN broken ones, oldest first."""

    reference: str
    target: str
    rows: int
    broken: int
    ids: list[str]


def check(database: Database) -> Iterator[ReferenceReport]:
    """Search every reference, one after the other."""
    return (_check(database, reference) for reference in rows.REFERENCES)


def broken(database: Database) -> list[ReferenceReport]:
    """The references with rows that name none."""
    return [report for report in check(database) if report.broken]


def _check(database: Database, reference: Reference) -> ReferenceReport:
    report = ReferenceReport(reference.name, reference.target, 0, 0, [])
    after: UUID | None = UUID(int=0)
    while after is not None:
        with database.read() as session:
            step = rows.search(session, reference, after=after)
        report.rows, report.broken = report.rows + step.rows, report.broken + len(step.broken)
        left = SHOWN - len(report.ids)
        report.ids += [show(_PREFIX[reference.table], id_) for id_ in step.broken[:left]]
        after = step.last
    return report

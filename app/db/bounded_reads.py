"""Reading of rows of any size: as many as fit into a bound on their bytes, and at least one."""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, Final

from sqlalchemy import Column, Select
from sqlalchemy.orm import Session

BYTES: Final = 4 * 1024 * 1024  # of one read: the largest body that is accepted by default
_STEP: Final = 50  # rows fetched from PostgreSQL at a time


def rows(session: Session, statement: Select[Any], *, size: Callable[[Any], int]) -> Iterator[Any]:
    """The statement's rows, until their sizes add up to BYTES. The rest is not fetched."""
    left = BYTES
    with closing(session.execute(statement.execution_options(yield_per=_STEP))) as found:
        for row in found:
            yield row
            left -= size(row)
            if left <= 0:
                return


def reader(session: Session, column: Column[Any]) -> Callable[[str | None], Any]:
    """A function from a column's text to its value. An unreadable value is None, and its row is logged (`types`)."""
    read = column.type.result_processor(session.get_bind().dialect, None)
    assert read is not None  # noqa: S101 - only for columns whose type has one
    return read

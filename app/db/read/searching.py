"""Pages of lists by properties that no index has: a page looks at a bounded number of rows, and says how far it came.

So a filter that hardly any row meets costs the server no more than another one, at any depth of a large table.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from app.ids import show

AT_MOST: Final = 50_000  # rows that a page of the API looks at
AT_MOST_PLANS: Final = 5_000  # refreshes, each with its connection
AT_MOST_COMPARED: Final = 5_000  # connections that are compared with others

Rows = list[dict[str, Any]]


class Page(Rows):
    """Rows of a page. searched_to: the public id of the last row looked at, where the page is not full and rows are
    left behind it; the next page begins there.
    """

    searched_to: str | None = None


def end_of_search(session: Session, key: Any, *, before: UUID | None, rows: int) -> UUID | None:
    """The id of the last of so many rows, newest first, before an id; None where fewer are left."""
    ids = select(key).order_by(key.desc()).offset(rows - 1).limit(1)
    found: UUID | None = session.scalar(ids.where(key < before) if before is not None else ids)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The place of a page in its list.

    before: the id that its rows come before. search: rows to look at; None: as many as it takes. after: the id that
    all rows of the list have or come behind.
    """

    before: UUID | None
    limit: int
    search: int | None
    after: UUID | None = None


def page_of(
    session: Session,
    statement: Select[Any],
    key: Any,
    prefix: str,
    *,
    place: Place,
    read: Callable[[Select[Any]], Iterable[dict[str, Any]]],
) -> Page:
    """A page of the statement, which begins and ends there. key, prefix: the column of ids, and that of public ones."""
    end = None if place.search is None else end_of_search(session, key, before=place.before, rows=place.search)
    if end is not None and place.after is not None and end < place.after:
        end = None
    found = Page(read(statement.where(key >= end) if end is not None else statement))
    if end is not None and len(found) < place.limit:
        found.searched_to = show(prefix, end)
    return found

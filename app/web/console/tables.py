"""Pages of rows and of one row, described by values: columns, facts, buttons. Templates have their looks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import Response

from app.web.console.connections import audit_of
from app.web.console.lists import List, ShownList
from app.web.console.serving import ConsoleContext, Visit


@dataclass(frozen=True, slots=True)
class Column:
    """A column: the member of the rows that it shows. kind: `mark`, `code` or `sentence`, which may have code between
    backticks; `count` is the number of the rows that the cell's link leads to. href: the page that a cell leads to.
    is_long: it has names that are better not broken.
    """

    label: str
    name: str
    kind: str = ""
    href: Callable[[Any], str | None] | None = None
    is_long: bool = False

    def of(self, row: Any) -> Any:
        """The value of a row: a Struct, or a mapping."""
        return row.get(self.name) if isinstance(row, Mapping) else getattr(row, self.name)


@dataclass(frozen=True, slots=True)
class Button:
    """A link to an act, shown where the operator may carry out its operation."""

    label: str
    path: str
    operation: str
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page: facts, a table, or a text as it stands. empty: what is said where there is nothing."""

    title: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    columns: Sequence[Column] = ()
    rows: Sequence[Any] = ()
    text: str | None = None
    empty: str = "There are none."
    buttons: Sequence[Button] = ()


@dataclass(frozen=True, slots=True)
class View:
    """A list that operators ask for, by its name: the filters of its URL."""

    label: str
    query: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RowsPage:
    """A page of a list. noun: of its rows, in the singular. empty: what to do where nothing is there at all."""

    title: str
    noun: str
    columns: Sequence[Column]
    empty: str
    intro: str = ""
    buttons: Sequence[Button] = ()
    views: Sequence[View] = ()

    async def of_list(
        self,
        context: ConsoleContext,
        visit: Visit,
        listed: List,
        *,
        order: Callable[[Sequence[Any]], Sequence[Any]] | None = None,
    ) -> Response:
        """The rows of a list of the API, with its filters and further pages. order: of the rows on one page."""
        found = await listed.read(context, visit)
        rows = found.rows if order is None else order(found.rows)
        return self._page(visit, found, rows, status=found.status)

    def of_rows(self, visit: Visit, rows: Sequence[Any], *, sections: Sequence[Section] = ()) -> Response:
        """All rows there are."""
        return self._page(visit, None, rows, sections=sections)

    def _page(
        self,
        visit: Visit,
        listed: ShownList | None,
        rows: Sequence[Any],
        *,
        status: int = 200,
        sections: Sequence[Section] = (),
    ) -> Response:
        return visit.page("rows.html", status=status, told=self, list=listed, rows=rows, sections=sections)


async def row_page(
    context: ConsoleContext,
    visit: Visit,
    *,
    title: str,
    back: tuple[str, str],
    sections: Sequence[Section],
    buttons: Sequence[Button] = (),
    mark: str | None = None,
    note: str | None = None,
    subject: str | None = None,
) -> Response:
    """The page of one row. back: label and path of its list. note: what an operator has to know first. subject: of the
    audit's entries about it.
    """
    audit = await audit_of(context, visit, subject) if subject is not None else None
    return visit.page(
        "row.html",
        title=title,
        back=back,
        sections=sections,
        buttons=buttons,
        mark=mark,
        note=note,
        subject=subject,
        audit=audit,
    )

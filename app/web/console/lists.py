"""Lists: a form of filters and pages by cursor, over a list of the REST API. The whole state is in the page's URL.

A list page calls the API's function with the operator's rights, so that filters, limits of teams and cursors are the
API's. A filter that the API refuses is named at its field, and keeps its value.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from app.domain.search import PARAMETER
from app.web.api.endpoint import Endpoint
from app.web.console.fields import REFUSALS, Fields, Filter, Problems, ShownFilter, given_in
from app.web.console.rendering import link
from app.web.console.serving import ConsoleContext, Visit

_PAGING: Final = frozenset({"cursor", "limit"})
_INVALID: Final = 422

__all__ = ["Filter", "List", "ShownList"]


@dataclass(frozen=True, slots=True)
class ShownList:
    """Rows with the form above them. problem: of no single field. status: 200, or that of the refusal.

    older, newest: links to the rows after these, and to the first ones; None where they lead nowhere.
    """

    path: str
    filters: Sequence[ShownFilter]
    rows: Sequence[Any]
    status: int
    problem: str | None
    older: str | None
    newest: str | None
    query: Mapping[str, str]  # the filters that are set

    @property
    def is_filtered(self) -> bool:
        return bool(self.query)

    @property
    def search(self) -> ShownFilter | None:
        """The field of the search; None for a list that has none."""
        return next((each for each in self.filters if each.name == PARAMETER), None)

    @property
    def is_refused(self) -> bool:
        return self.status != 200

    def narrowed(self, **query: str) -> str:
        """A link to the same list with further filters."""
        return link(self.path, **{**self.query, **query})


class List:
    """A list of the API with the fields of its form."""

    def __init__(self, endpoint: Endpoint, filters: Sequence[Filter]) -> None:
        assert endpoint.query is not None  # noqa: S101 - a fault of the page
        self._run, self._fields = endpoint.run, Fields(endpoint.query, filters)

    async def read(self, context: ConsoleContext, visit: Visit) -> ShownList:
        """The rows that the page's query asks for; without rows, and with what is wrong, where that is refused."""
        given, answer = given_in(visit), None
        problems: Problems = {}
        try:
            query = self._fields.read(given)
            answer = await context.rows.run(partial(self._run, visit.call(context), query=query))
        except REFUSALS as refused:
            problems = self._fields.problems(refused)
        return self._shown(visit.request.url.path, given, problems, answer)

    def _shown(self, path: str, given: Mapping[str, str], problems: Problems, answer: Any) -> ShownList:
        query = {name: value for name, value in given.items() if name not in _PAGING}
        sized = query | ({"limit": given["limit"]} if "limit" in given else {})
        cursor = getattr(answer, "next_cursor", None)
        return ShownList(
            path=path,
            filters=self._fields.shown(given, problems),
            rows=answer.data if answer is not None else (),
            status=200 if answer is not None else _INVALID,
            problem=problems.get(""),
            older=link(path, **sized, cursor=cursor) if cursor else None,
            newest=link(path, **sized) if "cursor" in given else None,
            query=query,
        )

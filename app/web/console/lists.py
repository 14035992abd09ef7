"""Lists: a form of filters and pages by cursor, over a list of the REST API. The whole state is in the page's URL.

A list page calls the API's function with the operator's rights, so that filters, limits of teams and cursors are the
API's. A filter that the API refuses is named at its field, and keeps its value.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from msgspec import inspect

from app.errors import InvalidInput, WaylinkError
from app.web.api.endpoint import Endpoint
from app.web.api.problems import ApiRefusal, refusal_for
from app.web.api.reading import read_query
from app.web.console.notices import PARAMETER
from app.web.console.rendering import link
from app.web.console.serving import ConsoleContext, Visit

_PAGING: Final = frozenset({"cursor", "limit"})
_INVALID: Final = 422


@dataclass(frozen=True, slots=True)
class Filter:
    """A field of the form: a parameter of the API's list, whose choices and description it has.

    label: of the field; without one, the name in words. hint: in place of the API's description. check: raises
    InvalidInput for a text that cannot be used.
    """

    name: str
    label: str = ""
    hint: str = ""
    check: Callable[[str], object] | None = None


@dataclass(frozen=True, slots=True)
class ShownFilter:
    """A field as a page shows it. choices: the values it may have; without any it takes a text."""

    name: str
    label: str
    hint: str
    choices: Sequence[str]
    value: str
    problem: str | None


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
    def is_refused(self) -> bool:
        return self.status != 200

    def narrowed(self, **query: str) -> str:
        """A link to the same list with further filters."""
        return link(self.path, **{**self.query, **query})


@dataclass(frozen=True, slots=True)
class List:
    """A list of the API with the fields of its form."""

    endpoint: Endpoint
    filters: Sequence[Filter]
    _known: Mapping[str, tuple[str, Sequence[str]]] = field(init=False)

    def __post_init__(self) -> None:
        assert self.endpoint.query is not None  # noqa: S101 - a fault of the page
        known = {each.name: each for each in inspect.type_info(self.endpoint.query).fields}  # type: ignore[attr-defined]
        described = {
            each.name: (_description(known[each.name].type), _choices(known[each.name].type)) for each in self.filters
        }
        object.__setattr__(self, "_known", described)

    async def read(self, context: ConsoleContext, visit: Visit) -> ShownList:
        """The rows that the page's query asks for; without rows, and with what is wrong, where that is refused."""
        given = self.given(visit)
        problems: dict[str, str] = {}
        answer, status = None, 200
        try:
            self._check(given)
            query = read_query(urlencode(given).encode(), self.endpoint.query)
            call = visit.call(context)
            answer = await context.rows.run(partial(self.endpoint.run, call, query=query))
        except _WrongFilter as wrong:
            problems, status = {wrong.name: wrong.reason}, _INVALID
        except ApiRefusal as refused:
            problems, status = self._problems(refused), _INVALID
        except WaylinkError as failed:
            refusal = refusal_for(failed)
            if refusal is None:
                raise
            problems, status = {"": refusal.detail}, _INVALID
        return self._shown(visit, given, problems, answer, status)

    def given(self, visit: Visit) -> dict[str, str]:
        """The filters and the paging in the query of the page's URL, without empty ones and the code of a notice."""
        pairs = parse_qsl(visit.request.url.query, max_num_fields=100)
        return {name: value.strip() for name, value in pairs if value.strip() and name != PARAMETER}

    def _check(self, given: Mapping[str, str]) -> None:
        for each in self.filters:
            if each.check is not None and each.name in given:
                try:
                    each.check(given[each.name])
                except InvalidInput as wrong:
                    raise _WrongFilter(each.name, str(wrong)) from None

    def _problems(self, refused: ApiRefusal) -> dict[str, str]:
        """The faults by their field's name; under the empty name where no field has it."""
        found = {str(error["field"]): str(error["detail"]) for error in refused.errors}
        return {name if name in self._known else "": detail for name, detail in found.items()} or {"": refused.detail}

    def _shown(
        self, visit: Visit, given: Mapping[str, str], problems: Mapping[str, str], answer: Any, status: int
    ) -> ShownList:
        path = visit.request.url.path
        query = {name: value for name, value in given.items() if name not in _PAGING}
        sized = query | ({"limit": given["limit"]} if "limit" in given else {})
        cursor = getattr(answer, "next_cursor", None)
        return ShownList(
            path=path,
            filters=[self._field(each, given, problems) for each in self.filters],
            rows=answer.data if answer is not None else (),
            status=status,
            problem=problems.get(""),
            older=link(path, **sized, cursor=cursor) if cursor else None,
            newest=link(path, **sized) if "cursor" in given else None,
            query=query,
        )

    def _field(self, of: Filter, given: Mapping[str, str], problems: Mapping[str, str]) -> ShownFilter:
        hint, choices = self._known[of.name]
        label = of.label or of.name.replace("_", " ").capitalize()
        return ShownFilter(of.name, label, of.hint or hint, choices, given.get(of.name, ""), problems.get(of.name))


class _WrongFilter(Exception):
    def __init__(self, name: str, reason: str) -> None:
        self.name, self.reason = name, reason
        super().__init__(name)


def _choices(kind: inspect.Type) -> tuple[str, ...]:
    """The values that a parameter of this type may have; none where it takes any text."""
    match kind:
        case inspect.Metadata(type=inner):
            return _choices(inner)
        case inspect.UnionType(types=types):
            return tuple(choice for each in types for choice in _choices(each))
        case inspect.EnumType(cls=members):
            return tuple(str(member.value) for member in members)
        case inspect.LiteralType(values=values):
            return tuple(map(str, values))
        case inspect.BoolType():
            return ("true",)
    return ()


def _description(kind: inspect.Type) -> str:
    return str((kind.extra_json_schema or {}).get("description", "")) if isinstance(kind, inspect.Metadata) else ""

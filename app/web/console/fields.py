"""Fields of filters: parameters of the REST API's Structs as fields of a form, with what is wrong at each."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from msgspec import Struct, inspect

from app.errors import InvalidInput, WaylinkError
from app.web.api.problems import ApiRefusal, refusal_for
from app.web.api.reading import read_query
from app.web.console.notices import PARAMETER
from app.web.console.serving import Visit, read_as

MAX_PAIRS: Final = 100  # of a query
Problems = Mapping[str, str]  # by the name of the field; under the empty name those of no field


@dataclass(frozen=True, slots=True)
class Filter:
    """A field of the form: a parameter of the API's Struct, whose choices and description it has.

    label: of the field; without one, the name in words. hint: in place of the API's description. check: raises
    InvalidInput for a text that cannot be used. query: the parameters for the text of a field that is no parameter
    itself; raises the same.
    """

    name: str
    label: str = ""
    hint: str = ""
    check: Callable[[str], object] | None = None
    query: Callable[[str], Mapping[str, str]] | None = None


@dataclass(frozen=True, slots=True)
class ShownFilter:
    """A field as a page shows it. choices: the values it may have; without any it takes a text."""

    name: str
    label: str
    hint: str
    choices: Sequence[str]
    value: str
    problem: str | None


class Fields:
    """The filters of one form. shape: the Struct of the API that has them."""

    def __init__(self, shape: type[Struct], filters: Sequence[Filter]) -> None:
        members = {each.name: each.type for each in inspect.type_info(shape).fields}  # type: ignore[attr-defined]
        self._shape, self._filters = shape, filters
        self._known = {
            each.name: ("", ())
            if each.query is not None
            else (_description(members[each.name]), _choices(members[each.name]))
            for each in filters
        }

    def read(self, given: Mapping[str, str]) -> Any:
        """The Struct of these texts. Raises WrongFilter and ApiRefusal."""
        found = dict(given)
        for each in self._filters:
            if each.name not in given:
                continue
            try:
                if each.check is not None:
                    each.check(given[each.name])
                if each.query is not None:
                    found |= each.query(found.pop(each.name))
            except InvalidInput as wrong:
                raise WrongFilter(each.name, str(wrong)) from None
        return read_query(urlencode(found).encode(), self._shape)

    def problems(self, refused: Exception) -> Problems:
        """The faults by their field's name. Raises the error again where it is a fault of Waylink."""
        if isinstance(refused, WrongFilter):
            return {refused.name: refused.reason}
        refusal = refusal_for(refused) if isinstance(refused, WaylinkError) else refused
        if not isinstance(refusal, ApiRefusal):
            raise refused
        found = {str(error["field"]): str(error["detail"]) for error in refusal.errors}
        return {name if name in self._known else "": detail for name, detail in found.items()} or {"": refusal.detail}

    def shown(self, given: Mapping[str, str], problems: Problems) -> list[ShownFilter]:
        """The fields with their values and faults."""
        return [
            ShownFilter(
                each.name,
                each.label or each.name.replace("_", " ").capitalize(),
                each.hint or self._known[each.name][0],
                self._known[each.name][1],
                given.get(each.name, ""),
                problems.get(each.name),
            )
            for each in self._filters
        ]


class WrongFilter(Exception):
    """A text of a field that cannot be used."""

    def __init__(self, name: str, reason: str) -> None:
        self.name, self.reason = name, reason
        super().__init__(name)


REFUSALS: Final = (WrongFilter, ApiRefusal, WaylinkError)


def given_in(visit: Visit) -> dict[str, str]:
    """The query of the page's URL, without empty values and the code of a notice. Raises FormNotRead."""
    pairs = read_as(partial(parse_qsl, max_num_fields=MAX_PAIRS), visit.request.url.query)
    return {name: value.strip() for name, value in pairs if value.strip() and name != PARAMETER}


def _choices(kind: inspect.Type) -> tuple[str, ...]:
    """The values that a parameter of this type may have; none where it takes any text."""
    match kind:
        case inspect.Metadata(type=inner):
            return _choices(inner)
        case inspect.UnionType(types=types):
            found = tuple(choice for each in types for choice in _choices(each))
            return ("true", "false") if found == ("true",) else found  # beside none of the two
        case inspect.EnumType(cls=members):
            return tuple(str(member.value) for member in members)
        case inspect.LiteralType(values=values):
            return tuple(map(str, values))
        case inspect.BoolType():
            return ("true",)
    return ()


def _description(kind: inspect.Type) -> str:
    match kind:
        case inspect.Metadata(extra_json_schema=extra):
            return str((extra or {}).get("description", ""))
        case inspect.UnionType(types=types):
            return next(filter(None, map(_description, types)), "")
    return ""

"""What is wrong with a body or a query, in our words instead of msgspec's.

No value is in them: it may be secret.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import msgspec
from msgspec import inspect

_NAMES: Final[Mapping[str, str]] = {
    "str": "a string",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
_PARTS: Final[Mapping[str, str]] = {"str": "character", "bytes": "byte", "array": "entry", "object": "member"}
_BOUNDS: Final[Mapping[str, str]] = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than"}

_UNKNOWN: Final = "Object contains unknown field `"
_MISSING: Final = re.compile(r"Object missing required field `([^`]*+)`")
_TYPE: Final = re.compile(r"Expected `([a-z| ]++)`, got `([a-z]++)`")
_LENGTH: Final = re.compile(r"Expected `([a-z]++)` of (?:at least )?length (<= |>= |)(\d++)")
_BOUND: Final = re.compile(r"Expected `(?:int|float)` (>=|<=|>|<) (\S++)")
_MULTIPLE: Final = re.compile(r"Expected `(?:int|float)` that's a multiple of (\S++)")
_FORMS: Final[Mapping[str, str]] = {
    "Invalid UUID": "must be a UUID",
    "Invalid RFC3339 encoded datetime": "must be a time such as 2026-01-31T09:30:00Z",
    "Invalid RFC3339 encoded date": "must be a date such as 2026-01-31",
    "Expected `datetime` with a timezone component": "must be a time with its zone, such as 2026-01-31T09:30:00Z",
    "Invalid base64 encoded string": "must be Base64",
    "Integer value out of range": "must be a smaller number",
    "Number out of range": "must be a smaller number",
}
_OTHER: Final = "does not have the form that is expected here"
_CHOICES: Final = ("Invalid enum value", "Invalid value", "Expected `")


@dataclass(frozen=True, slots=True)
class Fault:
    """`path`: such as `filter.ids[0]`, empty for the whole. `detail` goes behind it."""

    path: str
    rule: str
    detail: str


def fault_of(wrong: msgspec.ValidationError, shape: type[msgspec.Struct], noun: str) -> Fault:
    """What was wrong, where. noun: `field` of a body, or `parameter`, which is a string whatever it stands for."""
    message, path, is_key = _placed(str(wrong))
    if message.startswith(_UNKNOWN):
        name = message.removeprefix(_UNKNOWN).removesuffix("`")
        names = sorted(_fields(_at(shape, path)))
        there_are = f"; there are {_listed(names, 'and')}" if names else ""
        return Fault(_joined(path, name), "unknown", f"there is no {noun} {shown(name)} here{there_are}")
    if found := _MISSING.fullmatch(message):
        return Fault(_joined(path, found[1]), "missing", f"this {noun} is required")
    detail = _detail(message, [] if is_key else _at(shape, path), in_query=noun == "parameter")
    return Fault(path, "invalid", f"a name in it {detail}" if is_key else detail)


def shown(name: str) -> str:
    """A name from outside, quoted and cut, without its control characters."""
    return ascii(name if len(name) <= 100 else f"{name[:100]}...")


def _placed(message: str) -> tuple[str, str, bool]:
    """The message without its place, the place, and whether it is about a name there instead of a value."""
    without, _, place = message.rpartition(" - at ")
    within = place.removeprefix("`key` in ")
    if not (within.startswith("`$") and within.endswith("`")):
        return message, "", False
    return without, within[2:-1].removeprefix("."), within != place


def _detail(message: str, there: Iterable[inspect.Type], *, in_query: bool) -> str:
    mistaken = _TYPE.fullmatch(message)
    found = f", not {_NAMES.get(mistaken[2], mistaken[2])}" if mistaken and not in_query else ""
    if message.startswith(_CHOICES) and (choices := _choices(there)):
        return f"must be one of {_listed(choices, 'or')}{found}"
    if mistaken:
        expected = [one for one in mistaken[1].split(" | ") if not (in_query and one == "null")]
        return f"must be {_either([_NAMES.get(one, one) for one in expected])}{found}"
    for pattern, words in _RULES:
        if matched := pattern.fullmatch(message):
            return words(matched)
    return _FORMS.get(message, _OTHER)


def _length(found: re.Match[str]) -> str:
    bound = _BOUNDS.get(found[2].strip(), "at least" if "at least" in found[0] else "exactly")
    part = _PARTS.get(found[1], "part")
    several = part if found[3] == "1" else "entries" if part == "entry" else f"{part}s"
    return f"must have {bound} {found[3]} {several}"


_RULES: Final[Iterable[tuple[re.Pattern[str], Callable[[re.Match[str]], str]]]] = (
    (_LENGTH, _length),
    (_BOUND, lambda found: f"must be {_BOUNDS[found[1]]} {found[2].removesuffix('.0')}"),
    (_MULTIPLE, lambda found: f"must be a multiple of {found[1].removesuffix('.0')}"),
)


def _either(names: list[str]) -> str:
    """Such as `a string, a list or null`."""
    ordered = sorted(names, key=lambda name: name == "null")
    return ", ".join(ordered[:-1]) + f" or {ordered[-1]}" if len(ordered) > 1 else ordered[0]


def _listed(names: list[str], word: str) -> str:
    quoted = [f"`{name}`" for name in names]
    return f"{', '.join(quoted[:-1])} {word} {quoted[-1]}" if len(quoted) > 1 else quoted[0]


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


# What a shape has at a place


@lru_cache(maxsize=256)
def _read(shape: type[msgspec.Struct]) -> inspect.Type:
    return inspect.type_info(shape)


def _at(shape: type[msgspec.Struct], path: str) -> list[inspect.Type]:
    """The types that a value may have at that place; none where the place cannot be followed."""
    there = _members(_read(shape))
    for step in path.replace("[...]", "[*]").replace("[", ".[").split(".") if path else ():
        there = [member for one in there for inner in _inside(one, step) for member in _members(inner)]
    return there


def _members(one: inspect.Type) -> list[inspect.Type]:
    while isinstance(one, inspect.Metadata):
        one = one.type
    return [inner for each in one.types for inner in _members(each)] if isinstance(one, inspect.UnionType) else [one]


def _inside(one: inspect.Type, step: str) -> list[inspect.Type]:
    """step: a field's name, `[0]` for an entry, or `[*]` for any member of a dictionary."""
    if isinstance(one, inspect.StructType):
        tag = [inspect.LiteralType((one.tag,))] if one.tag_field == step else []
        return [*tag, *(field.type for field in one.fields if field.encode_name == step)]
    if isinstance(one, inspect.DictType) and step == "[*]":
        return [one.value_type]
    if isinstance(one, inspect.CollectionType) and step.startswith("["):
        return [one.item_type]
    return []


def _fields(there: Iterable[inspect.Type]) -> set[str]:
    return {field.encode_name for one in there if isinstance(one, inspect.StructType) for field in one.fields}


def _choices(there: Iterable[inspect.Type]) -> list[str]:
    """The values of an enumeration; none where something else may stand there, too, but null."""
    found: list[str] = []
    for one in there:
        if isinstance(one, inspect.EnumType):
            found += [str(member.value) for member in one.cls]
        elif isinstance(one, inspect.LiteralType):
            found += [str(value) for value in one.values]
        elif not isinstance(one, inspect.NoneType):
            return []
    return found

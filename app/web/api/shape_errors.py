"""Messages for invalid bodies and queries, in our words instead of msgspec's.

They contain no value, since it may be secret.
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
class ShapeFault:
    """`path`: such as `filter.ids[0]`, empty for the whole. `detail`: the end of a sentence that begins with
    the path.
    """

    path: str
    rule: str
    detail: str


def fault_of(wrong: msgspec.ValidationError, shape: type[msgspec.Struct], noun: str) -> ShapeFault:
    """The fault and its place. noun: `field` of a body, or `parameter`, which is a string for any type."""
    message, path, is_key = _placed(str(wrong))
    if message.startswith(_UNKNOWN):
        name = message.removeprefix(_UNKNOWN).removesuffix("`")
        names = sorted(_fields(_at(shape, path)))
        there_are = f"; there are {_listed(names, 'and')}" if names else ""
        return ShapeFault(_joined(path, name), "unknown", f"there is no {noun} {shown(name)} here{there_are}")
    if found := _MISSING.fullmatch(message):
        return ShapeFault(_joined(path, found[1]), "missing", f"this {noun} is required")
    detail = _detail(message, [] if is_key else _at(shape, path), in_query=noun == "parameter")
    return ShapeFault(path, "invalid", f"a name in it {detail}" if is_key else detail)


def shown(name: str) -> str:
    """A name from outside, quoted and cut, without its control characters."""
    return ascii(name if len(name) <= 100 else f"{name[:100]}...")


def _placed(message: str) -> tuple[str, str, bool]:
    """The message without its place, the place, and whether it concerns a name there instead of a value."""
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
        expected = [name for name in mistaken[1].split(" | ") if not (in_query and name == "null")]
        return f"must be {_either([_NAMES.get(name, name) for name in expected])}{found}"
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


# Types of a shape at a path


@lru_cache(maxsize=256)
def _read(shape: type[msgspec.Struct]) -> inspect.Type:
    return inspect.type_info(shape)


def _at(shape: type[msgspec.Struct], path: str) -> list[inspect.Type]:
    """Types that a value may have at this path; none where the path cannot be followed."""
    there = _members(_read(shape))
    for step in path.replace("[...]", "[*]").replace("[", ".[").split(".") if path else ():
        there = [member for outer in there for inner in _inside(outer, step) for member in _members(inner)]
    return there


def _members(kind: inspect.Type) -> list[inspect.Type]:
    while isinstance(kind, inspect.Metadata):
        kind = kind.type
    if isinstance(kind, inspect.UnionType):
        return [inner for member in kind.types for inner in _members(member)]
    return [kind]


def _inside(outer: inspect.Type, step: str) -> list[inspect.Type]:
    """Types below `outer`. step: a field's name, `[0]` for an entry, or `[*]` for any member of a dictionary."""
    if isinstance(outer, inspect.StructType):
        tag = [inspect.LiteralType((outer.tag,))] if outer.tag_field == step else []
        return [*tag, *(field.type for field in outer.fields if field.encode_name == step)]
    if isinstance(outer, inspect.DictType) and step == "[*]":
        return [outer.value_type]
    if isinstance(outer, inspect.CollectionType) and step.startswith("["):
        return [outer.item_type]
    return []


def _fields(there: Iterable[inspect.Type]) -> set[str]:
    structs = (kind for kind in there if isinstance(kind, inspect.StructType))
    return {field.encode_name for struct in structs for field in struct.fields}


def _choices(there: Iterable[inspect.Type]) -> list[str]:
    """Values of an enumeration; none where anything else but null may stand there, too."""
    found: list[str] = []
    for kind in there:
        if isinstance(kind, inspect.EnumType):
            found += [str(member.value) for member in kind.cls]
        elif isinstance(kind, inspect.LiteralType):
            found += [str(value) for value in kind.values]
        elif not isinstance(kind, inspect.NoneType):
            return []
    return found

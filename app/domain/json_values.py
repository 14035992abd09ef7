"""Strict JSON reading, and copies of values in the form that Nango can store."""

import json
import math
from collections.abc import Mapping
from typing import Final

from app.domain.json_keys import MAX_SHOWN, Members, Place, shown_place
from app.domain.scrub import replace_unstorable
from app.domain.tags import is_storable
from app.errors import InvalidInput

MAX_DEPTH: Final = 100

JsonObject = Mapping[str, object]


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number beyond the range of a double")
    return number


# Python's own reader accepts NaN, Infinity and 1e999, which are not JSON. ValueError for these, too.
STRICT: Final = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)


def json_object(value: object, name: str) -> dict[str, object]:
    """A copy of an object, of plain dicts and lists. name: for messages, such as `metadata`.

    Raises InvalidInput with the place and the reason, never the value, which may be secret: for a value or a key that
    JSON does not have, a number that is not finite, a NUL or a lone surrogate (Nango answers 500 for these), or a
    nesting past 100 levels.
    """
    if not isinstance(value, Mapping):
        raise InvalidInput(f"{name} must be an object, not {type(value).__name__}")
    return _copied(value, (None, name), 1)


def read_storable(text: bytes) -> object:
    """The JSON value of `text`; in strings, characters that no database stores become U+FFFD.

    Raises ValueError or RecursionError for text that is not JSON.
    """
    return storable(STRICT.decode(text.decode("utf-8")))


def read_with_repeats(text: str) -> tuple[object, bool]:
    """The JSON value of `text`, and whether a key is repeated in an object: `repeated_key` finds its place.

    Raises ValueError or RecursionError for text that is not JSON.
    """
    members = Members()
    strict = json.JSONDecoder(
        object_pairs_hook=members, parse_constant=STRICT.parse_constant, parse_float=STRICT.parse_float
    )
    return strict.decode(text), members.repeated


def storable(value: object) -> object:
    """The same JSON value with U+FFFD for NUL and lone surrogates."""
    if isinstance(value, str):
        return replace_unstorable(value)
    if isinstance(value, list):
        return [storable(item) for item in value]
    if isinstance(value, dict):
        return {replace_unstorable(key): storable(item) for key, item in value.items()}
    return value


def nested_deeper(value: object, levels: int) -> bool:
    """Whether lists and objects are nested more than `levels` deep. Each value is visited once."""
    layer = [value] if isinstance(value, dict | list) else []
    for _ in range(levels):
        inner = (outer.values() if isinstance(outer, dict) else outer for outer in layer)
        layer = [item for values in inner for item in values if isinstance(item, dict | list)]
        if not layer:
            return False
    return bool(layer)


def _plain(value: object, place: Place, depth: int) -> object:
    if depth > MAX_DEPTH:
        raise InvalidInput(f"{shown_place(place)[:MAX_SHOWN]}...: nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, str):
        if not is_storable(value):
            raise InvalidInput(f"{shown_place(place)} holds a NUL or a lone surrogate ({len(value)} characters)")
        return str(value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidInput(f"{shown_place(place)} is a number that JSON cannot carry")
        return value
    if isinstance(value, Mapping):
        return _copied(value, place, depth + 1)
    if isinstance(value, list | tuple):
        return [_plain(inner, (place, index), depth + 1) for index, inner in enumerate(value)]
    raise InvalidInput(f"{shown_place(place)} is a {type(value).__name__}, which JSON does not have")


def _copied(value: Mapping[object, object], place: Place, depth: int) -> dict[str, object]:
    copied: dict[str, object] = {}
    for key, inner in value.items():
        if not isinstance(key, str):
            raise InvalidInput(f"{shown_place(place)} has a key that is a {type(key).__name__}, and JSON's are strings")
        if not is_storable(key):
            raise InvalidInput(f"{shown_place(place)} has a key with a NUL or a lone surrogate ({len(key)} characters)")
        copied[key] = _plain(inner, (place, key), depth)
    return copied

"""Reading of a pattern's text as plain JSON values, strictly and within bounds."""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Final, NoReturn

from app.domain.json_errors import why_not_json
from app.domain.json_keys import Members
from app.domain.patterns.limits import MAX_CHARACTERS
from app.domain.tags import is_storable
from app.errors import InvalidPattern

_NAMES: Final = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}


def read(source: str | Mapping[str, object]) -> dict[str, object]:
    """The pattern as a JSON object. Raises InvalidPattern, for invalid JSON with line and column."""
    text = source if isinstance(source, str) else _written(source)
    if len(text) > MAX_CHARACTERS:
        raise InvalidPattern(path="", reason=f"longer than {MAX_CHARACTERS} characters")
    try:
        value = json.loads(text, object_pairs_hook=Members(), parse_constant=_constant, parse_float=_float)
    except json.JSONDecodeError as error:
        raise InvalidPattern(path="", reason=f"not JSON: {why_not_json(error)}") from error
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else "a number with too many digits"
        raise InvalidPattern(path="", reason=reason) from error
    if not isinstance(value, dict):
        raise InvalidPattern(path="", reason=f"a pattern is an object, not {kind(value)}")
    if not all(is_storable(string) for string in strings(value)):
        raise InvalidPattern(path="", reason="holds a NUL or half of a character, which no event document has")
    return value


def kind(value: object) -> str:
    """The name of a JSON value's type, for messages."""
    return _NAMES.get(dict if isinstance(value, dict) else type(value), "a number")


def strings(value: object) -> Iterator[str]:
    """Every name and every text, at any depth."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            pending += [*item, *item.values()]
        elif isinstance(item, list):
            pending += item


def _written(source: Mapping[str, object]) -> str:
    try:
        return json.dumps(dict(source), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidPattern(path="", reason=f"cannot be written as JSON: {error}") from error


def _constant(name: str) -> NoReturn:
    raise InvalidPattern(path="", reason=f"{name} is not JSON")


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise InvalidPattern(path="", reason=f"the number {digits[:40]} is too large")
    return value

"""Messages for wrong settings and keys of waylink.toml, in our words instead of pydantic's."""

from collections.abc import Mapping
from typing import Any, Final

from pydantic_core import ErrorDetails

_WORDS: Final[Mapping[str, str]] = {
    "missing": "is missing",
    "extra_forbidden": "is no key that Waylink knows here; misspelt?",
    "bool_parsing": "is neither true nor false",
    "bool_type": "is neither true nor false",
    "int_parsing": "is not a whole number",
    "int_type": "is not a whole number",
    "int_from_float": "is not a whole number",
    "float_parsing": "is not a number",
    "float_type": "is not a number",
    "finite_number": "is not a number",
    "string_type": "is not text",
    "string_pattern_mismatch": "does not have the form that is expected",
    "path_type": "is not a path",
    "dict_type": "is not a table",
    "model_type": "is not a table",
    "model_attributes_type": "is not a table",
    "list_type": "is not a list",
    "tuple_type": "is not a list",
    "time_delta_parsing": "is not a duration such as 12h or 7d",
    "time_delta_type": "is not a duration such as 12h or 7d",
}
_BOUNDS: Final[Mapping[str, tuple[str, str]]] = {
    "greater_than_equal": ("ge", "is less than {}"),
    "greater_than": ("gt", "is not more than {}"),
    "less_than_equal": ("le", "is more than {}"),
    "less_than": ("lt", "is not less than {}"),
    "string_too_long": ("max_length", "has more than {} characters"),
    "string_too_short": ("min_length", "has fewer than {} characters"),
    "literal_error": ("expected", "is none of {}"),
    "enum": ("expected", "is none of {}"),
}


def reason(error: ErrorDetails) -> str:
    """One fault as the end of a sentence that begins with the setting's name. It quotes nothing of the value."""
    kind, context = error["type"], error.get("ctx") or {}
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        return words.format(_bound(context.get(name)))
    if kind in _WORDS:
        return _WORDS[kind]
    return error["msg"].removeprefix("Value error, ")  # ours, from a validator


def _bound(value: Any) -> str:
    return str(value).replace("'", "`") if value is not None else "that"

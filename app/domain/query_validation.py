"""Checks of a configured query, without a database: one SELECT, and the names of its parameters."""

import re
from typing import Final

# Parts whose semicolons and words are not SQL: literals, quoted names, comments, PostgreSQL's dollar quotes.
_ASIDE: Final = re.compile(
    r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|/\*.*?\*/|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$""", re.DOTALL
)
_FIRST: Final = re.compile(r"[\s(]*+(select|with)\b", re.IGNORECASE)
_CHANGES: Final = re.compile(r"\b(insert|update|delete|merge|truncate|into|for\s+share)\b", re.IGNORECASE)
_COLON: Final = re.compile(r"(?<!\\):")
_PARAMETER: Final = re.compile(r"(?<![:\w\\]):(\w+)(?!:)")


def check_select(text: str) -> str | None:
    """The fault; None when there is none to see. The database decides in the end: the transaction is read-only."""
    plain = _ASIDE.sub(" ", text).strip().removesuffix(";")
    if ";" in plain:
        return "has more than one statement"
    if _FIRST.match(plain) is None:
        return "is not a SELECT"
    if found := _CHANGES.search(plain):
        return f"says {found[1].upper()}: it has to be a plain SELECT (write a name like that in double quotes)"
    return None


def bare(text: str) -> str:
    """The query without its closing semicolon, with parameter names in lower case, and with colons in literals escaped,
    so that they begin no parameter.
    """
    escaped = _ASIDE.sub(lambda aside: _COLON.sub(r"\\:", aside[0]), text)
    return _PARAMETER.sub(lambda parameter: parameter[0].lower(), escaped).strip().removesuffix(";").rstrip()


def parameters(text: str) -> frozenset[str]:
    """The query's parameters, such as `end_user_id`, in lower case as tags' names (Nango contract: Tag rules)."""
    return frozenset(name.lower() for name in _PARAMETER.findall(_ASIDE.sub(" ", text)))

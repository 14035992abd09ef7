"""Is a text one SELECT, as far as that can be told without the database? And which parameters does it name?"""

import re
from typing import Final

# What may hold a semicolon, or a word, that is not SQL: literals, quoted names, comments, PostgreSQL's dollar quotes.
_ASIDE: Final = re.compile(
    r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|/\*.*?\*/|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$""", re.DOTALL
)
_FIRST: Final = re.compile(r"[\s(]*+(select|with)\b", re.IGNORECASE)
_CHANGES: Final = re.compile(r"\b(insert|update|delete|merge|truncate|into|for\s+share)\b", re.IGNORECASE)
_COLON: Final = re.compile(r"(?<!\\):")
_PARAMETER: Final = re.compile(r"(?<![:\w\\]):(\w+)(?!:)")


def check_select(text: str) -> str | None:
    """What is wrong with it; None when nothing is seen to be. The database has the last word: it is read-only."""
    plain = _ASIDE.sub(" ", text).strip().removesuffix(";")
    if ";" in plain:
        return "has more than one statement"
    if _FIRST.match(plain) is None:
        return "is not a SELECT"
    if found := _CHANGES.search(plain):
        return f"says {found[1].upper()}: it has to be a plain SELECT (write a name like that in double quotes)"
    return None


def bare(text: str) -> str:
    """Without the semicolon at its end, with the names of parameters as `parameters` has them, and with the colons of
    literals escaped: they begin no parameter.
    """
    escaped = _ASIDE.sub(lambda aside: _COLON.sub(r"\\:", aside[0]), text)
    return _PARAMETER.sub(lambda one: one[0].lower(), escaped).strip().removesuffix(";").rstrip()


def parameters(text: str) -> frozenset[str]:
    """The names it takes, such as `end_user_id`, in lower case as those of tags (Nango contract: Tag rules)."""
    return frozenset(name.lower() for name in _PARAMETER.findall(_ASIDE.sub(" ", text)))

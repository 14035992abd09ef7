"""The search language for events and connections: `type:connection.created tag.plan:pro "Ada Lovelace"`.

Terms stand between spaces, and all of them must hold. `field:value` asks for one property, `tag.NAME:value` for one
tag, and a term without a field for text. Double quotes hold a value with spaces together; inside them `\\"` is a quote
and `\\\\` a backslash.
"""

import difflib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from app.domain.event import EventType
from app.domain.states import EventState, Origin
from app.errors import FieldFault, InvalidFields

MAX_LENGTH: Final = 1000  # characters
MAX_TERMS: Final = 20
PARAMETER: Final = "q"  # of URLs and of the API
_NEAR: Final = 0.6  # of `difflib`: as similar as `tpye` and `type`
_BEFORE_COLON: Final = re.compile(r'[^\s":]++(?=:)')
_WORD: Final = re.compile(r"\S++")
_SPACES: Final = re.compile(r"\s*+")
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\["\\])*+)"')
_ESCAPE: Final = re.compile(r'\\(["\\])')
_TAG_NAME: Final = re.compile(r"[a-z][a-z0-9_\-./]{0,63}")
_PLAIN: Final = re.compile(r'[^\s"]++')
_TAG: Final = "tag."
_EXAMPLE: Final = f"{_TAG}NAME"


class Field(StrEnum):
    """The subject of a term. TAG and TEXT are no names of the language.

    NAME: a whole id, e-mail address or name of an end user, owner or connection. CONTAINING: a part of what is stored.
    """

    TYPE = "type"
    STATE = "state"
    ORIGIN = "origin"
    ENVIRONMENT = "environment"
    INTEGRATION = "integration"
    PROVIDER = "provider"
    CONNECTION = "connection"
    USER = "user"
    ORGANIZATION = "organization"
    ID = "id"
    SINCE = "since"
    UNTIL = "until"
    NAME = "name"
    CONTAINING = "containing"
    TAG = "tag"
    TEXT = "text"


EVENT_FIELDS: Final = (
    *(Field.TYPE, Field.STATE, Field.ORIGIN, Field.ENVIRONMENT, Field.INTEGRATION, Field.PROVIDER),
    *(Field.CONNECTION, Field.USER, Field.ORGANIZATION, Field.NAME, Field.CONTAINING),
    *(Field.ID, Field.SINCE, Field.UNTIL),
)
CONNECTION_FIELDS: Final = (
    *(Field.ENVIRONMENT, Field.INTEGRATION, Field.PROVIDER, Field.CONNECTION, Field.USER, Field.ORGANIZATION),
    *(Field.NAME, Field.CONTAINING),
)
_REPEATED: Final = frozenset({Field.TEXT, Field.NAME, Field.CONTAINING})  # may be asked for more than once
_CHOICES: Final = {Field.STATE: tuple(EventState), Field.ORIGIN: tuple(Origin)}


@dataclass(frozen=True, slots=True)
class Term:
    """A term. name: of the tag, in lower case. at: the position of its value, from 1, for errors."""

    field: Field
    value: str
    name: str = ""
    at: int = 1

    def __str__(self) -> str:
        value = self.value if _PLAIN.fullmatch(self.value) else quoted(self.value)
        if self.field is Field.TEXT:
            return quoted(self.value) if ":" in self.value else value
        return f"{_TAG}{self.name}:{value}" if self.field is Field.TAG else f"{self.field}:{value}"


@dataclass(frozen=True, slots=True)
class Search:
    """A search, all of whose terms hold. `str` is the search as text, which parses to the same."""

    terms: Sequence[Term] = ()

    def __str__(self) -> str:
        return " ".join(map(str, self.terms))

    def value(self, field: Field) -> str | None:
        """The value of a field that is no tag and no text; None where it is not asked for."""
        return next((term.value for term in self.terms if term.field is field), None)

    def of(self, *fields: Field) -> list[Term]:
        """The terms of these fields."""
        return [term for term in self.terms if term.field in fields]


def parse(text: str, fields: Collection[Field] = EVENT_FIELDS) -> Search:
    """Read a search by these fields, tags and text. Raises InvalidFields, with the position and what to do."""
    if len(text) > MAX_LENGTH:
        raise wrong("too_long", 1, f"the search has {len(text)} characters, of {MAX_LENGTH} at most")
    return parse_stored(text, fields)


def parse_stored(text: str, fields: Collection[Field] = EVENT_FIELDS) -> Search:
    """Read a search that was stored with its words resolved, and so may be longer. Raises InvalidFields."""
    if "\0" in text:
        raise wrong("unstorable", text.index("\0") + 1, "there is a NUL, which nothing stored has: take it out")
    terms: list[Term] = []
    place = _skipped(text, 0)
    while place < len(text):
        term, end = _term(text, place, fields)
        if end < len(text) and not text[end].isspace():
            raise wrong("no_space", end + 1, "a quoted value ends before this: put a space between the two")
        if term.field not in _REPEATED and any((term.field, term.name) == (t.field, t.name) for t in terms):
            told = f"`{_named(term)}` is asked for twice, and all terms must hold: leave one out"
            raise wrong("repeated", place + 1, told)
        terms.append(term)
        if len(terms) > MAX_TERMS:
            raise wrong("too_many", place + 1, f"there are more than {MAX_TERMS} terms: leave this one out")
        place = _skipped(text, end)
    return Search(tuple(terms))


def types_of(value: str) -> tuple[EventType, ...]:
    """The event types with this name, or whose names begin with it and a dot; none where there are none."""
    wanted = value.lower().removesuffix(".*").removesuffix(".")
    return tuple(kind for kind in EventType if kind == wanted or kind.startswith(f"{wanted}."))


def wrong(rule: str, at: int, told: str) -> InvalidFields:
    """The error for a fault at a position, from 1. told: without what was searched for."""
    return InvalidFields([FieldFault(PARAMETER, rule, f"character {at}: {told}")])


def quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _skipped(text: str, place: int) -> int:
    spaces = _SPACES.match(text, place)
    return spaces.end() if spaces else place


def _term(text: str, place: int, fields: Collection[Field]) -> tuple[Term, int]:
    """The term that begins there, and the place behind it."""
    name = _BEFORE_COLON.match(text, place)
    if name is None:
        value, end = _value(text, place)
        return Term(Field.TEXT, value, at=place + 1), end
    field, tag = _field(name[0], place, fields)
    begin = name.end() + 1
    if begin == len(text) or text[begin].isspace():
        raise wrong("empty", begin, f"`{name[0]}:` has no value: write one behind the colon, without a space")
    value, end = _value(text, begin)
    if not value:
        raise wrong("empty", begin + 1, f"the value of `{name[0]}` is empty: write one, or leave the term out")
    term = Term(field, _checked(field, value, begin), tag, begin + 1)
    return term, end


def _value(text: str, place: int) -> tuple[str, int]:
    """The value that begins there, without its quotes, and the place behind it."""
    if text[place] == '"':
        found = _QUOTED.match(text, place)
        if found is None:
            told = 'this quote has no end: put `"` behind the value, and `\\` before a quote or backslash inside it'
            raise wrong("no_end", place + 1, told)
        if not found[1]:
            raise wrong("empty", place + 1, "there is nothing between the quotes: write a value, or leave them out")
        return _ESCAPE.sub(r"\1", found[1]), found.end()
    word = _WORD.match(text, place)
    assert word is not None  # noqa: S101 - the caller skipped spaces
    if (quote := word[0].find('"')) >= 0:
        told = "a quote in the middle of a value: put quotes around the whole, and `\\` before this one"
        raise wrong("quote", place + quote + 1, told)
    return word[0], word.end()


def _field(name: str, place: int, fields: Collection[Field]) -> tuple[Field, str]:
    """The field of a name, and that of the tag."""
    lower = name.lower()
    if lower.startswith(_TAG) or lower == Field.TAG:
        tag = lower.removeprefix(_TAG)
        if lower == Field.TAG or not _TAG_NAME.fullmatch(tag):
            told = "a tag is searched for by `tag.NAME:value`, such as `tag.plan:pro`; a name begins with a letter"
            raise wrong("tag_name", place + 1, told)
        return Field.TAG, tag
    if lower in fields:
        return Field(lower), ""
    near = _nearest(lower.partition(".")[0], (*fields, Field.TAG))
    meant = (
        f"did you mean `{_EXAMPLE if near == Field.TAG else near}`?"
        if near
        else f"there are {_listed(fields)}, {_EXAMPLE}."
    )
    told = f"there is no such field; {meant} For text with a colon, put quotes around it"
    raise wrong("unknown_field", place + 1, told)


def _checked(field: Field, value: str, place: int) -> str:
    """The value, if the field can have it."""
    if field is Field.TYPE:
        if types_of(value):
            return value.lower()
        choices: Collection[str] = tuple(EventType)
    elif field in _CHOICES:
        choices = _CHOICES[field]
        if value.lower() in choices:
            return value.lower()
    else:
        return value
    near = _nearest(value.lower(), choices)
    meant = f"did you mean `{near}`?" if near else f"there are {_listed(choices)}"
    raise wrong("unknown_value", place + 1, f"there is no such {field}; {meant}")


def _nearest(text: str, known: Collection[str]) -> str | None:
    found = difflib.get_close_matches(text[:40], [str(each) for each in known], n=1, cutoff=_NEAR)
    return found[0] if found else None


def _listed(names: Collection[str]) -> str:
    return ", ".join(map(str, names))


def _named(term: Term) -> str:
    return f"{_TAG}{term.name}" if term.field is Field.TAG else str(term.field)

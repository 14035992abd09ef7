"""Completion of searches for events (`app.domain.search`): names of fields, and values that many events have."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from app.domain.search import EVENT_FIELDS, MAX_LENGTH, Field, Search, Term, parse
from app.errors import InvalidFields

MOST: Final = 20  # suggestions
LONGEST: Final = 80  # characters of a value that is suggested


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A search with one more term. count: of the events that were looked at, those that have it; None for a name."""

    term: str
    search: str
    count: int | None = None


def term_of(field: Field, value: str, name: str = "") -> Term | None:
    """The term for a value of an event; None for one that is too long to be typed."""
    return Term(field, value, name) if 0 < len(value) <= LONGEST and value.isprintable() else None


def completions(text: str, seen: Mapping[Term, int], *, most: int = MOST) -> list[Suggestion]:
    """Searches that complete a text, the most frequent values first. seen: terms with the number of their events.

    The last word is completed; behind a space, terms of further fields are suggested. A text that cannot be read up to
    there has none.
    """
    head, last = _split(text[:MAX_LENGTH])
    try:
        asked = {(term.field, term.name) for term in parse(head).terms}
    except InvalidFields:
        return []
    beginning, found = last.lower(), list[Suggestion]()
    if beginning and ":" not in beginning:
        names = (*(f"{name}:" for name in EVENT_FIELDS), "tag.")
        found += [Suggestion(name, head + name) for name in names if name.startswith(beginning)]
    frequent = sorted(seen.items(), key=lambda item: (-item[1], str(item[0])))
    for term, count in frequent:
        shown = str(term)
        if shown.lower().startswith(beginning) and shown.lower() != beginning and (term.field, term.name) not in asked:
            found.append(Suggestion(shown, head + shown, count))
    return found[:most]


def with_term(search: Search, term: Term) -> str:
    """A search with one more term, as text."""
    return str(Search((*search.terms, term)))


def counted_terms(terms: Iterable[Term | None]) -> dict[Term, int]:
    """Terms with the number of times that they are there."""
    found: dict[Term, int] = {}
    for term in terms:
        if term is not None:
            found[term] = found.get(term, 0) + 1
    return found


def _split(text: str) -> tuple[str, str]:
    """The text up to its last word, and this word, which a quote may hold together."""
    quoted, escaped, start = False, False, 0
    for place, letter in enumerate(text):
        if escaped:
            escaped = False
        elif quoted and letter == "\\":
            escaped = True
        elif letter == '"':
            quoted = not quoted
        elif letter.isspace() and not quoted:
            start = place + 1
    return text[:start], text[start:]

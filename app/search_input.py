"""Searches for events as commands, API calls and pages give them: the text with its times and its id read."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from app.domain import search
from app.domain.search import Field, Search
from app.errors import InvalidInput
from app.ids import EVENT, parse
from app.timestamp_input import moment


@dataclass(frozen=True, slots=True)
class ReadSearch:
    """A search. since, until, event_id: what its terms of these names say."""

    query: Search
    since: datetime | None = None
    until: datetime | None = None
    event_id: UUID | None = None

    def since_also(self, since: datetime | None) -> datetime | None:
        """The later of the search's `since` and another one."""
        return max((each for each in (self.since, since) if each is not None), default=None)

    def until_also(self, until: datetime | None) -> datetime | None:
        """The earlier of the search's `until` and another one."""
        return min((each for each in (self.until, until) if each is not None), default=None)


def read_search(text: str | None, *, now: datetime) -> ReadSearch:
    """Read a search; None and an empty text are one for all events. Raises InvalidFields, with the position."""
    query = search.parse(text or "")
    since, until, event_id = (query.of(field) for field in (Field.SINCE, Field.UNTIL, Field.ID))
    return ReadSearch(
        query,
        since=_moment(since[0], now) if since else None,
        until=_moment(until[0], now) if until else None,
        event_id=_id(event_id[0]) if event_id else None,
    )


def _moment(term: search.Term, now: datetime) -> datetime:
    try:
        return moment(term.value, now=now)
    except InvalidInput:
        told = f"`{term.field}:` takes how long ago, such as 7d, or a time with its zone, such as 2026-11-25T22:00:00Z"
        raise search.wrong("invalid", term.at, told) from None


def _id(term: search.Term) -> UUID:
    try:
        return parse(EVENT, term.value)
    except InvalidInput:
        told = f"`id:` takes the id of an event, {EVENT}_ and 32 hex digits; that of a connection is `connection:`"
        raise search.wrong("invalid", term.at, told) from None

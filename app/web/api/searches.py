"""The completion of searches for events."""

from typing import Annotated, Final

from msgspec import Meta, Struct

from app.db.read.frequent_terms import frequent_terms
from app.domain.access import Scope
from app.domain.completion import completions
from app.domain.search import MAX_LENGTH
from app.web.api.endpoint import Call, Endpoint, endpoint


class CompletionQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    q: Annotated[str, Meta(description="The search as far as it is typed.", max_length=MAX_LENGTH)] = ""


class SuggestionRow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`search`: the whole search with `term`. `count`: of the newest events, those that have it; null for a field."""

    term: str
    search: str
    count: int | None


class Suggestions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The most frequent values first."""

    data: list[SuggestionRow]


@endpoint("GET /events/suggestions", scope=Scope.VIEWER, teams=True)
def suggest_searches(call: Call, query: CompletionQuery) -> Suggestions:
    """Complete a search for events by names of fields, and by values of the newest 1,000 events.

    A team's token is suggested what its own events have.
    """
    with call.context.database.read() as session:
        seen = frequent_terms(session, team=call.team)
    found = completions(query.q, seen)
    return Suggestions(data=[SuggestionRow(term=each.term, search=each.search, count=each.count) for each in found])


ENDPOINTS: Final[tuple[Endpoint, ...]] = (suggest_searches,)

"""Terms that a search for events is completed with: values of the newest events, a bounded number of them."""

from collections.abc import Iterator
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.models import Event, Job
from app.db.read import searching
from app.db.read.searched_connections import sources
from app.domain import canary
from app.domain.completion import counted_terms, term_of
from app.domain.search import Field, Term

ROWS: Final = 1_000  # events, or jobs of a team, that are looked at
_FIELDS: Final = (Field.TYPE, Field.STATE, Field.ORIGIN, Field.ENVIRONMENT, Field.INTEGRATION)


def frequent_terms(session: Session, *, team: str | None) -> dict[Term, int]:
    """Terms with the number of the newest ROWS events that have them. team: only its own events, and no providers."""
    columns = [getattr(Event, field.value) for field in _FIELDS]
    newest = select(*columns, Event.tags).where(Event.environment != canary.ENVIRONMENT)
    if team is not None:
        end = searching.end_of_search(session, Job.id, before=None, rows=searching.AT_MOST)
        mine = select(Job.event_id).where(Job.team == team)
        mine = mine.where(Job.id >= end) if end is not None else mine
        newest = newest.where(Event.id.in_(mine.order_by(Job.id.desc()).limit(ROWS)))
    rows = session.execute(newest.order_by(Event.id.desc()).limit(ROWS)).all()
    found = counted_terms(term for row in rows for term in _terms(row))
    if team is None:
        integrations = {term.value: count for term, count in found.items() if term.field is Field.INTEGRATION}
        for source in sources(session):
            provider = term_of(Field.PROVIDER, source.provider or "")
            if provider is not None and source.integration in integrations:
                found[provider] = found.get(provider, 0) + integrations.pop(source.integration)
    return found


def _terms(row: Any) -> Iterator[Term | None]:
    for field, value in zip(_FIELDS, row, strict=False):
        yield term_of(field, value) if value else None
    for name, value in (row.tags or {}).items():
        if isinstance(value, str):
            yield term_of(Field.TAG, value, name)

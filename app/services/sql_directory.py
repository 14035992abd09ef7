"""The directory policy `sql`: owners by queries to the application's own database, outside of any transaction
of ours.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from app.db.application_database import CONNECT_SECONDS, ApplicationDatabase
from app.deadlines import DIRECTORY_DEADLINE
from app.domain.confirming import Unavailable
from app.domain.linking import Claim, TagKeys
from app.domain.owner_queries import Named, named, parameters
from app.domain.people import OwnerKind
from app.domain.query_validation import parameters as names_in
from app.errors import InvalidFields
from app.outage_causes import of_database
from app.telemetry import DIRECTORY_QUERIES, get_logger

FIRST_WAIT: Final = 5.0  # seconds until the next query after a failure; doubled with each one in a row
LONGEST_WAIT: Final = 60.0
ROW_WAIT: Final = 60.0  # after an invalid row: the query or the data has to be repaired

log = get_logger(__name__)

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Question:
    """One connection's tags, and the claim they make by themselves."""

    tags: Mapping[str, str]
    claim: Claim | None


@dataclass(slots=True)
class SqlDirectory:
    """Runs each query once per batch and distinct parameters. After a failure the database is not queried for
    a while.
    """

    database: ApplicationDatabase
    queries: Mapping[OwnerKind, str]
    keys: TagKeys
    _failures: int = field(default=0, init=False)
    _closed_until: float = field(default=0.0, init=False)

    def ask(self, questions: Iterable[Question]) -> list[Named | Unavailable]:
        """The owners, in order. Never raises: a failed query gives Unavailable."""
        known: dict[tuple[OwnerKind, tuple[str | None, ...]], Rows] = {}
        ends_at = time.monotonic() + DIRECTORY_DEADLINE.total_seconds()
        return [self._answer(question, known, ends_at=ends_at) for question in questions]

    def close(self) -> None:
        self.database.close()

    def _answer(self, question: Question, known: dict[Any, Rows], *, ends_at: float) -> Named | Unavailable:
        tags = parameters(question.tags, question.claim, self.keys)
        found: dict[OwnerKind, Rows | None] = {}
        for kind in OwnerKind:
            rows = self._rows(kind, tags, known, ends_at=ends_at)
            if isinstance(rows, Unavailable):
                return rows
            found[kind] = rows
        try:
            return named(question.claim, found[OwnerKind.USER], found[OwnerKind.ORGANIZATION])
        except InvalidFields as unusable:
            log.error("directory_row_unusable", problem=str(unusable))
            return Unavailable(f"the application's database answered a row of no use: {unusable}", ROW_WAIT)

    def _rows(
        self, kind: OwnerKind, tags: Mapping[str, str], known: dict[Any, Rows], *, ends_at: float
    ) -> Rows | Unavailable | None:
        """The query's rows; None where there is no such query, or none of its tags."""
        query = self.queries.get(kind)
        values = tuple(tags.get(name) for name in sorted(names_in(query))) if query else ()
        if query is None or not any(value is not None for value in values):
            return None
        if (kind, values) not in known:
            rows = self._query(kind, query, tags, ends_at=ends_at)
            if isinstance(rows, Unavailable):
                return rows
            known[kind, values] = rows
        return known[kind, values]

    def _query(self, kind: OwnerKind, query: str, tags: Mapping[str, str], *, ends_at: float) -> Rows | Unavailable:
        now = time.monotonic()
        if now < self._closed_until:
            return Unavailable("the application's database failed just now; it is left alone", self._closed_until - now)
        if ends_at - now < CONNECT_SECONDS + self.database.timeout:
            return Unavailable("no time left in this batch to ask the application's database", 1.0)
        try:
            rows = self.database.ask(query, tags)
        except SQLAlchemyError as failed:
            return self._failed(kind, failed)
        if self._failures:
            log.info("directory_back", failures=self._failures)
        self._failures = 0
        DIRECTORY_QUERIES.labels(str(kind), "answered").inc()
        return rows

    def _failed(self, kind: OwnerKind, failed: SQLAlchemyError) -> Unavailable:
        wait = min(FIRST_WAIT * 2**self._failures, LONGEST_WAIT)
        self._failures = min(self._failures + 1, 10)
        self._closed_until = time.monotonic() + wait
        said = of_database(failed)
        outcome = "failed" if isinstance(failed, DBAPIError) else "busy"
        DIRECTORY_QUERIES.labels(str(kind), outcome).inc()
        log.warning("directory_failed", query=f"{kind}_query", problem=said, asked_again_in=f"{wait:.0f} s")
        return Unavailable(f"{kind}_query at the application's database: {said}", wait)

"""Matches of a batch's documents, with costly ones computed before the transaction that needs them.

A document is known only within the transaction that applies its event, since it holds the connection's state. Nearly
all are matched there, in microseconds. A batch that exceeds the transaction's steps is rolled back; the costly document
is matched with no transaction open, and the batch is applied again, so that a write lock is held for under 100 ms.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from app.domain.patterns import Effort
from app.domain.routing import Matched, RouteSet
from app.errors import TooMuchWork

ROOM: Final = 200_000  # steps of all matching in one transaction: some 10 ms
BYTES_OF_STEP: Final = 16  # bytes of a body per step of unfolding its document (names with dots, arrays)
# A connection that changes between two tries makes another document; the last try matches it in the transaction.
TRIES: Final = 4


class NotMatchedYet(Exception):
    """Documents of the batch must be matched first: call `Matches.prepare`, then apply the batch again."""


@dataclass(slots=True)
class Matches:
    """Matches of one batch's documents, kept over its tries.

    ids: ids given to new users and organizations, reused by the next try so that it makes the same documents.
    """

    routes: RouteSet
    ids: dict[tuple[str, str], UUID] = field(default_factory=dict)
    _known: dict[UUID, tuple[Mapping[str, Any], Matched]] = field(default_factory=dict, init=False)
    _missing: dict[UUID, Mapping[str, Any]] = field(default_factory=dict, init=False)
    _room: Effort = field(default_factory=lambda: Effort(ROOM), init=False)
    _tries: int = field(default=0, init=False)

    def begin(self) -> None:
        """Start a try: called at the begin of each transaction."""
        self._room, self._tries = Effort(ROOM), self._tries + 1
        self._missing = {}

    def of(self, event_id: UUID, document: Mapping[str, Any], *, size: int) -> Matched | None:
        """The routes that take an event's document; None: `prepare` must match it first. size: bytes of the body."""
        known = self._known.get(event_id)
        if known is not None and known[0] == document:
            return known[1]
        if self._tries >= TRIES:
            return self.routes.match(document)
        try:
            self._room.spend(size // BYTES_OF_STEP)
            return self.routes.match(document, self._room)
        except TooMuchWork:
            self._missing[event_id] = document
            return None

    def require_all(self) -> None:
        """Raise NotMatchedYet where a document of this transaction was not matched."""
        if self._missing:
            raise NotMatchedYet

    def prepare(self) -> None:
        """Match the missing documents. Call with no transaction open."""
        for event_id, document in self._missing.items():
            self._known[event_id] = document, self.routes.match(document)

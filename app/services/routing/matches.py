"""Which routes take the documents of a batch, with the costly ones matched before the transaction that needs them.

A document is known only within the transaction that applies its event: it says what its connection is then. Nearly all
are matched there, in microseconds. A batch that meets one for which there is no room ends without effect; its document
is matched with no transaction open, and the batch is applied again (a write lock is held for under 100 ms).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from app.domain.patterns import Effort
from app.domain.routing import Matched, RouteSet
from app.errors import TooMuchWork

ROOM: Final = 200_000  # steps of all matching in one transaction: some hundredths of a second
BYTES_OF_STEP: Final = 16  # of a body: its document is looked through for names with dots, and for values of arrays
# A connection that changes between two tries makes another document; after so many it is matched where it is.
TRIES: Final = 4


class NotMatchedYet(Exception):
    """Documents of the batch have to be matched first: `Matches.prepare`, then apply it again."""


@dataclass(slots=True)
class Matches:
    """What is known of a batch's documents, for as long as it is tried.

    ids: those that the tries gave to new users and organizations, so that they make the same documents.
    """

    routes: RouteSet
    ids: dict[tuple[str, str], UUID] = field(default_factory=dict)
    _known: dict[UUID, tuple[Mapping[str, Any], Matched]] = field(default_factory=dict, init=False)
    _missing: dict[UUID, Mapping[str, Any]] = field(default_factory=dict, init=False)
    _room: Effort = field(default_factory=lambda: Effort(ROOM), init=False)
    _tries: int = field(default=0, init=False)

    def begin(self) -> None:
        """A transaction begins."""
        self._room, self._tries = Effort(ROOM), self._tries + 1
        self._missing = {}

    def of(self, event_id: UUID, document: Mapping[str, Any], *, size: int) -> Matched | None:
        """The routes that take an event's document; None where it has to be matched first. size: of its body."""
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
        """Raises NotMatchedYet where a document of this transaction was not matched."""
        if self._missing:
            raise NotMatchedYet

    def prepare(self) -> None:
        """Match what was missing. Called with no transaction open."""
        for event_id, document in self._missing.items():
            self._known[event_id] = document, self.routes.match(document)

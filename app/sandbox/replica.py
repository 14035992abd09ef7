"""The read replica behind GET /connections, which may lag behind writes (Nango contract: List connections).

Writes go to a log, and the replica has applied the part of it that is older than the lag.
"""

from collections import deque
from collections.abc import Iterator
from datetime import datetime, timedelta

from app.sandbox.entities import SandboxConnection


class Replica:
    """`lag` is in seconds and may be changed at any time; a longer one holds back later writes only."""

    def __init__(self, *, lag: float) -> None:
        self.lag = lag
        self._log: deque[tuple[datetime, int, SandboxConnection | None]] = deque()
        # In order of creation, as ids only increase and an update keeps the place of its row.
        self._rows: dict[int, SandboxConnection] = {}
        self._ids: dict[str, set[int]] = {}

    def record(self, connection: SandboxConnection | None, *, id: int, at: datetime) -> None:  # noqa: A002  # Nango's word
        """Log a write; None is a deletion."""
        self._log.append((at, id, connection))
        self._catch_up(at)

    def newest_first(self, *, now: datetime) -> Iterator[SandboxConnection]:
        self._catch_up(now)
        return reversed(self._rows.values())

    def with_connection_id(self, connection_id: str, *, now: datetime) -> Iterator[SandboxConnection]:
        self._catch_up(now)
        return (self._rows[id_] for id_ in sorted(self._ids.get(connection_id, ()), reverse=True))

    def _catch_up(self, now: datetime) -> None:
        visible = now - timedelta(seconds=self.lag)
        while self._log and self._log[0][0] <= visible:
            _, id_, connection = self._log.popleft()
            if connection is not None:
                self._rows[id_] = connection
                self._ids.setdefault(connection.connection_id, set()).add(id_)
            elif gone := self._rows.pop(id_, None):
                self._forget(gone.connection_id, id_)

    def _forget(self, connection_id: str, id_: int) -> None:
        ids = self._ids[connection_id]
        ids.discard(id_)
        if not ids:
            del self._ids[connection_id]

"""Who may have how many of its jobs under way in this process: one slow destination leaves room for all others.

Kept in memory, as nobody else can see what is under way here; refreshed by a look at all destinations once a second.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from app.db.destinations import Target
from app.db.jobs import Key
from app.deadlines import BATCH
from app.domain.destination_health import Health
from app.domain.states import Block

IN_FLIGHT: Final = 1024  # jobs that endpoints have not answered yet, of all destinations together
PER_DESTINATION: Final = 128
# Of one whose answers come at once: most of what it has under way is being recorded or claimed here, not worked on
# there, and twice as much is handed over in the same time.
PER_FAST_DESTINATION: Final = 256
FAST_MS: Final = 50.0
# A destination may have a quarter of what is free at most. Whatever number of them hang, the next one finds room:
# the threshold falls with what they hold, and rises when they let go.
SHARE_OF_FREE: Final = 4

Lane = bytes | None  # a broker of a team's own, by its sealed URL; None is the teams' default broker


@dataclass(slots=True)
class Line:
    """A destination, as this process sees it."""

    target: Target
    ready: bool = False  # jobs may be due
    held: bool = False  # suspects may be due
    parked: bool = False
    under_way: int = 0
    suspect: bool = False  # one is under way
    window: int = 0  # how many may be; after a failure of the destination it starts from one

    def __post_init__(self) -> None:
        self.window = self.widest

    @property
    def widest(self) -> int:
        return PER_DESTINATION if self.is_http else BATCH

    @property
    def blocked(self) -> Block | None:
        if self.target.disabled_at is not None:
            return Block.DISABLED
        return Block.BREAKER if self.target.failing_since is not None else None

    @property
    def is_http(self) -> bool:
        return self.target.kind == "http"


@dataclass(slots=True)
class Lines:
    """All destinations of the database."""

    is_busy: Callable[[Lane], bool]  # whether a batch is on its way to that broker
    takes_http: bool = True  # whether this process reaches endpoints
    _lines: dict[Key, Line] = field(default_factory=dict, init=False)

    def look(self, targets: Iterable[Target]) -> None:
        """Take over what the database says of them now."""
        for target in targets:
            if target.kind == "http" and not self.takes_http:
                continue
            line = self._lines.get(target.key)
            if line is None:
                line = self._lines[target.key] = Line(target)
            if line.target.failing_since is not None:
                line.window = 1
            line.target = target
            line.ready, line.held, line.parked = target.ready, target.held, target.parked

    def knows(self, keys: Collection[Key]) -> bool:
        return all(key in self._lines for key in keys)

    def hint(self, keys: Collection[Key]) -> None:
        """There may be work for these."""
        for key in self._lines.keys() & set(keys):
            self._lines[key].ready = True

    def judged(self, key: Key, health: Health) -> None:
        """How a destination does now."""
        line = self._lines[key]
        if line.target.failing_since is not None:
            line.window = 1  # when it works again, it is not met by all that waited at once
            line.parked = True
        line.target = replace(line.target, failing_since=health.failing_since, probe_at=health.probe_at)

    def disabled(self, keys: Collection[Key], *, now: datetime) -> None:
        for key in keys:
            self._lines[key].target = replace(self._lines[key].target, disabled_at=now)

    def of(self, key: Key) -> Line:
        return self._lines[key]

    def all(self) -> Iterable[Line]:
        return self._lines.values()

    def left(self, key: Key, *, suspect: bool) -> None:
        """One more is under way."""
        line = self._lines[key]
        line.under_way += 1
        line.suspect = line.suspect or suspect

    def landed(self, key: Key, *, suspect: bool, accepted: bool, latency_ms: float) -> None:
        """One less is. Each that was accepted opens the window further: to its usual width, by fast answers beyond it,
        and slow ones bring it back.
        """
        line = self._lines[key]
        line.under_way -= 1
        line.suspect = line.suspect and not suspect
        if not accepted:
            return
        fast = line.is_http and latency_ms < FAST_MS
        if line.window < (PER_FAST_DESTINATION if fast else line.widest):
            line.window += 1
        elif not fast and line.window > line.widest:
            line.window -= 1

    @property
    def want_turn(self) -> bool:
        """Whether there is something to claim now, or to park, as far as is known."""
        return any(line.ready and line.blocked for line in self._lines.values()) or bool(self.rooms(1))

    def rooms(self, limit: int) -> list[tuple[Line, int]]:
        """The destinations that take jobs and may have some, with how many each may be given now; `limit` in all."""
        taking = [line for line in self._lines.values() if (line.ready or line.parked) and line.blocked is None]
        sharing = Counter(line.target.broker_sealed for line in taking if not line.is_http)
        free = IN_FLIGHT - sum(line.under_way for line in self._lines.values() if line.is_http)
        rooms = []
        # Who has least under way goes first, so that none is always the one that finds nothing left.
        for number, line in enumerate(sorted(taking, key=lambda line: line.under_way)):
            if line.is_http:
                room = min(line.window, free // SHARE_OF_FREE) - line.under_way
                room = max(room, 0 if line.under_way else 1)
            else:
                lane = line.target.broker_sealed
                room = 0 if self.is_busy(lane) else max(1, min(line.window, BATCH // sharing[lane]))
            room = min(room, -(-limit // (len(taking) - number)))  # an equal share of what is left
            if room > 0:
                limit -= room
                free -= room if line.is_http else 0
                rooms.append((line, room))
        return rooms

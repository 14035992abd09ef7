"""Slots for jobs in flight, of this process, by destination: a slow destination leaves slots for all others.

Kept in memory, as each process limits only its own jobs; refreshed from the database once a second.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from app.db.destinations import DeliveryTarget
from app.deadlines import BATCH
from app.domain.definitions import DestinationKey
from app.domain.destination_breaker import HealthState
from app.domain.states import Block

IN_FLIGHT: Final = 1024  # jobs sent to endpoints and not answered yet, of all destinations together
PER_DESTINATION: Final = 128
# With answers at once most jobs of a destination are being recorded or claimed here, not processed there; twice the
# slots deliver twice as many jobs in the same time.
PER_FAST_DESTINATION: Final = 256
FAST_MS: Final = 50.0
MOST_DIRECT: Final = 8 * BATCH  # in flight to a destination, of jobs sent without having waited in its queue
# A destination gets at most a quarter of the free slots, so the next one finds some however many hang: the share falls
# with what they hold, and rises when they answer.
SHARE_OF_FREE: Final = 4

SealedUrl = bytes | None  # the encrypted URL of a team's own broker; None for the default broker


@dataclass(slots=True)
class DestinationSlots:
    """One destination, as this process knows it. `ready`, `held` and `parked` are hints: such jobs may be due."""

    target: DeliveryTarget
    ready: bool = False
    held: bool = False  # possibly poison: their last claim brought no result
    parked: bool = False
    in_flight: int = 0
    possibly_poison: bool = False  # one such job is in flight
    window: int = 0  # most jobs in flight; 1 after a failure of the destination, one more per accepted job

    def __post_init__(self) -> None:
        self.window = self.widest

    @property
    def widest(self) -> int:
        """The usual window."""
        return PER_DESTINATION if self.is_http else BATCH

    @property
    def blocked(self) -> Block | None:
        if self.target.disabled_at is not None:
            return Block.DISABLED
        return Block.BREAKER if self.target.failing_since is not None else None

    @property
    def is_http(self) -> bool:
        """Whether jobs leave one by one, and not in batches to a broker; also those of the canary."""
        return self.target.kind != "celery"


@dataclass(slots=True)
class Slots:
    """The slots of all destinations in the database."""

    is_busy: Callable[[SealedUrl], bool]  # True while a batch is being published to that broker
    takes_http: bool = True  # False: destinations of kind `http` are left to other processes
    _destinations: dict[DestinationKey, DestinationSlots] = field(default_factory=dict, init=False)

    def refresh(self, targets: Iterable[DeliveryTarget]) -> None:
        """Take over the current rows of destinations."""
        for target in targets:
            destination = self._destinations.get(target.key)
            if target.kind != "celery" and not self.takes_http:
                if destination is not None:  # it was at a broker before
                    destination.target, destination.ready, destination.held = target, False, False
                continue
            if destination is None:
                destination = self._destinations[target.key] = DestinationSlots(target)
            if destination.target.failing_since is not None:
                destination.window = 1
            destination.target = target
            destination.ready, destination.held, destination.parked = target.ready, target.held, target.parked

    def has_all(self, keys: Collection[DestinationKey]) -> bool:
        """True if these destinations were seen by a refresh."""
        return all(key in self._destinations for key in keys)

    def hint(self, keys: Collection[DestinationKey]) -> None:
        """Mark destinations that may have jobs due."""
        for key in self._destinations.keys() & set(keys):
            self._destinations[key].ready = True

    def update_health(self, key: DestinationKey, health: HealthState) -> None:
        """Take over a destination's new breaker state."""
        destination = self._destinations[key]
        if destination.target.failing_since is not None:
            destination.window = 1  # a recovered destination does not get its whole backlog at once
            destination.parked = True
        failing_since, probe_at = health.failing_since, health.probe_at
        destination.target = replace(destination.target, failing_since=failing_since, probe_at=probe_at)

    def disable(self, keys: Collection[DestinationKey], *, now: datetime) -> None:
        """Mark destinations as disabled, as their rows are."""
        for key in keys:
            self._destinations[key].target = replace(self._destinations[key].target, disabled_at=now)

    def of(self, key: DestinationKey) -> DestinationSlots:
        return self._destinations[key]

    def all(self) -> Iterable[DestinationSlots]:
        return self._destinations.values()

    def dispatched(self, key: DestinationKey, *, possibly_poison: bool) -> None:
        """Take a slot for a job that is about to be sent."""
        destination = self._destinations[key]
        destination.in_flight += 1
        destination.possibly_poison = destination.possibly_poison or possibly_poison

    def completed(self, key: DestinationKey, *, possibly_poison: bool, accepted: bool, latency_ms: float) -> None:
        """Free the slot of a job and adjust the window.

        Each accepted job widens it by one: to its usual width, by fast answers beyond it; slow answers narrow it again.
        """
        destination = self._destinations[key]
        destination.in_flight -= 1
        destination.possibly_poison = destination.possibly_poison and not possibly_poison
        if not accepted:
            return
        fast = destination.is_http and latency_ms < FAST_MS
        if destination.window < (PER_FAST_DESTINATION if fast else destination.widest):
            destination.window += 1
        elif not fast and destination.window > destination.widest:
            destination.window -= 1

    def direct(self) -> frozenset[DestinationKey]:
        """Destinations for which a new job would be the next, and which can be expected to take it at once.

        They are at brokers, not blocked, without rate limit and backlog, and fewer than MOST_DIRECT jobs are in flight.
        """
        return frozenset(
            key
            for key, slots in self._destinations.items()
            if not slots.is_http
            and slots.blocked is None
            and not slots.target.rate_per_second
            and not (slots.ready or slots.held or slots.parked)
            and slots.in_flight < MOST_DIRECT
        )

    @property
    def has_work(self) -> bool:
        """True if jobs may be there to claim or to park, by what is known in memory."""
        blocked = any(destination.ready and destination.blocked for destination in self._destinations.values())
        return blocked or bool(self.allot(1))

    def allot(self, limit: int) -> list[tuple[DestinationSlots, int]]:
        """The destinations that can take jobs, each with its number of free slots, at least 1; `limit` in all."""
        everywhere = self._destinations.values()
        taking = [slots for slots in everywhere if (slots.ready or slots.parked) and slots.blocked is None]
        sharing = Counter(destination.target.broker_sealed for destination in taking if not destination.is_http)
        free = IN_FLIGHT - sum(destination.in_flight for destination in everywhere if destination.is_http)
        allotted = []
        # The fewest in flight first, so that it is not always the same destination that finds no slot left.
        for number, destination in enumerate(sorted(taking, key=lambda destination: destination.in_flight)):
            if destination.is_http:
                room = min(destination.window, free // SHARE_OF_FREE) - destination.in_flight
                room = max(room, 0 if destination.in_flight else 1)
            else:
                url = destination.target.broker_sealed
                room = 0 if self.is_busy(url) else max(1, min(destination.window, BATCH // sharing[url]))
            room = min(room, -(-limit // (len(taking) - number)))  # an equal share of what is left
            if room > 0:
                limit -= room
                free -= room if destination.is_http else 0
                allotted.append((destination, room))
        return allotted

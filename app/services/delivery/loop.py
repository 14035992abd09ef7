"""The thread that runs the deliverer's ticks, for as long as the process lives."""

import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from sqlalchemy.exc import DBAPIError

from app.db.errors import is_away
from app.db.jobs import JobToSend
from app.domain.definitions import DestinationKey
from app.outage_causes import of_database
from app.services.delivery.deliverer import POLL_SECONDS, Delivered, Deliverer
from app.telemetry import get_logger

PAUSE_SECONDS: Final = 1.0  # after a tick that failed
LOG_SECONDS: Final = 1.0  # between two log lines
GRACE_SECONDS: Final = 10.0  # for answers to attempts in flight when the process stops
HINTS_KEPT: Final = 10_000  # the poll of all destinations finds the jobs of any further hints

log = get_logger(__name__)


def _tell_nobody() -> None: ...


@dataclass(slots=True)
class DeliveryLoop:
    """Runs `Deliverer.tick` when there is something to send, to claim or to record.

    `hint` and `send` may be called from any thread. Hints and the internal broker only make it faster: all destinations
    are polled every POLL_SECONDS. Without `claims` it delivers only what `send` hands to it. answered: called in each
    turn of the loop. delivered: called when attempts were recorded.
    """

    deliverer: Deliverer
    claims: bool = True
    answered: Callable[[], None] = _tell_nobody
    delivered: Callable[[], None] = _tell_nobody
    direct: frozenset[DestinationKey] = field(default=frozenset(), init=False)  # see `Slots.direct`
    _claimed: list[JobToSend] = field(default_factory=list, init=False)
    _hints: set[UUID] = field(default_factory=set, init=False)
    _stopping: bool = field(default=False, init=False)
    _thread: threading.Thread = field(init=False)
    _unlogged: Delivered = field(default=Delivered(), init=False)
    _logged_at: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._run, name="deliveries", daemon=True)

    def start(self) -> None:
        """Start the thread. To be called once."""
        self._thread.start()

    def hint(self, ids: Collection[UUID]) -> None:
        """Wake the loop for jobs that may be due; `ids` may be empty."""
        with self.deliverer.in_flight.changed:
            if len(self._hints) < HINTS_KEPT:
                self._hints.update(ids)
            self.deliverer.in_flight.changed.notify_all()

    def send(self, jobs: Sequence[JobToSend]) -> None:
        """Send jobs that were inserted as claimed, once that is committed."""
        with self.deliverer.in_flight.changed:
            self._claimed += jobs
            self.deliverer.in_flight.changed.notify_all()

    def ask_to_stop(self) -> None:
        """Claim nothing more. Takes no lock, as signal handlers call it."""
        self._stopping = True

    def stop(self) -> None:
        """Stop claiming, and wait until what is in flight is answered and recorded, at most GRACE_SECONDS.

        Jobs that were not answered are claimed again by another process.
        """
        self.ask_to_stop()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping:
            self.answered()
            self._tick(self._wait(), claims=self.claims)
        self._drain()

    def _wait(self) -> Collection[UUID]:
        """Wait for work, results or hints, at most POLL_SECONDS, and return the hinted jobs."""
        in_flight = self.deliverer.in_flight
        with in_flight.changed:
            if not (self.claims and self.deliverer.has_work):
                in_flight.changed.wait_for(
                    lambda: self._stopping or self._hints or self._claimed or in_flight.completed, POLL_SECONDS
                )
            hints, self._hints = self._hints, set()
        return hints

    def _tick(self, ids: Collection[UUID], *, claims: bool) -> None:
        try:
            self._send_claimed()
            self._log(self.deliverer.tick(ids, claims=claims))
            self.direct = self.deliverer.direct_destinations()
        except Exception as problem:
            self.direct = frozenset()
            if isinstance(problem, DBAPIError) and is_away(problem):
                log.warning("database_away", task="deliveries", problem=of_database(problem))
            else:
                log.exception("delivery_fault")
            time.sleep(PAUSE_SECONDS)

    def _send_claimed(self) -> None:
        with self.deliverer.in_flight.changed:
            claimed, self._claimed = self._claimed, []
        if claimed:
            self.deliverer.send(claimed)

    def _drain(self) -> None:
        ends_at = time.monotonic() + GRACE_SECONDS
        in_flight = self.deliverer.in_flight
        self._send_claimed()
        while in_flight.count and time.monotonic() < ends_at:
            with in_flight.changed:
                in_flight.changed.wait_for(lambda: in_flight.completed, ends_at - time.monotonic())
            self._tick((), claims=False)
        self.deliverer.close()
        self._tick((), claims=False)
        self._logged_at = 0.0
        self._log(Delivered())

    def _log(self, done: Delivered) -> None:
        """Log the counts of all ticks since the last line, one line per LOG_SECONDS."""
        if done != Delivered():
            self.delivered()
        self._unlogged += Delivered(done.completed, done.failed)
        now = time.monotonic()
        if self._unlogged != Delivered() and now - self._logged_at >= LOG_SECONDS:
            log.info("jobs_delivered", completed=self._unlogged.completed, failed=self._unlogged.failed)
            self._unlogged, self._logged_at = Delivered(), now

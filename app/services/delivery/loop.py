"""One thread that takes turn after turn, for as long as the process lives."""

import threading
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from sqlalchemy.exc import DBAPIError

from app.causes import of_database
from app.db.errors import is_away
from app.services.delivery.deliverer import LOOK_SECONDS, Delivered, Deliverer
from app.telemetry import get_logger

PAUSE_SECONDS: Final = 1.0  # after a turn that failed
TOLD_EVERY: Final = 1.0  # seconds between two lines of the log
GRACE_SECONDS: Final = 10.0  # for answers that are on their way when the process is told to stop
HINTS_KEPT: Final = 10_000  # more are not needed: a turn looks at every destination each second

log = get_logger(__name__)


@dataclass(slots=True)
class DeliveryLoop:
    """Start it once; `hint` from any thread. It needs neither hints nor the internal broker to find its work."""

    deliverer: Deliverer
    _hints: set[UUID] = field(default_factory=set, init=False)
    _stopping: bool = field(default=False, init=False)
    _thread: threading.Thread = field(init=False)
    _told: Delivered = field(default=Delivered(), init=False)
    _told_at: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._run, name="deliveries", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def hint(self, ids: Collection[UUID]) -> None:
        """These jobs may be due; without ids, some are."""
        with self.deliverer.landing.changed:
            if len(self._hints) < HINTS_KEPT:
                self._hints.update(ids)
            self.deliverer.landing.changed.notify_all()

    def ask_to_stop(self) -> None:
        """Claim nothing more. It takes no lock, for it is called in signal handlers."""
        self._stopping = True

    def stop(self) -> None:
        """Until what is on its way has been answered and recorded, or for its grace. What is not is claimed anew."""
        self.ask_to_stop()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping:
            self._turn(self._wait())
        self._drain()

    def _wait(self) -> Collection[UUID]:
        """Until there is something to do; what was hinted at."""
        landing = self.deliverer.landing
        with landing.changed:
            if not self.deliverer.has_work:
                landing.changed.wait_for(lambda: self._stopping or self._hints or len(landing), LOOK_SECONDS)
            hints, self._hints = self._hints, set()
        return hints

    def _turn(self, ids: Collection[UUID], *, claims: bool = True) -> bool:
        try:
            self._tell(self.deliverer.turn(ids, claims=claims))
        except Exception as problem:
            if isinstance(problem, DBAPIError) and is_away(problem):
                log.warning("database_away", task="deliveries", problem=of_database(problem))
            else:
                log.exception("delivery_fault")
            time.sleep(PAUSE_SECONDS)
            return False
        return True

    def _drain(self) -> None:
        ends_at = time.monotonic() + GRACE_SECONDS
        landing = self.deliverer.landing
        while landing.under_way and time.monotonic() < ends_at:
            with landing.changed:
                landing.changed.wait_for(lambda: len(landing), ends_at - time.monotonic())
            self._turn((), claims=False)
        self.deliverer.close()
        self._turn((), claims=False)
        self._told_at = 0.0
        self._tell(Delivered())

    def _tell(self, done: Delivered) -> None:
        """In one line a second, what many turns did."""
        self._told += done
        now = time.monotonic()
        if self._told != Delivered() and now - self._told_at >= TOLD_EVERY:
            log.info("jobs_delivered", completed=self._told.completed, failed=self._told.failed)
            self._told, self._told_at = Delivered(), now

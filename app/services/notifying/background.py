"""The thread by which a process looks and sends, beside its own work: a channel that hangs delays nothing else."""

import threading
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy.exc import DBAPIError

from app.outage_causes import of_connection, of_database
from app.services.notifying.notifier import Notifier
from app.telemetry import get_logger

EVERY_SECONDS: Final = 5.0
STOP_SECONDS: Final = 1.0  # what is being sent then is sent again by another process, with the same id

log = get_logger(__name__)


@dataclass(slots=True)
class NotifyingThread:
    """Runs the notifier from `start` until `stop`. No fault of it ends the process; each is logged once."""

    notifier: Notifier
    _problem: str = field(default="", init=False)
    _stopping: threading.Event = field(default_factory=threading.Event, init=False)
    _thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        # Not a pool's thread: the interpreter waits for those at its end, however long a mail server hangs.
        self._thread = threading.Thread(target=self._run, name="notifications", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End it, and close its database."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)
        self.notifier.database.close()

    def _run(self) -> None:
        while not self._stopping.wait(EVERY_SECONDS):
            self.run_once()

    def run_once(self) -> None:
        """Run the notifier. A fault is logged once, until it succeeds or another one comes."""
        try:
            self.notifier.run()
        except DBAPIError as away:
            self._tell(of_database(away))
        except Exception as fault:  # noqa: BLE001 - no fault may end this thread
            self._tell(of_connection(fault), fault)
        else:
            self._problem = ""

    def _tell(self, problem: str, fault: Exception | None = None) -> None:
        if problem != self._problem:
            self._problem = problem
            if fault is None:
                log.warning("notifications_wait", problem=problem, then="they are sent once it is back")
            else:
                log.error("notifications_fault", problem=problem, then="it is tried again", exc_info=fault)

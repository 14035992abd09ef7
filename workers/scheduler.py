"""Celery's Beat, back soon after the broker is, and with one line where a tick could not be sent."""

from typing import Any, Final

from celery.beat import ScheduleEntry, Scheduler

from app.causes import of_connection
from app.telemetry import get_logger

RECONNECT_SECONDS: Final = 2  # between two tries; Celery's own go up to 30 s apart, and have no setting

log = get_logger(__name__)


class PatientScheduler(Scheduler):
    """Named in `beat_scheduler`. Every entry is idempotent and short-spaced: there is no state worth a file."""

    def _ensure_connected(self) -> Any:
        def away(failed: BaseException, seconds: float) -> None:
            log.warning("broker_away", problem=of_connection(failed), then="ticks wait for it", seconds=seconds)

        return self.connection.ensure_connection(
            away, interval_start=1, interval_step=1, interval_max=RECONNECT_SECONDS
        )

    def apply_entry(self, entry: ScheduleEntry, producer: Any = None) -> None:
        """Send a tick that is due. What is lost here comes again: nothing is waited for, and nothing sent later."""
        try:
            self.apply_async(entry, producer=producer, advance=False)
        except Exception as failed:  # noqa: BLE001 - of whatever class a broker's client has for "not reachable"
            log.warning(
                "tick_not_sent", tick=entry.name, problem=of_connection(failed), then="the next one is due soon"
            )

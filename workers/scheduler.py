"""Celery's Beat, which reconnects within seconds and logs one line for a tick that could not be sent."""

from typing import Any, Final

from celery.beat import ScheduleEntry, Scheduler

from app.outage_causes import of_connection
from app.telemetry import get_logger

RECONNECT_SECONDS: Final = 2  # between two tries; Celery's grow to 30 s, without a setting

log = get_logger(__name__)


class PatientScheduler(Scheduler):
    """The `beat_scheduler` of the app. Keeps no state file: every entry is idempotent and frequent."""

    def _ensure_connected(self) -> Any:
        def away(failed: BaseException, seconds: float) -> None:
            log.warning("broker_away", problem=of_connection(failed), then="ticks wait for it", seconds=seconds)

        return self.connection.ensure_connection(
            away, interval_start=1, interval_step=1, interval_max=RECONNECT_SECONDS
        )

    def apply_entry(self, entry: ScheduleEntry, producer: Any = None) -> None:
        """Send a due tick. A failed one is dropped, as the next is due soon."""
        try:
            self.apply_async(entry, producer=producer, advance=False)
        except Exception as failed:  # noqa: BLE001 - brokers' clients have unrelated classes for "not reachable"
            log.warning(
                "tick_not_sent", tick=entry.name, problem=of_connection(failed), then="the next one is due soon"
            )

"""Celery's Beat, which reconnects within seconds and logs one line for a tick that could not be sent."""

from typing import Any, ClassVar, Final, cast

from celery import platforms
from celery.apps.beat import Beat
from celery.beat import ScheduleEntry, Scheduler, Service

from app.domain.liveness import Work
from app.outage_causes import of_connection
from app.services.liveness.pulse import Pulse
from app.telemetry import get_logger

SCHEDULER: Final = "scheduler"  # the part of the process that the pulse knows it by
RECONNECT_SECONDS: Final = 2  # between two tries; Celery's grow to 30 s, without a setting

log = get_logger(__name__)


class PatientScheduler(Scheduler):
    """The `beat_scheduler` of the app. Keeps no state file: every entry is idempotent and frequent.

    stopping: set by a signal, and obeyed before the next tick or try to connect, by SystemExit. pulse: answered at the
    same places.
    """

    stopping = False
    pulse: ClassVar[Pulse | None] = None

    def tick(self, *args: Any, **options: Any) -> float:
        self._end_if_stopping()
        seconds: float = super().tick(*args, **options)
        return seconds

    def _end_if_stopping(self) -> None:
        if self.stopping:
            raise SystemExit
        if self.pulse is not None:
            self.pulse.answered(SCHEDULER)

    def _ensure_connected(self) -> Any:
        def away(failed: BaseException, seconds: float) -> None:
            self._end_if_stopping()
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
        else:
            if self.pulse is not None:
                self.pulse.did(Work.TICKED)


class StoppableBeat(Beat):
    """Ends between two ticks. Celery's own handler raises SystemExit wherever the signal arrives, and an exception in
    a finalizer is printed and lost: Beat went on.
    """

    def install_sync_handler(self, service: Service) -> None:
        scheduler = cast("PatientScheduler", service.scheduler)

        def stop(*_: object) -> None:
            scheduler.stopping = True

        platforms.signals.update(SIGTERM=stop, SIGINT=stop)

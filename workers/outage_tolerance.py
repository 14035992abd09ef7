"""Celery tasks that end quietly while the database is away: their rows stay due, and the sweep sends hints again."""

import time
from typing import Any, ClassVar, Final

from celery import Task
from sqlalchemy.exc import DBAPIError

from app.db.errors import is_away
from app.outage_causes import of_database
from app.services.liveness.pulse import Pulse
from app.telemetry import get_logger

PAUSE_SECONDS: Final = 1.0  # without it all waiting messages would fail within moments

log = get_logger(__name__)


class PatientTask(Task):  # type: ignore[type-arg]
    """Logs one line in place of a traceback per message. pulse: told when a task begins and ends."""

    abstract = True
    pulse: ClassVar[Pulse | None] = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.pulse is None:
            return self._run(*args, **kwargs)
        number = self.pulse.began(self.name or "")
        try:
            return self._run(*args, **kwargs)
        finally:
            self.pulse.ended(number)

    def _run(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().__call__(*args, **kwargs)
        except DBAPIError as failed:
            if not is_away(failed):
                raise
            log.warning("database_away", task=self.name, problem=of_database(failed), then="the sweep sends it")
            time.sleep(PAUSE_SECONDS)
            return None

"""Celery tasks that end quietly while the database is away: their rows stay due, and the sweep sends hints again."""

import time
from typing import Any, Final

from celery import Task
from sqlalchemy.exc import DBAPIError

from app.db.errors import is_away
from app.outage_causes import of_database
from app.telemetry import get_logger

PAUSE_SECONDS: Final = 1.0  # without it all waiting messages would fail within moments

log = get_logger(__name__)


class PatientTask(Task):  # type: ignore[type-arg]
    """Logs one line in place of a traceback per message."""

    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().__call__(*args, **kwargs)
        except DBAPIError as failed:
            if not is_away(failed):
                raise
            log.warning("database_away", task=self.name, problem=of_database(failed), then="the sweep sends it")
            time.sleep(PAUSE_SECONDS)
            return None

"""A task whose database is away ends quietly: its rows stay due, and the sweep sends hints for them again."""

import time
from typing import Any, Final

from celery import Task
from sqlalchemy.exc import DBAPIError

from app.causes import of_database
from app.db.errors import is_away
from app.telemetry import get_logger

PAUSE_SECONDS: Final = 1.0  # else every message that waits would be tried, and fail, within moments

log = get_logger(__name__)


class PatientTask(Task):  # type: ignore[type-arg]
    """One line instead of a traceback for each message."""

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

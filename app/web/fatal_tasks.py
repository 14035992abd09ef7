"""Background tasks whose failure ends the process, so that its supervisor restarts it."""

import asyncio
import signal
from typing import Any

from app.telemetry import get_logger

log = get_logger(__name__)


def end_process_on_failure(task: asyncio.Task[Any]) -> asyncio.Task[Any]:
    """The task, with a callback that ends this process cleanly when the task fails."""
    task.add_done_callback(_end_on_failure)
    return task


def _end_on_failure(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (failed := task.exception()) is not None:
        log.critical("loop_died", loop=task.get_name(), exc_info=failed, then="the process ends")
        signal.raise_signal(signal.SIGTERM)

"""A loop of ours that ends by an error takes the process along: whoever watches it starts it anew."""

import asyncio
import signal
from typing import Any

from app.telemetry import get_logger

log = get_logger(__name__)


def watched(task: asyncio.Task[Any]) -> asyncio.Task[Any]:
    """The task, whose failure ends this process in good order."""
    task.add_done_callback(_look)
    return task


def _look(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (failed := task.exception()) is not None:
        log.critical("loop_died", loop=task.get_name(), exc_info=failed, then="the process ends")
        signal.raise_signal(signal.SIGTERM)

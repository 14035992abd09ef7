"""Waiting at the start of a process for a database that is away. A schema of another release ends the process."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain, repeat
from types import FrameType
from typing import Final, NoReturn, TypeVar

from sqlalchemy.exc import DBAPIError

from app.db.errors import is_away
from app.outage_causes import of_database
from app.telemetry import get_logger

FIRST_PAUSES: Final = 0.25, 0.5, 1.0, 2.0  # seconds between two tries
LONGEST_PAUSE: Final = 5.0

T = TypeVar("T")

log = get_logger(__name__)


def wait_for_database(look: Callable[[], T]) -> T:
    """The result of `look`, which is retried while the database is away. Other errors are raised.

    For a process's main thread: SIGTERM and SIGINT end the process cleanly meanwhile.
    """
    began, away = time.monotonic(), False
    with _signals_end_the_process() as ends_now:
        for pause in chain(FIRST_PAUSES, repeat(LONGEST_PAUSE)):
            try:
                ends_now()
                found = look()
            except DBAPIError as failed:
                if not is_away(failed):
                    raise
                problem = of_database(failed)
                log.warning("database_away", problem=problem, then="this process waits for it", seconds=pause)
                away = True
                time.sleep(pause)
            else:
                ends_now()
                break
    if away:
        log.warning("database_back", seconds=round(time.monotonic() - began, 1))
    return found


@contextmanager
def _signals_end_the_process() -> Iterator[Callable[[], None]]:
    """Exit with 0 on SIGTERM and SIGINT. As a container's first process it has no default handlers for them.

    An exception is lost where a signal comes while an object is finalized: the function that is returned raises it once
    more.
    """
    came = False

    def end(_number: int, _frame: FrameType | None) -> NoReturn:
        nonlocal came
        came = True
        raise SystemExit(0)

    def ends_now() -> None:
        if came:
            raise SystemExit(0)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield ends_now
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

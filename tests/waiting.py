"""Waiting for what a test has begun. How long it takes is the machine's business: the limit only ends what hangs."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

PATIENCE = 120.0  # seconds


def until(what: str, look: Callable[[], Any], *, seconds: float = PATIENCE, every: float = 0.01) -> Any:
    """Poll until there is a true answer; that answer."""
    give_up = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < give_up, f"not within {seconds:.0f} s: {what}"
        time.sleep(every)
    return found


async def soon(what: str, look: Callable[[], Any], *, every: float = 0.005) -> Any:
    """The same on an event loop, which goes on meanwhile."""
    give_up = time.monotonic() + PATIENCE
    while not (found := look()):
        assert time.monotonic() < give_up, f"not within {PATIENCE:.0f} s: {what}"
        await asyncio.sleep(every)
    return found

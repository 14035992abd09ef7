"""Garbage collection of long-lived processes."""

import gc
from typing import Final

# New objects per collection: Python's 700 would walk a batch's rows many times while it is processed.
THRESHOLDS: Final = (20_000, 20, 20)


def collect_rarely() -> None:
    """Freeze all loaded objects and collect later ones rarely. Call it when all is loaded.

    Frozen objects are not walked again; later ones have few cycles.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)

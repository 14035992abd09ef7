"""Settings of the interpreter for processes that live long."""

import gc
from typing import Final

# Collections by numbers of new objects: Python's 700 walk over a batch's rows again and again while it is worked on.
THRESHOLDS: Final = (20_000, 20, 20)


def collect_rarely() -> None:
    """Call it when all is loaded: that stays for good, and is walked over no more. What comes later has few cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)

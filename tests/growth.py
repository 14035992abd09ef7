"""Growth of work with its input, in steps of Python's interpreter: the same on every machine, however busy."""

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import get_ident
from types import CodeType, FrameType
from typing import Any, Final

import pytest
from sqlalchemy.orm import Session

from app.db.engine import Database

SIZES: Final = (150, 300, 600)
# Of twice the input as of once: linear work has 2, quadratic 4. What is sorted has a little more than linear.
MOST: Final = 2.6


@dataclass
class Counted:
    """Instructions of Python that were counted so far."""

    steps: int = 0


if sys.version_info >= (3, 12):
    # There, `settrace` counts nothing of code that ran before anything was traced.
    from sys import monitoring

    TOOL: Final = 4  # none of the numbers that Python keeps for debuggers, coverage, profilers and optimizers

    @contextmanager
    def counting(counted: Counted) -> Iterator[None]:
        """Count what this thread does. What C code does within one instruction is not seen."""
        mine, instruction = get_ident(), monitoring.events.INSTRUCTION

        def count(_code: CodeType, _offset: int) -> None:
            counted.steps += get_ident() == mine  # the events are those of all threads

        monitoring.use_tool_id(TOOL, __name__)  # refuses to count twice at once
        monitoring.register_callback(TOOL, instruction, count)
        monitoring.set_events(TOOL, instruction)
        try:
            yield
        finally:
            monitoring.set_events(TOOL, monitoring.events.NO_EVENTS)
            monitoring.register_callback(TOOL, instruction, None)
            monitoring.free_tool_id(TOOL)
else:

    @contextmanager
    def counting(counted: Counted) -> Iterator[None]:
        """Count what this thread does. What C code does within one instruction is not seen."""

        def trace(frame: FrameType, event: str, _argument: Any) -> Any:
            frame.f_trace_lines, frame.f_trace_opcodes = False, True
            counted.steps += event == "opcode"
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            yield
        finally:
            sys.settrace(before)


@contextmanager
def uncollected() -> Iterator[None]:
    """Collect no garbage meanwhile: what earlier tests left has finalizers in Python, which run in any thread."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def counting_writes() -> Iterator[Counted]:
    """Count what is done in Python between the beginning of a writing transaction and its end."""
    counted, write = Counted(), Database.write

    @contextmanager
    def counting_write(database: Database, **options: Any) -> Iterator[Session]:
        with write(database, **options) as session, uncollected(), counting(counted):
            yield session

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Database, "write", counting_write)
        yield counted


def steps(work: Callable[[], object]) -> int:
    """The number of Python instructions that the work takes."""
    counted = Counted()
    with uncollected(), counting(counted):
        work()
    return counted.steps


def growth(prepare: Callable[[int], Callable[[], object]]) -> float:
    """Steps that the last doubling of the input added, over those that the one before added.

    prepare: makes an input of a size, and answers the work on it.
    """
    first, second, third = (steps(prepare(size)) for size in SIZES)
    return (third - second) / max(second - first, 1) if third - second > max(SIZES) // 10 else 0.0


def assert_linear(prepare: Callable[[int], Callable[[], object]]) -> None:
    found = growth(prepare)
    assert found <= MOST, f"twice the input took {found:.1f} times the steps that it took before"

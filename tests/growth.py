"""How work grows with its input, counted in steps of Python's interpreter: the same on every machine, however busy."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
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
def counting_writes() -> Iterator[Counted]:
    """Count what is done in Python between the beginning of a writing transaction and its end."""
    counted, write = Counted(), Database.write

    @contextmanager
    def counting_write(database: Database) -> Iterator[Session]:
        with write(database) as session, counting(counted):
            yield session

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Database, "write", counting_write)
        yield counted


def steps(work: Callable[[], object]) -> int:
    """How many instructions of Python the work takes."""
    counted = Counted()
    with counting(counted):
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

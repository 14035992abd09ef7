"""Values that are made for each event: dataclasses that are frozen for the type checker, and not at run time."""

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(made: type[T]) -> type[T]:
    """Make a class a slotted dataclass that compares and hashes by its fields; mypy refuses to assign them.

    A frozen dataclass calls `object.__setattr__` for each field, and takes three times as long to be made.
    """
    return dataclass(slots=True, unsafe_hash=True)(made)

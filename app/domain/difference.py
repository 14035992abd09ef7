"""The difference between two JSON objects: what was added, removed and changed, by its path."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Final

from app.domain.shortening import shortened

AT_MOST: Final = 100  # changes
DEPTH: Final = 20  # levels; below, values are compared as a whole
VALUE: Final = 300  # characters of a value
KEY: Final = 100  # characters of a name in a path


class ChangeKind(StrEnum):
    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Change:
    """A value that differs. path: such as `tags.plan` or `payload.items[0]`. before, after: shortened, or None."""

    path: str
    kind: ChangeKind
    before: object
    after: object


@dataclass(frozen=True, slots=True)
class Difference:
    """Changes in the order of paths. more: there are further ones."""

    changes: Sequence[Change]
    more: bool


def difference(before: Mapping[str, object], after: Mapping[str, object], *, most: int = AT_MOST) -> Difference:
    """The difference between two objects, up to `most` changes; values after the last one are not visited."""
    found = list(islice(_of_objects(before, after, "", DEPTH), most + 1))
    return Difference(found[:most], len(found) > most)


def _of(before: object, after: object, path: str, depth: int) -> Iterator[Change]:
    if depth > 0 and isinstance(before, dict) and isinstance(after, dict):
        yield from _of_objects(before, after, path, depth)
    elif depth > 0 and isinstance(before, list) and isinstance(after, list):
        yield from _of_lists(before, after, path, depth)
    elif type(before) is not type(after) or before != after:
        yield _change(path, ChangeKind.CHANGED, before, after)


def _of_objects(before: Mapping[str, object], after: Mapping[str, object], path: str, depth: int) -> Iterator[Change]:
    for name in sorted({*before, *after}):
        inner = f"{path}.{_shown(name)}" if path else _shown(name)
        if name not in before:
            yield _change(inner, ChangeKind.ADDED, None, after[name])
        elif name not in after:
            yield _change(inner, ChangeKind.REMOVED, before[name], None)
        else:
            yield from _of(before[name], after[name], inner, depth - 1)


def _of_lists(before: list[object], after: list[object], path: str, depth: int) -> Iterator[Change]:
    for number, (old, new) in enumerate(zip(before, after, strict=False)):
        yield from _of(old, new, f"{path}[{number}]", depth - 1)
    for number in range(len(after), len(before)):
        yield _change(f"{path}[{number}]", ChangeKind.REMOVED, before[number], None)
    for number in range(len(before), len(after)):
        yield _change(f"{path}[{number}]", ChangeKind.ADDED, None, after[number])


def _change(path: str, kind: ChangeKind, before: object, after: object) -> Change:
    return Change(path, kind, shortened(before, VALUE), shortened(after, VALUE))


def _shown(name: str) -> str:
    return name if len(name) <= KEY else f"{name[:KEY]}…"

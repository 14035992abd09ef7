"""Tree of a pattern's conditions: leaves test fields, nodes descend into objects.

A `$or` is matched in place, option by option. Only where its options and conditions beside it concern fields of the
same array element, or its options concern missing fields of an array, matching goes through `combinations`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Final, TypeAlias

from app.domain.patterns.effort import Effort
from app.domain.patterns.operators import exact_key
from app.domain.patterns.texts import Test
from app.errors import TooMuchWork

Path: TypeAlias = tuple[str, ...]
MISSING: Final = object()
UNBOUNDED: Final = Effort(math.inf)  # for a single pass over a document

_LONG: Final = 256  # characters: searching a shorter text costs no more than other tests
_SEARCHED: Final = 32  # characters searched in one step


@dataclass(frozen=True, slots=True)
class Leaf:
    """One field's list: any of its entries may accept any of the field's values.

    expected: as written, for explanations. absent: `{"exists": false}` is among the entries. scans: number of tests
    that read the whole of a text.
    """

    expected: list[object]
    exact: frozenset[object]
    tests: tuple[Test, ...]
    absent: bool
    scans: int = 0

    def matches(self, value: object, effort: Effort) -> bool:
        if isinstance(value, str):  # the common case
            return value in self.exact or (bool(self.tests) and self._passes(value, effort))
        if isinstance(value, list | tuple):
            return self._accepts_any(value, effort)
        # EventBridge knows fields only: an object in place of a value counts as a missing field.
        if value is MISSING or isinstance(value, dict):
            return self.absent
        return self._accepts(value, effort)

    @property
    def only_absent(self) -> bool:
        return self.absent and not self.exact and not self.tests

    @property
    def only_exact(self) -> bool:
        return not self.absent and not self.tests

    def _accepts_any(self, array: list[object] | tuple[object, ...], effort: Effort) -> bool:
        found = False
        for item in flat(array, effort):
            if isinstance(item, dict):
                continue
            found = True
            if self._accepts(item, effort):
                return True
        return self.absent and not found

    def _accepts(self, scalar: object, effort: Effort) -> bool:
        if exact_key(scalar) in self.exact:
            return True
        return bool(self.tests) and self._passes(scalar, effort)

    def _passes(self, scalar: object, effort: Effort) -> bool:
        effort.left -= len(self.tests)
        if effort.left < 0:
            raise TooMuchWork
        if self.scans and isinstance(scalar, str) and len(scalar) > _LONG:
            effort.spend(self.scans * (len(scalar) // _SEARCHED))
        return any(test(scalar) for test in self.tests)


@dataclass(frozen=True, slots=True)
class Both:
    """Tests of a field and of fields below it, which dotted names allow: `a` and `a.b` are two fields."""

    leaf: Leaf
    node: "Node"

    def matches(self, value: object, effort: Effort) -> bool:
        return self.leaf.matches(value, effort) and self.node.matches(value, effort)


@dataclass(frozen=True, slots=True)
class Choice:
    """A `$or`: at least one option holds. expected: as written, for explanations."""

    expected: list[object]
    options: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Node:
    """An object of the pattern: every field and every choice must hold, all in the same element of an array.

    shared: paths from here of objects that several of the fields together and each choice descend into: where one of
    them is an array, the same element of it has to meet all their conditions.
    """

    fields: dict[str, "Part"]
    choices: tuple[Choice, ...] = ()
    shared: tuple[Path, ...] = ()
    # Whether all fields, and whether those of some combination of options, require only missing fields.
    only_absent: bool = field(init=False)
    may_be_absent: bool = field(init=False)
    has_choices: bool = field(init=False)

    def __post_init__(self) -> None:
        parts = [parted(part) for part in self.fields.values()]
        leaves_absent = all(leaf is None or leaf.only_absent for leaf, _ in parts)
        below = [node for _, node in parts if node is not None]
        options = [option for choice in self.choices for option in choice.options]
        only = leaves_absent and all(node.only_absent for node in (*below, *options))
        may = leaves_absent and all(node.may_be_absent for node in below)
        may = may and all(any(option.may_be_absent for option in choice.options) for choice in self.choices)
        object.__setattr__(self, "only_absent", only)
        object.__setattr__(self, "may_be_absent", may)
        object.__setattr__(self, "has_choices", bool(self.choices) or any(node.has_choices for node in below))

    def matches(self, value: object, effort: Effort) -> bool:
        if isinstance(value, dict):
            return self._holds(value, effort)
        elements = objects(value, effort)
        if not elements:
            return self._holds({}, effort)
        if self.has_choices and self.may_be_absent:
            return any(combination.matches(value, effort) for combination in combinations(self, effort))
        # "The field is missing" concerns all elements; every other condition needs one that matches.
        for element in elements:
            if effort.left < 0:
                raise TooMuchWork
            if self._holds(element, effort) is not self.only_absent:
                return not self.only_absent
        return self.only_absent

    def _holds(self, element: dict[str, object], effort: Effort) -> bool:
        if self.shared and any(leads_through_array(element, path) for path in self.shared):
            return any(combination.matches(element, effort) for combination in combinations(self, effort))
        for name, part in self.fields.items():
            effort.left -= 1
            if not part.matches(element.get(name, MISSING), effort):
                return False
        for choice in self.choices:  # noqa: SIM110 - parallel to the loop above
            if not any(option.matches(element, effort) for option in choice.options):
                return False
        return True


Part: TypeAlias = Leaf | Node | Both


def combinations(node: Node, effort: Effort) -> Iterator[Node]:
    """Each selection of one option of every `$or`, as a node without any: MAX_COMBINATIONS at most, made one by one."""
    if not node.has_choices:
        yield node
        return
    fixed: dict[str, Part] = {}
    loose: list[list[dict[str, Part]]] = []
    for name, part in node.fields.items():
        leaf, below = parted(part)
        if below is None or not below.has_choices:
            fixed[name] = part
        else:
            loose.append([{name: whole(leaf, combination)} for combination in combinations(below, effort)])
    for choice in node.choices:
        loose.append([combination.fields for option in choice.options for combination in combinations(option, effort)])
    for taken in product(*loose):
        effort.spend(1 + len(fixed))
        fields = dict(fixed)
        for others in taken:
            _put(fields, others, effort)
        yield Node(fields)


def _put(fields: dict[str, Part], others: dict[str, Part], effort: Effort) -> None:
    """Add these fields; no leaf is there twice, which compilation has refused."""
    effort.spend(len(others))
    for name, part in others.items():
        if name in fields:
            (leaf, node), (other_leaf, other_node) = parted(fields[name]), parted(part)
            if node is not None and other_node is not None:
                effort.spend(len(node.fields))
                joined = dict(node.fields)
                _put(joined, other_node.fields, effort)
                node = Node(joined)
            part = whole(leaf or other_leaf, node or other_node)  # noqa: PLW2901 - merged with the existing part
        fields[name] = part


def flat(value: list[object] | tuple[object, ...], effort: Effort = UNBOUNDED) -> Iterator[object]:
    """The items of nested arrays in order; EventBridge ignores the nesting."""
    effort.spend(len(value))
    pending: list[object] = [*reversed(value)]
    while pending:
        item = pending.pop()
        if isinstance(item, list | tuple):
            effort.spend(len(item))
            pending.extend(reversed(item))
        else:
            yield item


def objects(value: object, effort: Effort) -> list[dict[str, object]]:
    """The objects at a path where the pattern descends: the value itself or the elements of an array."""
    if isinstance(value, dict):
        return [value]
    if isinstance(value, list | tuple):
        return [item for item in flat(value, effort) if isinstance(item, dict)]
    return []


def leads_through_array(value: object, path: Path) -> bool:
    """Whether there is an array on the path to an object, or in its place."""
    for name in path:
        if not isinstance(value, dict):
            break
        value = value.get(name)
    return isinstance(value, list | tuple)


def leaves(node: Node, path: Path = ()) -> Iterator[tuple[Path, Leaf]]:
    """Every field that is tested whatever the options of a `$or`, with its path."""
    for name, part in node.fields.items():
        leaf, below = parted(part)
        if leaf is not None:
            yield (*path, name), leaf
        if below is not None:
            yield from leaves(below, (*path, name))


def parted(part: Part) -> tuple[Leaf | None, Node | None]:
    """The tests of the field itself, and those of fields below it."""
    if isinstance(part, Both):
        return part.leaf, part.node
    return (part, None) if isinstance(part, Leaf) else (None, part)


def whole(leaf: Leaf | None, node: Node | None) -> Part:
    """The part of a field with tests of its own, below it, or both."""
    if leaf is None or node is None:
        found = leaf or node
        assert found is not None  # noqa: S101 - a field has one or the other
        return found
    return Both(leaf, node)

"""What a pattern asks, as a tree over the event document: leaves test fields, nodes descend into objects."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from app.domain.patterns.operators import Test, exact_key

Path: TypeAlias = tuple[str, ...]
MISSING: Final = object()


@dataclass(frozen=True, slots=True)
class Leaf:
    """One field's list: any of its entries may accept any of the field's values."""

    expected: list[object]  # as written, for people
    exact: frozenset[object]
    tests: tuple[Test, ...]
    absent: bool  # `{"exists": false}` is among the entries

    def matches(self, value: object) -> bool:
        if isinstance(value, str):  # nearly always
            return value in self.exact or (bool(self.tests) and any(test(value) for test in self.tests))
        if isinstance(value, list | tuple):
            scalars = [item for item in flat(value) if not isinstance(item, dict)]
            return any(self._accepts(scalar) for scalar in scalars) if scalars else self.absent
        # EventBridge knows fields only: an object where a value is asked for counts as a missing field.
        if value is MISSING or isinstance(value, dict):
            return self.absent
        return self._accepts(value)

    @property
    def only_absent(self) -> bool:
        return self.absent and not self.exact and not self.tests

    @property
    def only_exact(self) -> bool:
        return not self.absent and not self.tests

    def _accepts(self, scalar: object) -> bool:
        if exact_key(scalar) in self.exact:
            return True
        return bool(self.tests) and any(test(scalar) for test in self.tests)


@dataclass(frozen=True, slots=True)
class Both:
    """A field and fields below it, as names with dots can ask for: `a` and `a.b` are two fields."""

    leaf: Leaf
    node: "Node"

    def matches(self, value: object) -> bool:
        return self.leaf.matches(value) and self.node.matches(value)

    @property
    def only_absent(self) -> bool:
        return self.leaf.only_absent and self.node.only_absent


@dataclass(frozen=True, slots=True)
class Choice:
    """A `$or`: at least one option holds."""

    expected: list[object]
    options: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Node:
    """An object of the pattern: every field and every choice must hold, all in the same element of an array."""

    fields: dict[str, "Part"]
    choices: tuple[Choice, ...] = ()
    only_absent: bool = field(init=False)

    def __post_init__(self) -> None:
        parts: list[Part] = [*self.fields.values()]
        parts += [option for choice in self.choices for option in choice.options]
        object.__setattr__(self, "only_absent", all(part.only_absent for part in parts))

    def matches(self, value: object) -> bool:
        """For a node without choices, which is what `branches` returns."""
        if isinstance(value, dict):
            for name, part in self.fields.items():  # noqa: SIM110 - routing's hottest line: `all` takes twice as long
                if not part.matches(value.get(name, MISSING)):
                    return False
            return True
        elements = objects(value)
        if not elements:
            return all(part.matches(MISSING) for part in self.fields.values())
        # "The field is missing" is about all elements; everything else asks for one that fits.
        quantifier = all if self.only_absent else any
        return quantifier(self.matches(element) for element in elements)


Part: TypeAlias = Leaf | Node | Both


def flat(value: list[object] | tuple[object, ...]) -> Iterator[object]:
    """The items of nested arrays in order; EventBridge does not look at how they are nested."""
    pending: list[object] = [*reversed(value)]
    while pending:
        item = pending.pop()
        if isinstance(item, list | tuple):
            pending.extend(reversed(item))
        else:
            yield item


def objects(value: object) -> list[dict[str, object]]:
    """The objects at a place where the pattern descends: the value itself or the elements of an array."""
    if isinstance(value, dict):
        return [value]
    return [item for item in flat(value) if isinstance(item, dict)] if isinstance(value, list | tuple) else []


def leaves(node: Node, path: Path = ()) -> Iterator[tuple[Path, Leaf]]:
    """Every field a branch tests, with its path."""
    for name, part in node.fields.items():
        leaf, below = parted(part)
        if leaf is not None:
            yield (*path, name), leaf
        if below is not None:
            yield from leaves(below, (*path, name))


def parted(part: Part) -> tuple[Leaf | None, Node | None]:
    """What is asked of the field itself, and of those below it."""
    if isinstance(part, Both):
        return part.leaf, part.node
    return (part, None) if isinstance(part, Leaf) else (None, part)

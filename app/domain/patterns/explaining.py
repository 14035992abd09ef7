"""Explanation of a match: each condition with its expected and its actual value."""

from collections.abc import Iterable
from typing import Final, NamedTuple

from app.domain.patterns.effort import Effort
from app.domain.patterns.limits import dotted
from app.domain.patterns.tree import MISSING, Leaf, Node, Path, objects, parted

CLOSEST: Final = 100  # elements of an array without a match that are compared to find the closest


class Condition(NamedTuple):
    """One condition of a pattern, and the document's value; the pattern matches when every one is `matched`.

    `actual` is None with `present` False where the document lacks the field. For a `$or`, `expected` holds its options
    as written, `actual` the positions of those that hold, and `alternatives` the conditions of each option.
    """

    path: str
    expected: object
    actual: object
    present: bool
    matched: bool
    alternatives: tuple[tuple["Condition", ...], ...] = ()


def explained(node: Node, value: object, path: Path, effort: Effort) -> list[Condition]:
    """The conditions below a path. Of an array, those of the matching element, or of the closest one."""
    if isinstance(value, dict):
        return _explained_in(node, value, path, effort)
    elements = objects(value, effort)
    # "The field is missing" concerns all elements, and fails by one that has the field.
    for element in elements:
        if node.matches(element, effort) is not node.only_absent:
            return _explained_in(node, element, path, effort)
        effort.spend(1)
    tried = [_explained_in(node, element, path, effort) for element in elements[:CLOSEST] or [{}]]
    return max(tried, key=_met)


def _explained_in(node: Node, element: dict[str, object], path: Path, effort: Effort) -> list[Condition]:
    conditions: list[Condition] = []
    for name, part in node.fields.items():
        effort.spend(1)
        value = element.get(name, MISSING)
        leaf, below = parted(part)
        if leaf is not None:
            conditions.append(_condition(leaf, value, dotted((*path, name)), effort))
        if below is not None:
            conditions += explained(below, value, (*path, name), effort)
    for choice in node.choices:
        options = tuple(tuple(explained(option, element, path, effort)) for option in choice.options)
        held = [position for position, option in enumerate(options) if all(inner.matched for inner in option)]
        shown = dotted((*path, "$or"))
        conditions.append(
            Condition(shown, choice.expected, held, present=True, matched=bool(held), alternatives=options)
        )
    return conditions


def _condition(leaf: Leaf, value: object, shown: str, effort: Effort) -> Condition:
    present = value is not MISSING
    actual = value if present else None
    return Condition(shown, leaf.expected, actual, present=present, matched=leaf.matches(value, effort))


def _met(conditions: Iterable[Condition]) -> int:
    return sum(condition.matched for condition in conditions)

"""A compiled pattern: does a document match, and why."""

import json
from collections.abc import Mapping
from typing import NamedTuple

from app.domain.patterns.compiling import branches, compile_node
from app.domain.patterns.fields import unfolded
from app.domain.patterns.reading import dotted, read
from app.domain.patterns.tree import MISSING, Leaf, Node, Path, leaves, objects, parted


class Condition(NamedTuple):
    """One thing a pattern asks and what the document has there; the pattern matches when every one is `matched`.

    `actual` is None with `present` False where the document lacks the field. For a `$or`, `expected` holds its options
    as written, `actual` the positions of those that hold, and `alternatives` the conditions of each option.
    """

    path: str
    expected: object
    actual: object
    present: bool
    matched: bool
    alternatives: tuple[tuple["Condition", ...], ...] = ()


class Pattern:
    """Made by `compile_pattern`; immutable, equal to another pattern that asks the same in the same words."""

    __slots__ = ("_branches", "_fields", "_root", "_text", "anchors")

    def __init__(self, source: dict[str, object]) -> None:
        self._text = json.dumps(source, sort_keys=True, ensure_ascii=False)
        self._root = compile_node(source)
        self._branches = branches(self._root)
        self._fields = _fields(self._root)
        self.anchors = _anchors(self._branches)

    @property
    def source(self) -> dict[str, object]:
        """The pattern as JSON with sorted keys; a new copy each time."""
        source: dict[str, object] = json.loads(self._text)
        return source

    def matches(self, document: object) -> bool:
        return self.fits(unfolded(document))

    def fits(self, fields: object) -> bool:
        """Whether it matches a document that is `unfolded` already: many patterns are asked about the same one."""
        return any(branch.matches(fields) for branch in self._branches)

    def met(self, fields: object) -> tuple[Condition, ...] | None:
        """Every condition, if an `unfolded` document meets them all, else None: what `fits` and `conditions_of` say, in
        one pass where the pattern has no `$or` and the document no array of objects on the way.
        """
        if self._fields is None:
            return self.conditions_of(fields) if self.fits(fields) else None
        met = []
        for parents, name, shown, leaf in self._fields:
            place = fields
            for parent in parents:
                place = place.get(parent) if isinstance(place, dict) else None
            if isinstance(place, dict):
                value = place.get(name, MISSING)
            elif _leads_through_array(fields, parents):
                return self.conditions_of(fields) if self.fits(fields) else None
            else:
                value = MISSING
            if not leaf.matches(value):
                return None
            present = value is not MISSING
            met.append(Condition(shown, leaf.expected, value if present else None, present, matched=True))
        return tuple(met)

    def conditions(self, document: object) -> tuple[Condition, ...]:
        """Every condition; where the document has an array of objects, for the element that comes closest."""
        return self.conditions_of(unfolded(document))

    def conditions_of(self, fields: object) -> tuple[Condition, ...]:
        """The same of a document that is `unfolded` already."""
        conditions = tuple(_explained(self._root, fields, ()))
        if self._fields is None and not all(condition.matched for condition in conditions):
            # The element that comes closest to all options of a `$or` need not be the one that meets one of them.
            for branch in self._branches:
                if branch.matches(fields):
                    return tuple(_explained(branch, fields, ()))
        return conditions

    def explain(self, document: object) -> tuple[Condition, ...]:
        """The same, and why the pattern does not match where each condition on its own is met."""
        fields = unfolded(document)
        conditions = self.conditions_of(fields)
        if all(condition.matched for condition in conditions) and not self.fits(fields):
            # Each part fits some element of an array, but no single element fits them all.
            together = "one element of the array that meets all conditions"
            conditions += (Condition(path="", expected=together, actual=None, present=False, matched=False),)
        return conditions

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pattern) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return f"compile_pattern({self._text!r})"


def compile_pattern(source: str | Mapping[str, object]) -> Pattern:
    """The pattern of a JSON text or of an object already parsed.

    Raises `InvalidPattern` with path and reason for what EventBridge refuses, for JSON that is broken or repeats a
    key, and beyond the bounds on size, depth and `$or` combinations.
    """
    return Pattern(read(source))


def _anchors(alternatives: tuple[Node, ...]) -> tuple[tuple[Path, frozenset[object]], ...]:
    """(path, values) of which a matching document must hold one at that path; for a `$or`, what lies outside of it."""
    first, *others = [dict(leaves(branch)) for branch in alternatives]
    return tuple(
        (path, leaf.exact)
        for path, leaf in first.items()
        if leaf.only_exact and all(other.get(path) is leaf for other in others)
    )


def _fields(root: Node) -> tuple[tuple[Path, str, str, Leaf], ...] | None:
    """The fields of a pattern without `$or`: where each is, its name, how it is shown and what is asked of it."""
    if _has_choices(root):
        return None
    return tuple((path[:-1], path[-1], dotted(path), leaf) for path, leaf in leaves(root))


def _has_choices(node: Node) -> bool:
    below = (parted(part)[1] for part in node.fields.values())
    return bool(node.choices) or any(one is not None and _has_choices(one) for one in below)


def _leads_through_array(value: object, path: Path) -> bool:
    for name in path:
        if not isinstance(value, dict):
            break
        value = value.get(name)
    return isinstance(value, list | tuple)


def _explained(node: Node, value: object, path: Path) -> list[Condition]:
    if isinstance(value, dict):
        return _explained_in(node, value, path)
    elements: list[object] = [*objects(value)]
    tried = [_explained_in(node, element, path) for element in elements or [MISSING]]
    closest = min if node.only_absent else max  # "missing" fails by the element that has the field
    return closest(tried, key=lambda conditions: sum(condition.matched for condition in conditions))


def _explained_in(node: Node, element: object, path: Path) -> list[Condition]:
    conditions: list[Condition] = []
    for name, part in node.fields.items():
        value = element.get(name, MISSING) if isinstance(element, dict) else MISSING
        leaf, below = parted(part)
        if leaf is not None:
            conditions.append(_condition(leaf, value, (*path, name)))
        if below is not None:
            conditions += _explained(below, value, (*path, name))
    for choice in node.choices:
        options = tuple(tuple(_explained(option, element, path)) for option in choice.options)
        held = [position for position, option in enumerate(options) if all(each.matched for each in option)]
        shown = dotted((*path, "$or"))
        conditions.append(
            Condition(shown, choice.expected, held, present=True, matched=bool(held), alternatives=options)
        )
    return conditions


def _condition(leaf: Leaf, value: object, path: Path) -> Condition:
    present = value is not MISSING
    actual = value if present else None
    return Condition(dotted(path), leaf.expected, actual, present=present, matched=leaf.matches(value))

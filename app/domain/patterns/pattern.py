"""A compiled pattern: does a document match, and why.

What asks goes with an Effort, or gets one of its own. TooMuchWork is raised where it is spent without an answer.
"""

import json
from collections.abc import Mapping

from app.domain.patterns.compiling import compile_tree
from app.domain.patterns.effort import Effort
from app.domain.patterns.explaining import Condition, explained
from app.domain.patterns.fields import unfolded
from app.domain.patterns.limits import ASKED, Limits, dotted
from app.domain.patterns.reading import read
from app.domain.patterns.tree import MISSING, Leaf, Path, combinations, leads_through_array, leaves


class Pattern:
    """Made by `compile_pattern`; immutable, equal to another pattern that asks the same in the same words.

    anchors: (path, values) of which a matching document must hold one at that path; what a `$or` asks is none.
    """

    __slots__ = ("_fields", "_root", "_text", "anchors")

    def __init__(self, source: dict[str, object], limits: Limits = ASKED) -> None:
        self._text = json.dumps(source, sort_keys=True, ensure_ascii=False)
        self._root = compile_tree(source, limits)
        asked = tuple(leaves(self._root))
        self.anchors = tuple((path, leaf.exact) for path, leaf in asked if leaf.only_exact)
        # Without a `$or`: where each field is, its name, how it is shown and what is asked of it.
        self._fields: tuple[tuple[Path, str, str, Leaf], ...] | None = None
        if not self._root.has_choices:
            self._fields = tuple((path[:-1], path[-1], dotted(path), leaf) for path, leaf in asked)

    @property
    def source(self) -> dict[str, object]:
        """The pattern as JSON with sorted keys; a new copy each time."""
        source: dict[str, object] = json.loads(self._text)
        return source

    def matches(self, document: object, effort: Effort | None = None) -> bool:
        return self.fits(unfolded(document), effort)

    def fits(self, fields: object, effort: Effort | None = None) -> bool:
        """Whether it matches a document that is `unfolded` already: many patterns are asked about the same one."""
        return self._root.matches(fields, effort or Effort())

    def met(self, fields: object, effort: Effort | None = None) -> tuple[Condition, ...] | None:
        """Every condition, if an `unfolded` document meets them all, else None: what `fits` and `conditions_of` say, in
        one pass where the pattern has no `$or` and the document no array of objects on the way.
        """
        effort = effort or Effort()
        if self._fields is None:
            return self.conditions_of(fields, effort) if self.fits(fields, effort) else None
        met = []
        for parents, name, shown, leaf in self._fields:
            place = fields
            for parent in parents:
                place = place.get(parent) if isinstance(place, dict) else None
            if isinstance(place, dict):
                value = place.get(name, MISSING)
            elif leads_through_array(fields, parents):
                return self.conditions_of(fields, effort) if self.fits(fields, effort) else None
            else:
                value = MISSING
            # The first half is what most leaves say of most values: a call each was a tenth of routing.
            if not (isinstance(value, str) and value in leaf.exact) and not leaf.matches(value, effort):
                return None
            present = value is not MISSING
            met.append(Condition(shown, leaf.expected, value if present else None, present, matched=True))
        return tuple(met)

    def conditions(self, document: object, effort: Effort | None = None) -> tuple[Condition, ...]:
        """Every condition; where the document has an array of objects, for the element that comes closest."""
        return self.conditions_of(unfolded(document), effort)

    def conditions_of(self, fields: object, effort: Effort | None = None) -> tuple[Condition, ...]:
        """The same of a document that is `unfolded` already."""
        effort = effort or Effort()
        conditions = tuple(explained(self._root, fields, (), effort))
        if self._fields is None and not all(one.matched for one in conditions) and self.fits(fields, effort):
            # The element that comes closest to all options of a `$or` need not be the one that meets one of them.
            for each in combinations(self._root, effort):
                if each.matches(fields, effort):
                    return tuple(explained(each, fields, (), effort))
        return conditions

    def explain(self, document: object, effort: Effort | None = None) -> tuple[Condition, ...]:
        """The same, and why the pattern does not match where each condition on its own is met."""
        return self.explain_fields(unfolded(document), effort)

    def explain_fields(self, fields: object, effort: Effort | None = None) -> tuple[Condition, ...]:
        """The same of a document that is `unfolded` already."""
        effort = effort or Effort()
        conditions = self.conditions_of(fields, effort)
        if all(one.matched for one in conditions) and not self.fits(fields, effort):
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


def compile_pattern(source: str | Mapping[str, object], limits: Limits = ASKED) -> Pattern:
    """The pattern of a JSON text or of an object already parsed.

    Raises `InvalidPattern` with path and reason for what EventBridge refuses, for JSON that is broken or repeats a
    key, and beyond the limits.
    """
    return Pattern(read(source), limits)

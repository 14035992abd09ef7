"""Compiled patterns: match a document, and explain the result.

Methods take an Effort, or use one of their own. TooMuchWork is raised where it is spent without a result.
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
    """A compiled pattern, made by `compile_pattern`; immutable, and equal to another one of the same source.

    anchors: (path, values) of which a matching document must hold one at that path; conditions of a `$or` are not
    included.
    """

    __slots__ = ("_fields", "_root", "_text", "anchors")

    def __init__(self, source: dict[str, object], limits: Limits = ASKED) -> None:
        self._text = json.dumps(source, sort_keys=True, ensure_ascii=False)
        self._root = compile_tree(source, limits)
        asked = tuple(leaves(self._root))
        self.anchors = tuple((path, leaf.exact) for path, leaf in asked if leaf.only_exact)
        # Without a `$or`: each field's parents, its name, its shown path, and its tests.
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
        """Whether it matches a document that is `unfolded` already, since many patterns are tried on the same one."""
        return self._root.matches(fields, effort or Effort())

    def met(self, fields: object, effort: Effort | None = None) -> tuple[Condition, ...] | None:
        """Every condition, if an `unfolded` document meets them all, else None.

        The result of `fits` and `conditions_of`, in one pass where the pattern has no `$or` and the document no array
        of objects on the path.
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
            # The first half decides most cases: a call for each was a tenth of routing.
            if not (isinstance(value, str) and value in leaf.exact) and not leaf.matches(value, effort):
                return None
            present = value is not MISSING
            met.append(Condition(shown, leaf.expected, value if present else None, present, matched=True))
        return tuple(met)

    def conditions(self, document: object, effort: Effort | None = None) -> tuple[Condition, ...]:
        """Every condition; where the document has an array of objects, for the closest element."""
        return self.conditions_of(unfolded(document), effort)

    def conditions_of(self, fields: object, effort: Effort | None = None) -> tuple[Condition, ...]:
        """Every condition, of a document that is `unfolded` already."""
        effort = effort or Effort()
        conditions = tuple(explained(self._root, fields, (), effort))
        all_met = all(condition.matched for condition in conditions)
        if self._fields is None and not all_met and self.fits(fields, effort):
            # The element closest to all options of a `$or` need not be the one that meets one of them.
            for combination in combinations(self._root, effort):
                if combination.matches(fields, effort):
                    return tuple(explained(combination, fields, (), effort))
        return conditions

    def explain(self, document: object, effort: Effort | None = None) -> tuple[Condition, ...]:
        """Every condition, and one more where each is met on its own but the pattern does not match."""
        return self.explain_fields(unfolded(document), effort)

    def explain_fields(self, fields: object, effort: Effort | None = None) -> tuple[Condition, ...]:
        """The explanation for a document that is `unfolded` already."""
        effort = effort or Effort()
        conditions = self.conditions_of(fields, effort)
        if all(condition.matched for condition in conditions) and not self.fits(fields, effort):
            # Each condition holds for some element of an array, but no single element meets them all.
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
    """The pattern of a JSON text or of a parsed object.

    Raises InvalidPattern with path and reason for patterns that EventBridge refuses, for JSON that is broken or repeats
    a key, and beyond the limits.
    """
    return Pattern(read(source), limits)

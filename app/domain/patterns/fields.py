"""EventBridge knows a field by its whole path, joined by dots: `{"a.b": 1}` and `{"a": {"b": 1}}` have the same."""

from typing import Final

from app.domain.patterns.reading import MAX_DEPTH

_DEEP: Final = (dict, list, tuple)


def unfolded(document: object, depth: int = MAX_DEPTH) -> object:
    """The document with each dotted name as the objects it stands for; no pattern asks below `depth`.

    A field that is there in both ways has both values, as an array has.
    """
    if depth <= 0 or not isinstance(document, _DEEP):
        return document
    if not isinstance(document, dict):
        return [unfolded(item, depth - 1) for item in document]
    plain = {name: unfolded(value, depth - 1) for name, value in document.items()}
    if not any("." in name for name in plain):
        return plain
    fields: dict[str, object] = {}
    for name, value in plain.items():
        first, *below = name.split(".", depth)
        for inner in reversed(below):
            value = {inner: value}  # noqa: PLW2901 - wrapped step by step
        fields[first] = _both(fields[first], value) if first in fields else value
    return fields


def _both(one: object, other: object) -> object:
    if isinstance(one, dict) and isinstance(other, dict):
        joined = {name: _both(one[name], value) if name in one else value for name, value in other.items()}
        return {**one, **joined}
    return [*(one if isinstance(one, list) else [one]), *(other if isinstance(other, list) else [other])]

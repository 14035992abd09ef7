"""EventBridge knows a field by its whole path, joined by dots: `{"a.b": 1}` and `{"a": {"b": 1}}` have the same."""

from typing import Final

from app.domain.patterns.reading import MAX_DEPTH

_DEEP: Final = (dict, list, tuple)


def unfolded(document: object) -> object:
    """The document with each dotted name as the objects it stands for; one without is answered as it is.

    A field that is there in both ways has both values, as an array has.
    """
    return _unfolded(document, MAX_DEPTH) if _has_dots(document, MAX_DEPTH) else document


def _has_dots(value: object, depth: int) -> bool:
    if isinstance(value, dict):
        if "." in "".join(value):
            return True
        value = value.values()
    elif not isinstance(value, _DEEP):
        return False
    for inner in value:  # noqa: SIM110 - asked for every event: `any` takes twice as long
        if isinstance(inner, _DEEP) and depth > 0 and _has_dots(inner, depth - 1):
            return True
    return False


def _unfolded(document: object, depth: int) -> object:
    """No pattern asks below `depth`."""
    if depth <= 0 or not isinstance(document, _DEEP):
        return document
    if not isinstance(document, dict):
        return [_unfolded(item, depth - 1) for item in document]
    plain = {name: _unfolded(value, depth - 1) for name, value in document.items()}
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

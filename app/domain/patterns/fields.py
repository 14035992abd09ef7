"""Fields by their whole dotted path, as EventBridge identifies them: `{"a.b": 1}` and `{"a": {"b": 1}}` have
the same.
"""

from collections.abc import Iterable
from typing import Final

from app.domain.patterns.limits import MAX_DEPTH

_DEEP: Final = (dict, list, tuple)
_DEEP_TYPES: Final = frozenset(_DEEP)

Member = tuple[str, object]


def unfolded(document: object) -> object:
    """The document with each dotted name as nested objects; a document without any is returned unchanged.

    A field that is there in both ways has both values, as an array has. Conditions on one object see one merged object.
    """
    return _unfolded(document, MAX_DEPTH) if _has_dots(document, MAX_DEPTH) else document


def _has_dots(value: object, depth: int) -> bool:
    if isinstance(value, dict):
        if "." in "".join(value):
            return True
        value = value.values()
    elif not isinstance(value, _DEEP):
        return False
    for inner in value:  # noqa: SIM110 - called for every event: `any` and `isinstance` take twice as long
        if type(inner) in _DEEP_TYPES and depth > 0 and _has_dots(inner, depth - 1):
            return True
    return False


def _unfolded(value: object, depth: int) -> object:
    """The value unfolded down to `depth`; no pattern descends further."""
    if depth <= 0 or not isinstance(value, _DEEP):
        return value
    if isinstance(value, dict):
        return _joined(value.items(), depth)
    return [_unfolded(item, depth - 1) for item in value]


def _joined(members: Iterable[Member], depth: int) -> dict[str, object]:
    """One object of members, several of which may lead into the same field.

    Each member is visited once for each name of its path; nothing is copied again.
    """
    if depth <= 0:
        return dict(members)
    fields: dict[str, list[tuple[str | None, object]]] = {}
    for name, value in members:
        first, dot, rest = name.partition(".")
        fields.setdefault(first, []).append((rest if dot else None, value))
    return {name: _field(several, depth - 1) for name, several in fields.items()}


def _field(several: list[tuple[str | None, object]], depth: int) -> object:
    """Value of a field. several: values, each with the rest of the name that led there."""
    if len(several) == 1 and several[0][0] is None:
        return _unfolded(several[0][1], depth)
    members: list[Member] = []
    values: list[object] = []
    for rest, value in several:
        if rest is not None:
            members.append((rest, value))
        elif isinstance(value, dict):
            members += value.items()
        elif isinstance(value, list | tuple):
            values += [_unfolded(item, depth - 1) for item in value]
        else:
            values.append(value)
    if not values:
        return _joined(members, depth)
    return [*values, _joined(members, depth)] if members else values

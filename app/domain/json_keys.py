"""Places in a JSON value, and repeated keys in an object: readers differ in which of two values counts."""

from typing import Final, NamedTuple

MAX_SHOWN: Final = 64  # characters of a name in a place
REASON: Final = "the key stands twice in the same object"

# A value's place: the place around it and its own name. It is spelled out only for errors, since a path for each value
# of a large body would take many times its size.
Place = tuple["Place | None", str | int]


class RepeatedKey(dict[str, object]):
    """An object in which a key stood twice, kept so that an error can name its place. It holds the last value."""

    def __init__(self, pairs: list[tuple[str, object]]) -> None:
        super().__init__(pairs)
        self._keys = [key for key, _ in pairs]

    @property
    def repeated(self) -> str:
        """The first key that is there for the second time."""
        seen: set[str] = set()
        for key in self._keys:
            if key in seen:
                return key
            seen.add(key)
        raise LookupError


class Members:
    """An `object_pairs_hook` of Python's JSON reader. `repeated`: whether a key stood twice in any of the objects."""

    def __init__(self) -> None:
        self.repeated = False

    def __call__(self, pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) == len(pairs):
            return found
        self.repeated = True
        return RepeatedKey(pairs)


class RepeatedKeyPlace(NamedTuple):
    """A repeated key. place: such as `filter.a[0].b`."""

    place: str
    reason: str


def repeated_key(value: object) -> RepeatedKeyPlace | None:
    """The outermost key that stands twice in an object; None without any.

    value: read with `Members`.
    """
    layer: list[tuple[Place, object]] = [((None, ""), value)]
    while layer:
        for place, outer in layer:
            if isinstance(outer, RepeatedKey):
                return RepeatedKeyPlace(shown_place((place, outer.repeated)).removeprefix("."), REASON)
        layer = [((place, name), inner) for place, outer in layer for name, inner in _members(outer)]
    return None


def shown_place(place: Place) -> str:
    """Text such as `metadata.a[0]`, each name cut and without its control characters."""
    names: list[str] = []
    around: Place | None = place
    while around is not None:
        around, name = around
        if isinstance(name, int):
            names.append(f"[{name}]")
        elif around is None:
            names.append(name)
        else:
            names.append(f".{ascii(name)[1:-1] if len(name) <= MAX_SHOWN else ascii(name[:MAX_SHOWN])[1:-1] + '...'}")
    return "".join(reversed(names))


def _members(value: object) -> list[tuple[str | int, object]]:
    if isinstance(value, dict):
        return list(value.items())
    return list(enumerate(value)) if isinstance(value, list) else []

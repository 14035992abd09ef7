"""Arguments of the form `key=value`."""

from app.errors import InvalidInput


def pairs(given: tuple[str, ...]) -> dict[str, str]:
    """`key=value` each. Raises InvalidInput, also for a key that is there twice."""
    found: dict[str, str] = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not equals or not name:
            raise InvalidInput(f"{one!r}: expected key=value")
        if name in found:
            raise InvalidInput(f"{name!r} is given twice")
        found[name] = value
    return found

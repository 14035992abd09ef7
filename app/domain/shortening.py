"""Display form of a JSON value: the value itself while it is short, else its beginning and the size of the rest."""

from typing import Final

DEPTH: Final = 12
KEY: Final = 100  # characters of a member's name
DIGITS: Final = 40
WORD: Final = 300  # characters of the longest word
_LARGE: Final = 10**DIGITS
_CONTAINER: Final = 4  # characters counted for a list, an object, and each of its items


def shortened(value: object, most: int = 1000) -> object:
    """A copy of about `most` characters of JSON at most. The parts left out are not visited."""
    if value is None or (type(value) is str and len(value) <= most):  # nearly all are
        return value
    return _Room(most).cut(value, DEPTH)


class _Room:
    def __init__(self, characters: int) -> None:
        self._left = characters

    def cut(self, value: object, depth: int) -> object:
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, list | tuple | dict):
            if depth <= 0:
                return "…"
            self._left -= _CONTAINER
            return self._object(value, depth) if isinstance(value, dict) else self._list(value, depth)
        self._left -= _CONTAINER
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= _LARGE:
            digits = str(value)
            return f"{digits[:DIGITS]}… ({len(digits):,} digits)"
        return value

    def _text(self, value: str) -> str:
        room = max(self._left, _CONTAINER)
        self._left -= min(len(value), room) + _CONTAINER
        return value if len(value) <= room else f"{value[: _end(value, room)]}… ({len(value):,} characters)"

    def _list(self, value: list[object] | tuple[object, ...], depth: int) -> list[object]:
        shown: list[object] = []
        for item in value:
            if self._left <= 0:
                shown.append(f"… {len(value) - len(shown):,} more")
                break
            shown.append(self.cut(item, depth - 1))
        return shown

    def _object(self, value: dict[str, object], depth: int) -> dict[str, object]:
        shown: dict[str, object] = {}
        for name, inner in value.items():
            if self._left <= 0:
                shown["…"] = f"{len(value) - len(shown):,} more"
                break
            self._left -= min(len(name), KEY)
            shown[name if len(name) <= KEY else f"{name[:KEY]}…"] = self.cut(inner, depth - 1)
        return shown


def _end(text: str, room: int) -> int:
    """Position to cut at, before a word that would be split: a part of a person's address could not be erased later."""
    end = room
    while end > max(0, room - WORD) and not text[end - 1].isspace() and not text[end].isspace():
        end -= 1
    return end if end > max(0, room - WORD) else room

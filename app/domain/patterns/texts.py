"""Tests of texts: prefix, suffix, equality without regard to case, and wildcards.

None reads more of a text than the pattern's own length, except wildcards, which read it once (`scans`).
"""

from collections.abc import Callable
from typing import Final

from app.domain.patterns.reading import kind
from app.errors import InvalidPattern

Test = Callable[[object], bool]

# EventBridge refuses patterns with many wildcards as too complex without publishing the number; six were refused.
MAX_WILDCARDS: Final = 5
_LONGEST_FORM: Final = 3  # characters of a letter's longest form in the other case


def text_of(operand: object, name: str, path: str) -> str:
    """The operand, which has to be a string. Raises InvalidPattern."""
    if not isinstance(operand, str):
        raise InvalidPattern(path=path, reason=f"{name} takes a string, not {kind(operand)}")
    return operand


def prefix(operand: object, path: str) -> Test:
    if isinstance(operand, dict):
        text = _ignoring_case(operand, "prefix", path)
        if text.isascii():
            same, length = _same_ascii(text), len(text)
            return lambda value: isinstance(value, str) and same(value[:length])
        letters = _either_case(text)
        return lambda value: isinstance(value, str) and _end_of(letters, value) is not None
    start = text_of(operand, "prefix", path)
    return lambda value: isinstance(value, str) and value.startswith(start)


def suffix(operand: object, path: str) -> Test:
    if isinstance(operand, dict):
        text = _ignoring_case(operand, "suffix", path)
        if text.isascii():
            same, length = _same_ascii(text), len(text)
            return lambda value: isinstance(value, str) and same(value[max(0, len(value) - length) :])
        # Backwards from the end: the suffix's start is unknown, since letters and capitals differ in length.
        letters = [[form[::-1] for form in forms] for forms in reversed(_either_case(text))]
        most = _LONGEST_FORM * len(letters)
        return lambda value: isinstance(value, str) and _end_of(letters, value[-most:][::-1]) is not None
    end = text_of(operand, "suffix", path)
    return lambda value: isinstance(value, str) and value.endswith(end)


def equals_ignore_case(operand: object, path: str) -> Test:
    text = text_of(operand, "equals-ignore-case", path)
    if text.isascii():
        same, length = _same_ascii(text), len(text)
        return lambda value: isinstance(value, str) and len(value) == length and same(value)
    letters = _either_case(text)
    return lambda value: isinstance(value, str) and _end_of(letters, value) == len(value)


def wildcard(operand: object, path: str) -> Test:
    """Greedy from left to right over the literal parts: no backtracking, so no input makes it slow."""
    parts = _literal_parts(text_of(operand, "wildcard", path), path)
    if len(parts) == 1:
        return lambda value: value == parts[0]
    first, *middle, last = parts

    def test(value: object) -> bool:
        if not isinstance(value, str) or not value.startswith(first) or not value.endswith(last):
            return False
        position, end = len(first), len(value) - len(last)
        for part in middle:
            found = value.find(part, position, end)
            if found < 0:
                return False
            position = found + len(part)
        return position <= end

    return test


def _ignoring_case(operand: dict[str, object], name: str, path: str) -> str:
    if set(operand) != {"equals-ignore-case"}:
        raise InvalidPattern(path=path, reason=f'{name} takes a string or {{"equals-ignore-case": "…"}}')
    return text_of(operand["equals-ignore-case"], "equals-ignore-case", path)


def _same_ascii(text: str) -> Callable[[str], bool]:
    """Comparison for ASCII text, which is the common and cheap case: no other character is a form of an ASCII letter
    here, not even the sign for kelvin.
    """
    folded = text.lower()
    return lambda part: part.isascii() and part.lower() == folded


def _either_case(text: str) -> list[list[str]]:
    """The forms of each letter by EventBridge's rules: `ß` is `SS` or itself, and each sigma is its own capital."""
    # EventBridge is written in Java, where characters beyond U+FFFF are two surrogates, which have no case.
    return [sorted({letter, letter.lower(), letter.upper()}) if letter <= "\uffff" else [letter] for letter in text]


def _end_of(letters: list[list[str]], value: str) -> int | None:
    """Position after these letters at the beginning of the value, else None. No two forms of a letter begin alike: one
    fits.
    """
    position = 0
    for forms in letters:
        for form in forms:
            if value.startswith(form, position):
                position += len(form)
                break
        else:
            return None
    return position


def _literal_parts(text: str, path: str) -> list[str]:
    """The literal parts between wildcards, collected as lists of characters: strings would be copied each time."""
    parts: list[list[str]] = [[]]
    index = 0
    while index < len(text):
        character, following = text[index], text[index + 1 : index + 2]
        if character == "\\":
            if following not in {"*", "\\"}:
                reason = f"a backslash at {index} escapes nothing; only \\* and \\\\ are allowed"
                raise InvalidPattern(path=path, reason=reason)
            parts[-1].append(following)
            index += 1
        elif character != "*":
            parts[-1].append(character)
        elif following == "*":
            raise InvalidPattern(path=path, reason=f"two wildcards in a row at {index}")
        elif len(parts) > MAX_WILDCARDS:
            raise InvalidPattern(path=path, reason=f"too complex: more than {MAX_WILDCARDS} wildcards in one string")
        else:
            parts.append([])
        index += 1
    return ["".join(part) for part in parts]

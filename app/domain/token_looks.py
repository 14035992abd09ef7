"""What a token looks like, and what a name looks like that holds digits, too."""

import re
from typing import Final

LONG: Final = 20  # characters of a word from which it may be a token by its looks alone
MOST_RUNS: Final = 3  # of letters and digits in a part of a name, such as `oauth2`, `2legged` or `b2b`

_LETTERS_ONLY: Final = re.compile(r"[A-Za-z_.-]{0,100}+")
_NAME: Final = re.compile(r"[\w.,@/-]*+")
_PART: Final = re.compile(r"[^\W_]+")
_RUN: Final = re.compile(r"[0-9]+|[^\W\d_]+")
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_PATH_PART: Final = re.compile(r"(?:[a-z._-]++[0-9]{0,2}){0,2}+")
_HUMP: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def is_name(text: str) -> bool:
    """Whether it is made of words and numbers, as names of syncs, models and members are, and not a token."""
    if _LETTERS_ONLY.fullmatch(text):
        return True
    return _NAME.fullmatch(text) is not None and all(
        len(_RUN.findall(part)) <= MOST_RUNS for part in _PART.findall(text)
    )


def looks_random(word: str) -> bool:
    """Whether a long word is what a token looks like and no word of a language, name or path does. UUIDs are ids."""
    if _UUID.fullmatch(word):
        return False
    if "/" in word and all(_UUID.fullmatch(part) or _PATH_PART.fullmatch(part) for part in word.split("/")):
        return False
    return is_mixed(word)


def is_mixed(word: str) -> bool:
    """Whether its characters change as those of random text do."""
    digits, letters = any(c.isdigit() for c in word), any(c.isalpha() for c in word)
    if digits:
        return letters or (word.isdigit() and len(word) >= LONG)
    # Words in camel case have long humps, random letters short ones.
    humps = _HUMP.findall(word)
    return len(humps) > 1 and any(c.islower() for c in word) and sum(map(len, humps)) < 3 * len(humps)

"""Recognition of tokens by their form, and of names that contain digits."""

import re
from collections.abc import Iterator
from typing import Final

LONG: Final = 20  # shortest word, in characters, that may be a token by its form alone
SHORT: Final = 8  # shortest one beside a word such as `token` or `password`
MOST_RUNS: Final = 3  # of letters and digits in a part of a name, such as `oauth2`, `2legged` or `b2b`

# Beginnings of well-known providers' tokens. Ordinary names begin with some of these, too: `npm_config_registry`.
_SURE: Final = (
    r"[prs]k_(?:live|test)_|xox[a-z]-|xapp-|gh[oprsu]_|github_pat_|glpat-|AKIA|AIza|ya29\.|shp(?:at|ca|pa|ss)_|dop_v1_"
    r"|whsec_|eyJ"
)
_UNSURE: Final = r"sk-|[prs]k_|hf_|npm_|pypi-|EAA|SG\.|ASIA"
KNOWN_BEGINNING: Final = f"(?:{_SURE}|{_UNSURE})"
_KNOWN: Final = re.compile(
    rf"(?:(?<![A-Za-z0-9_.-])|(?<=\\[nrt]))(?:(?:{_SURE})(?P<sure>[A-Za-z0-9_-]{{6,}}+)"
    rf"|(?:{_UNSURE})(?P<unsure>[A-Za-z0-9_-]{{8,}}+))(?:[.~+/=]++[A-Za-z0-9_-]++)*+"
)
_BEGINNING: Final = re.compile(KNOWN_BEGINNING)
_WHEN: Final = re.compile(r"[0-9]{8}T[0-9]{4,6}Z?|(?:[0-9]{1,6}+(?:ms|us|ns|[smhdw])){1,6}+")

_LETTERS_ONLY: Final = re.compile(r"[A-Za-z_.-]{0,100}+")
_NAME: Final = re.compile(r"[\w.,@/-]*+")
_PART: Final = re.compile(r"[^\W_]+")
_RUN: Final = re.compile(r"[0-9]+|[^\W\d_]+")
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_PATH_PART: Final = re.compile(r"(?:[a-z._-]++[0-9]{0,2}){0,2}+")
_HUMP: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def is_name(text: str) -> bool:
    """Whether the text consists of words and numbers, as names of syncs, models and members, and is no token."""
    if next(known_tokens(text), None) is not None:
        return False
    if _LETTERS_ONLY.fullmatch(text):
        return True
    return _NAME.fullmatch(text) is not None and all(
        len(_RUN.findall(part)) <= MOST_RUNS for part in _PART.findall(text)
    )


def known_tokens(text: str) -> Iterator[tuple[int, int]]:
    """Spans of tokens with a beginning of a well-known provider: `sk_live_…`, `ghp_…`, `xoxb-…`."""
    if _BEGINNING.search(text) is None:  # true of most texts, and five times as fast as the other expression
        return iter(())
    return (found.span() for found in _KNOWN.finditer(text) if _is_token(found))


def _is_token(known: re.Match[str]) -> bool:
    rest = known["unsure"]
    return rest is None or any(c.isdigit() for c in rest) or is_mixed(rest)


def looks_random_beside_a_name(word: str) -> bool:
    """Whether letters and digits form no word, name or time, so that beside a name such as `token` they may be one."""
    if len(word) < SHORT or _WHEN.fullmatch(word):
        return False
    return not is_name(word) or (word.isalpha() and is_mixed(word))


def looks_random(word: str) -> bool:
    """Whether a long word has a token's form and is no word of a language, name or path. UUIDs are ids, not tokens."""
    if _UUID.fullmatch(word):
        return False
    if "/" in word and all(_UUID.fullmatch(part) or _PATH_PART.fullmatch(part) for part in word.split("/")):
        return False
    return is_mixed(word)


def is_mixed(word: str) -> bool:
    """Whether letters, digits and case alternate as in random text."""
    digits, letters = any(c.isdigit() for c in word), any(c.isalpha() for c in word)
    if digits:
        return letters or (word.isdigit() and len(word) >= LONG)
    # Words in camel case have long humps, random letters short ones.
    humps = _HUMP.findall(word)
    return len(humps) > 1 and any(c.islower() for c in word) and sum(map(len, humps)) < 3 * len(humps)

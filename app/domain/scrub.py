"""Text and JSON from outside in a form that may be stored: without token-like parts, bounded in length.

Error texts of Nango may embed a serialised exception of the provider (Nango contract: When auth webhooks are sent), so
they can contain anything, in any encoding. A harmless word is rather hidden than a token stored. The cost is linear in
the length of the text.
"""

import html
import re
from collections.abc import Iterable
from typing import Final

from app.domain.secret_names import is_plain_code, is_secret_name
from app.domain.secret_scanner import HIDDEN, Span, named_secrets, tokens_near_names
from app.domain.token_detection import KNOWN_BEGINNING, LONG, is_mixed, known_tokens, looks_random

MAX_LENGTH: Final = 500
MAX_DEPTH: Final = 40
LEVELS: Final = 4  # of nested encodings
_SCRUBBED: Final = 4  # times the kept length: hiding makes a text shorter

_SHORT_WORD: Final = re.compile(
    rf"(?!{KNOWN_BEGINNING})[A-Za-z0-9_.-]{{0,19}}+"
)  # too short for a token, and no name with its value
_LETTERS: Final = "A-Za-z0-9_.~+/=-"
_WORD: Final = re.compile(rf"[{_LETTERS}]{{{LONG},}}+")
_WRAPPED: Final = re.compile(rf"(?<![{_LETTERS}])[{_LETTERS}]++(?:(?:\r?\n|\\n)[ \t]*+[{_LETTERS}]++)++")
_BREAK: Final = re.compile(r"(?:\r?\n|\\n)[ \t]*+")
_URL: Final = re.compile(r"""://[^\s"'<>\\`]++""")
_CURL_USER: Final = re.compile(r"""(?<!\S)(-u|-U|--user|--proxy-user)([ =])(["']?)[^\s:"']++:[^\s"']++""")
_ENCODED: Final = re.compile(r"%[0-7][0-9A-Fa-f]|\\u00[0-7][0-9A-Fa-f]|\\x[0-7][0-9A-Fa-f]|&#?[A-Za-z0-9]{2,8};")
# Quotes and signs of word processors and other keyboards, and invisible characters
_OTHER_SIGNS: Final = str.maketrans(
    {**dict.fromkeys("\u201c\u201d\u201e\u00ab\u00bb", '"'), **dict.fromkeys("\u2018\u2019\u201a", "'")}
    | {"\uff1d": "=", "\uff1a": ":", **dict.fromkeys("\u00ad\u200b\u200c\u200d\u2060\ufeff")}
)
_PEM_BEGINS, _PEM_ENDS = "-----BEGIN ", "-----END "

_LABELS: Final = frozenset({"field", "header", "id", "k", "key", "name", "param", "parameter", "property"})
_LABELLED: Final = frozenset({"content", "data", "v", "val", "value", "values"})


def scrub(text: str, *, limit: int = MAX_LENGTH) -> str:
    """`text` without token-like parts and without NUL or lone surrogates, cut to `limit` characters."""
    if _SHORT_WORD.fullmatch(text):
        return text
    text = hide(replace_unstorable(_beginning(text, limit * _SCRUBBED)))
    return text if len(text) <= limit else text[: limit - 1] + "…"


def hide(text: str) -> str:
    """`text` without token-like parts. Parts that are only recognized once decoded stay decoded, and are hidden."""
    shown = level = _hide_plain(text)
    for _ in range(LEVELS):
        decoded = _decoded(level)
        if decoded == level:
            break
        level = _hide_plain(decoded)
        if level != decoded:
            shown = level
    return shown


def scrub_object(value: dict[str, object], *, depth: int = 0) -> dict[str, object]:
    """An object without possible credentials, by their names and by likeness to a token; names, too.

    Below `MAX_DEPTH` nothing is kept.
    """
    labelled = any(
        name.lower() in _LABELS and isinstance(label, str) and is_secret_name(label, member=True)
        for name, label in value.items()
    )
    return {
        scrub(name): _hidden(name, inner)
        if is_secret_name(name, member=True) or (labelled and name.lower() in _LABELLED)
        else scrub_value(inner, depth=depth)
        for name, inner in value.items()
    }


def scrub_value(value: object, *, depth: int = 0) -> object:
    """Any JSON value without possible credentials."""
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, dict):
        return scrub_object(value, depth=depth + 1) if depth < MAX_DEPTH else HIDDEN
    if isinstance(value, list):
        return _scrub_list(value, depth + 1) if depth < MAX_DEPTH else HIDDEN
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value if abs(value) < 10**LONG else HIDDEN
    return value


def replace_unstorable(text: str) -> str:
    """NUL and lone surrogates become U+FFFD: PostgreSQL's text and jsonb refuse them."""
    if "\x00" in text:
        text = text.replace("\x00", "\ufffd")
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def hide_userinfo(text: str) -> str:
    """Text without users and passwords in URLs."""
    return _URL.sub(lambda run: "://".join(map(_without_userinfo, run.group().split("://"))), text)


def _scrub_list(value: list[object], depth: int) -> list[object]:
    """A list without possible credentials. Headers come as pairs, too: `["Authorization", "Bearer …"]`."""
    return [
        _hidden(name, inner)
        if isinstance(inner, str) and isinstance(name, str) and is_secret_name(name)
        else scrub_value(inner, depth=depth)
        for name, inner in zip([None, *value], value, strict=False)
    ]


def _hidden(name: str, value: object) -> object:
    nothing = value is None or isinstance(value, bool) or value in ("", [], {})
    return value if nothing or (isinstance(value, str | int) and is_plain_code(name, str(value))) else HIDDEN


def _beginning(text: str, length: int) -> str:
    """The text cut to a length at the end of a word, since a word's beginning is not recognized as a token."""
    if len(text) <= length:
        return text
    cut = max(text.rfind(" ", 0, length), text.rfind("\n", 0, length))
    return text[: cut if cut > length // 2 else length]


def _hide_plain(text: str) -> str:
    if _PEM_BEGINS in text:
        text = _replaced(text, _keys(text))
    if "://" in text:
        text = hide_userinfo(text)
    if "-u" in text or "-U" in text or "user" in text:
        text = _CURL_USER.sub(rf"\1\2\3{HIDDEN}", text)
    for find in (named_secrets, known_tokens, tokens_near_names):
        text = _replaced(text, find(text))
    if "\n" in text or "\\n" in text:
        text = _WRAPPED.sub(_hide_wrapped, text)
    return _WORD.sub(lambda word: HIDDEN if looks_random(word.group()) else word.group(), text)


def _replaced(text: str, spans: Iterable[Span]) -> str:
    parts, done = [], 0
    for start, end in spans:
        parts += [text[done:start], HIDDEN]
        done = end
    return "".join((*parts, text[done:])) if parts else text


def _keys(text: str) -> Iterable[Span]:
    """Spans of keys and certificates in PEM; one without its end reaches to the end of the text."""
    end = 0
    while (start := text.find(_PEM_BEGINS, end)) >= 0:
        found = text.find(_PEM_ENDS, start)
        last = text.find("-----", found + len(_PEM_ENDS)) if found >= 0 else -1
        end = last + 5 if last >= 0 else len(text)
        yield start, end


def _without_userinfo(part: str) -> str:
    """The text after a URL's scheme without user and password, which may contain unescaped signs."""
    ends = [at for sign in "/?#" if (at := part.find(sign)) >= 0]
    host = part[: min(ends)] if ends else part
    port = host.rpartition(":")[2]
    inside = host if "@" in host or ":" not in host or port.isdigit() else part
    at = inside.rfind("@")
    return part if at < 0 else f"{HIDDEN}{part[at:]}"


def _hide_wrapped(found: re.Match[str]) -> str:
    """A token that line breaks split into words, each too short to be recognized."""
    words = _BREAK.split(found.group())
    if len("".join(words)) < LONG or not all(len(word) >= 8 and is_mixed(word) for word in words):
        return found.group()
    return HIDDEN


def _decoded(text: str) -> str:
    if text.isascii() and not ("%" in text or "&" in text or "\\" in text):
        return text
    return _ENCODED.sub(_decode, text.translate(_OTHER_SIGNS))


def _decode(found: re.Match[str]) -> str:
    code = found.group()
    return html.unescape(code) if code[0] == "&" else chr(int(code[-2:], 16))

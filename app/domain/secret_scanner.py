"""Credentials in a text, found by the names before them: `access_token=…`, `"apiKey": "…"`, `Authorization: …`.

A scanner in place of one regular expression: each character is read a bounded number of times, whatever the text.
"""

import re
from collections.abc import Iterator
from typing import Final

from app.domain.secret_names import ABROAD, is_plain_code, is_secret_name
from app.domain.token_detection import LONG, SHORT, looks_random_beside_a_name

HIDDEN: Final = "[hidden]"

Span = tuple[int, int]

_ASCII_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{2,}+")
_NAME: Final = re.compile(rf"{ABROAD}|{_ASCII_NAME.pattern}")
_WORDS_OR_URL: Final = re.compile(rf"://\S++|[A-Za-z0-9_-]{{{SHORT},}}+")
_ID_BEFORE: Final = re.compile(r"""(?:id|ID|Id)["']?[:=#]?+[ "']?\Z""")
NEAR: Final = 60  # characters between a secret name and a token of the same sentence
# Invisible separators: white space, also escaped, and terminal colours.
_SPACE: Final = r"(?:\s|\\[nrt]|(?:\x1b|\\(?:u00|x)1b)\[[0-9;]{0,20}+m)"
# Between a name and its value. `weak`: words only, as in prose.
_SAYS: Final = re.compile(
    r"""(?:\\(?![nrtux])|["'`\]\[)}*])*+(?P<between>(?:\s++(?:id|value|string|hash|you|we|have"""
    r"""|provided|given|gave|supplied|used|received|entered|sent|passed|submitted|presented|specified)\b){0,4}+)(?:"""
    rf"""{_SPACE}*+(?:[=-]>|→|:?[=:|]++)|>"""
    r"""|\s*+,?\s*+[\\"'`]*+(?:value|content)[\\"'`]*+\s*+[=:]"""
    r"""|(?P<pair>(?<=["'`])\s*+,\s*+(?=[\\"'`]))"""
    rf"""|(?P<weak>(?:{_SPACE}|\+)++(?:(?:is|was)\s++)?+))""",
    re.IGNORECASE,
)
_TAG_END: Final = re.compile(r"(?:\s[^<>]{0,200}+)?>")  # of an XML element with attributes
# The opening of a value: YAML block, XML CDATA, Python string prefix, quotes.
_OPENS: Final = re.compile(
    rf"""(?:{_SPACE}|[|>][+-]?(?=\s))*+"""
    r"""(?:<!\[CDATA\[)?+[(]?+(?:[bBrRuU]{1,2}(?=\\*+["']))?+(\\*+)(["'`]*+)"""
)
_QUOTE: Final = re.compile(r"""(?<!\\)(\\*+)(["'`])""")
_BRACKET: Final = re.compile(r"[\[\]{}]")
_BARE: Final = re.compile(r"""[^\s"'`\\&<>]++""")
_PIECE: Final = r"""[^\s,;"'`\\]*+(?:"[^"]*+"|'[^']*+')?+"""
_HEADER: Final = re.compile(rf"{_PIECE}(?:[ \t]++{_PIECE})?+(?:[,;][ \t]*+{_PIECE})*+")
_NEXT_LINE: Final = re.compile(r"(?:\r?\n|(?:\\r)?\\n)[ \t]*+([A-Za-z0-9_.~+/=-]++)(?=([ \t]*+(?:\r?\n|\\[nr]|$))?)")
_MEMBERS_VALUE: Final = re.compile(r""".?[:=]\s?["'`]|[:=]["'`]""")  # not one of a list of names and values
_PLAIN_WORD: Final = re.compile(r"[A-Z]?[^\W\d_A-Z]*+(?:[-'/_][^\W\d_A-Z]++)*+[.,:;!?)\]}]*+")
_OF_TOKENS: Final = re.compile("[A-Za-z0-9]")
_TOO_LONG: Final = re.compile(rf"[a-z]{{{LONG}}}")  # for a natural word

_SCHEMES: Final = frozenset({"basic", "bearer", "digest", "hawk", "negotiate", "token"})
_ENDS: Final = ",;:.)]}|"
# Words in the place of a credential that are none: "token: expired". The codes are those of RFC 6749, 6750 and 8628.
_PROSE: Final = frozenset(
    {
        "a", "an", "and", "are", "auth", "authentication", "authorization", "bad", "cannot", "check", "could",
        "denied", "empty", "error", "expired", "failed", "false", "for", "forbidden", "from", "has", "in",
        "incorrect", "invalid", "is", "it", "malformed", "mismatch", "missing", "must", "nil", "no", "none", "not",
        "null", "of", "or", "please", "required", "revoked", "scheme", "see", "the", "this", "to", "token", "tokens",
        "true", "unable", "unauthorized", "undefined", "unknown", "was", "we", "with", "wrong", "you", "your",
        "access_denied", "authorization_pending", "expired_token", "insufficient_scope", "invalid_client",
        "invalid_grant", "invalid_request", "invalid_scope", "invalid_token", "login_required", "server_error",
        "slow_down", "temporarily_unavailable", "unauthorized_client", "unsupported_grant_type",
        "unsupported_response_type",
    }
)  # fmt: skip


def named_secrets(text: str) -> Iterator[Span]:
    """The spans of values behind secret names, from left to right."""
    done = 0
    for name in _names(text):
        if name.start() >= done and (span := _after(text, name)) is not None:
            done = span[1]
            yield span


def tokens_near_names(text: str) -> Iterator[Span]:
    """The spans of possible tokens a few words before or after a secret name, from left to right.

    Such as "Zx9Cv8Bc9 is no valid API key" and "the token of this account (Zx9Cv8Bc9)".
    """
    found = [match.span() for match in _WORDS_OR_URL.finditer(text) if _may_be_token(text, match)]
    names = [name.span() for name in _names(text) if _tells(name.group())] if found else []
    at = 0
    for start, end in found:
        while at < len(names) and names[at][1] < start - NEAR:
            at += 1
        if any(begins <= end + NEAR for begins, _ in names[at : at + 1]):
            yield start, end


def _names(text: str) -> Iterator[re.Match[str]]:
    return (_ASCII_NAME if text.isascii() else _NAME).finditer(text)


def _tells(name: str) -> bool:
    return is_secret_name(name) and name.lower() not in {"code", "session"}


def _may_be_token(text: str, found: re.Match[str]) -> bool:
    word, (start, end) = found.group(), found.span()
    if word[0] == ":" or (word.isalpha() and word[1:].islower()) or len(word) >= LONG or text[end : end + 1] == "@":
        return False
    return looks_random_beside_a_name(word) and _ID_BEFORE.search(text, max(0, start - 6), start) is None


def _after(text: str, name: re.Match[str]) -> Span | None:
    word, start, end = name.group().rstrip(".-"), name.start(), name.end()
    before = text[start - 1 : start]
    quoted, lower = before in {'"', "'", "`"}, word.lower()
    if lower not in _SCHEMES and not is_secret_name(word, member=quoted):
        return None
    if before in {"<", ":"} and (tag := _TAG_END.match(text, end)):
        return _value(text, tag.end(), word)
    says = _SAYS.match(text, end)
    if says is None or (says["pair"] is not None and _MEMBERS_VALUE.match(text, max(start - 3, 0), start)):
        return None
    if says["weak"] is not None or not word.isascii():
        return None if lower == "code" else _word_after(text, says.end(), word, distant=bool(says["between"]))
    span = _value(text, says.end(), word, container=quoted)
    return None if span and is_plain_code(word, text[slice(*span)]) else span


def _word_after(text: str, start: int, name: str, *, distant: bool = False) -> Span | None:
    """The next word, where only words connect it to the name: "Bearer abc", "password is hunter2". None for prose.

    `distant`: other words stand between, so that a short number is a count: "password used 3 times".
    """
    opens = _OPENS.match(text, start)
    bare = _BARE.match(text, opens.end() if opens else start)
    if bare is None or "://" in bare.group() or text.startswith(HIDDEN, bare.start()):
        return None
    word = bare.group().rstrip(_ENDS)
    plain = word.lower() in _PROSE or not _OF_TOKENS.search(word)
    plain = plain or (_PLAIN_WORD.fullmatch(word) is not None and not _TOO_LONG.search(word))
    if plain and not (name.lower() == "bearer" and len(word) >= 6 and word.lower() not in _PROSE):
        return None
    if len(word) < 6 and name.lower() not in {"basic", "bearer"} and (distant or not word.isdigit()):
        return None
    return _over_lines(text, bare.start(), bare.start() + len(word))


def _value(text: str, start: int, name: str, *, container: bool = False) -> Span | None:
    """The value that begins here: a quoted one to its end, a list or an object, or a word.

    `container`: the name was quoted, so the text is data; in prose a colon may be followed by a whole error's JSON.
    """
    opens = _OPENS.match(text, start)
    if opens is None or text.startswith(HIDDEN, opens.end()):
        return None
    start, (slashes, quotes) = opens.end(), opens.groups()
    following = text[start : start + 1]
    if quotes:
        if len(quotes) > 1 and (not following or following in " ,;)]}\n\r&<"):
            return None  # an empty text
        return _quoted(text, start, len(slashes), quotes[0])
    if following in {"[", "{"}:
        return _bracketed(text, start) if container or following == "[" else None
    if name.lower().endswith(("authorization", "cookie")):
        header = _HEADER.match(text, start)
        end = header.end() if header else start
    else:
        bare = _BARE.match(text, start)
        word = bare.group().rstrip(_ENDS) if bare else ""
        end = start + len(word)
        further = _BARE.match(text, end + 1) if word.lower() in _SCHEMES else None
        if further and further.group().rstrip(_ENDS).lower() not in _PROSE:
            end = further.end()
        elif word.lower() in _PROSE:
            return None
    return _over_lines(text, start, end) if end > start else None


def _quoted(text: str, start: int, slashes: int, quote: str) -> Span:
    """The span up to the quote that is escaped as the opening one; to the end of the text if there is none."""
    for found in _QUOTE.finditer(text, start):
        if found[2] == quote and len(found[1]) <= slashes:
            return start, found.start()
    return start, len(text)


def _bracketed(text: str, start: int) -> Span:
    depth = 0
    for found in _BRACKET.finditer(text, start):
        depth += 1 if found.group() in "[{" else -1
        if depth == 0:
            return start, found.end()
    return start, len(text)


def _over_lines(text: str, start: int, end: int) -> Span:
    """The span extended by the lines that continue the value: words that fill their line, or that no prose has."""
    while (line := _NEXT_LINE.match(text, end)) and (line[2] is not None or not _PLAIN_WORD.fullmatch(line[1])):
        end = line.end(1)
    return start, end

"""Text from files of any editor, and secrets with the blanks and quotes of copies and shells around them."""

import codecs
import unicodedata
from pathlib import Path
from typing import Final

# Longer marks first: UTF-16's mark is the beginning of UTF-32's.
_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)
_INVISIBLE: Final = "\ufeff\u200b\u200c\u200d\u2060\u00ad"  # besides white space
_QUOTES: Final = {'"': '"', "'": "'", "`": "`", "\u201c": "\u201d", "\u2018": "\u2019", "\u201e": "\u201c", "«": "»"}


def read_text(file: Path) -> str:
    """A file's text, with line ends as `\\n`. Raises OSError, and ValueError with the place that is no text."""
    return decoded(file.read_bytes())


def decoded(content: bytes) -> str:
    """Text in UTF-8, or in the encoding of a byte-order mark. Raises ValueError, which holds nothing of the content."""
    encoding = next((encoding for mark, encoding in _MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as broken:
        raise ValueError(f"byte {broken.start + 1} is not {encoding.upper().removesuffix('-SIG')}") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def unwrapped(text: str) -> str:
    """The text without blanks, line ends, byte-order marks and one pair of quotes around it."""
    text = _trimmed(text)
    if len(text) > 1 and _QUOTES.get(text[0]) == text[-1]:
        text = _trimmed(text[1:-1])
    return text


def misfit(secret: str) -> str | None:
    """The first character that cannot belong to a key, by its place and name; None without any."""
    return _first_misfit(secret, letters=False)


def misfit_in_url(url: str) -> str | None:
    """The first such character of a URL with a password, which may have letters of any script."""
    return _first_misfit(url, letters=True)


def _first_misfit(text: str, *, letters: bool) -> str | None:
    for place, character in enumerate(text, 1):
        if not ("!" <= character <= "~" or (letters and character.isalnum())):
            name = unicodedata.name(character, "a control character")
            return f"character {place} is {name} (U+{ord(character):04X}), which does not belong there"
    return None


def _trimmed(text: str) -> str:
    before = None
    while before != text:
        before, text = text, text.strip().strip(_INVISIBLE)
    return text

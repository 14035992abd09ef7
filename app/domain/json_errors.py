"""Messages for invalid JSON, with the place, in our words instead of the reader's. They quote nothing of the text."""

from collections.abc import Mapping
from json import JSONDecodeError
from typing import Final

# By the beginning of the message of Python's reader
_WORDS: Final[Mapping[str, str]] = {
    "Expecting value": "a value is missing",
    "Expecting property name": "a name in double quotes is missing",
    "Expecting ':'": "a colon is missing behind a name",
    "Expecting ','": "a comma is missing, or the end of the list or object",
    "Illegal trailing comma": "a comma stands before the end of the list or object",
    "Unterminated string": "a string begins that does not end",
    "Invalid control character": "a string holds a control character, which has to be escaped",
    "Invalid \\": "a string holds an escape that JSON does not have",
    "Extra data": "more follows, and it should have ended",
    "Unexpected UTF-8 BOM": "it begins with a byte order mark",
}


def why_not_json(broken: JSONDecodeError) -> str:
    """Text such as `a comma is missing, or the end of the list or object, at line 2, column 5`."""
    words = next(
        (words for begins, words in _WORDS.items() if broken.msg.startswith(begins)), "what follows is not JSON"
    )
    return f"{words}, at line {broken.lineno}, column {broken.colno}"

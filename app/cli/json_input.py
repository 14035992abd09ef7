"""JSON objects given to commands: as the argument, in a file, or on standard input."""

import json
import sys
from pathlib import Path

from app.domain.json_errors import why_not_json
from app.errors import InvalidInput
from app.text_input import decoded


def json_object_from(given: str, what: str, *, inline: bool = True) -> dict[str, object]:
    """A JSON object from the argument, a file or, for `-`, standard input. Raises InvalidInput without its values.

    what: its name in errors. inline: False where the argument may be no JSON, as its history would keep secrets.
    """
    if given.lstrip().startswith("{") and not inline:
        raise InvalidInput(f"{what} on the command line stay in the shell's history: give a file, or -")
    try:
        found = json.loads(_text(given, what))
    except (ValueError, RecursionError) as broken:
        why = f": {why_not_json(broken)}" if isinstance(broken, json.JSONDecodeError) else ""
        raise InvalidInput(f"{what}: not JSON{why}") from None
    if not isinstance(found, dict):
        raise InvalidInput(f"{what}: not a JSON object")
    return found


def _text(given: str, what: str) -> str:
    if given.lstrip().startswith("{"):
        return given
    try:
        # Read as bytes: standard input may be set up for another encoding.
        content = sys.stdin.buffer.read() if given == "-" else Path(given).read_bytes()
    except (OSError, ValueError):
        # What was meant for JSON may hold secrets, and the error would name it as a path.
        raise InvalidInput(f"{what}: neither a JSON object nor a file that can be read") from None
    try:
        return decoded(content)
    except ValueError as wrong:
        raise InvalidInput(f"{what}: not JSON: {wrong}") from None

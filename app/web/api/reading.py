"""Reading a call strictly: what is not known, of another type or twice is refused, by its name."""

import asyncio
import json
import re
from collections.abc import Mapping
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl
from uuid import UUID

import msgspec
from msgspec import Struct
from starlette.requests import ClientDisconnect, Request

from app.domain.json_values import json_object
from app.domain.tags import is_storable
from app.errors import InvalidInput, NotFound
from app.ids import parse
from app.web.api.problems import INVALID_REQUEST, TOO_LARGE, UNSUPPORTED_MEDIA_TYPE, Refusal, fault

JSON: Final = "application/json"
JSON_LINES: Final = "application/x-ndjson"
READ_SECONDS: Final = 12.0  # for a whole body
_MEMBER: Final = re.compile(r"(\w+)\[([^\[\]]+)\]")
_UNKNOWN: Final = re.compile(r"unknown field `([^`]*+)`")
_MISSING: Final = re.compile(r"missing required field `([^`]*+)`")

Read = TypeVar("Read", bound=Struct)


def read_query(text: bytes, shape: type[Struct] | None) -> Struct | None:
    """The query string as a Struct; `name[key]=value` fills an object. Raises Refusal."""
    found: dict[str, Any] = {}
    for name, value in _pairs(text):
        member = _MEMBER.fullmatch(name)
        target, key = (found.setdefault(member[1], {}), member[2]) if member else (found, name)
        if not is_storable(value):
            raise _refused(name, "unstorable", f"the value of {_shown(name)} holds a NUL")
        if not isinstance(target, dict) or key in target:
            raise _refused(name, "repeated", f"the parameter {_shown(name)} is there twice")
        target[key] = value
    if shape is None:
        if found:
            name = next(iter(found))
            raise _refused(name, "unknown", f"there is no parameter {_shown(name)} here")
        return None
    return _converted(found, shape, "parameter")


def read_body(content: bytes, shape: type[Read]) -> Read:
    """A JSON body as a Struct. Raises Refusal."""
    try:
        return msgspec.json.decode(content, type=shape)
    except msgspec.ValidationError as wrong:
        raise _wrong(wrong, "field") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as broken:
        raise _not_json(content, broken) from None


def _not_json(content: bytes, broken: Exception) -> Refusal:
    """Python's own reader takes a lone surrogate and NaN; then the place can be named, and the reason."""
    try:
        json_object(json.loads(content), "body")
    except InvalidInput as unusable:
        return Refusal(INVALID_REQUEST, str(unusable))
    except (ValueError, RecursionError):
        pass
    why = str(broken) if isinstance(broken, msgspec.DecodeError) else "it is not UTF-8, or nested too deeply"
    return Refusal(INVALID_REQUEST, f"The body is not JSON: {why}")


def check_content_type(declared: str, wanted: str = JSON) -> None:
    """Raises Refusal for anything but that: a form of some other site's page could not send it."""
    media_type = declared.partition(";")[0].strip().lower()
    if media_type != wanted:
        shown = _shown(media_type) if media_type else "nothing"
        raise Refusal(UNSUPPORTED_MEDIA_TYPE, f"Send {wanted}; content-type says {shown}.")


async def read_content(request: Request, limit: int) -> bytes:
    """The whole body, within bounds on its size and time. Raises Refusal."""
    too_large = Refusal(TOO_LARGE, f"The body may have {limit} bytes.")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise too_large
    content = bytearray()
    try:
        async with asyncio.timeout(READ_SECONDS):
            async for chunk in request.stream():
                content += chunk
                if len(content) > limit:
                    raise too_large
    except (TimeoutError, ClientDisconnect):
        raise Refusal(INVALID_REQUEST, "The body did not arrive in time. Send it again.") from None
    return bytes(content)


def after(prefix: str, cursor: str | None) -> UUID | None:
    """The row that a page goes on after. Raises Refusal."""
    if cursor is None:
        return None
    try:
        return parse(prefix, cursor)
    except InvalidInput:
        raise not_a_cursor() from None


def not_a_cursor() -> Refusal:
    return _refused("cursor", "invalid", "not a cursor of this list: pass `next_cursor` as it came")


def identity(prefix: str, text: str) -> UUID:
    """An id as it stands in a path or query. Raises NotFound: whatever is not one names nothing."""
    try:
        return parse(prefix, text)
    except InvalidInput:
        raise NotFound(f"{prefix}_… id", text[:100]) from None


def _pairs(text: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(text.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=100)
    except (UnicodeDecodeError, ValueError):
        raise Refusal(
            INVALID_REQUEST, "The query string is not UTF-8, percent-encoded, of 100 parts or less."
        ) from None


def _converted(found: Mapping[str, Any], shape: type[Struct], noun: str) -> Struct:
    try:
        return msgspec.convert(found, shape, strict=False)
    except msgspec.ValidationError as wrong:
        raise _wrong(wrong, noun) from None


def _wrong(wrong: msgspec.ValidationError, noun: str) -> Refusal:
    """msgspec's message names the place and the rule, and never the value."""
    message, _, place = str(wrong).rpartition(" - at `")
    place = place.removeprefix("key in ")
    if not (place.startswith("$") and place.endswith("`")):
        message, place = str(wrong), ""
    path, rule = place.removeprefix("$").removeprefix(".").removesuffix("`"), "invalid"
    for name, pattern in (("unknown", _UNKNOWN), ("missing", _MISSING)):
        if found := pattern.search(message):
            path, rule = ".".join(part for part in (path, found[1]) if part), name
            message = f"there is no {noun} {_shown(found[1])} here" if name == "unknown" else f"this {noun} is required"
    return _refused(path, rule, message)


def _refused(field: str, rule: str, message: str) -> Refusal:
    place = f"{_printable(field)}: " if field else ""
    return Refusal(INVALID_REQUEST, f"{place}{message}", errors=[fault(field, rule, message)])


def _shown(name: str) -> str:
    return ascii(name if len(name) <= 100 else f"{name[:100]}...")


def _printable(name: str) -> str:
    return _shown(name)[1:-1]

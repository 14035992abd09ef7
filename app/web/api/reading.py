"""Strict reading of calls: anything unknown, repeated or of another type is refused by its name."""

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl
from uuid import UUID

import msgspec
from msgspec import Struct
from starlette.requests import ClientDisconnect, Request

from app.domain.json_errors import why_not_json
from app.domain.json_keys import repeated_key
from app.domain.json_values import MAX_DEPTH, json_object, read_with_repeats
from app.domain.tags import is_storable
from app.errors import FieldFault, InvalidFields, InvalidInput, NotFound
from app.ids import parse
from app.services.idempotency import MAX_KEY
from app.web.api.problems import INVALID_REQUEST, TOO_LARGE, UNSUPPORTED_MEDIA_TYPE, ApiRefusal
from app.web.api.problems import fault as fault_entry
from app.web.api.shape_errors import ShapeFault, fault_of, shown

JSON: Final = "application/json"
JSON_LINES: Final = "application/x-ndjson"
READ_SECONDS: Final = 12.0  # for a whole body
IDEMPOTENCY_KEY: Final = "idempotency-key"
_KEY: Final = re.compile(rf"[!-~]{{1,{MAX_KEY}}}")
_MEMBER: Final = re.compile(r"(\w+)\[([^\[\]]+)\]")

Read = TypeVar("Read", bound=Struct)


def read_query(text: bytes, shape: type[Struct] | None) -> Struct | None:
    """The query string as a Struct; `name[key]=value` fills an object. Raises Refusal."""
    found: dict[str, Any] = {}
    for name, value in _pairs(text):
        member = _MEMBER.fullmatch(name)
        target, key = (found.setdefault(member[1], {}), member[2]) if member else (found, name)
        if not is_storable(value):
            raise _refused(name, "unstorable", f"the value of {shown(name)} holds a NUL")
        if not isinstance(target, dict) or key in target:
            raise _refused(name, "repeated", f"the parameter {shown(name)} is there twice")
        target[key] = value
    if shape is None:
        if found:
            name = next(iter(found))
            raise _refused(name, "unknown", f"there is no parameter {shown(name)} here")
        return None
    try:
        read = msgspec.convert(found, shape, strict=False)
        # msgspec takes the word `null` for no value, in any case, and such a filter would let everything through.
        encoded = {field.encode_name: field.name for field in msgspec.structs.fields(shape)}
        for name, value in found.items():
            if isinstance(value, str) and getattr(read, encoded[name]) is None:
                msgspec.convert({**found, name: f"{value}?"}, shape, strict=False)
    except msgspec.ValidationError as wrong:
        raise _wrong(fault_of(wrong, shape, "parameter")) from None
    return read


def read_body(content: bytes, shape: type[Read]) -> Read:
    """A JSON body as a Struct. Raises Refusal, also for a key that is repeated in an object, at any depth."""
    try:
        body = msgspec.json.decode(content, type=shape)
        value, repeated = read_with_repeats(content.decode())  # msgspec silently keeps the last of two
    except msgspec.ValidationError as wrong:
        raise _wrong(fault_of(wrong, shape, "field")) from None
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise ApiRefusal(INVALID_REQUEST, _not_json(content)) from None
    if repeated and (found := repeated_key(value)):
        raise _refused(found.place, "repeated", found.reason)
    return body


def _not_json(content: bytes) -> str:
    """Reason and position of the fault. Python's reader accepts a lone surrogate and NaN; then its place can
    be named.
    """
    if not content.strip():
        return "The body is empty: send a JSON object."
    try:
        json_object(json.loads(content.decode()), "body")
    except InvalidInput as unusable:
        return str(unusable)
    except UnicodeDecodeError as other:
        return f"The body is not JSON: byte {other.start + 1} is not UTF-8"
    except json.JSONDecodeError as broken:
        return f"The body is not JSON: {why_not_json(broken)}"
    except RecursionError:
        return f"The body is nested deeper than {MAX_DEPTH} levels"
    except ValueError:
        pass
    return "The body holds a number that cannot be read: it has too many digits"


def check_content_type(declared: str, wanted: str = JSON) -> None:
    """Raises Refusal for any other media type: a form of another site's page could not send this one."""
    media_type = declared.partition(";")[0].strip().lower()
    if media_type != wanted:
        says = shown(media_type) if media_type else "nothing"
        raise ApiRefusal(UNSUPPORTED_MEDIA_TYPE, f"Send {wanted}; content-type says {says}.")


async def read_content(request: Request, limit: int) -> bytes:
    """The whole body, bounded in size and time. Raises Refusal."""
    too_large = ApiRefusal(TOO_LARGE, f"The body may have {limit} bytes.")
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
        raise ApiRefusal(INVALID_REQUEST, "The body did not arrive in time. Send it again.") from None
    return bytes(content)


def idempotency_key(request: Request) -> str | None:
    """The key of the header `Idempotency-Key`, with or without quotes. Raises Refusal."""
    given = request.headers.getlist(IDEMPOTENCY_KEY)
    if not given:
        return None
    if len(given) > 1:
        raise _refused(IDEMPOTENCY_KEY, "repeated", "the header is there twice")
    key = given[0][1:-1] if given[0].startswith('"') and given[0].endswith('"') else given[0]
    if not _KEY.fullmatch(key):
        message = f"1 to {MAX_KEY} visible characters of ASCII, such as a random UUID"
        raise _refused(IDEMPOTENCY_KEY, "invalid", message)
    return key


def after(prefix: str, cursor: str | None) -> UUID | None:
    """The row that a page continues after. Raises Refusal."""
    if cursor is None:
        return None
    try:
        return parse(prefix, cursor)
    except InvalidInput:
        raise not_a_cursor() from None


def not_a_cursor() -> ApiRefusal:
    return _refused("cursor", "invalid", "not a cursor of this list: pass `next_cursor` as it came")


def identity(prefix: str, text: str) -> UUID:
    """An id from a path or query. Raises NotFound for text that is no id."""
    try:
        return parse(prefix, text)
    except InvalidInput:
        raise NotFound(f"{prefix}_… id", text[:100]) from None


def _pairs(text: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(text.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=100)
    except (UnicodeDecodeError, ValueError):
        raise ApiRefusal(
            INVALID_REQUEST, "The query string is not UTF-8, percent-encoded, of 100 parts or less."
        ) from None


def _wrong(fault: ShapeFault) -> ApiRefusal:
    if not fault.path:
        return ApiRefusal(
            INVALID_REQUEST, f"The body {fault.detail}", errors=[fault_entry("", fault.rule, fault.detail)]
        )
    return _refused(fault.path, fault.rule, fault.detail)


def _refused(field: str, rule: str, message: str) -> ApiRefusal:
    place = f"{_printable(field)}: " if field else ""
    return ApiRefusal(INVALID_REQUEST, f"{place}{message}", errors=[fault_entry(field, rule, message)])


def _printable(name: str) -> str:
    return shown(name)[1:-1]


@contextmanager
def named_in(field: str) -> Iterator[None]:
    """Turn NotFound, for a name that a body has in this field, into a fault at the field: the path itself is there."""
    try:
        yield
    except NotFound:
        raise InvalidFields([FieldFault(field, "unknown", "names none that is there")]) from None

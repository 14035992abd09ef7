"""An HTTP answer of Nango turned into one error per failure kind.

(Nango contract: Requests and errors; Read a connection)
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import msgspec

from app.domain.scrub import scrub
from app.errors import (
    NangoConnectionNotFound,
    NangoCredentialsRefused,
    NangoError,
    NangoForbidden,
    NangoInvalidRequest,
    NangoPlanLimit,
    NangoRateLimited,
    NangoRefreshBackingOff,
    NangoRefreshExhausted,
    NangoRefreshFailed,
    NangoUnauthorized,
    NangoUnavailable,
    NangoUnexpected,
    NangoUnknownIntegration,
)
from app.nango.types import RateLimit

DETAIL_LENGTH: Final = 200
PLACE_LENGTH: Final = 80
DEFAULT_RETRY_AFTER: Final = 60.0  # the window (Nango contract: Rate limit)
LONGEST_RETRY_AFTER: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Answer:
    """`observed_at` is the moment the request was sent: what Nango says is at least that fresh."""

    status: int
    headers: Mapping[str, str] = field(repr=False)  # looked up without regard to case, as httpx.Headers does
    body: bytes = field(repr=False)
    observed_at: datetime

    @property
    def rate_limit(self) -> RateLimit | None:
        """None where the headers are missing, as on a refused API key."""
        try:
            reset_at = datetime.fromtimestamp(int(self.headers["x-ratelimit-reset"]), UTC)
            limit, remaining = int(self.headers["x-ratelimit-limit"]), int(self.headers["x-ratelimit-remaining"])
        except (KeyError, ValueError, OverflowError, OSError):
            return None
        return RateLimit(limit=limit, remaining=remaining, reset_at=reset_at)


class _Fault(msgspec.Struct):
    """Every field is optional: `message` may be missing, and a proxy may answer instead of Nango.

    (Nango contract: Requests and errors)
    """

    code: str | None = None
    message: str | None = None
    errors: Any = None


class _Envelope(msgspec.Struct):
    error: _Fault


def error_for(
    answer: Answer,
    *,
    not_found: type[NangoError] = NangoUnexpected,
    phrases: Mapping[str, type[NangoError]] | None = None,
    secret: str = "",
) -> NangoError | None:
    """The error of an answer, None for a success.

    not_found: what code `not_found` means for the operation. phrases: what a 400 means whose message has these words,
    in small letters, for where Nango has no code of its own. secret: the API key, taken out of what is told.
    """
    status = answer.status
    if 200 <= status < 300:
        return None
    if status == 429:
        return NangoRateLimited(retry_after=retry_after(answer))
    if 300 <= status < 400:
        return NangoUnexpected(status=status, detail="a redirect; is the base URL right?")
    fault = _fault(answer.body)
    detail = _detail(fault).replace(secret, "[hidden]") if secret else _detail(fault)
    said = [kind for words, kind in (phrases or {}).items() if status == 400 and words in detail.lower()]
    kind = said[0] if said else _kind(status, fault, not_found)
    return kind(status=status, code=_short(fault.code or "", 60), detail=detail)


def retry_after(answer: Answer) -> float:
    """Seconds to wait; Nango sends whole ones and may send 0, proxies may send a date."""
    sent = answer.headers.get("retry-after", "")
    seconds = _seconds(sent, answer.observed_at)
    if seconds is None and answer.rate_limit is not None:
        seconds = (answer.rate_limit.reset_at - answer.observed_at).total_seconds()
    if seconds is None or not math.isfinite(seconds):
        seconds = DEFAULT_RETRY_AFTER
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER)


def _kind(status: int, fault: _Fault, not_found: type[NangoError]) -> type[NangoError]:
    if fault.code == "invalid_credentials":
        return _refresh_kind(status, fault.message or "")
    by_code: dict[str, type[NangoError]] = {
        "connection_test_failed": NangoCredentialsRefused,
        "connection_validation_failed": NangoCredentialsRefused,
        "resource_capped": NangoPlanLimit,
        "unknown_connection": NangoConnectionNotFound,
        "unknown_provider_config": NangoUnknownIntegration,
    }
    by_status = {
        400: NangoInvalidRequest,
        401: NangoUnauthorized,
        403: NangoForbidden,
        408: NangoUnavailable,
        415: NangoInvalidRequest,
    }
    if fault.code is not None and fault.code in by_code and status in {400, 404}:
        return by_code[fault.code]
    if status == 404 and fault.code == "not_found":
        # Without Nango's code a 404 is some proxy's or a wrong base URL's, and must not look like a deletion.
        return not_found
    return NangoUnavailable if status >= 500 else by_status.get(status, NangoUnexpected)


def _refresh_kind(status: int, message: str) -> type[NangoError]:
    # Tried and failed now is 400 or an odd status; within 424 only the message tells the cases apart
    # (Nango contract: Read a connection).
    if status == 424 and "refresh limit" in message.lower():
        return NangoRefreshExhausted
    if status == 424 and "backing off" in message.lower():
        return NangoRefreshBackingOff
    return NangoRefreshFailed


def _fault(body: bytes) -> _Fault:
    try:
        return msgspec.json.decode(body, type=_Envelope).error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _Fault()


def _detail(fault: _Fault) -> str:
    if fault.message:
        # What follows a brace is a serialised payload of the provider's (Nango contract: When auth webhooks are sent).
        return _short(fault.message.split("{", 1)[0].rstrip(' :"\\'), DETAIL_LENGTH)
    faults = fault.errors if isinstance(fault.errors, list) else []
    return "; ".join(_field_fault(each) for each in faults[:5] if isinstance(each, dict))[: 2 * DETAIL_LENGTH]


def _field_fault(fault: dict[str, Any]) -> str:
    path, message = fault.get("path"), fault.get("message")
    # Names of fields and keys of tags, which no scrubbing needs to hide; what they hold is never in it.
    place = _printable(".".join(map(str, path)))[:PLACE_LENGTH] if isinstance(path, list) else ""
    told = _short(str(message), DETAIL_LENGTH)
    return f"{place}: {told}" if place else told


def _short(text: str, limit: int) -> str:
    return _printable(scrub(text, limit=limit))  # in this order: a token may go on behind a line break


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)


def _seconds(sent: str, now: datetime) -> float | None:
    try:
        return float(sent)
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(sent)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds()

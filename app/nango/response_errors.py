"""Errors of Nango's HTTP answers, one class per failure kind.

(Nango contract: Requests and errors; Read a connection)
"""

import math
import re
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
    NangoProviderDown,
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
SAID_LENGTH: Final = 2000  # of a message that is searched for its cause
# A server error, or no answer, of the provider, in the words of HTTP clients that Nango passes on.
_PROVIDER_DOWN: Final = re.compile(
    r"status(?: code)?:? 5\d\d|\b50[234]\b|bad gateway|service unavailable|gateway time-?out|timed out|timeout"
    r"|socket hang up|econn(?:refused|reset|aborted)|etimedout|enotfound|ehostunreach|eai_again",
    re.I,
)
DEFAULT_RETRY_AFTER: Final = 60.0  # the window (Nango contract: Rate limit)
LONGEST_RETRY_AFTER: Final = 3600.0


@dataclass(frozen=True, slots=True)
class NangoAnswer:
    """An HTTP answer. `observed_at`: when the request was sent; the content is at least that fresh."""

    status: int
    headers: Mapping[str, str] = field(repr=False)  # case-insensitive, as httpx.Headers
    body: bytes = field(repr=False)
    observed_at: datetime

    @property
    def rate_limit(self) -> RateLimit | None:
        """The rate limit by the headers; None where they are missing, as on a refused API key."""
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
    answer: NangoAnswer,
    *,
    not_found: type[NangoError] = NangoUnexpected,
    phrases: Mapping[str, type[NangoError]] | None = None,
    secret: str = "",
) -> NangoError | None:
    """The error of an answer; None for a success.

    not_found: the error for code `not_found`, which depends on the operation. phrases: errors of a 400 by lower-case
    words in its message, where Nango has no code of its own. secret: the API key, which is removed from the error's
    text.
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


def retry_after(answer: NangoAnswer) -> float:
    """Seconds to wait, from Retry-After or the rate limit. Nango sends whole seconds and may send 0, proxies may send a
    date.
    """
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
        # A 404 without Nango's code comes from a proxy or a wrong base URL, and must not look like a deletion.
        return not_found
    return NangoUnavailable if status >= 500 else by_status.get(status, NangoUnexpected)


def _refresh_kind(status: int, message: str) -> type[NangoError]:
    # A refresh that failed now is 400 or an unusual status; within 424 only the message distinguishes the cases
    # (Nango contract: Read a connection).
    if status == 424 and "refresh limit" in message.lower():
        return NangoRefreshExhausted
    if status == 424 and "backing off" in message.lower():
        return NangoRefreshBackingOff
    # Most types of credentials get one sentence for every cause, of which nothing can be told. A 500 is Nango's status
    # for errors that it has none for (Nango contract: Failed refreshes).
    told = status in {502, 503, 504} or _PROVIDER_DOWN.search(message[:SAID_LENGTH])
    return NangoProviderDown if told and "lock" not in message[:SAID_LENGTH].lower() else NangoRefreshFailed


def _fault(body: bytes) -> _Fault:
    try:
        return msgspec.json.decode(body, type=_Envelope).error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _Fault()


def _detail(fault: _Fault) -> str:
    if fault.message:
        # A brace begins a serialised payload of the provider (Nango contract: When auth webhooks are sent).
        return _short(fault.message.split("{", 1)[0].rstrip(' :"\\'), DETAIL_LENGTH)
    faults = fault.errors if isinstance(fault.errors, list) else []
    return "; ".join(_field_fault(each) for each in faults[:5] if isinstance(each, dict))[: 2 * DETAIL_LENGTH]


def _field_fault(fault: dict[str, Any]) -> str:
    path, message = fault.get("path"), fault.get("message")
    # Names of fields and keys of tags, never their values: these need no scrubbing.
    place = _printable(".".join(map(str, path)))[:PLACE_LENGTH] if isinstance(path, list) else ""
    told = _short(str(message), DETAIL_LENGTH)
    return f"{place}: {told}" if place else told


def _short(text: str, limit: int) -> str:
    return _printable(scrub(text, limit=limit))  # in this order: a token may continue after a line break


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

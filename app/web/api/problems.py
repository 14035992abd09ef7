"""What can go wrong at the API: each kind of problem with its status, and which error of ours means which."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from starlette.responses import Response

from app.errors import (
    Conflict,
    InvalidFields,
    InvalidInput,
    InvalidPattern,
    InvalidTags,
    NangoConnectionNotFound,
    NangoForbidden,
    NangoInvalidRequest,
    NangoRateLimited,
    NangoRefreshBackingOff,
    NangoRefreshExhausted,
    NangoRefreshFailed,
    NangoUnauthorized,
    NangoUnavailable,
    NangoUnexpected,
    NangoUnknownEnvironment,
    NangoUnknownIntegration,
    NotFound,
    WaylinkError,
)
from app.web.problems import problem

BACKING_OFF_SECONDS: Final = 30  # (Nango contract: Failed refreshes)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of problem. `word` is stable and part of the contract; docs/api.md lists all."""

    status: int
    word: str
    title: str

    @property
    def type(self) -> str:
        return f"urn:waylink:problem:{self.word}"


INVALID_REQUEST: Final = Kind(400, "invalid_request", "The request cannot be read")
UNAUTHENTICATED: Final = Kind(401, "unauthenticated", "Who is calling?")
FORBIDDEN: Final = Kind(403, "forbidden", "The token may not do this")
NOT_FOUND: Final = Kind(404, "not_found", "There is no such thing")
NANGO_CONNECTION_NOT_FOUND: Final = Kind(404, "nango_connection_not_found", "Nango knows no such connection")
NANGO_UNKNOWN_INTEGRATION: Final = Kind(404, "nango_unknown_integration", "Nango knows no such integration")
CONFLICT: Final = Kind(409, "conflict", "What is there does not allow it")
TOO_LARGE: Final = Kind(413, "too_large", "The body is too large")
UNSUPPORTED_MEDIA_TYPE: Final = Kind(415, "unsupported_media_type", "The body is not of a type taken here")
MISDIRECTED: Final = Kind(421, "misdirected", "Not under this name")
INVALID_INPUT: Final = Kind(422, "invalid_input", "What was given cannot be used")
INVALID_TAGS: Final = Kind(422, "invalid_tags", "Nango would not take these tags")
NANGO_INVALID_REQUEST: Final = Kind(422, "nango_invalid_request", "Nango refused what was given")
REFRESH_FAILED: Final = Kind(424, "refresh_failed", "The provider refused the refresh")
REFRESH_BACKING_OFF: Final = Kind(424, "refresh_backing_off", "Nango waits after a failed refresh")
REFRESH_EXHAUSTED: Final = Kind(424, "refresh_exhausted", "The end user has to reconnect")
TOO_MANY_CALLS: Final = Kind(429, "too_many_calls", "Too many calls of yours at once")
TOO_MANY_UNKNOWN_TOKENS: Final = Kind(429, "too_many_unknown_tokens", "Too many unknown tokens at once")
FAULT: Final = Kind(500, "fault", "A fault of ours")
NANGO_UNAUTHORIZED: Final = Kind(502, "nango_unauthorized", "Nango does not accept Waylink's API key")
NANGO_FORBIDDEN: Final = Kind(502, "nango_forbidden", "Waylink's API key lacks a scope")
NANGO_UNEXPECTED: Final = Kind(502, "nango_unexpected", "Nango answered in a way no rule covers")
BUSY: Final = Kind(503, "busy", "Too many calls at once")
DATABASE_AWAY: Final = Kind(503, "database_away", "The database does not answer")
NANGO_RATE_LIMITED: Final = Kind(503, "nango_rate_limited", "Nango's rate limit is reached")
NANGO_UNAVAILABLE: Final = Kind(503, "nango_unavailable", "Nango could not be reached")

# The first class that fits decides.
_KINDS: Final[Sequence[tuple[type[WaylinkError], Kind]]] = (
    (InvalidTags, INVALID_TAGS),
    (InvalidInput, INVALID_INPUT),
    (NotFound, NOT_FOUND),
    (Conflict, CONFLICT),
    (NangoConnectionNotFound, NANGO_CONNECTION_NOT_FOUND),
    (NangoUnknownIntegration, NANGO_UNKNOWN_INTEGRATION),
    (NangoUnauthorized, NANGO_UNAUTHORIZED),
    (NangoForbidden, NANGO_FORBIDDEN),
    (NangoInvalidRequest, NANGO_INVALID_REQUEST),
    (NangoRateLimited, NANGO_RATE_LIMITED),
    (NangoRefreshFailed, REFRESH_FAILED),
    (NangoRefreshBackingOff, REFRESH_BACKING_OFF),
    (NangoRefreshExhausted, REFRESH_EXHAUSTED),
    (NangoUnavailable, NANGO_UNAVAILABLE),
    (NangoUnknownEnvironment, NANGO_UNEXPECTED),
    (NangoUnexpected, NANGO_UNEXPECTED),
)

Fault = Mapping[str, object]


class Refusal(Exception):
    """An answer that is no success, from whoever finds the reason for it."""

    def __init__(
        self,
        kind: Kind,
        detail: str,
        *,
        errors: Sequence[Fault] = (),
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, object] | None = None,
    ) -> None:
        self.kind, self.detail, self.errors = kind, detail, errors
        self.headers, self.members = dict(headers or {}), dict(members or {})
        super().__init__(kind.word)

    def response(self) -> Response:
        kind = self.kind
        return problem(
            kind.status,
            kind.title,
            self.detail,
            kind=kind.type,
            errors=self.errors,
            headers=self.headers,
            **self.members,
        )


def fault(field: str, rule: str, detail: str) -> Fault:
    """One entry of `errors`: which field broke which rule."""
    return {"field": field, "rule": rule, "detail": detail}


def refusal_for(error: WaylinkError) -> Refusal | None:
    """How an error of ours is answered; None for one that is a fault here."""
    kind = next((kind for one, kind in _KINDS if isinstance(error, one)), None)
    if kind is None:
        return None
    members = {"found": error.found} if isinstance(error, Conflict) and error.found else None
    return Refusal(kind, str(error), errors=_errors(error), headers=_retry_after(error), members=members)


def _errors(error: WaylinkError) -> list[Fault]:
    if isinstance(error, InvalidTags):
        return [fault(f"tags.{one.key}" if one.key else "tags", one.rule, one.message) for one in error.faults]
    if isinstance(error, InvalidFields):
        return [fault(one.field, one.rule, one.message) for one in error.faults]
    if isinstance(error, InvalidPattern):
        return [fault(error.path or "pattern", "invalid_pattern", error.reason)]
    return []


def _retry_after(error: WaylinkError) -> dict[str, str]:
    """`Retry-After` in whole seconds, where waiting helps."""
    seconds: float | None = None
    if isinstance(error, NangoRefreshBackingOff):
        seconds = BACKING_OFF_SECONDS
    elif isinstance(error, NangoRateLimited | Conflict):
        seconds = error.retry_after
    elif isinstance(error, NangoUnavailable):
        seconds = 5.0
    return {} if seconds is None else {"retry-after": str(max(1, math.ceil(seconds)))}

"""Kinds of problems of the API with their statuses, and the kind of each error."""

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
    KeyReused,
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
class ProblemKind:
    """A kind of problem. `word` is stable and part of the contract; docs/api.md lists all."""

    status: int
    word: str
    title: str

    @property
    def type(self) -> str:
        return f"urn:waylink:problem:{self.word}"


INVALID_REQUEST: Final = ProblemKind(400, "invalid_request", "The request cannot be read")
UNAUTHENTICATED: Final = ProblemKind(401, "unauthenticated", "Who is calling?")
FORBIDDEN: Final = ProblemKind(403, "forbidden", "The token may not do this")
CROSS_SITE: Final = ProblemKind(403, "cross_site", "The request came from another site")
NOT_FOUND: Final = ProblemKind(404, "not_found", "There is no such thing")
NANGO_CONNECTION_NOT_FOUND: Final = ProblemKind(404, "nango_connection_not_found", "Nango knows no such connection")
NANGO_UNKNOWN_INTEGRATION: Final = ProblemKind(404, "nango_unknown_integration", "Nango knows no such integration")
CONFLICT: Final = ProblemKind(409, "conflict", "What is there does not allow it")
TOO_LARGE: Final = ProblemKind(413, "too_large", "The body is too large")
UNSUPPORTED_MEDIA_TYPE: Final = ProblemKind(415, "unsupported_media_type", "The body is not of a type taken here")
MISDIRECTED: Final = ProblemKind(421, "misdirected", "Not under this name")
INVALID_INPUT: Final = ProblemKind(422, "invalid_input", "What was given cannot be used")
IDEMPOTENCY_KEY_REUSED: Final = ProblemKind(422, "idempotency_key_reused", "The key is another call's")
INVALID_TAGS: Final = ProblemKind(422, "invalid_tags", "Nango would not take these tags")
NANGO_INVALID_REQUEST: Final = ProblemKind(422, "nango_invalid_request", "Nango refused what was given")
REFRESH_FAILED: Final = ProblemKind(424, "refresh_failed", "The provider refused the refresh")
REFRESH_BACKING_OFF: Final = ProblemKind(424, "refresh_backing_off", "Nango waits after a failed refresh")
REFRESH_EXHAUSTED: Final = ProblemKind(424, "refresh_exhausted", "The end user has to reconnect")
TOO_MANY_CALLS: Final = ProblemKind(429, "too_many_calls", "Too many calls of yours at once")
TOO_MANY_UNKNOWN_TOKENS: Final = ProblemKind(429, "too_many_unknown_tokens", "Too many unknown tokens at once")
FAULT: Final = ProblemKind(500, "fault", "A fault of ours")
NANGO_UNAUTHORIZED: Final = ProblemKind(502, "nango_unauthorized", "Nango does not accept Waylink's API key")
NANGO_FORBIDDEN: Final = ProblemKind(502, "nango_forbidden", "Waylink's API key lacks a scope")
NANGO_UNEXPECTED: Final = ProblemKind(502, "nango_unexpected", "Nango answered in a way no rule covers")
BUSY: Final = ProblemKind(503, "busy", "Too many calls at once")
DATABASE_AWAY: Final = ProblemKind(503, "database_away", "The database does not answer")
NANGO_RATE_LIMITED: Final = ProblemKind(503, "nango_rate_limited", "Nango's rate limit is reached")
NANGO_UNAVAILABLE: Final = ProblemKind(503, "nango_unavailable", "Nango could not be reached")

# The first matching class decides.
_KINDS: Final[Sequence[tuple[type[WaylinkError], ProblemKind]]] = (
    (InvalidTags, INVALID_TAGS),
    (KeyReused, IDEMPOTENCY_KEY_REUSED),
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

FaultEntry = Mapping[str, object]


class ApiRefusal(Exception):
    """An answer that is no success, raised where its reason is found."""

    def __init__(
        self,
        kind: ProblemKind,
        detail: str,
        *,
        errors: Sequence[FaultEntry] = (),
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


def fault(field: str, rule: str, detail: str) -> FaultEntry:
    """One entry of `errors`: the field and the rule it broke."""
    return {"field": field, "rule": rule, "detail": detail}


def refusal_for(error: WaylinkError) -> ApiRefusal | None:
    """The answer for an error; None for an error that is a fault of Waylink."""
    kind = next((kind for error_class, kind in _KINDS if isinstance(error, error_class)), None)
    if kind is None:
        return None
    members = {"found": error.found} if isinstance(error, Conflict) and error.found else None
    return ApiRefusal(kind, str(error), errors=_errors(error), headers=_retry_after(error), members=members)


def _errors(error: WaylinkError) -> list[FaultEntry]:
    if isinstance(error, InvalidTags):
        return [fault(f"tags.{bad.key}" if bad.key else "tags", bad.rule, bad.message) for bad in error.faults]
    if isinstance(error, InvalidFields):
        return [fault(bad.field, bad.rule, bad.message) for bad in error.faults]
    if isinstance(error, InvalidPattern):
        return [fault(error.path or "pattern", "invalid_pattern", error.reason)]
    return []


def _retry_after(error: WaylinkError) -> dict[str, str]:
    """`Retry-After` in whole seconds, for errors that waiting resolves."""
    seconds: float | None = None
    if isinstance(error, NangoRefreshBackingOff):
        seconds = BACKING_OFF_SECONDS
    elif isinstance(error, NangoRateLimited | Conflict):
        seconds = error.retry_after
    elif isinstance(error, NangoUnavailable):
        seconds = 5.0
    return {} if seconds is None else {"retry-after": str(max(1, math.ceil(seconds)))}

"""What a GET that may renew a token came to: a planned one, or one by hand."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import httpx

from app.domain.confirming import Snapshot
from app.domain.refresh import classify
from app.domain.states import RefreshOutcome
from app.errors import (
    InvalidInput,
    NangoConnectionNotFound,
    NangoError,
    NangoRateLimited,
    NangoRefreshBackingOff,
    NangoRefreshExhausted,
    NangoRefreshFailed,
    NangoUnknownIntegration,
    WaylinkError,
)
from app.nango.credentials import NoCredentials
from app.nango.types import ConnectionDetail
from app.services.events.lookups import snapshot_of

SUCCESSES: Final = frozenset(
    {RefreshOutcome.RENEWED, RefreshOutcome.FIRST_SEEN, RefreshOutcome.UNCHANGED, RefreshOutcome.NO_EXPIRY}
)


@dataclass(frozen=True, slots=True)
class Answer:
    """All that is kept of a GET."""

    outcome: RefreshOutcome
    expires_at: datetime | None = None
    error: str | None = None
    error_type: str = ""
    asked_at: datetime | None = None
    retry_after: float | None = None
    snapshot: Snapshot | None = None
    has_credentials: bool = False
    is_gone: bool = False

    def token_lives(self, now: datetime) -> bool | None:
        """Whether the credentials in it have not expired; None where it held none, as for some API keys."""
        if not self.has_credentials:
            return None
        return self.expires_at is None or self.expires_at > now


_OUTCOMES: Final[Sequence[tuple[type[WaylinkError], RefreshOutcome]]] = (
    (NangoRefreshExhausted, RefreshOutcome.EXHAUSTED),
    (NangoRefreshFailed, RefreshOutcome.FAILED),
    (NangoRefreshBackingOff, RefreshOutcome.FAILED),
    (NangoConnectionNotFound, RefreshOutcome.GONE),
    (NangoUnknownIntegration, RefreshOutcome.GONE),
    (InvalidInput, RefreshOutcome.GONE),  # an id that no URL can name, so that no GET is possible
)


def succeeded(detail: ConnectionDetail, *, previous_expires_at: datetime | None) -> Answer:
    """What an answer of 200 says; the credentials in it are forgotten."""
    outcome = classify(previous_expires_at=previous_expires_at, expires_at=detail.expires_at)
    return Answer(
        outcome,
        expires_at=detail.expires_at,
        asked_at=detail.observed_at,
        snapshot=snapshot_of(detail),
        has_credentials=not isinstance(detail.credentials, NoCredentials),
    )


def failed(error: NangoError | InvalidInput | httpx.HTTPError) -> Answer:
    """An outage, a rate limit or a wrong API key says nothing of the connection: wait."""
    for kind, outcome in _OUTCOMES:
        if isinstance(error, kind):
            gone = isinstance(error, NangoConnectionNotFound | NangoUnknownIntegration)
            return Answer(outcome, error=str(error), error_type=kind.__name__, is_gone=gone)
    retry_after = error.retry_after if isinstance(error, NangoRateLimited) else None
    return Answer(RefreshOutcome.WAITED, error=str(error), error_type=type(error).__name__, retry_after=retry_after)

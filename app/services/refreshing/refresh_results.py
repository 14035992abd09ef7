"""Results of the GET that may renew a token, of planned and of manual refreshes."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Final

import httpx

from app.domain.refreshing.answer import Answer
from app.domain.refreshing.lives import NO_LIVES, KnownLives
from app.domain.refreshing.outcomes import classify
from app.domain.states import RefreshOutcome
from app.errors import (
    InvalidInput,
    NangoConnectionNotFound,
    NangoError,
    NangoForbidden,
    NangoProviderDown,
    NangoRateLimited,
    NangoRefreshBackingOff,
    NangoRefreshExhausted,
    NangoRefreshFailed,
    NangoUnauthorized,
    NangoUnknownIntegration,
    WaylinkError,
)
from app.nango.types import ConnectionDetail
from app.services.events.lookups import snapshot_of

_OUTCOMES: Final[Sequence[tuple[type[WaylinkError], RefreshOutcome]]] = (
    (NangoRefreshExhausted, RefreshOutcome.EXHAUSTED),
    (NangoProviderDown, RefreshOutcome.PROVIDER_DOWN),
    (NangoRefreshFailed, RefreshOutcome.FAILED),
    (NangoRefreshBackingOff, RefreshOutcome.BACKING_OFF),
    (NangoConnectionNotFound, RefreshOutcome.GONE),
    (NangoUnknownIntegration, RefreshOutcome.GONE),
    (InvalidInput, RefreshOutcome.GONE),  # an id that cannot stand in a URL
)


def succeeded(
    detail: ConnectionDetail,
    *,
    asked_at: datetime,
    answered_at: datetime,
    previous_expires_at: datetime | None,
    was_forced: bool = False,
    renewed_at: datetime | None = None,
    lives: KnownLives = NO_LIVES,
) -> Answer:
    """The result of an answer with status 200, without its credentials.

    previous_expires_at, renewed_at, lives: as known before the call.
    """
    outcome = classify(
        previous_expires_at=previous_expires_at,
        times=detail.times,
        was_forced=was_forced,
        asked_at=detail.observed_at,
        renewed_at=renewed_at,
        access_life=lives.access.span if lives.access else None,
    )
    return Answer(
        outcome,
        times=detail.times,
        asked_at=asked_at,
        answered_at=answered_at,
        snapshot=snapshot_of(detail),
        has_credentials=detail.has_credentials,
    )


def failed(error: NangoError | InvalidInput | httpx.HTTPError, *, asked_at: datetime, answered_at: datetime) -> Answer:
    """The result of an error. Outages, rate limits and a wrong API key are no fault of the connection."""
    answer = partial(Answer, asked_at=asked_at, answered_at=answered_at)
    for kind, outcome in _OUTCOMES:
        if isinstance(error, kind):
            gone = isinstance(error, NangoConnectionNotFound | NangoUnknownIntegration)
            return answer(outcome, error=str(error), error_type=kind.__name__, is_gone=gone)
    retry_after, outcome = None, RefreshOutcome.NANGO_DOWN
    if isinstance(error, NangoRateLimited):
        retry_after, outcome = error.retry_after, RefreshOutcome.RATE_LIMITED
    elif isinstance(error, NangoUnauthorized | NangoForbidden):
        outcome = RefreshOutcome.WAITED
    return answer(outcome, error=str(error), error_type=type(error).__name__, retry_after=retry_after)

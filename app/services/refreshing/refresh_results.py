"""Results of the GET that may renew a token, of planned and of manual refreshes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import httpx

from app.db.connections import ConnectionState
from app.domain.confirming import Snapshot
from app.domain.refreshing.clocks import read_clocks
from app.domain.refreshing.lives import NO_LIVES, KnownLives
from app.domain.refreshing.outcomes import FORCED_IN_VAIN, classify
from app.domain.refreshing.token_times import NO_TIMES, TokenTimes
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
from app.services.policy import Policy

SUCCESSES: Final = frozenset(
    {
        RefreshOutcome.RENEWED,
        RefreshOutcome.FIRST_SEEN,
        RefreshOutcome.UNCHANGED,
        RefreshOutcome.NOT_REFRESHABLE,
        RefreshOutcome.NO_EXPIRY,
    }
)


@dataclass(frozen=True, slots=True)
class GetResult:
    """The result of a GET, without credentials.

    asked_at: when the GET was sent. retry_after: seconds, of a rate limit. is_gone: Nango has no such connection.
    """

    outcome: RefreshOutcome
    times: TokenTimes = NO_TIMES
    error: str | None = None
    error_type: str = ""
    asked_at: datetime | None = None
    retry_after: float | None = None
    snapshot: Snapshot | None = None
    has_credentials: bool = False
    is_gone: bool = False

    @property
    def expires_at(self) -> datetime | None:
        return self.times.expires_at

    def token_lives(self, now: datetime) -> bool | None:
        """Whether the returned credentials have not expired; None where there were none, as for some API keys."""
        if not self.has_credentials:
            return None
        return self.expires_at is None or self.expires_at > now


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
    previous_expires_at: datetime | None,
    was_forced: bool = False,
    renewed_at: datetime | None = None,
    lives: KnownLives = NO_LIVES,
) -> GetResult:
    """The result of an answer with status 200, without its credentials. The others: as known before the call."""
    outcome = classify(
        previous_expires_at=previous_expires_at,
        times=detail.times,
        was_forced=was_forced,
        asked_at=detail.observed_at,
        renewed_at=renewed_at,
        access_life=lives.access.span if lives.access else None,
    )
    return GetResult(
        outcome,
        times=detail.times,
        asked_at=detail.observed_at,
        snapshot=snapshot_of(detail),
        has_credentials=detail.has_credentials,
    )


def failed(error: NangoError | InvalidInput | httpx.HTTPError) -> GetResult:
    """The result of an error. Outages, rate limits and a wrong API key are no fault of the connection."""
    for kind, outcome in _OUTCOMES:
        if isinstance(error, kind):
            gone = isinstance(error, NangoConnectionNotFound | NangoUnknownIntegration)
            return GetResult(outcome, error=str(error), error_type=kind.__name__, is_gone=gone)
    retry_after, outcome = None, RefreshOutcome.NANGO_DOWN
    if isinstance(error, NangoRateLimited):
        retry_after, outcome = error.retry_after, RefreshOutcome.RATE_LIMITED
    elif isinstance(error, NangoUnauthorized | NangoForbidden):
        outcome = RefreshOutcome.WAITED
    return GetResult(outcome, error=str(error), error_type=type(error).__name__, retry_after=retry_after)


def note_times(connection: ConnectionState, answer: GetResult, policy: Policy, *, was_forced: bool) -> None:
    """Take over the times of the token that a successful answer showed.

    An answer without credentials, as an API key without their scope gets, says nothing of them but that.
    """
    if answer.outcome not in SUCCESSES or answer.asked_at is None:
        return
    if not answer.has_credentials:
        connection.expires_at, connection.expires_source = answer.expires_at, None
        return
    clocks = read_clocks(
        answer.times,
        outcome=answer.outcome,
        was_forced=was_forced,
        asked_at=answer.asked_at,
        auth_mode=connection.auth_mode or "",
        previous_expires_at=connection.told_expiry,
        renewed_at=connection.renewed_at,
        authorized_at=connection.authorized_at,
        lives=policy.refresh.lives_of(connection.environment, connection.integration, connection.provider),
    )
    connection.set_clocks(clocks)
    if answer.outcome is RefreshOutcome.NOT_REFRESHABLE:
        connection.not_refreshable = FORCED_IN_VAIN
    elif answer.outcome in {RefreshOutcome.RENEWED, RefreshOutcome.FIRST_SEEN}:
        connection.not_refreshable = None

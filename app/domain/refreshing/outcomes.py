"""Outcomes of a look at a token: what happened, and whether the token is dead."""

from datetime import datetime, timedelta
from typing import Final

from app.domain.refreshing.token_times import TokenTimes
from app.domain.states import RefreshOutcome

# A GET renews nothing for these (Nango contract: When a token is refreshed). The set of modes is open: an unknown
# mode is treated as renewable.
MODES_WITHOUT_REFRESH: Final = frozenset({"API_KEY", "BASIC", "TBA", "OAUTH1", "CUSTOM", "NONE", "INSTALL_PLUGIN"})

# Errors that Waylink sets itself: Nango's list does not show when they are over.
CRASHED: Final = "crashed"  # a refresh without a result, by a fault of Waylink
TOKEN_EXPIRED: Final = "token_expired"  # noqa: S105 - an error type: the token expired, and nothing can renew it
OWN_ERRORS: Final = frozenset({CRASHED, TOKEN_EXPIRED})

# Without a result: they say nothing of the connection, and the same plan stays open.
WAITS: Final = frozenset({RefreshOutcome.RATE_LIMITED, RefreshOutcome.NANGO_DOWN, RefreshOutcome.WAITED})
KEPT_OPEN: Final = WAITS | {RefreshOutcome.PROVIDER_DOWN}
UNMOVED: Final = frozenset({RefreshOutcome.UNCHANGED, RefreshOutcome.NOT_REFRESHABLE})  # the expiry stayed
REFUSALS: Final = frozenset({RefreshOutcome.FAILED, RefreshOutcome.BACKING_OFF})
SUCCESSES: Final = frozenset(
    {
        RefreshOutcome.RENEWED,
        RefreshOutcome.FIRST_SEEN,
        RefreshOutcome.UNCHANGED,
        RefreshOutcome.NOT_REFRESHABLE,
        RefreshOutcome.NO_EXPIRY,
    }
)

SKEW: Final = timedelta(minutes=5)  # clocks of Nango and of Waylink may differ by so much

FORCED_IN_VAIN: Final = "a forced renewal changed nothing: there is no refresh token"


def classify(
    *,
    previous_expires_at: datetime | None,
    times: TokenTimes,
    was_forced: bool,
    asked_at: datetime,
    renewed_at: datetime | None = None,
    access_life: timedelta | None = None,
) -> RefreshOutcome:
    """The outcome of a successful GET, by its times: Nango's answer has no flag for a renewal.

    (Nango contract: When a token is refreshed)

    previous_expires_at: as Nango knew it before. renewed_at: the latest moment by which a token was surely issued.
    access_life: how long a new token lives, where that is known.
    """
    if times.expires_at is None:
        return RefreshOutcome.NO_EXPIRY
    if previous_expires_at is None:
        left = times.expires_at - asked_at
        is_whole = access_life is not None and abs(left - access_life) <= SKEW
        issued_at = times.issued_at or (times.expires_at - access_life if access_life and is_whole else None)
        return _first_sight(issued_at, renewed_at, asked_at=asked_at, was_forced=was_forced)
    if previous_expires_at != times.expires_at:
        return RefreshOutcome.RENEWED
    return RefreshOutcome.NOT_REFRESHABLE if was_forced else RefreshOutcome.UNCHANGED


def _first_sight(
    issued_at: datetime | None, renewed_at: datetime | None, *, asked_at: datetime, was_forced: bool
) -> RefreshOutcome:
    """The outcome where no expiry was known before, by the token's issue, as far as clocks agree."""
    if issued_at is not None and was_forced and issued_at < asked_at - SKEW:
        return RefreshOutcome.NOT_REFRESHABLE  # older than this call, which would have brought another one
    if issued_at is not None and renewed_at is not None and issued_at > renewed_at + SKEW:
        return RefreshOutcome.RENEWED  # another one than was authorized or renewed then
    return RefreshOutcome.FIRST_SEEN


def has_lapsed(
    *, now: datetime, outcome: RefreshOutcome, expires_at: datetime | None, auth_mode: str, was_forced: bool
) -> bool:
    """Whether the token has expired for good, so that only a re-authorization renews it.

    Nango answered 200 to a GET that renews anything renewable, and the expiry is still in the past: there is nothing to
    renew it with, as for OAUTH2 without a refresh token (Nango contract: When a token is refreshed). A plain GET does
    not prove it, since some providers are renewed by force only. Failed renewals and outages are no 200, and have their
    own outcomes.
    """
    if outcome not in UNMOVED or expires_at is None or expires_at > now:
        return False
    return was_forced or auth_mode in MODES_WITHOUT_REFRESH


def why_not_refreshable(auth_mode: str) -> str | None:
    """The reason why nothing renews credentials of this type; None where something may."""
    if auth_mode in MODES_WITHOUT_REFRESH:
        return f"nothing renews credentials of the type {auth_mode}"
    return None

"""Outcomes of a look at a token: what happened, and whether the token is dead."""

from datetime import datetime
from typing import Final

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
REFUSALS: Final = frozenset({RefreshOutcome.FAILED, RefreshOutcome.BACKING_OFF})

FORCED_IN_VAIN: Final = "a forced renewal changed nothing: there is no refresh token"


def classify(*, previous_expires_at: datetime | None, expires_at: datetime | None) -> RefreshOutcome:
    """The outcome of a successful GET, by its expiry: Nango's answer has no flag for a renewal.

    (Nango contract: When a token is refreshed)
    """
    if expires_at is None:
        return RefreshOutcome.NO_EXPIRY
    if previous_expires_at is None:
        return RefreshOutcome.FIRST_SEEN  # unknown whether this GET changed it
    return RefreshOutcome.UNCHANGED if previous_expires_at == expires_at else RefreshOutcome.RENEWED


def has_lapsed(
    *, now: datetime, outcome: RefreshOutcome, expires_at: datetime | None, auth_mode: str, was_forced: bool
) -> bool:
    """Whether the token has expired for good, so that only a re-authorization renews it.

    Nango answered 200 to a GET that renews anything renewable, and the expiry is still in the past: there is nothing to
    renew it with, as for OAUTH2 without a refresh token (Nango contract: When a token is refreshed). A plain GET does
    not prove it, since some providers are renewed by force only. Failed renewals and outages are no 200, and have their
    own outcomes.
    """
    if outcome is not RefreshOutcome.UNCHANGED or expires_at is None or expires_at > now:
        return False
    return was_forced or auth_mode in MODES_WITHOUT_REFRESH


def why_not_refreshable(auth_mode: str) -> str | None:
    """The reason why nothing renews credentials of this type; None where something may."""
    if auth_mode in MODES_WITHOUT_REFRESH:
        return f"nothing renews credentials of the type {auth_mode}"
    return None

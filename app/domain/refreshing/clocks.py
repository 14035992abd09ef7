"""The two clocks of a connection: the expiry of its access token, and the deadline of its grant.

A grant is what the end user gave: it lapses with its refresh token, and then only the end user can renew it. Each clock
has its source, or the reason why nothing is known.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from app.domain.refreshing.token_times import TokenTimes
from app.domain.states import RefreshOutcome

NANGO_MARGIN: Final = timedelta(minutes=15)  # (Nango contract: When a token is refreshed)
SKEW: Final = timedelta(minutes=5)  # a provider's clock may be ahead by so much

# By auth mode (Nango contract: Credential types).
_FIXED_MODES: Final = frozenset({"API_KEY", "BASIC", "TBA", "OAUTH1", "NONE", "INSTALL_PLUGIN"})
_MINTING_MODES: Final = frozenset({"OAUTH2_CC", "APP", "JWT", "BILL", "SIGNATURE", "AWS_SIGV4"})

NOT_READ: Final = "its token has not been read yet"


class ClockSource(StrEnum):
    PROVIDER = "provider"  # the provider's token response
    CATALOGUE = "catalogue"  # what the provider documents, in the catalogue that Waylink ships
    LEARNT = "learnt"  # ages at which grants of the integration lapsed
    POLICY = "policy"  # the refresh policy in waylink.toml
    UNKNOWN = "unknown"  # nothing is known; the reason says why


@dataclass(frozen=True, slots=True)
class Clock:
    """A deadline and its source. reason: what it counts from, or why it is not known."""

    at: datetime | None
    source: ClockSource
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Clocks:
    """Both clocks after an answer. renewed_at: the latest moment by which the token was surely issued; None: unknown.

    The idle limit of a grant counts from `renewed_at`.
    """

    access: Clock
    grant: Clock
    renewed_at: datetime | None


def unread(auth_mode: str) -> Clocks:
    """The clocks of a connection whose token was not read, or never will be."""
    grant = Clock(None, ClockSource.UNKNOWN, _without_grant(auth_mode) or NOT_READ)
    return Clocks(Clock(None, ClockSource.UNKNOWN, _fixed(auth_mode) or NOT_READ), grant, None)


def without_expiry(auth_mode: str) -> str:
    """The reason why a token that was read has no expiry."""
    return _fixed(auth_mode) or "Nango knows no expiry of its token"


def read_clocks(
    times: TokenTimes,
    *,
    outcome: RefreshOutcome,
    was_forced: bool,
    asked_at: datetime,
    auth_mode: str,
    previous_expires_at: datetime | None,
    renewed_at: datetime | None,
) -> Clocks:
    """The clocks after an answer of Nango. previous_expires_at, renewed_at: as stored before it.

    A life without a beginning counts from the token's issue. Where that is not known there is no deadline: counted from
    each look at the same token, it would always lie ahead.
    """
    issued_at = _issued_at(times, asked_at)
    if issued_at is not None and renewed_at is not None and issued_at < renewed_at:
        issued_at = None  # its life is not in seconds: a token is not older than a renewal that was seen
    if was_forced or issued_at is None:
        seen = _renewed_by(outcome, times, was_forced=was_forced, asked_at=asked_at, expired_at=previous_expires_at)
        issued_at = _latest(issued_at, seen)
    issued_at = _latest(renewed_at, issued_at)
    return Clocks(_access(times, auth_mode), _grant(times, auth_mode, issued_at), issued_at)


def _access(times: TokenTimes, auth_mode: str) -> Clock:
    if times.expires_at is not None:
        return Clock(times.expires_at, ClockSource.PROVIDER)
    return Clock(None, ClockSource.UNKNOWN, without_expiry(auth_mode))


def _grant(times: TokenTimes, auth_mode: str, issued_at: datetime | None) -> Clock:
    if times.grant_life is not None and issued_at is not None:
        told = issued_at + times.grant_life
        at = min(told, times.grant_at) if times.grant_at is not None else told
        return Clock(at, ClockSource.PROVIDER, f"{_span(times.grant_life)} from {_shown(issued_at)} on")
    if times.grant_at is not None:
        return Clock(times.grant_at, ClockSource.PROVIDER)
    if times.grant_life is not None:
        reason = f"its refresh token lives for {_span(times.grant_life)}, and its issue was not seen"
        return Clock(None, ClockSource.UNKNOWN, reason)
    reason = _without_grant(auth_mode) or "the provider's token response names no deadline"
    return Clock(None, ClockSource.UNKNOWN, reason)


def _issued_at(times: TokenTimes, asked_at: datetime) -> datetime | None:
    """The issue of the token by its expiry and life; None where it is in the future, so that one of them is wrong."""
    at = times.issued_at
    if at is None or at > asked_at + SKEW:
        return None
    return min(at, asked_at)


def _renewed_by(
    outcome: RefreshOutcome,
    times: TokenTimes,
    *,
    was_forced: bool,
    asked_at: datetime,
    expired_at: datetime | None,
) -> datetime | None:
    """The moment before which the token was not renewed, where this answer shows a renewal; else None.

    A forced call renews whatever has a refresh token (Nango contract: Forced refreshes), which shows in a moved expiry
    or in the life of the refresh token. Others renew a token from Nango's margin before its expiry on. expired_at: the
    expiry before.
    """
    if was_forced:
        has_refresh_token = times.grant_life is not None or times.grant_at is not None
        renewed = outcome is RefreshOutcome.RENEWED or (outcome is RefreshOutcome.NO_EXPIRY and has_refresh_token)
        return asked_at if renewed else None
    if outcome is RefreshOutcome.RENEWED and expired_at is not None:
        return min(asked_at, expired_at - NANGO_MARGIN)
    return None


def _fixed(auth_mode: str) -> str | None:
    return f"credentials of the type {auth_mode} name no expiry" if auth_mode in _FIXED_MODES else None


def _without_grant(auth_mode: str) -> str | None:
    if auth_mode in _FIXED_MODES:
        return f"credentials of the type {auth_mode} hold as long as their owner leaves them"
    if auth_mode in _MINTING_MODES:
        return f"tokens of the type {auth_mode} are made from credentials that Nango keeps, without a refresh token"
    return None


def _latest(*moments: datetime | None) -> datetime | None:
    return max((moment for moment in moments if moment is not None), default=None)


def _span(life: timedelta) -> str:
    if life >= timedelta(days=2):
        return f"{life.total_seconds() / 86_400:g} days" if not life % timedelta(days=1) else f"{life.days} days"
    return f"{life.total_seconds() / 3600:.1f} hours"


def _shown(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"

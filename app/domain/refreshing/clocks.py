"""The two clocks of a connection: the expiry of its access token, and the deadline of its grant.

A grant is what the end user gave: it lapses with its refresh token, and then only the end user can renew it. Each clock
has its source, or the reason why nothing is known.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from app.domain.refreshing.lives import (
    NO_LIVES,
    ClockSource,
    KnownLives,
    Life,
    earliest,
    latest,
    shown_moment,
    shown_span,
)
from app.domain.refreshing.outcomes import UNMOVED
from app.domain.refreshing.token_times import TokenTimes
from app.domain.states import RefreshOutcome

NANGO_MARGIN: Final = timedelta(minutes=15)  # (Nango contract: When a token is refreshed)
SKEW: Final = timedelta(minutes=5)  # a provider's clock may be ahead by so much

# By auth mode (Nango contract: Credential types).
_FIXED_MODES: Final = frozenset({"API_KEY", "BASIC", "TBA", "OAUTH1", "NONE", "INSTALL_PLUGIN"})
_MINTING_MODES: Final = frozenset({"OAUTH2_CC", "APP", "JWT", "BILL", "SIGNATURE", "AWS_SIGV4"})

NOT_READ: Final = "its token has not been read yet"


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


def told_expiry(expires_at: datetime | None, source: str | None) -> datetime | None:
    """The stored expiry, where Nango knows it; None where Waylink has estimated it. source: None before it was kept."""
    return expires_at if source in {None, ClockSource.PROVIDER} else None


def read_clocks(
    times: TokenTimes,
    *,
    outcome: RefreshOutcome,
    was_forced: bool,
    asked_at: datetime,
    auth_mode: str,
    previous_expires_at: datetime | None,
    renewed_at: datetime | None,
    authorized_at: datetime | None = None,
    lives: KnownLives = NO_LIVES,
) -> Clocks:
    """The clocks after an answer of Nango. previous_expires_at, renewed_at: as stored before it, the former as Nango
    knew it. authorized_at: when the end user authorized it; None: not seen.

    A life without a beginning counts from the token's issue. Where that is not known there is no deadline: counted from
    each look at the same token, it would always lie ahead.
    """
    issued_at = _issued_at(times, asked_at)
    if issued_at is not None and renewed_at is not None and issued_at < renewed_at:
        issued_at = None  # its life is not in seconds: a token is not older than a renewal that was seen
    if was_forced or issued_at is None:
        seen = _renewed_by(outcome, was_forced=was_forced, asked_at=asked_at, expired_at=previous_expires_at)
        issued_at = latest((issued_at, seen))
    issued_at = latest((renewed_at, issued_at))
    grant = _grant(times, auth_mode, lives, issued_at=issued_at, authorized_at=authorized_at)
    return Clocks(_access(times, auth_mode, lives, issued_at), grant, issued_at)


def grant_under(
    lives: KnownLives, before: Clock, auth_mode: str, *, renewed_at: datetime | None, authorized_at: datetime | None
) -> Clock:
    """The grant's deadline under other known lives, before the next look. before: as it is stored.

    What a provider told stays, unless a policy says an earlier one, and so does a deadline that nothing replaces.
    """
    if before.source != ClockSource.PROVIDER and _without_grant(auth_mode):
        return before
    known = _known_grant(lives, issued_at=renewed_at, authorized_at=authorized_at)
    if known is None or known.at is None:
        return before
    if before.source == ClockSource.PROVIDER and before.at is not None:
        return known if known.source == ClockSource.POLICY and known.at < before.at else before
    return known


def _access(times: TokenTimes, auth_mode: str, lives: KnownLives, issued_at: datetime | None) -> Clock:
    if times.expires_at is not None:
        return Clock(times.expires_at, ClockSource.PROVIDER)
    if lives.access is not None and issued_at is not None and auth_mode not in _FIXED_MODES:
        return _counted(lives.access, issued_at)
    return Clock(None, ClockSource.UNKNOWN, without_expiry(auth_mode))


def _grant(
    times: TokenTimes,
    auth_mode: str,
    lives: KnownLives,
    *,
    issued_at: datetime | None,
    authorized_at: datetime | None,
) -> Clock:
    """The grant's deadline: the provider's own, unless a policy says an earlier one; else what is known of its kind."""
    told = _told_grant(times, issued_at)
    if times.grant_at is None and times.grant_life is None and (reason := _without_grant(auth_mode)):
        return told if told.at is not None else Clock(None, ClockSource.UNKNOWN, reason)
    known = _known_grant(lives, issued_at=issued_at, authorized_at=authorized_at)
    if told.at is None:
        return known or told
    if known is not None and known.source == ClockSource.POLICY and known.at is not None and known.at < told.at:
        return known
    return told


def _told_grant(times: TokenTimes, issued_at: datetime | None) -> Clock:
    if times.grant_life is not None and issued_at is not None:
        told = issued_at + times.grant_life
        if times.grant_at is None or told <= times.grant_at:
            return _counted(Life(times.grant_life, ClockSource.PROVIDER), issued_at)
    if times.grant_at is not None:
        return Clock(times.grant_at, ClockSource.PROVIDER)
    if times.grant_life is not None:
        reason = f"its refresh token lives for {shown_span(times.grant_life)}, and its issue was not seen"
        return Clock(None, ClockSource.UNKNOWN, reason)
    return Clock(None, ClockSource.UNKNOWN, "the provider's token response names no deadline")


def _known_grant(lives: KnownLives, *, issued_at: datetime | None, authorized_at: datetime | None) -> Clock | None:
    """The earlier of the two deadlines; None where neither is known of the integration."""
    begins = issued_at if lives.rotates else authorized_at
    counted = [
        _counted(life, since)
        for life, since in ((lives.refresh, begins), (lives.idle, issued_at))
        if life is not None and since is not None
    ]
    at = earliest(clock.at for clock in counted)
    if at is not None:
        return next(clock for clock in counted if clock.at == at)
    life = lives.refresh or lives.idle
    if life is None:
        return None
    reason = f"it lapses after {shown_span(life.span)} ({life.source}), and since when that counts was not seen"
    return Clock(None, ClockSource.UNKNOWN, reason)


def _counted(life: Life, since: datetime) -> Clock:
    return Clock(since + life.span, life.source, f"{shown_span(life.span)} from {shown_moment(since)} on")


def _issued_at(times: TokenTimes, asked_at: datetime) -> datetime | None:
    """The issue of the token by its expiry and life; None where it is in the future, so that one of them is wrong."""
    at = times.issued_at
    if at is None or at > asked_at + SKEW:
        return None
    return min(at, asked_at)


def _renewed_by(
    outcome: RefreshOutcome,
    *,
    was_forced: bool,
    asked_at: datetime,
    expired_at: datetime | None,
) -> datetime | None:
    """The moment before which the token was not renewed, where this answer shows a renewal; else None.

    A forced call that was answered has renewed whatever has a refresh token (Nango contract: Forced refreshes), and
    what has none has no grant that could lapse. Only an expiry that stayed shows that it renewed nothing. Other calls
    renew a token from Nango's margin before its expiry on. expired_at: the expiry before.
    """
    if was_forced:
        return None if outcome in UNMOVED else asked_at
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

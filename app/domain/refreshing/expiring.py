"""Deadlines that only the end user can move, announced before they pass, each once."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from app.domain.event import EventError
from app.domain.refreshing.catalogue import Renewal
from app.domain.refreshing.lives import earliest, is_moved_by_renewal, shown_moment
from app.domain.refreshing.outcomes import why_not_refreshable
from app.domain.refreshing.policy import RefreshPolicy

TOKEN_EXPIRING: Final = "token_expiring"  # noqa: S105 - an error type: the token expires, and nothing renews it
GRANT_EXPIRING: Final = "grant_expiring"  # the grant lapses
SAME: Final = timedelta(hours=1)  # two deadlines that differ by less are announced as one
UNMOVED: Final = timedelta(minutes=1)  # a renewal that moves a deadline by less has not moved it
_ACT: Final = "the end user has to reconnect before"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockState:
    """The clocks of a connection after a look. announced: the deadlines that were announced already.

    previous_grant_at: the grant's deadline before the look. has_renewed: the look showed a renewal.
    """

    expires_at: datetime | None
    grant_at: datetime | None
    grant_reason: str | None
    renewed_at: datetime | None
    authorized_at: datetime | None
    auth_mode: str
    not_refreshable: str | None
    announced_expiry: datetime | None = None
    announced_grant: datetime | None = None
    previous_grant_at: datetime | None = None
    has_renewed: bool = False


@dataclass(frozen=True, slots=True)
class Announcement:
    """The news of a deadline: the error's type says which clock, its description when and what to do."""

    at: datetime
    error: EventError


def announcements(state: ClockState, policy: RefreshPolicy, *, now: datetime) -> list[Announcement]:
    """The deadlines to announce now. One that has passed is no warning, and is left to `has_lapsed`."""
    found = []
    if (at := _token_deadline(state, policy)) and _is_near(
        at, _token_lead(state, at, policy), state.announced_expiry, now
    ):
        description = f"its token expires at {shown_moment(at)}, and {_why_token(state, policy)}: {_ACT}"
        found.append(Announcement(at, EventError(TOKEN_EXPIRING, description)))
    if (at := state.grant_at) and _is_near(at, _grant_lead(state, at, policy), state.announced_grant, now):
        counted = f" ({state.grant_reason})" if state.grant_reason else ""
        description = f"its grant lapses at {shown_moment(at)}{counted}, and {_why_grant(state, policy)}: {_ACT}"
        found.append(Announcement(at, EventError(GRANT_EXPIRING, description)))
    return found


def next_announcement(state: ClockState, policy: RefreshPolicy, *, now: datetime) -> datetime | None:
    """The time to announce the next deadline that no renewal moves; None where there is none, or no more."""
    moments = []
    if (at := _token_deadline(state, policy)) and not _is_same(at, state.announced_expiry):
        moments.append((at, at - _token_lead(state, at, policy)))
    if (at := state.grant_at) and not _is_movable(state, policy) and not _is_same(at, state.announced_grant):
        moments.append((at, at - _grant_lead(state, at, policy)))
    return earliest(moment for at, moment in moments if at > now)


def _token_deadline(state: ClockState, policy: RefreshPolicy) -> datetime | None:
    """The expiry of a token that nothing renews."""
    return None if _can_renew(state, policy) else state.expires_at


def _can_renew(state: ClockState, policy: RefreshPolicy) -> bool:
    fixed = why_not_refreshable(state.auth_mode) or state.not_refreshable
    return fixed is None and policy.renews is not Renewal.NEVER


def _is_movable(state: ClockState, policy: RefreshPolicy) -> bool:
    """Whether a renewal moves the grant's deadline, as far as is known."""
    at = state.grant_at
    return _can_renew(state, policy) and at is not None and is_moved_by_renewal(policy.lives, at, state.renewed_at)


def _token_lead(state: ClockState, at: datetime, policy: RefreshPolicy) -> timedelta:
    return _quarter(at, state.renewed_at, policy)


def _grant_lead(state: ClockState, at: datetime, policy: RefreshPolicy) -> timedelta:
    """The lead time: short where renewals should have moved the deadline by then, and full where they do not."""
    before = state.previous_grant_at
    stays = state.has_renewed and before is not None and abs(at - before) < UNMOVED
    if _is_movable(state, policy) and not stays:
        if state.renewed_at is None:
            return timedelta(0)
        return min(policy.warn_before, policy.keep_alive_lead(at - state.renewed_at) / 3)
    return _quarter(at, state.authorized_at, policy)


def _quarter(at: datetime, since: datetime | None, policy: RefreshPolicy) -> timedelta:
    return policy.warn_before if since is None else min(policy.warn_before, (at - since) / 4)


def _is_near(at: datetime, lead: timedelta, announced: datetime | None, now: datetime) -> bool:
    return at - lead <= now < at and not _is_same(at, announced)


def _is_same(at: datetime, other: datetime | None) -> bool:
    return other is not None and abs(at - other) < SAME


def _why_token(state: ClockState, policy: RefreshPolicy) -> str:
    if policy.renews is Renewal.NEVER:
        return "its provider renews none"
    return why_not_refreshable(state.auth_mode) or state.not_refreshable or "nothing renews it"


def _why_grant(state: ClockState, policy: RefreshPolicy) -> str:
    return "it was not renewed so far" if _is_movable(state, policy) else "no renewal moves that"

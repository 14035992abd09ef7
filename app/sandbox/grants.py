"""Grants as a provider keeps them: the lives and the rotation of refresh tokens, and why one is refused.

Pure: `now` is an argument. The sandbox's integrations each have such rules; a simulation uses the same.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

NANGO_MARGIN: Final = 15 * 60.0  # seconds (Nango contract: When a token is refreshed)


class Reuse(StrEnum):
    ALLOWED = "allowed"  # a refresh token that was replaced still works
    REFUSED = "refused"  # it does not
    REVOKES = "revokes"  # it does not, and its use ends the whole grant


class Renewing(StrEnum):
    DUE = "due"  # Nango renews it on a plain GET within its margin before the expiry
    FORCED = "forced"  # Nango renews it on a forced GET only
    INTROSPECTED = "introspected"  # Nango asks the provider for the expiry, which the token response does not tell
    NEVER = "never"  # the provider gives no refresh token


class Told(StrEnum):
    """The member of the token response that tells when the refresh token lapses."""

    EXPIRES_IN = "refresh_token_expires_in"  # seconds
    X_EXPIRES_IN = "x_refresh_token_expires_in"  # seconds
    EXPIRES_AT = "refresh_token_expires_at"  # ISO 8601


class Lapse(StrEnum):
    """The reason why a provider refuses a refresh token."""

    REVOKED = "revoked"
    REUSED = "reused"
    REFRESH_LIFE = "refresh_life"
    GRANT_LIFE = "grant_life"
    IDLE_LIMIT = "idle_limit"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRules:
    """The tokens of an integration. Spans are seconds; None: no limit.

    access_life: of an access token; None: the sandbox's `token_lifetime`. refresh_life: of a refresh token from its
    issue on. grant_life: of the grant from the authorization on, however often it was renewed. idle_limit: of a refresh
    token that is not used. rotates: a renewal brings another refresh token. tells: None where nothing is told of the
    refresh token. tells_expiry: the token response has `expires_in`. margin: Nango's, before the expiry.
    """

    access_life: float | None = None
    refresh_life: float | None = None
    grant_life: float | None = None
    idle_limit: float | None = None
    rotates: bool = True
    reuse: Reuse = Reuse.REFUSED
    tells: Told | None = None
    tells_expiry: bool = True
    renews: Renewing = Renewing.DUE
    margin: float = NANGO_MARGIN


DEFAULT_RULES: Final = TokenRules()


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """The consent of an end user. issued_at: of the present refresh token. used_at: its last use, or its issue.

    token, previous_token: the present refresh token, and the one that it replaced. expires_at: of the access token, as
    the provider knows it. ended: it was revoked, or reused where that revokes.
    """

    authorized_at: datetime
    issued_at: datetime
    used_at: datetime
    expires_at: datetime | None = None
    token: str | None = None
    previous_token: str | None = None
    ended: Lapse | None = None


def begun(now: datetime, *, token: str | None = None, expires_at: datetime | None = None) -> Grant:
    """The grant of an authorization."""
    return Grant(authorized_at=now, issued_at=now, used_at=now, token=token, expires_at=expires_at)


def deadline(rules: TokenRules, grant: Grant) -> datetime | None:
    """The moment at which the grant lapses if it is not used again; None where it does not."""
    return min((at for _, at in _deadlines(rules, grant)), default=None)


def lapse(rules: TokenRules, grant: Grant, *, now: datetime) -> Lapse | None:
    """The reason why the grant is over; None while it lives."""
    if grant.ended is not None:
        return grant.ended
    passed = [(at, why) for why, at in _deadlines(rules, grant) if at <= now]
    return min(passed)[1] if passed else None


def present(rules: TokenRules, grant: Grant, *, token: str | None = None, now: datetime) -> tuple[Grant, Lapse | None]:
    """Present a refresh token to the provider. Returns the grant after it, and why the token is refused, or None.

    token: None stands for the present one.
    """
    if over := lapse(rules, grant, now=now):
        return grant, over
    is_old = grant.token is not None and token not in {None, grant.token}
    if is_old and rules.reuse is not Reuse.ALLOWED:
        ended = Lapse.REUSED if rules.reuse is Reuse.REVOKES else None
        return replace(grant, ended=ended), Lapse.REUSED
    return grant, None


def renewed(
    rules: TokenRules, grant: Grant, *, now: datetime, token: str | None = None, expires_at: datetime | None = None
) -> Grant:
    """The grant after a renewal. token: the new refresh token, where the provider gives one."""
    if not rules.rotates:
        return replace(grant, used_at=now, expires_at=expires_at)
    return replace(grant, issued_at=now, used_at=now, expires_at=expires_at, token=token, previous_token=grant.token)


def is_due(rules: TokenRules, expires_at: datetime | None, *, now: datetime) -> bool:
    """Whether Nango renews on a plain GET: never without an expiry, always for a token that lives within its margin.

    expires_at: as Nango knows it, or asks for it.
    """
    if rules.renews in {Renewing.FORCED, Renewing.NEVER} or expires_at is None:
        return False
    return expires_at - now < timedelta(seconds=rules.margin)


def _deadlines(rules: TokenRules, grant: Grant) -> Iterator[tuple[Lapse, datetime]]:
    for why, span, since in (
        (Lapse.REFRESH_LIFE, rules.refresh_life, grant.issued_at),
        (Lapse.GRANT_LIFE, rules.grant_life, grant.authorized_at),
        (Lapse.IDLE_LIMIT, rules.idle_limit, grant.used_at),
    ):
        if span is not None:
            yield why, since + timedelta(seconds=span)

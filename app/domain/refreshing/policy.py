"""Refresh policies: what waylink.toml says of renewals, by environment, provider and integration, as one value.

The most specific part that sets a value wins. What no part sets is the default, and what the catalogue says of the
provider.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final

from app.domain.refreshing.catalogue import Catalogue, Renewal
from app.domain.refreshing.clocks import NANGO_MARGIN
from app.domain.refreshing.hours import Hours
from app.domain.refreshing.lives import NO_LIVES, ClockSource, KnownLives, Life

ALL: Final = "*"  # integrations that no other part names


class RefreshPriority(StrEnum):
    HIGH = "high"  # its calls count as urgent however much time is left
    NORMAL = "normal"  # its calls are urgent shortly before an expiry
    LOW = "low"  # its calls are never urgent


class Keep(StrEnum):
    FRESH = "fresh"  # the token is renewed before it expires
    ALIVE = "alive"  # the grant is kept from lapsing; the token is renewed rarely, after its expiry


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshPolicy:
    """Durations of the plans. A plain GET is due `lead` minus a share of `spread` before the expiry.

    margin, margin_floor, margin_share: the lead is this share of the token's life, between floor and margin; all are
        below Nango's own margin, so that no GET is too early (Nango contract: When a token is refreshed).
    spread: spreads connections with the same expiry; the last GET is due lead - spread before it.
    first_delay: before the first GET of a connection whose expiry is unknown, plus a share of `spread`.
    force_every: interval of forced refreshes, for grants that expire without use; None: none.
    keep_alive_share, keep_alive_cap: a grant that renewals keep alive is renewed by force this share of its life before
        its deadline, and no earlier than the cap.
    warn_before: a deadline that nothing moves is announced so long before, and no earlier than a quarter of its life.
    min_interval: between two GETs of one connection.
    keep, alive_every: what is kept; where only the grant is, its token is renewed once in that time.
    lapsed_every: between two GETs of a connection whose token expired for good, to find a missed re-authorization.
    failure_delays: waits after the 1st, 2nd … failure in a row, the last one for all further ones; each is
        lengthened by up to a quarter. All exceed Nango's cooldown of 30 s, and a day holds only a few.
    daily_calls: for one connection, of Waylink's own; further ones are put off to the next day.
    concurrency, per_minute: of an environment's integration, planned refreshes at once, and those that begin within a
        minute; None: no limit.
    renews, nango_margin, lives: of the provider.
    """

    margin: timedelta = timedelta(minutes=14)
    margin_floor: timedelta = timedelta(minutes=14)
    margin_share: float = 0.25
    spread: timedelta = timedelta(minutes=4)
    first_delay: timedelta = timedelta(seconds=30)
    force_every: timedelta | None = None
    keep_alive_share: float = 1 / 3
    keep_alive_cap: timedelta = timedelta(days=7)
    warn_before: timedelta = timedelta(days=7)
    min_interval: timedelta = timedelta(seconds=30)
    lapsed_every: timedelta = timedelta(days=1)
    failure_delays: tuple[timedelta, ...] = (
        timedelta(seconds=90),
        timedelta(minutes=15),
        timedelta(hours=2),
        timedelta(hours=8),
    )
    daily_calls: int = 1000
    concurrency: int | None = None
    per_minute: int | None = None
    default_wait: timedelta = timedelta(minutes=1)  # Nango counts in windows of 60 s (Nango contract: Rate limit)
    longest_wait: timedelta = timedelta(hours=1)
    hours: Hours | None = None
    priority: RefreshPriority = RefreshPriority.NORMAL
    keep: Keep = Keep.FRESH
    alive_every: timedelta = timedelta(days=1)
    renews: Renewal = Renewal.DUE
    nango_margin: timedelta = NANGO_MARGIN
    lives: KnownLives = NO_LIVES

    def lead(self, life: timedelta) -> timedelta:
        """The time before the expiry from which on a token of this life is renewed by a plain GET."""
        wanted = min(max(self.margin_share * life, self.margin_floor), self.margin)
        return min(wanted, self.nango_margin * (14 / 15))  # the rest is for clocks that differ

    def width(self, lead: timedelta) -> timedelta:
        """The time over which the renewals of one expiry are spread."""
        return min(self.spread, lead * (2 / 7))

    def keep_alive_lead(self, life: timedelta) -> timedelta:
        """The time before the deadline of a grant of this life from which on it is renewed by force."""
        return min(self.keep_alive_share * life, self.keep_alive_cap)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyPart:
    """The values of one table of waylink.toml; None where it does not set them. Names are those of RefreshPolicy."""

    enabled: bool | None = None
    margin: timedelta | None = None
    margin_floor: timedelta | None = None
    margin_share: float | None = None
    spread: timedelta | None = None
    force_every: timedelta | None = None
    keep_alive_share: float | None = None
    keep_alive_cap: timedelta | None = None
    warn_before: timedelta | None = None
    hours: Hours | None = None
    priority: RefreshPriority | None = None
    daily_calls: int | None = None
    concurrency: int | None = None
    per_minute: int | None = None
    keep: Keep | None = None
    access_life: timedelta | None = None
    refresh_life: timedelta | None = None
    idle_limit: timedelta | None = None
    rotates: bool | None = None
    learnt: bool | None = None  # its lives are learnt, and do not go before what a provider's answer tells


_LIVES: Final = ("access_life", "refresh_life", "idle_limit")
_SETTINGS: Final = tuple(
    name for name in PolicyPart.__dataclass_fields__ if name not in {"enabled", "rotates", "learnt", *_LIVES}
)


class Scope(StrEnum):
    INTEGRATION = "integration"
    PROVIDER = "provider"


@dataclass(frozen=True, slots=True)
class RefreshPolicies:
    """The parts by (environment, scope, name); the environment is empty in parts for all of them."""

    parts: Mapping[tuple[str, Scope, str], PolicyPart] = field(default_factory=dict)
    catalogue: Catalogue = field(default_factory=Catalogue)

    def of(self, environment: str, integration: str, provider: str | None) -> RefreshPolicy | None:
        """The policy of an integration's connections; None where their tokens are not renewed."""
        parts = list(self._parts_of(environment, integration, provider))
        if _last(parts, "enabled") is False:
            return None
        line = self.catalogue.of(provider)
        base = RefreshPolicy(lives=self.lives_of(environment, integration, provider))
        if line is not None:
            base = replace(base, renews=line.renews, nango_margin=line.nango_margin)
        found = {name: value for name in _SETTINGS if (value := _last(parts, name)) is not None}
        return replace(base, **found) if found else base

    def lives_of(self, environment: str, integration: str, provider: str | None) -> KnownLives:
        """The lives of an integration's tokens: a policy's go before those of the catalogue."""
        parts = list(self._parts_of(environment, integration, provider))
        known = self.catalogue.lives_of(provider)
        access, refresh, idle = (_life(parts, name) for name in _LIVES)
        rotates = _last(parts, "rotates")
        return KnownLives(
            access=access or known.access,
            refresh=refresh or known.refresh,
            idle=idle or known.idle,
            rotates=known.rotates if rotates is None else rotates,
        )

    def _parts_of(self, environment: str, integration: str, provider: str | None) -> Iterator[PolicyPart]:
        """The parts that hold for these connections, the most specific last."""
        for scope, name in ((Scope.INTEGRATION, ALL), (Scope.PROVIDER, provider), (Scope.INTEGRATION, integration)):
            for where in ("", environment):
                part = self.parts.get((where, scope, name or ""))
                if part is not None:
                    yield part


def for_integrations(parts: Mapping[str, PolicyPart], catalogue: Catalogue | None = None) -> RefreshPolicies:
    """Policies of integrations in all environments; `*` stands for those without a part of their own."""
    return RefreshPolicies(
        {("", Scope.INTEGRATION, name): part for name, part in parts.items()}, catalogue or Catalogue()
    )


def _last(parts: list[PolicyPart], name: str) -> Any:
    """The value of the most specific part that sets it; None where none does."""
    return next((value for part in reversed(parts) if (value := getattr(part, name)) is not None), None)


def _life(parts: list[PolicyPart], name: str) -> Life | None:
    """The life of this name from the most specific part that sets it."""
    part = next((part for part in reversed(parts) if getattr(part, name) is not None), None)
    if part is None:
        return None
    return Life(getattr(part, name), ClockSource.LEARNT if part.learnt else ClockSource.POLICY)

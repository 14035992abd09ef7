"""Connections of mixed lives for the simulation of refreshes, and what befalls them in its 90 days."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from app.config.provider_catalogue import shipped_catalogue
from app.domain.refreshing.policy import PolicyPart, RefreshPolicies, for_integrations
from app.sandbox.grants import Renewing, Reuse, TokenRules, Told

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0  # seconds
DAYS: Final = 90
WHOLE: Final = 100_000  # connections


@dataclass(frozen=True, slots=True, kw_only=True)
class Cohort:
    """Connections of one integration. count: among all; sampled: so many are carried out, each for count / sampled.

    provider: Nango's name. rules: the provider's, as they are; Waylink knows the catalogue, `policy`, and its answers.
    """

    name: str
    provider: str
    count: int
    sampled: int
    rules: TokenRules
    policy: PolicyPart | None = None

    @property
    def weight(self) -> float:
        return self.count / self.sampled


@dataclass(frozen=True, slots=True)
class Outage:
    """A span of days from the beginning. name: of the cohort whose provider is away, or NANGO, or WAYLINK."""

    name: str
    begins: float
    ends: float


NANGO, WAYLINK = "nango", "waylink"


def _cohort(
    name: str, provider: str, count: int, sampled: int, *, policy: PolicyPart | None = None, **rules: object
) -> Cohort:
    made = TokenRules(**rules)  # type: ignore[arg-type]
    return Cohort(name=name, provider=provider, count=count, sampled=sampled, rules=made, policy=policy)


COHORTS: Final[Sequence[Cohort]] = (
    _cohort("google", "google-mail", 22_000, 110, access_life=HOUR, idle_limit=180 * DAY, rotates=False),
    _cohort("google, testing", "google-docs", 1_000, 100, access_life=HOUR, grant_life=7 * DAY, rotates=False,
            policy=PolicyPart(refresh_life=timedelta(days=7))),
    _cohort("microsoft", "microsoft", 13_000, 65, access_life=75 * MINUTE, idle_limit=90 * DAY, reuse=Reuse.ALLOWED),
    _cohort("salesforce", "salesforce", 10_000, 10_000, access_life=2 * HOUR, idle_limit=30 * DAY,
            reuse=Reuse.REVOKES, renews=Renewing.INTROSPECTED),
    _cohort("zendesk", "zendesk", 8_000, 40, access_life=30 * MINUTE, refresh_life=30 * DAY,
            tells=Told.EXPIRES_IN),
    _cohort("hubspot", "hubspot", 10_000, 50, access_life=30 * MINUTE, rotates=False),
    _cohort("quickbooks", "quickbooks", 5_000, 50, access_life=HOUR, idle_limit=100 * DAY, tells=Told.X_EXPIRES_IN),
    _cohort("adobe sign", "acrobat-sign", 5_000, 50, access_life=HOUR, idle_limit=60 * DAY, rotates=False),
    _cohort("xero", "xero", 4_000, 20, access_life=30 * MINUTE, idle_limit=60 * DAY),
    _cohort("slack", "slack", 3_000, 300, access_life=12 * HOUR),
    _cohort("twinfield", "twinfield", 1_000, 100, access_life=HOUR, idle_limit=60 * DAY, rotates=False),
    _cohort("wildix", "wildix-pbx", 500, 20, access_life=HOUR, idle_limit=7 * DAY, rotates=False),
    _cohort("refresh token's life only", "a-provider", 5_000, 5_000, access_life=HOUR, refresh_life=30 * DAY,
            tells=Told.EXPIRES_IN, tells_expiry=False),
    _cohort("30-day token, 14 idle days", "another-provider", 1_000, 1_000, access_life=30 * DAY,
            idle_limit=14 * DAY, policy=PolicyPart(idle_limit=timedelta(days=14))),
    _cohort("pinterest", "pinterest", 1_500, 1_500, access_life=30 * DAY, refresh_life=365 * DAY),
    _cohort("linkedin", "linkedin", 2_000, 2_000, access_life=60 * DAY, refresh_life=365 * DAY, rotates=False),
    _cohort("facebook", "facebook", 4_000, 4_000, access_life=60 * DAY, refresh_life=60 * DAY,
            renews=Renewing.FORCED),
    _cohort("instagram", "instagram", 2_000, 2_000, access_life=60 * DAY, refresh_life=60 * DAY,
            renews=Renewing.FORCED),
    _cohort("meta marketing", "meta-marketing-api", 500, 500, access_life=60 * DAY, renews=Renewing.NEVER),
    _cohort("notion", "notion", 1_500, 1_500, renews=Renewing.NEVER, tells_expiry=False),
)  # fmt: skip

# Days from the beginning. Those of providers come, as far as they can, when renewals are due that keep a grant alive.
OUTAGES: Final[Sequence[Outage]] = (
    Outage("google", 20.0, 20.25),
    Outage("salesforce", 24.0, 26.0),
    Outage("refresh token's life only", 25.0, 26.25),
    Outage("microsoft", 41.0, 41.5),
    Outage("facebook", 55.0, 57.0),
    Outage("twinfield", 60.0, 64.5),
    Outage(NANGO, 33.4, 33.525),
    Outage(NANGO, 70.0, 70.02),
    Outage(WAYLINK, 50.2, 50.7),
)
REVOKED: Final = 0.02  # share of the connections whose end users take their grant back, at any time


def population(size: int, *, cohorts: Sequence[Cohort] = COHORTS) -> tuple[Cohort, ...]:
    """The cohorts with so many connections carried out in all, at least one of each; each still stands for as many."""
    share = size / sum(cohort.sampled for cohort in cohorts)
    made = []
    for cohort in cohorts:
        sampled = max(1, round(cohort.sampled * share))
        made.append(replace(cohort, sampled=sampled, count=max(1, round(cohort.weight * sampled))))
    return tuple(made)


def policies(cohorts: Sequence[Cohort]) -> RefreshPolicies:
    """The policies of these integrations, with the catalogue that Waylink ships."""
    parts = {cohort.name: cohort.policy for cohort in cohorts if cohort.policy is not None}
    return for_integrations(parts, shipped_catalogue())

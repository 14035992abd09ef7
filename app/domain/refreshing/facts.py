"""The facts of a connection that its refreshes need and change, and a refresh that was claimed, as values."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from app.domain.budget import SOON, Priority
from app.domain.refreshing.answer import Answer
from app.domain.refreshing.clocks import Clocks, told_expiry
from app.domain.refreshing.outcomes import TOKEN_EXPIRED
from app.domain.refreshing.plan import Keeps
from app.domain.refreshing.policy import RefreshPriority
from app.domain.repairs import failing_since
from app.domain.states import ConnectionStatus
from app.domain.values import value


@value
class RefreshFacts:
    """Columns of a connection by their names, which `app.db.models.Connection` explains."""

    status: str
    auth_mode: str | None = None
    slot: int | None = None
    expires_at: datetime | None = None
    expires_source: str | None = None
    grant_expires_at: datetime | None = None
    grant_source: str | None = None
    grant_reason: str | None = None
    renewed_at: datetime | None = None
    authorized_at: datetime | None = None
    not_refreshable: str | None = None
    announced_expiry: datetime | None = None
    announced_grant: datetime | None = None
    last_error_type: str | None = None
    last_error_at: datetime | None = None
    failing_since: datetime | None = None
    errors_seen_at: datetime | None = None
    calls_since: datetime | None = None
    calls: int | None = None
    alive_by: str | None = None

    @property
    def told_expiry(self) -> datetime | None:
        """The expiry as Nango knows it; None where it is estimated."""
        return told_expiry(self.expires_at, self.expires_source)

    @property
    def has_lapsed(self) -> bool:
        """Whether its token is known to have expired for good."""
        return self.last_error_type == TOKEN_EXPIRED

    @property
    def was_read(self) -> bool:
        """Whether its token was read before."""
        return self.expires_source is not None or self.expires_at is not None

    @property
    def needs_reconnect(self) -> bool:
        return self.status == ConnectionStatus.NEEDS_RECONNECT

    def with_error(self, kind: str, at: datetime) -> "RefreshFacts":
        """The facts with an error of its renewal; it is failing since the first one that nothing has ended."""
        since = failing_since(self.last_error_type, self.last_error_at, self.failing_since, now=at)
        return replace(self, last_error_type=kind, last_error_at=at, failing_since=since)


def members_of(clocks: Clocks) -> dict[str, Any]:
    """Both clocks as members of the facts."""
    return {
        "expires_at": clocks.access.at,
        "expires_source": clocks.access.source,
        "grant_expires_at": clocks.grant.at,
        "grant_source": clocks.grant.source,
        "grant_reason": clocks.grant.reason,
        "renewed_at": clocks.renewed_at,
    }


class IntegrationKey(NamedTuple):
    """An integration of an environment."""

    environment: str
    integration: str


@value
class ClaimedRefresh:
    """A claimed plan and its connection, as they were read by the claim, which `attempts` counts.

    outcome: of an earlier call or of a pause, after which the plan stayed open.
    """

    id: UUID
    connection_ref: UUID
    environment: str
    integration: str
    connection_id: str
    provider: str | None
    refresh_at: datetime
    is_forced: bool
    attempts: int
    failures: int
    deadline_at: datetime | None
    keeps: Keeps | None
    outcome: str | None
    facts: RefreshFacts

    @property
    def key(self) -> IntegrationKey:
        return IntegrationKey(self.environment, self.integration)

    @property
    def forces(self) -> bool:
        """Whether to force: on the first claim only. After a crash a plain GET shows the call's result (promise 1)."""
        return self.is_forced and self.attempts == 1

    def looks_first(self, *, now: datetime) -> bool:
        """Whether a plain GET comes before the forced one, which the provider answers with another refresh token.

        It shows whether the token was renewed meanwhile, as by an application's read, where an expiry was known that
        has not passed: after it, a plain GET has come before.
        """
        expires_at = self.facts.told_expiry
        return self.forces and expires_at is not None and expires_at > now

    def was_forced(self, answer: Answer) -> bool:
        """Whether this is the answer to a forced GET."""
        return self.forces and not answer.only_looked

    def priority(self, wanted: RefreshPriority, *, now: datetime) -> Priority:
        """The priority of the call: higher within SOON of the expiry, unless the policy wants another."""
        expires_at = self.facts.told_expiry
        soon = expires_at is not None and expires_at <= now + timedelta(seconds=SOON) and not self.facts.has_lapsed
        urgent = {RefreshPriority.HIGH: True, RefreshPriority.NORMAL: soon, RefreshPriority.LOW: False}[wanted]
        return Priority.REFRESH_SOON if urgent else Priority.REFRESH

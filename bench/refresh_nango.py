"""Waylink's clients of a simulated Nango, behind the request budget."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from app.domain import budget
from app.domain.budget import Bucket, Priority
from app.domain.states import RefreshOutcome
from app.errors import (
    NangoBudgetSpent,
    NangoRefreshBackingOff,
    NangoRefreshExhausted,
    NangoRefreshFailed,
    NangoUnavailable,
)
from app.nango.credentials import NoCredentials
from app.nango.types import ConnectionDetail, LoggedError
from bench.refresh_lives import NANGO
from bench.refresh_world import Got, SimulatedConnection, SimulatedWorld

_NO_CREDENTIALS: Final = NoCredentials(type="")
_FAILING: Final = (LoggedError("auth", "-"),)
_REFUSALS: Final = {
    Got.FAILED: (NangoRefreshFailed, 400),
    Got.BACKING_OFF: (NangoRefreshBackingOff, 424),
    Got.EXHAUSTED: (NangoRefreshExhausted, 424),
}


class Decision(NamedTuple):
    """A call as Waylink decided on it."""

    connection: str
    at: datetime
    forced: bool
    outcome: RefreshOutcome


@dataclass(slots=True)
class SimulatedNango:
    """In the place of `NangoClients`: one account with a rate limit, whose bucket counts calls by their weight.

    held: calls that the budget held back. spent: weight of the calls that were sent, in all and by minute.
    """

    world: SimulatedWorld
    clock: Callable[[], datetime]
    per_minute: int
    bucket: Bucket = field(init=False)
    spent: float = 0.0
    held: float = 0.0
    by_minute: Counter[int] = field(default_factory=Counter)  # since 1970
    seen: Callable[[SimulatedConnection, datetime], None] | None = None

    def __post_init__(self) -> None:
        self.bucket = Bucket(limit=self.per_minute)

    def of(self, environment: str, priority: Priority) -> "SimulatedClient":  # as `NangoClients.of`
        return SimulatedClient(self, priority)

    def calls_of(self, begins: datetime, span: timedelta) -> int:
        """The calls that were sent from this whole minute on."""
        first = int(begins.timestamp() // 60)
        return sum(self.by_minute[minute] for minute in range(first, first + int(span.total_seconds() // 60)))

    def admit(self, weight: float, priority: Priority) -> None:
        """Count a call. Raises NangoBudgetSpent where `app.domain.budget` holds it back."""
        now, background = self.clock().timestamp(), budget.is_background(priority)
        calls = round(weight)
        self.bucket = budget.count(self.bucket, calls, background=background, now=now)
        seconds = budget.wait(self.bucket, priority, now=now)
        if seconds is not None:
            self.bucket = budget.count(self.bucket, -calls, background=background, now=now)
            self.held += weight
            raise NangoBudgetSpent(retry_after=seconds)
        self.spent += weight
        self.by_minute[int(now // 60)] += calls


class SimulatedClient(NamedTuple):
    nango: SimulatedNango
    priority: Priority

    def now(self) -> datetime:
        return self.nango.clock()

    def renew_token(
        self,
        integration: str,
        connection_id: str,
        *,
        force_refresh: bool = False,
        timeout: float | None = None,  # as `NangoClient.renew_token`
    ) -> ConnectionDetail:
        nango, now = self.nango, self.nango.clock()
        connection = nango.world.connections[connection_id]
        nango.admit(connection.cohort.weight, self.priority)
        if nango.world.is_away(NANGO, now):
            raise NangoUnavailable(detail="it is away")
        _count(connection, now, forced=force_refresh)
        got = nango.world.get(connection, force=force_refresh, now=now)
        if got in _REFUSALS:
            kind, status = _REFUSALS[got]
            raise kind(status=status, code="invalid_credentials")
        if nango.seen is not None and got is Got.RENEWED:
            nango.seen(connection, now)
        return ConnectionDetail(
            id=connection.number,
            integration=integration,
            connection_id=connection_id,
            provider=connection.cohort.provider,
            errors=_FAILING if connection.failed_at is not None else (),
            end_user=None,
            tags={},
            metadata=None,
            connection_config={},
            webhook_url_override=None,
            created_at=connection.created_at,
            updated_at=connection.created_at,
            last_fetched_at=now,
            credentials=_NO_CREDENTIALS,
            has_credentials=True,
            times=connection.times,
            observed_at=now,
            rate_limit=None,
        )


def _count(connection: SimulatedConnection, now: datetime, *, forced: bool) -> None:
    connection.calls += 1
    connection.forced += forced
    # A look that precedes a forced call, and that call, are one turn.
    if connection.failed_at is None and connection.last_turn_at != now:
        connection.turns += 1
        connection.first_turn_at = connection.first_turn_at or now
        connection.last_turn_at = now

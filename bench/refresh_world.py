"""Nango and the providers behind it, in this process: the rules of grants are those of the sandbox.

Each connection stands for as many as its weight says. Times are aware datetimes, and come from one clock.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Final
from uuid import UUID

from app.domain.refreshing.token_times import NO_TIMES, TokenTimes, read_token_times
from app.sandbox import grants
from app.sandbox.grants import Grant, Lapse, Renewing, TokenRules, Told
from app.sandbox.refreshing import COOL_DOWN, FAILING_DAYS
from bench.refresh_lives import Cohort, Outage

BEGINS: Final = datetime(2027, 1, 4, tzinfo=UTC)
CREATED_WITHIN: Final = timedelta(days=1)  # from the beginning on, connections are authorized


class Got(Enum):
    """Nango's answer to a GET."""

    READ = "read"
    RENEWED = "renewed"
    FAILED = "failed"
    BACKING_OFF = "backing off"
    EXHAUSTED = "exhausted"


@dataclass(slots=True, kw_only=True)
class SimulatedConnection:
    """A connection at Nango, and its grant at the provider.

    times: what a GET shows of its token. expired: seconds that its token lay expired before a renewal. expires_at: of
    the token, as the provider knows it. calls: that reached Nango. turns: those of them that repeat no refused one,
    from first_turn_at to last_turn_at.
    """

    number: int
    ref: UUID
    cohort: Cohort
    created_at: datetime
    revoked_at: datetime | None
    grant: Grant
    times: TokenTimes = NO_TIMES
    fetched_at: datetime
    failed_at: datetime | None = None
    failing_days: int = 0
    exhausted_at: datetime | None = None
    calls: int = 0
    forced: int = 0
    turns: int = 0
    first_turn_at: datetime | None = None
    last_turn_at: datetime | None = None
    expired: float = 0.0
    failures: int = 0

    @property
    def name(self) -> str:
        return f"c-{self.number}"

    @property
    def rules(self) -> TokenRules:
        return self.cohort.rules

    @property
    def expires_at(self) -> datetime | None:
        return self.grant.expires_at


@dataclass(slots=True)
class SimulatedWorld:
    """All connections by name, and the outages. revoked: the share whose end users take their grant back at some time.

    created_within: the span from the beginning in which all are authorized. `now` only moves forward.
    """

    seed: int
    cohorts: Sequence[Cohort]
    outages: Sequence[Outage]
    revoked: float
    days: float
    created_within: timedelta = CREATED_WITHIN
    connections: dict[str, SimulatedConnection] = field(default_factory=dict)
    _away: dict[str, list[tuple[datetime, datetime]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for outage in self.outages:
            span = (BEGINS + timedelta(days=outage.begins), BEGINS + timedelta(days=outage.ends))
            self._away.setdefault(outage.name, []).append(span)
        drawn = random.Random(self.seed)
        for cohort in self.cohorts:
            for _ in range(cohort.sampled):
                self._add(cohort, drawn)

    @property
    def ends_at(self) -> datetime:
        return BEGINS + timedelta(days=self.days)

    def is_away(self, name: str, now: datetime) -> bool:
        """Whether the provider of this cohort, Nango or Waylink is away."""
        return any(begins <= now < ends for begins, ends in self._away.get(name, ()))

    def away(self, name: str) -> Sequence[tuple[datetime, datetime]]:
        """The outages of this cohort's provider, of Nango or of Waylink."""
        return self._away.get(name, ())

    def back_at(self, name: str, now: datetime) -> datetime:
        """The end of the outage that goes on."""
        return max(ends for begins, ends in self._away[name] if begins <= now < ends)

    def get(self, connection: SimulatedConnection, *, force: bool, now: datetime) -> Got:
        """GET of one connection, as `app.sandbox.refreshing` answers it.

        (Nango contract: When a token is refreshed; Failed refreshes)
        """
        connection.fetched_at = now
        if not force and connection.failed_at is not None:
            if connection.exhausted_at is not None:
                return Got.EXHAUSTED
            if now - connection.failed_at < COOL_DOWN:
                return Got.BACKING_OFF
        rules = connection.rules
        if rules.renews is Renewing.NEVER:
            return Got.READ
        known = connection.expires_at if rules.renews is Renewing.INTROSPECTED else connection.times.expires_at
        if not force and not grants.is_due(rules, known, now=now):
            return Got.READ
        if self.is_away(connection.cohort.name, now) or self.lapse(connection, now) is not None:
            self._fail(connection, now)
            return Got.FAILED
        self._renew(connection, now)
        return Got.RENEWED

    def lapse(self, connection: SimulatedConnection, now: datetime) -> Lapse | None:
        """The reason why its grant is over; None while it lives."""
        over = grants.lapse(connection.rules, connection.grant, now=now)
        if over is None and connection.revoked_at is not None and connection.revoked_at <= now:
            return Lapse.REVOKED
        return over

    def _add(self, cohort: Cohort, drawn: random.Random) -> None:
        created_at = BEGINS + self.created_within * drawn.random()
        revoked_at = BEGINS + timedelta(days=self.days * drawn.random()) if drawn.random() < self.revoked else None
        ref = UUID(int=drawn.getrandbits(128), version=4)
        connection = SimulatedConnection(
            number=len(self.connections) + 1,
            ref=ref,
            cohort=cohort,
            created_at=created_at,
            revoked_at=revoked_at if revoked_at is not None and revoked_at > created_at else None,
            grant=grants.begun(created_at),
            fetched_at=created_at,
        )
        self._issue(connection, created_at)
        self.connections[connection.name] = connection

    def _renew(self, connection: SimulatedConnection, now: datetime) -> None:
        if connection.expires_at is not None and now > connection.expires_at:
            connection.expired += (now - connection.expires_at).total_seconds()
        connection.failed_at = connection.exhausted_at = None
        connection.failing_days = 0
        connection.grant = grants.renewed(connection.rules, connection.grant, now=now)
        self._issue(connection, now)

    def _issue(self, connection: SimulatedConnection, now: datetime) -> None:
        """Another token, and what its response tells."""
        rules = connection.rules
        life = rules.access_life
        if life is None:
            return
        expires_at = now + timedelta(seconds=life)
        connection.grant = replace(connection.grant, expires_at=expires_at)
        credentials: dict[str, object] = {}
        raw: dict[str, object] = {}
        if rules.tells_expiry and rules.renews is not Renewing.INTROSPECTED:
            credentials["expires_at"], raw["expires_in"] = expires_at.isoformat(), int(life)
        lapses_at = grants.deadline(rules, connection.grant)
        if rules.tells is not None and lapses_at is not None:
            tells_moment = rules.tells is Told.EXPIRES_AT
            left = int((lapses_at - now).total_seconds())
            raw[rules.tells.value] = lapses_at.isoformat() if tells_moment else left
        connection.times = read_token_times({**credentials, "raw": raw})

    def _fail(self, connection: SimulatedConnection, now: datetime) -> None:
        """One more failure; the fourth failing day is final (Nango contract: Failed refreshes)."""
        connection.failures += 1
        failed_at = connection.failed_at
        if failed_at is None:
            connection.failing_days = 1
        elif failed_at.date() < now.date():
            connection.failing_days += 1
        connection.failed_at = now
        if connection.failing_days >= FAILING_DAYS and connection.exhausted_at is None:
            connection.exhausted_at = now

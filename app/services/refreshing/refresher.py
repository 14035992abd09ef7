"""The refresher: claims due plans, asks for each connection, and has the conclusions recorded.

No transaction is open during a call to Nango, and no credential is kept after it (promises 7 and 8). Its store, the
calls and the pool are given, so that it also runs without a database, under another clock.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple, Protocol

from app.db.errors import is_away
from app.deadlines import MAX_CLAIMS
from app.domain.budget import Priority
from app.domain.refreshing.answer import Answer
from app.domain.refreshing.conclusion import Conclusion, conclude
from app.domain.refreshing.facts import ClaimedRefresh, RefreshFacts
from app.domain.refreshing.outcomes import CRASHED, WAITS
from app.domain.refreshing.policy import RefreshPolicy
from app.domain.states import RefreshOutcome
from app.ids import CONNECTION, REFRESH, show
from app.telemetry import REFRESHES, get_logger

WAVE: Final = 8  # concurrent GETs of a process

log = get_logger(__name__)

Conclude = Callable[[ClaimedRefresh, RefreshFacts, Answer], Conclusion]


class AnsweredRefresh(NamedTuple):
    """A claimed refresh, and what Nango answered."""

    claimed: ClaimedRefresh
    answer: Answer


class RefreshStore(Protocol):
    """The plans and connections. All methods may be called by several threads at once."""

    def claim(self, *, limit: int, now: datetime) -> Sequence[ClaimedRefresh]:
        """Claim up to `limit` due plans: a lease, and one attempt more. Their order is that of `urgent_at`, and then
        that of the moment when they are due (`app.domain.refreshing.plan`).
        """

    def record(self, answered: Sequence[AnsweredRefresh], conclude: Conclude, *, now: datetime) -> None:
        """Write what `conclude` says of each answer for the connection's present facts, all or none of them.

        Plans that were superseded or claimed anew since are left as they are. A connection without a number gets one
        before, where `outcomes.SUCCESSES` has the outcome.
        """


class Ask(Protocol):
    """Asks Nango for a connection; None where its environment has no API key. Errors of Nango are answers, too."""

    def __call__(self, claimed: ClaimedRefresh, priority: Priority) -> Answer | None: ...


@dataclass(frozen=True, slots=True)
class Refresher:
    """Carries out planned refreshes; one per process. policy_of: None where tokens are not refreshed."""

    store: RefreshStore
    ask: Ask
    policy_of: Callable[[ClaimedRefresh], RefreshPolicy | None]
    clock: Callable[[], datetime]
    pool: Executor

    def refresh_due(self, *, limit: int = WAVE) -> int:
        """Carry out up to `limit` due plans concurrently.

        Returns their count, or 0 where Nango answered none of them, so that the caller pauses.
        """
        claimed = self.store.claim(limit=limit, now=self.clock())
        if not claimed:
            return 0
        outcomes = set(self.pool.map(self._carry_out_alone, claimed))
        return 0 if outcomes <= WAITS else len(claimed)

    def _carry_out_alone(self, claimed: ClaimedRefresh) -> RefreshOutcome | None:
        """Carry out a plan and log its fault: it is due again when its lease ends. Returns None for a fault."""
        try:
            return self._carry_out(claimed)
        except Exception as fault:
            if is_away(fault):
                raise
            names = {"refresh": show(REFRESH, claimed.id), "connection": show(CONNECTION, claimed.connection_ref)}
            log.exception("refresh_fault", **names)
            return None

    def _carry_out(self, claimed: ClaimedRefresh) -> RefreshOutcome:
        answer = self._answer(claimed)
        REFRESHES.labels(answer.outcome).inc()
        self.store.record([AnsweredRefresh(claimed, answer)], self._conclude, now=self.clock())
        return answer.outcome

    def _answer(self, claimed: ClaimedRefresh) -> Answer:
        if claimed.attempts > MAX_CLAIMS:
            reason = f"claimed {MAX_CLAIMS} times without a result"
            return Answer(RefreshOutcome.FAILED, error=reason, error_type=CRASHED)
        policy = self.policy_of(claimed)
        if policy is not None:
            answer = self.ask(claimed, claimed.priority(policy.priority, now=self.clock()))
            if answer is not None:
                return answer
        reason = "its integration is not refreshed any more, or its environment has no API key"
        return Answer(RefreshOutcome.SUPERSEDED, error=reason)

    def _conclude(self, claimed: ClaimedRefresh, facts: RefreshFacts, answer: Answer) -> Conclusion:
        return conclude(claimed, facts, answer, self.policy_of(claimed), now=self.clock())

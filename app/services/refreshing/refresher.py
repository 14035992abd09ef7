"""The refresher: claims due plans, asks for each connection, and has the conclusions recorded.

No transaction is open during a call to Nango, and no credential is kept after it (promises 7 and 8). Its store, the
calls and the pool are given, so that it also runs without a database, under another clock.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NamedTuple, Protocol

from app.db.errors import is_away
from app.deadlines import MAX_CLAIMS
from app.domain.budget import Priority
from app.domain.refreshing.answer import Answer
from app.domain.refreshing.conclusion import Conclusion, conclude
from app.domain.refreshing.daily_calls import put_off_until
from app.domain.refreshing.facts import ClaimedRefresh, RefreshFacts
from app.domain.refreshing.outcomes import CRASHED, WAITS
from app.domain.refreshing.policy import RefreshPolicy
from app.domain.states import RefreshOutcome
from app.ids import CONNECTION, REFRESH, show
from app.services.refreshing.outcome_counter import count_refresh
from app.telemetry import REFRESHES_MISSED, get_logger

WAVE: Final = 32  # concurrent GETs of a process
TOGETHER: Final = 8  # free places for which one claim is made, where others are taken
FRUITLESS: Final = 8
WAIT_SECONDS: Final = 0.1  # for an answer, before the few free places are claimed for
DRY_SECONDS: Final = 1.0  # until it is looked again for due plans, while others are in flight

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

    def __call__(self, claimed: ClaimedRefresh, priority: Priority, /) -> Answer | None: ...


@dataclass(frozen=True, slots=True)
class Refresher:
    """Carries out planned refreshes; one per process. policy_of: None where tokens are not refreshed."""

    store: RefreshStore
    ask: Ask
    policy_of: Callable[[ClaimedRefresh], RefreshPolicy | None]
    clock: Callable[[], datetime]
    pool: Executor

    def refresh_due(self, *, limit: int = WAVE, is_over: Callable[[], bool] = lambda: False) -> int:
        """Carry out up to `limit` due plans, WAVE of them at a time, until none is due or `is_over`.

        Plans are claimed as places become free, and answers are recorded together as they come. A run ends early when
        FRUITLESS answers in a row brought no result. Returns the count of plans, or 0 where none had a result, so that
        the caller pauses.
        """
        run = _Run(self, limit, is_over)
        while run.claim():
            run.record()
        return run.begun if run.has_result else 0

    def answer_to(self, claimed: ClaimedRefresh) -> Answer:
        """Ask Nango, where the plan is to be carried out."""
        if claimed.attempts > MAX_CLAIMS:
            reason = f"claimed {MAX_CLAIMS} times without a result"
            return Answer(RefreshOutcome.FAILED, error=reason, error_type=CRASHED)
        policy = self.policy_of(claimed)
        if policy is not None and (later := put_off_until(claimed, policy, now=self.clock())) is not None:
            reason = f"the {policy.daily_calls} calls of this day are used up (daily_calls): put off to the next one"
            return Answer(RefreshOutcome.RATE_LIMITED, error=reason, put_off_until=later)
        if policy is not None:
            answer = self.ask(claimed, claimed.priority(policy.priority, now=self.clock()))
            if answer is not None:
                return answer
        reason = "its integration is not refreshed any more, or its environment has no API key"
        return Answer(RefreshOutcome.SUPERSEDED, error=reason)

    def record(self, answered: Sequence[AnsweredRefresh]) -> None:
        """Have the answers recorded, each alone where one of them cannot be. Its plan is due when its lease ends."""
        try:
            self.store.record(answered, self._conclude, now=self.clock())
        except Exception as fault:
            if is_away(fault):
                raise
            if len(answered) == 1:
                log.exception("refresh_fault", **_names(answered[0].claimed))
                return
            for one in answered:
                self.record([one])
        else:
            for claimed, answer in answered:
                count_refresh(claimed.key, answer.outcome)
                if claimed.deadline_at and answer.asked_at and answer.asked_at > claimed.deadline_at:
                    REFRESHES_MISSED.labels(claimed.keeps).inc()

    def _conclude(self, claimed: ClaimedRefresh, facts: RefreshFacts, answer: Answer) -> Conclusion:
        return conclude(claimed, facts, answer, self.policy_of(claimed), now=self.clock())


@dataclass(slots=True)
class _Run:
    """One run of a refresher. asked: those in flight. begun: claimed so far. dry_at: when nothing more was due."""

    refresher: Refresher
    limit: int
    is_over: Callable[[], bool]
    asked: dict[Future[Answer], ClaimedRefresh] = field(default_factory=dict)
    begun: int = 0
    fruitless: int = 0
    has_result: bool = False
    has_waited: bool = False
    dry_at: float = float("-inf")

    def claim(self) -> bool:
        """Claim for the free places, unless only few are and more will be at once. Returns whether any is in flight."""
        free = min(WAVE - len(self.asked), self.limit - self.begun)
        few = bool(self.asked) and free < TOGETHER and not self.has_waited
        dry = time.monotonic() < self.dry_at + DRY_SECONDS
        if free > 0 and not few and not dry and self.fruitless < FRUITLESS and not self.is_over():
            refresher = self.refresher
            claimed = refresher.store.claim(limit=free, now=refresher.clock())
            self.asked |= {refresher.pool.submit(refresher.answer_to, one): one for one in claimed}
            self.begun += len(claimed)
            if len(claimed) < free:
                self.dry_at = time.monotonic()
        return bool(self.asked)

    def record(self) -> None:
        """Wait for answers for a moment, and record those that have come."""
        done, _ = wait(self.asked, timeout=WAIT_SECONDS, return_when=FIRST_COMPLETED)
        self.has_waited = not done
        answered = []
        for future in done:
            claimed = self.asked.pop(future)
            try:
                answered.append(AnsweredRefresh(claimed, future.result()))
            except Exception:
                log.exception("refresh_fault", **_names(claimed))
                self.has_result = True
        if answered:
            self.refresher.record(answered)
        for _, answer in answered:
            learnt = answer.outcome not in WAITS
            self.has_result |= learnt
            self.fruitless = 0 if learnt else self.fruitless + 1


def _names(claimed: ClaimedRefresh) -> dict[str, str]:
    return {"refresh": show(REFRESH, claimed.id), "connection": show(CONNECTION, claimed.connection_ref)}

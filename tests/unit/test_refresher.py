"""The refresher on a store in memory: places are kept filled, answers are recorded together, a fault stops no other."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from celery import Celery
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from app.brokers.celery_broker import REFRESH_DUE
from app.deadlines import MAX_CLAIMS
from app.domain.budget import Priority
from app.domain.refreshing.answer import Answer
from app.domain.refreshing.facts import ClaimedRefresh, RefreshFacts
from app.domain.refreshing.plan import Keeps
from app.domain.refreshing.policy import RefreshPolicy, RefreshPriority
from app.domain.refreshing.token_times import TokenTimes
from app.domain.states import RefreshOutcome
from app.services.refreshing.refresher import FRUITLESS, WAVE, AnsweredRefresh, Conclude, Refresher
from tests.waiting import PATIENCE
from workers.tasks import refreshes

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)


def due(number: int, **given: Any) -> ClaimedRefresh:
    members: dict[str, Any] = {
        "id": UUID(int=number), "connection_ref": UUID(int=number), "environment": "prod", "integration": "crm",
        "connection_id": f"c-{number}", "provider": "crm", "refresh_at": NOW, "is_forced": False, "attempts": 1,
        "failures": 0, "deadline_at": None, "keeps": None, "outcome": None, "facts": RefreshFacts("active"),
    }  # fmt: skip
    return ClaimedRefresh(**(members | given))


@dataclass
class Memory:
    """Due plans in the order of their claims; what was recorded, transaction by transaction."""

    due: list[ClaimedRefresh]
    refuses: frozenset[int] = frozenset()
    claims: list[int] = field(default_factory=list)
    records: list[list[AnsweredRefresh]] = field(default_factory=list)

    def claim(self, *, limit: int, now: datetime) -> Sequence[ClaimedRefresh]:
        assert now == NOW
        taken, self.due = self.due[:limit], self.due[limit:]
        self.claims.append(len(taken))
        return taken

    def record(self, answered: Sequence[AnsweredRefresh], conclude: Conclude, *, now: datetime) -> None:
        if any(one.claimed.id.int in self.refuses for one in answered):
            raise ValueError("the database refuses one of them")
        for claimed, answer in answered:
            conclude(claimed, claimed.facts, answer)
        self.records.append(list(answered))

    @property
    def recorded(self) -> set[int]:
        return {one.claimed.id.int for record in self.records for one in record}


def renewed(_claimed: ClaimedRefresh, _priority: Priority) -> Answer:
    times = TokenTimes(expires_at=NOW + timedelta(hours=1))
    return Answer(RefreshOutcome.RENEWED, times, asked_at=NOW, answered_at=NOW, has_credentials=True)


def limited(_claimed: ClaimedRefresh, _priority: Priority) -> Answer:
    return Answer(RefreshOutcome.RATE_LIMITED, asked_at=NOW, retry_after=60.0)


@pytest.fixture
def make() -> Any:
    with ThreadPoolExecutor(WAVE) as pool:

        def refresher(store: Memory, ask: Any = renewed, policy: RefreshPolicy | None = RefreshPolicy()) -> Refresher:  # noqa: B008
            return Refresher(store, ask, lambda _: policy, lambda: NOW, pool)

        yield refresher


def test_all_that_is_due_is_carried_out_with_no_more_at_once_than_there_are_places(make):
    store, lock = Memory([due(number) for number in range(1, 201)]), threading.Lock()
    now_asked, most = 0, 0

    def ask(claimed: ClaimedRefresh, priority: Priority) -> Answer:
        nonlocal now_asked, most
        with lock:
            now_asked += 1
            most = max(most, now_asked)
        answer = renewed(claimed, priority)
        with lock:
            now_asked -= 1
        return answer

    assert make(store, ask).refresh_due(limit=1000) == 200
    assert store.recorded == set(range(1, 201))
    assert most <= WAVE


def test_a_slow_call_keeps_no_other_place_empty(make):
    """A wave in lock-step would wait for it before it claims again."""
    store, answered = Memory([due(number) for number in range(1, 101)]), threading.Event()

    def ask(claimed: ClaimedRefresh, priority: Priority) -> Answer:
        if claimed.id.int == 1:
            assert answered.wait(PATIENCE)
        elif claimed.id.int == 100:
            answered.set()
        return renewed(claimed, priority)

    assert make(store, ask).refresh_due(limit=1000) == 100


def test_no_more_than_the_limit_are_claimed(make):
    store = Memory([due(number) for number in range(1, 50)])
    assert make(store).refresh_due(limit=40) == 40
    assert sum(store.claims) == 40


def test_a_run_that_is_over_claims_nothing_more(make):
    store = Memory([due(1)])
    assert make(store).refresh_due(is_over=lambda: True) == 0
    assert store.claims == []


def test_a_call_that_faults_and_an_answer_that_cannot_be_recorded_stop_nobody_else(make):
    store = Memory([due(number) for number in range(1, 21)], refuses=frozenset({7}))

    def ask(claimed: ClaimedRefresh, priority: Priority) -> Answer:
        if claimed.id.int == 3:
            raise ZeroDivisionError
        return renewed(claimed, priority)

    with capture_logs() as logs:
        assert make(store, ask).refresh_due() == 20
    assert store.recorded == set(range(1, 21)) - {3, 7}
    assert len([line for line in logs if line["event"] == "refresh_fault"]) == 2


def test_answers_without_a_result_end_the_run_and_a_single_one_does_not(make):
    store = Memory([due(number) for number in range(1, 501)])
    assert make(store, limited).refresh_due(limit=1000) == 0
    assert FRUITLESS <= sum(store.claims) < 3 * WAVE
    mixed = Memory([due(number) for number in range(1, 501)])

    def ask(claimed: ClaimedRefresh, priority: Priority) -> Answer:
        return (limited if claimed.id.int == 5 else renewed)(claimed, priority)

    assert make(mixed, ask).refresh_due(limit=1000) == 500


def test_what_was_claimed_again_and_again_or_is_refreshed_no_more_is_not_asked_for(make):
    asked: list[ClaimedRefresh] = []

    def ask(claimed: ClaimedRefresh, _priority: Priority) -> Answer | None:
        asked.append(claimed)
        return None  # without an API key

    store = Memory([due(1, attempts=MAX_CLAIMS + 1), due(2)])
    make(store, ask).refresh_due()
    off = Memory([due(3)])
    make(off, ask, policy=None).refresh_due()
    found = {one.claimed.id.int: one.answer.outcome for record in store.records + off.records for one in record}
    assert found == {1: RefreshOutcome.FAILED, 2: RefreshOutcome.SUPERSEDED, 3: RefreshOutcome.SUPERSEDED}
    assert [claimed.id.int for claimed in asked] == [2]


def test_a_refresh_after_its_deadline_is_counted_as_missed(make):
    def count() -> float:
        return REGISTRY.get_sample_value("waylink_refreshes_missed_total", {"keeps": "token"}) or 0.0

    before = count()
    plans = [due(1, deadline_at=NOW - timedelta(seconds=1), keeps=Keeps.TOKEN)]
    plans += [due(2, deadline_at=NOW + timedelta(seconds=1), keeps=Keeps.TOKEN), due(3)]
    make(Memory(plans)).refresh_due()
    assert count() - before == 1


def test_an_urgent_expiry_gives_the_call_its_priority():
    soon = due(1, facts=RefreshFacts("active", expires_at=NOW + timedelta(minutes=4)))
    lapsed = replace(soon, facts=replace(soon.facts, last_error_type="token_expired"))
    assert soon.priority(RefreshPriority.NORMAL, now=NOW) is Priority.REFRESH_SOON
    assert soon.priority(RefreshPriority.LOW, now=NOW) is Priority.REFRESH
    assert lapsed.priority(RefreshPriority.NORMAL, now=NOW) is Priority.REFRESH
    assert due(2).priority(RefreshPriority.HIGH, now=NOW) is Priority.REFRESH_SOON


def test_of_ticks_at_once_in_one_process_one_works(make):
    """Two Beats tick twice as often, and a run may take longer than the time between two ticks."""
    entered, leave = threading.Event(), threading.Event()

    def ask(claimed: ClaimedRefresh, priority: Priority) -> Answer:
        entered.set()
        assert leave.wait(PATIENCE)
        return renewed(claimed, priority)

    store, app = Memory([due(1)]), Celery("test", broker="memory://")
    refreshes.register(app, make(store, ask), tick=lambda: None)
    tick: Callable[[], None] = app.tasks[REFRESH_DUE]
    first = threading.Thread(target=tick)
    first.start()
    assert entered.wait(PATIENCE)
    claims = len(store.claims)
    tick()  # returns at once
    assert len(store.claims) == claims
    leave.set()
    first.join(PATIENCE)
    assert store.recorded == {1}


class Inline(Executor):
    """Runs each call at once, as a simulation does."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def test_it_runs_without_threads():
    store = Memory([due(number) for number in range(1, 101)])
    refresher = Refresher(store, renewed, lambda _: RefreshPolicy(), lambda: NOW, Inline())
    assert refresher.refresh_due(limit=1000) == 100

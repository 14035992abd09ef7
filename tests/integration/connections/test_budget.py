"""The request budget on a real Valkey: one bucket for all processes, which Nango's headers and people go before."""

import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr

from app import errors
from app.config.nango_environment import Environment, SigningKeys
from app.db.models import Refresh
from app.domain import budget as rules
from app.domain.budget import Bucket, Priority, ReportedLimit
from app.domain.states import EventState, RefreshOutcome
from app.nango.types import RateLimit
from app.services.budget import PROCESSES, Budget, _connect
from app.services.nango_clients import NangoClients
from tests.drawing import seeds
from tests.integration.sandbox.sandbox_server import API_KEY, register, serve
from tests.integration.world import DANA, auth
from tests.ports import free_port
from tests.waiting import PATIENCE


class Seconds:
    """A clock in unix seconds that only tests move."""

    def __init__(self):
        self.now = float(int(time.time()))

    def __call__(self):
        return self.now


@pytest.fixture
def seconds():
    return Seconds()


@pytest.fixture
def open_budget(broker_url):
    """Makes budgets as several processes have them."""
    opened = []

    def make(*, url=broker_url, limit=200, **options):
        opened.append(Budget(url, default_limit=limit, **options))
        return opened[-1]

    yield make
    for budget in opened:
        budget.close()


@pytest.fixture
def nango():
    """A sandbox of this module's own: its rate limit is spent here."""
    with serve() as client:
        yield client


def passes(budget, priority, account="acme"):
    try:
        budget.gate(account, priority)()
    except errors.NangoBudgetSpent:
        return False
    return True


@pytest.fixture
def clients_of():
    """Makes the clients of a process, of one environment."""
    opened = []

    def make(nango, budget):
        base_url = str(nango.base_url).rstrip("/")
        environment = Environment("default", base_url, "acme", SigningKeys(), api_key=SecretStr(API_KEY))
        opened.append(NangoClients({"default": environment}, budget))
        return opened[-1]

    yield make
    for clients in opened:
        clients.close()


@seeds(7)
def test_what_redis_does_is_what_the_rules_say(open_budget, seconds, seed):
    budget, expected = open_budget(limit=50, clock=seconds), Bucket(limit=50)
    chance = random.Random(seed)
    for _ in range(400):
        seconds.now = round(seconds.now + chance.choice([0, 0.25, 1, 30, 61]), 3)
        calls, background = chance.choice([0, 1, 1, 3, -1, -2]), chance.random() < 0.5
        seen = ReportedLimit(retry_after=chance.choice([None, None, 0, 5]))
        if chance.random() < 0.5:
            ends_at = float(int(seconds.now) + chance.choice([-5, 0, 20, 60]))
            seen = ReportedLimit(limit=chance.choice([50, 100]), used=chance.randrange(60), ends_at=ends_at)
        expected = rules.count(expected, calls, background=background, now=seconds.now)
        expected = rules.learn(expected, seen, now=seconds.now)
        found = budget._touch("acme", calls, seen, background=background)
        assert (found.limit, found.used, found.background) == (expected.limit, expected.used, expected.background)
        assert (found.ends_at, found.held_until) == pytest.approx((expected.ends_at, expected.held_until), abs=1e-3)


def test_all_threads_and_processes_together_get_the_limit_and_no_call_more(open_budget):
    budgets = [open_budget(limit=100) for _ in range(4)]
    with ThreadPoolExecutor(16) as pool:
        passed = list(pool.map(lambda n: passes(budgets[n % 4], Priority.PEOPLE), range(400)))
    # A refused call counts in the bucket for a moment, so a few at the edge may be refused too early.
    assert 90 <= sum(passed) <= 100
    assert budgets[0].bucket("acme").used == sum(passed)


PROCESS = """
import sys, time
from app.domain.budget import Priority
from app.errors import NangoBudgetSpent
from app.services.budget import Budget
budget, passed = Budget(sys.argv[1], default_limit=60), 0
print("ready", flush=True)
sys.stdin.readline()
for _ in range(60):
    try:
        budget.gate("acme", Priority.PEOPLE)()
        passed += 1
    except NangoBudgetSpent:
        pass
print(passed)
"""


def test_processes_share_one_bucket(broker_url):
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, broker_url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    assert [process.stdout.readline() for process in running] == ["ready\n"] * 3
    for process in running:  # within one window, however long they took to start
        process.stdin.write("go\n")
        process.stdin.flush()
    passed = [int(process.communicate(timeout=PATIENCE)[0]) for process in running]
    assert 55 <= sum(passed) <= 60


def test_accounts_do_not_spend_from_each_other(open_budget):
    budget = open_budget(limit=1)
    assert passes(budget, Priority.PEOPLE, "acme")
    assert not passes(budget, Priority.PEOPLE, "acme")
    assert passes(budget, Priority.PEOPLE, "globex")


def test_background_work_leaves_the_rest_to_others(open_budget):
    budget = open_budget(limit=20)
    counts = {
        priority: sum(passes(budget, priority) for _ in range(30))
        for priority in (Priority.REFRESH, Priority.RECONCILE, Priority.CONFIRM, Priority.PEOPLE)
    }
    assert counts == {Priority.REFRESH: 8, Priority.RECONCILE: 2, Priority.CONFIRM: 9, Priority.PEOPLE: 1}


def test_a_new_window_is_open_to_all_again(open_budget, seconds):
    budget = open_budget(limit=2, clock=seconds)
    assert [passes(budget, Priority.PEOPLE) for _ in range(3)] == [True, True, False]
    seconds.now += 61
    assert passes(budget, Priority.REFRESH)


@pytest.mark.parametrize("shared", [True, False])
def test_a_clock_of_nangos_that_is_ahead_holds_no_call_for_longer_than_a_window(open_budget, seconds, shared):
    budget = (
        open_budget(clock=seconds) if shared else open_budget(url=f"redis://127.0.0.1:{free_port()}/0", clock=seconds)
    )
    ahead = RateLimit(limit=100, remaining=0, reset_at=datetime.fromtimestamp(seconds.now + 3600, UTC))
    budget.gate("acme", Priority.PEOPLE)()(ahead, None)
    with pytest.raises(errors.NangoBudgetSpent) as held:
        budget.gate("acme", Priority.PEOPLE)()
    assert held.value.retry_after < 61.1
    seconds.now += 62
    budget.gate("acme", Priority.PEOPLE)()


def test_what_the_application_spends_is_seen_in_the_headers(nango, open_budget, clients_of):
    nango.patch("/sandbox/settings", json={"rate_limit_per_minute": 100}).raise_for_status()
    for _ in range(80):
        nango.get("/connections", params={"limit": 1}).raise_for_status()
    clients = clients_of(nango, open_budget())
    clients.of("default", Priority.CONFIRM).list_connections(limit=1)
    with pytest.raises(errors.NangoBudgetSpent) as held:
        clients.of("default", Priority.REFRESH).list_connections(limit=1)
    assert 0 < held.value.retry_after <= 62
    clients.of("default", Priority.PEOPLE).list_connections(limit=1)


def test_nango_never_has_to_refuse_us(nango, open_budget, clients_of):
    nango.patch("/sandbox/settings", json={"rate_limit_per_minute": 50}).raise_for_status()
    clients = [clients_of(nango, open_budget()) for _ in range(3)]
    clients[0].of("default", Priority.PEOPLE).list_connections(limit=1)  # gives the plan's size

    def call(number):
        try:
            clients[number % 3].of("default", Priority.PEOPLE).list_connections(limit=1)
        except errors.NangoRateLimited as limited:
            return type(limited)
        return None

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(call, range(80)))
    assert set(results) == {None, errors.NangoBudgetSpent}
    assert 40 <= results.count(None) <= 49


def test_a_429_that_one_process_got_holds_back_the_others(nango, open_budget, clients_of):
    nango.patch("/sandbox/settings", json={"rate_limit_per_minute": 3}).raise_for_status()
    for _ in range(3):
        nango.get("/connections", params={"limit": 1}).raise_for_status()
    first, second = (clients_of(nango, open_budget()) for _ in range(2))
    with pytest.raises(errors.NangoRateLimited) as limited:
        first.of("default", Priority.PEOPLE).list_connections(limit=1)
    assert limited.value.status == 429
    with pytest.raises(errors.NangoBudgetSpent):
        second.of("default", Priority.PEOPLE).list_connections(limit=1)


def test_the_environments_of_one_account_share_its_bucket(nango, open_budget, clients_of):
    budget = open_budget(limit=1)
    first, second = clients_of(nango, budget), clients_of(nango, budget)
    nango.patch("/sandbox/settings", json={"rate_limit_per_minute": 1}).raise_for_status()
    first.of("default", Priority.PEOPLE).list_connections(limit=1)
    with pytest.raises(errors.NangoBudgetSpent):
        second.of("default", Priority.PEOPLE).list_connections(limit=1)


def test_without_redis_each_process_takes_its_share_and_no_call_waits_long(valkey, open_budget):
    valkey.start()
    url = valkey.url(0)
    budgets = [open_budget(url=url, limit=40) for _ in range(PROCESSES)]
    valkey.stop()
    try:
        passed = sum(passes(budget, Priority.PEOPLE) for _ in range(40) for budget in budgets)
        assert passed == 40
    finally:
        valkey.start()


def test_without_redis_nangos_headers_hold_all_the_same(nango, valkey, open_budget, clients_of):
    valkey.start()
    clients = clients_of(nango, open_budget(url=valkey.url(0)))
    nango.patch("/sandbox/settings", json={"rate_limit_per_minute": 20}).raise_for_status()
    for _ in range(17):
        nango.get("/connections", params={"limit": 1}).raise_for_status()
    valkey.stop()
    try:
        clients.of("default", Priority.PEOPLE).list_connections(limit=1)
        with pytest.raises(errors.NangoBudgetSpent):
            clients.of("default", Priority.RECONCILE).list_connections(limit=1)
    finally:
        valkey.start()


def test_a_redis_that_goes_away_is_not_forgotten_with_what_was_spent(valkey, open_budget):
    valkey.start()
    valkey.flush()
    first, other = (open_budget(url=valkey.url(0), limit=10) for _ in range(2))
    assert [passes(other, Priority.PEOPLE) for _ in range(8)] == [True] * 8
    assert passes(first, Priority.PEOPLE)
    valkey.stop()
    try:
        assert not passes(first, Priority.PEOPLE)  # the tenth call would count for four
    finally:
        valkey.start()


def test_a_redis_that_is_back_is_used_again(valkey, open_budget, monkeypatch):
    monkeypatch.setattr("app.services.budget.AWAY", 0.0)
    valkey.start()
    valkey.flush()
    first, other = (open_budget(url=valkey.url(0), limit=10) for _ in range(2))
    valkey.stop()
    assert passes(first, Priority.PEOPLE)
    valkey.start()
    assert [passes(first, Priority.PEOPLE) for _ in range(10)] == [True] * 10
    assert not passes(other, Priority.PEOPLE)


def test_a_url_that_only_kombu_understands_leaves_the_process_on_its_own():
    budget = Budget("sentinel://localhost:26379/0", default_limit=8)
    assert [passes(budget, Priority.PEOPLE) for _ in range(3)] == [True, True, False]


def test_the_embedded_brokers_socket_is_found():
    client = _connect("redis+socket:///tmp/no%20where/valkey.sock?virtual_host=3")
    facts = client.connection_pool.connection_kwargs
    assert (facts["path"], facts["db"]) == ("/tmp/no where/valkey.sock", 3)


def test_an_event_that_the_budget_holds_back_waits_without_costing_an_attempt(
    open_world, open_budget, nango, connection_id, base_url
):
    budget = open_budget(limit=1)
    world = open_world(base_url=base_url, budget=budget)
    register(nango, connection_id, "oauth2", tags=DANA)
    nango.patch("/sandbox/settings", json={"rate_limit_per_minute": 1}).raise_for_status()
    assert passes(budget, Priority.PEOPLE)
    event = world.event(world.handle(auth(connection_id=connection_id, tags=DANA)))
    assert (event.state, event.looks, event.attempts) == (EventState.RECEIVED, 0, 0)
    assert "budget" in event.problem
    assert (event.next_at - world.clock()).total_seconds() > 30


def test_a_refresh_that_the_budget_holds_back_keeps_its_plan(open_world, open_budget, nango, connection_id, base_url):
    world = open_world(base_url=base_url, budget=(budget := open_budget(limit=1000)))
    register(nango, connection_id, "oauth2", tags=DANA)
    world.handle(auth(connection_id=connection_id, tags=DANA))
    budget._touch("acme", 10**6, ReportedLimit(), background=True)
    world.clock.move(600)
    assert world.refresher.refresh_due() == 0
    [plan] = world.all(Refresh, Refresh.finished_at.is_(None))
    assert (plan.outcome, plan.attempts) == (RefreshOutcome.RATE_LIMITED, 0)
    assert world.connection(connection_id).last_error_type is None


def test_a_call_costs_one_round_trip_where_no_other_process_spends(nango, open_budget, clients_of):
    budget = open_budget()
    clients = clients_of(nango, budget)
    client = clients.of("default", Priority.PEOPLE)
    client.list_connections(limit=1)  # the first gives the plan's size and the window
    before = budget._client.info("commandstats")["cmdstat_evalsha"]["calls"]
    for _ in range(20):
        client.list_connections(limit=1)
    assert budget._client.info("commandstats")["cmdstat_evalsha"]["calls"] - before == 20

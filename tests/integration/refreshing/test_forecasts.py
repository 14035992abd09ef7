"""The forecast of refreshes agrees with what happens, is stored once a day, and names what lapses before its turn."""

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select

from app.db import refresh_forecasts as rows
from app.db import refresh_pauses
from app.db.models import Connection, Refresh, RefreshForecast
from app.db.read import refresh_figures
from app.domain.refreshing.carrying import WhyLapsing
from app.domain.refreshing.forecasting import HOURS, hour_of
from app.domain.refreshing.outages import Pause, PauseCause
from app.domain.refreshing.policy import PolicyPart, for_integrations
from app.domain.refreshing.token_times import TokenTimes
from app.ids import new_id
from app.nango.types import ConnectionDetail
from app.services.maintenance import upkeep
from app.services.refreshing import forecasts
from app.services.refreshing.planned import NangoAsk

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)


class Nango:
    """Renews tokens as Nango does, under the tests' clock. tells_life: its answers name the life of each token."""

    def __init__(self, clock, lives, *, tells_life):
        self.clock, self.lives, self.tells_life = clock, lives, tells_life
        self.expires_at = {}
        self.calls = []

    def of(self, _environment, _priority):
        return self

    def now(self):
        return self.clock()

    def renew_token(self, integration, connection_id, *, force_refresh, timeout=None):
        now, life = self.clock(), self.lives[integration]
        expires_at = self.expires_at.get(connection_id)
        if expires_at is None or force_refresh or expires_at - now <= 15 * MINUTE:
            expires_at = self.expires_at[connection_id] = now + life
        self.calls.append(now)
        times = TokenTimes(expires_at, issued_at=expires_at - life if self.tells_life else None)
        return detail(integration, connection_id, times, now)


def detail(integration, connection_id, times, now):
    return ConnectionDetail(
        id=1,
        integration=integration,
        connection_id=connection_id,
        provider="other",
        errors=(),
        end_user=None,
        tags={},
        metadata=None,
        connection_config={},
        webhook_url_override=None,
        created_at=now,
        updated_at=now,
        last_fetched_at=now,
        credentials=None,
        has_credentials=True,
        times=times,
        observed_at=now,
        rate_limit=None,
    )


def connection(world, integration, name, **members):
    now = world.clock()
    shared = {
        "tags": {},
        "tags_disagree": False,
        "absences": 0,
        "created_at": now,
        "updated_at": now,
        "status": "active",
    }
    return Connection(
        **{
            "id": new_id(),
            "environment": "default",
            "integration": integration,
            "connection_id": name,
            "nango_id": 1,
            "announced_nango_id": 1,
            "provider": "other",
            "auth_mode": "OAUTH2",
            **shared,
            **members,
        }
    )


def plan_of(world, of, due_at, *, forced=False, created_at=None):
    return Refresh(
        id=new_id(),
        connection_ref=of.id,
        refresh_at=due_at,
        next_at=due_at,
        forced=forced,
        reason="a test's",
        attempts=0,
        failures=0,
        created_at=created_at or world.clock(),
    )


def live_through(world, nango, span):
    """Let the time pass, in which a worker carries out what is due."""
    refresher = replace(world.refresher, ask=NangoAsk(nango, world.policy))
    ends_at = world.clock() + span
    while world.clock() < ends_at:
        world.clock.move(60)
        while refresher.refresh_due(limit=50):
            pass


def foreseen(world, **policies):
    with world.database.read() as session:
        people = refresh_figures.population(session, "default", most=forecasts.CARRIED)
    return forecasts.forecast_of(people, world.policy.refresh, "default", now=world.clock(), **policies)


def populate(world, count, *, integration="hourly", life=HOUR, every=48 * MINUTE):
    """Connections whose tokens were renewed one after the other, with their plans."""
    for number in range(count):
        due_at = world.clock() + every * number / count + MINUTE
        issued_at = due_at - every
        of = connection(
            world,
            integration,
            f"{integration}-{number}",
            slot=number + 1,
            expires_at=issued_at + life,
            expires_source="provider",
            renewed_at=issued_at,
        )
        world.add(of)
        world.add(plan_of(world, of, due_at, created_at=issued_at))


@pytest.mark.parametrize("tells_life", [True, False])
def test_at_steady_state_each_hour_brings_what_was_forecast_within_a_tenth(open_world, clock, *, tells_life):
    world = open_world(base_url="http://127.0.0.1:1")
    lives = {"hourly": HOUR, "half-hourly": HOUR / 2, "slow": 3 * HOUR}
    nango = Nango(clock, lives, tells_life=tells_life)
    clock.now = hour_of(clock.now)
    for integration, count in (("hourly", 100), ("half-hourly", 30), ("slow", 150)):
        for number in range(count):
            of = connection(world, integration, f"{integration}-{number}")
            world.add(of)
            world.add(plan_of(world, of, clock() + lives[integration] * number / count))
    live_through(world, nango, 3 * HOUR + MINUTE)
    forecast = foreseen(world).hours[1:]
    nango.calls.clear()
    live_through(world, nango, 4 * HOUR)
    begins = hour_of(clock.now) - 3 * HOUR
    for number in range(3):
        happened = sum(begins + number * HOUR <= at < begins + (number + 1) * HOUR for at in nango.calls)
        assert happened > 200
        assert abs(forecast[number] - happened) <= 0.1 * happened, (number, forecast, happened)


def forecasts_of(world):
    with world.database.read() as session:
        return list(session.scalars(select(RefreshForecast).order_by(RefreshForecast.day)))


def stored(world):
    return forecasts.store(world.database, world.policy, {"refresh": {}}, clock=world.clock)


def test_a_forecast_is_stored_once_a_day_whichever_process_comes_first(open_world, clock):
    world, other = open_world(base_url="http://127.0.0.1:1"), open_world(base_url="http://127.0.0.1:1")
    populate(world, 20)
    clock.now = clock.now.replace(hour=9)
    assert (stored(world), stored(other), stored(world)) == (1, 0, 0)
    clock.move(86_400)
    assert stored(other) == 1
    first, second = forecasts_of(world)
    assert (len(first.hours), second.starts_at - first.starts_at) == (HOURS, 24 * HOUR)
    assert first.starts_at == hour_of(first.made_at) + HOUR


def test_two_processes_that_store_at_the_same_moment_store_one(open_world, clock):
    world = open_world(base_url="http://127.0.0.1:1")
    day = {"made_at": clock(), "starts_at": clock(), "hours": [1] * HOURS, "tables": {}}
    with world.database.write() as session:
        assert [rows.add(session, "default", "2026-11-30", **day) for _ in range(2)] == [1, 0]


def test_policies_that_come_into_force_later_in_the_day_are_noted(open_world):
    world = open_world(base_url="http://127.0.0.1:1")
    stored(world)
    changed = {"refresh": {"*": {"enabled": False}}}
    assert forecasts.store(world.database, world.policy, changed, clock=world.clock) == 0
    with world.database.read() as session:
        assert rows.tables_in_force(session) == changed


def test_yesterdays_forecast_is_compared_with_the_hours_that_ended(open_world, clock):
    world = open_world(base_url="http://127.0.0.1:1")
    clock.now = hour_of(clock.now)
    populate(world, 96)
    with world.database.read() as session:
        assert forecasts.compared(session, "default", now=clock()) is None
    stored(world)
    nango = Nango(clock, {"hourly": HOUR}, tells_life=True)
    nango.expires_at = {one.connection_id: one.expires_at for one in world.all(Connection)}
    live_through(world, nango, 3 * HOUR + MINUTE)
    with world.database.read() as session:
        past = forecasts.compared(session, "default", now=clock())
    assert [at for at, _, _ in past.hours] == [hour_of(past.made_at) + number * HOUR for number in (1, 2)]
    assert [happened for _, _, happened in past.hours] == [
        sum(at <= called < at + HOUR for called in nango.calls) for at, _, _ in past.hours
    ]
    assert abs(past.expected - past.happened) <= 0.1 * past.happened


def test_what_people_asked_for_and_what_was_superseded_did_not_happen(open_world, clock):
    world = open_world(base_url="http://127.0.0.1:1")
    clock.now = hour_of(clock.now) + HOUR
    of = connection(world, "hourly", "one")
    world.add(of)
    for outcome, requested_by in (("renewed", None), ("renewed", "cli:dana"), ("superseded", None), ("failed", None)):
        done = plan_of(world, of, clock() - MINUTE)
        done.finished_at, done.outcome, done.requested_by = clock() - MINUTE, outcome, requested_by
        world.add(done)
    with world.database.read() as session:
        assert refresh_figures.finished(session, "default", [clock() - HOUR, clock()]) == [2, 0]
        assert refresh_figures.finished(session, "other", [clock() - HOUR]) == [0]


def test_old_forecasts_are_pruned(open_world, clock):
    world = open_world(base_url="http://127.0.0.1:1")
    stored(world)
    clock.now += upkeep.FORECASTS_KEPT
    assert upkeep.prune(world.database, window=MINUTE, clock=clock) == 0
    clock.move(2 * 86_400)
    assert upkeep.prune(world.database, window=MINUTE, clock=clock) == 1
    assert forecasts_of(world) == []


def test_of_many_connections_a_part_stands_for_all(open_world):
    world = open_world(base_url="http://127.0.0.1:1")
    populate(world, 400)
    with world.database.read() as session:
        people = refresh_figures.population(session, "default", most=200)
        assert refresh_figures.population(session, "other", most=200).standings == []
    assert people.connections == 400
    assert 130 < len(people.standings) < 270
    assert people.weight == pytest.approx(2, rel=0.01)
    found = forecasts.forecast_of(people, world.policy.refresh, "default", now=world.clock())
    assert abs(found.days[5] - 400 * 30) < 400 * 30 * 0.35


def test_deleted_connections_and_those_that_wait_for_their_end_user_have_no_turn(open_world, clock):
    world = open_world(base_url="http://127.0.0.1:1")
    soon = {"expires_at": clock() + HOUR, "expires_source": "provider"}
    for name, status in (("gone", "deleted"), ("dead", "needs_reconnect"), ("unplanned", "active")):
        world.add(connection(world, "crm", name, status=status, **soon))
    found = foreseen(world)
    assert [(lapse.why, lapse.count) for lapse in found.lapses] == [(WhyLapsing.NO_PLAN, 1)]


def test_environments_of_one_account_share_its_budget(open_world, clock):
    world = open_world(base_url="http://127.0.0.1:1")
    environments = {
        name: replace(world.policy.environments["default"], name=name, account=account)
        for name, account in (("default", "acme"), ("second", "acme"), ("third", "other"))
    }
    policy = replace(world.policy, environments=environments)
    populate(world, 200)
    limits = {"acme": 5, "other": 200}
    found = forecasts.forecasts(world.database, policy, limits.__getitem__, now=clock())
    assert [(one.environment, one.environments) for one in found] == [
        ("default", ("default", "second")),
        ("second", ("default", "second")),
        ("third", ("third",)),
    ]
    assert found[0].budget == found[1].budget
    assert found[1].budget.minutes_over > 1000
    assert found[2].budget.minutes_over == 0
    [alone] = forecasts.forecasts(world.database, policy, limits.__getitem__, now=clock(), environment="second")
    assert alone.budget == found[1].budget


def test_an_integration_that_is_not_refreshed_lapses(open_world):
    world = open_world(base_url="http://127.0.0.1:1", refresh=for_integrations({"crm": PolicyPart(enabled=False)}))
    populate(world, 10, integration="crm")
    populate(world, 10)
    found = foreseen(world)
    assert [(lapse.integration, lapse.why, lapse.count) for lapse in found.lapses] == [("crm", WhyLapsing.DISABLED, 10)]


def test_an_integration_that_an_operator_paused_lapses_and_one_with_an_outage_is_taken_to_resume(open_world, clock):
    world = open_world(base_url="http://127.0.0.1:1")
    for integration in ("by-hand", "outage"):
        populate(world, 10, integration=integration)
    with world.database.write() as session:
        for integration, cause in (("by-hand", PauseCause.OPERATOR), ("outage", PauseCause.OUTAGE)):
            probe_at = None if cause is PauseCause.OPERATOR else clock()
            pause = Pause(cause=cause, paused_at=clock(), probe_at=probe_at)
            refresh_pauses.begin(session, refresh_pauses.IntegrationKey("default", integration), pause)
    [found] = forecasts.forecasts(world.database, world.policy, lambda _: 200, now=clock())
    assert [(lapse.integration, lapse.why) for lapse in found.found.lapses] == [("by-hand", WhyLapsing.PAUSED)]
    assert 10 < found.found.hours[5] < 15

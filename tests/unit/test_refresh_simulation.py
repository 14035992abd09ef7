"""The simulation of refreshes: Nango's rules in it, its cron, and that the shipped refresher keeps what can be kept."""

from dataclasses import replace
from datetime import timedelta

import pytest

from app.domain.event import EventType
from app.domain.refreshing.plan import Keeps, Plan
from app.domain.refreshing.policy import RefreshPriority
from app.sandbox.grants import Renewing, TokenRules
from bench import refresh_cron
from bench.refresh_burst import burst
from bench.refresh_lives import COHORTS, DAY, HOUR, NANGO, WAYLINK, WHOLE, Cohort, Outage, population
from bench.refresh_memory import MemoryStore
from bench.refresh_ninety_days import FEWEST, differing
from bench.refresh_scarcity import scarcity
from bench.refresh_simulation import in_memory, stored
from bench.refresh_summary import OURS_TO_LOSE, Fate, count, fates, rates, told
from bench.refresh_world import BEGINS, Got, SimulatedWorld

HOURLY = TokenRules(access_life=HOUR, idle_limit=30 * DAY)


def cohort(rules=HOURLY, *, count=1, sampled=1, provider="a-provider"):
    return Cohort(name="crm", provider=provider, count=count, sampled=sampled, rules=rules)


def world(*cohorts, outages=(), revoked=0.0, days=90.0, seed=1):
    made = SimulatedWorld(seed, cohorts, outages, revoked, days, created_within=timedelta(0))
    return made, list(made.connections.values())


def at(**span):
    return BEGINS + timedelta(**span)


def ran(made, **settings):
    decisions = []
    simulation, store = in_memory(made, per_minute=10_000, decisions=decisions, **settings)
    simulation.run(made.ends_at)
    return decisions, store


def test_the_table_stands_for_100_000_connections():
    assert sum(each.count for each in COHORTS) == WHOLE
    assert sum(each.sampled for each in population(1000)) == pytest.approx(1000, abs=len(COHORTS))


def test_a_plain_get_renews_within_nangos_margin_only_and_a_forced_one_at_any_time():
    made, [one] = world(cohort())
    assert made.get(one, force=False, now=at(minutes=45)) is Got.READ
    assert made.get(one, force=False, now=at(minutes=45, seconds=1)) is Got.RENEWED
    assert made.get(one, force=True, now=at(minutes=46)) is Got.RENEWED
    assert one.times.expires_at == at(minutes=106)


def test_an_expired_token_counts_until_it_is_renewed():
    made, [one] = world(cohort())
    made.get(one, force=False, now=at(hours=3))
    assert one.expired == 2 * HOUR


def test_a_refused_renewal_waits_half_a_minute_and_is_given_up_on_the_fourth_failing_day():
    made, [one] = world(cohort(), outages=(Outage("crm", 0, 5),))
    said = [made.get(one, force=False, now=at(days=day, hours=2)) for day in range(4)]
    assert said == [Got.FAILED] * 4
    assert made.get(one, force=False, now=at(days=3, hours=3)) is Got.EXHAUSTED
    again, [other] = world(cohort(), outages=(Outage("crm", 0, 5),))
    again.get(other, force=False, now=at(hours=2))
    assert again.get(other, force=False, now=at(hours=2, seconds=29)) is Got.BACKING_OFF
    assert again.get(other, force=True, now=at(hours=2, seconds=29)) is Got.FAILED


def test_the_cron_visits_each_once_a_day_and_renews_no_token_without_an_expiry():
    silent = TokenRules(access_life=HOUR, refresh_life=30 * DAY, tells_expiry=False)
    for rules, fate in ((HOURLY, Fate.ALIVE), (silent, Fate.LOST)):
        made, [one] = world(cohort(rules), days=40.0)
        refresh_cron.run(made)
        assert one.calls == 39
        assert fates(made)["crm"].counts == {fate: 1.0}


def test_the_cron_stops_after_ten_minutes_and_starts_with_the_lowest_id():
    made, [first, second] = world(cohort(count=6000, sampled=2), days=1.02)  # a visit stands for 3,000
    refresh_cron.run(made)
    assert first.fetched_at < second.fetched_at
    assert second.fetched_at - first.fetched_at >= refresh_cron.EVERY


def test_a_run_is_the_same_with_the_same_seed_and_another_one_with_another():
    def decisions(seed):
        return ran(SimulatedWorld(seed, population(60), (), 0.02, 3.0))[0]

    first, again, other = decisions(1), decisions(1), decisions(2)
    assert first
    assert differing(first, again) == 0
    assert differing(first, other) > 0


LONG_LIVED = tuple(replace(each, sampled=FEWEST, count=FEWEST) for each in COHORTS if each.sampled >= 500)


@pytest.mark.parametrize("seed", [1, 2])
def test_no_grant_is_lost_and_no_provider_hammered_through_outages_and_a_stop(seed):
    """Of the lives that a few renewals in 90 days keep alive; the others are simulated in the benchmark."""
    names = [each.name for each in LONG_LIVED]
    outages = [Outage(name, begins, begins + 2.0) for name in names for begins in (24.0, 55.0)]
    made = SimulatedWorld(seed, LONG_LIVED, [*outages, Outage(WAYLINK, 40, 40.5), Outage(NANGO, 70, 70.1)], 0.05, 90.0)
    decisions, store = ran(made)
    assert count(fates(made), OURS_TO_LOSE) == 0
    assert max(connection.forced for connection in made.connections.values()) < 30
    assert len(decisions) < 40 * len(made.connections)
    ends, announced = told(made, store.connections)
    assert ends == announced > 0


def test_calls_are_those_that_the_lives_and_margins_ask_for():
    made = SimulatedWorld(1, LONG_LIVED, (), 0.0, 180.0)
    ran(made)
    found = rates(made)
    assert len(found) == 7
    for name, rate in found.items():
        assert rate.ratio == pytest.approx(1, abs=0.05), name


def test_a_revoked_grant_is_no_loss_and_tells_that_its_user_is_needed():
    made = SimulatedWorld(1, (cohort(sampled=20, count=20),), (), 1.0, 12.0)
    _, store = ran(made)
    assert fates(made)["crm"].counts == {Fate.REVOKED: 20.0}
    early = [each for each in made.connections.values() if each.revoked_at < at(days=7)]
    assert early
    for each in early:
        assert EventType.CONNECTION_NEEDS_RECONNECT in store.connections[each.ref].told


def test_what_the_budget_holds_back_is_asked_later_by_weight():
    made = SimulatedWorld(1, (cohort(count=2000, sampled=20),), (), 0.0, 0.2, created_within=timedelta(0))
    simulation, _ = in_memory(made, per_minute=1000)
    simulation.run(made.ends_at)
    assert simulation.nango.held > 0
    assert not [each for each in made.connections.values() if each.expired]


def test_plans_in_memory_are_claimed_by_what_lapses_first_and_leased():
    _, found = world(cohort(sampled=3, count=3))
    store = MemoryStore()
    plans = [
        Plan(at(minutes=1), False, "early"),
        Plan(at(minutes=3), False, "late", at(minutes=5), Keeps.TOKEN),
        Plan(at(minutes=2), False, "middle", at(days=20), Keeps.GRANT),
    ]
    for connection, plan in zip(found, plans, strict=True):
        store.add(stored(connection), plan, now=BEGINS)
    assert store.claim(limit=8, now=BEGINS) == []
    taken = store.claim(limit=2, now=at(minutes=3)) + store.claim(limit=2, now=at(minutes=3))
    assert [each.connection_id for each in taken] == ["c-2", "c-1", "c-3"]
    assert store.claim(limit=8, now=at(minutes=3, seconds=74)) == []
    assert [each.attempts for each in store.claim(limit=8, now=at(minutes=4, seconds=15))] == [2, 2, 2]


def test_renewals_of_a_burst_are_spread_evenly_and_a_restart_moves_none():
    straight, restarted = burst(2000, with_restart=False), burst(2000, with_restart=True)
    assert len(straight.moments) == 2000
    assert straight.moments == restarted.moments
    assert straight.busiest <= 1.05


def test_rates_leave_out_what_nothing_renews():
    made = SimulatedWorld(1, (cohort(TokenRules(renews=Renewing.NEVER)),), (), 0.0, 3.0)
    ran(made)
    assert rates(made) == {}


def test_under_a_budget_too_small_no_grant_is_lost_and_higher_priorities_stay_fresher():
    found = scarcity(300, per_minute=10, each_for=1)
    assert found.lost == 0
    fresh = [found.fresh[priority] for priority in (RefreshPriority.HIGH, RefreshPriority.NORMAL, RefreshPriority.LOW)]
    assert fresh == sorted(fresh, reverse=True)
    assert fresh[0] > 0.4
    assert fresh[0] > 4 * fresh[-1]
    assert found.most_falls <= 12

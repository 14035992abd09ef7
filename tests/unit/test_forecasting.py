"""Connections are carried forward by the rules that plan them, and what lapses before its turn is named."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from app.config.provider_catalogue import shipped_catalogue
from app.domain.refreshing import carrying
from app.domain.refreshing.budget_outlook import outlook
from app.domain.refreshing.carrying import DeadClock, Lapse, Looks, Standing, WhyLapsing, looks
from app.domain.refreshing.facts import RefreshFacts
from app.domain.refreshing.forecasting import DAYS, HORIZON, HOURS, forecast
from app.domain.refreshing.hours import Hours, read_span
from app.domain.refreshing.keeping import AliveBy
from app.domain.refreshing.lives import ClockSource
from app.domain.refreshing.outcomes import FORCED_IN_VAIN, TOKEN_EXPIRED
from app.domain.refreshing.policy import Keep, PolicyPart, RefreshPolicies, for_integrations

NOW = datetime(2026, 11, 30, 10, 20, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
NIGHTS = Hours(windows=(read_span("22:00-06:00"),))
CATALOGUE = shipped_catalogue()
PLAIN = RefreshPolicies({}, CATALOGUE)


def standing(
    *, number=1, provider="other", integration="crm", due_at=NOW + 48 * MINUTE, forced=False, failures=0, **members
):
    """A token of an hour that was just issued, and whose plan is open. members: facts, and `issued_at`."""
    issued_at = members.pop("issued_at", NOW)
    usual = {
        "status": "active",
        "auth_mode": "OAUTH2",
        "slot": number,
        "expires_at": NOW + HOUR,
        "expires_source": "provider",
        "renewed_at": NOW,
    }
    return Standing(
        ref=UUID(int=number),
        integration=integration,
        provider=provider,
        facts=RefreshFacts(**{**usual, **members}),
        issued_at=issued_at,
        failures=failures,
        due_at=due_at,
        forced=forced,
    )


def policy(provider="other", **part):
    return for_integrations({"*": PolicyPart(**part)}, CATALOGUE).of("default", "crm", provider)


def moments(found, until):
    """Every call of these, with whether it is forced."""
    calls = []
    for one in found:
        if isinstance(one, Looks):
            at = one.begins
            while at < min(until, one.ends):
                calls.append((at, one.forced))
                at += one.every or HORIZON
    return calls


def carried(one, policy, *, until=NOW + HORIZON, life=None):
    found = list(looks(one, policy, now=NOW, until=until, life=life))
    return moments(found, until), [lapse for lapse in found if isinstance(lapse, Lapse)]


IDLE = {"grant_expires_at": NOW + 30 * DAY, "grant_source": ClockSource.CATALOGUE}
WITHOUT_EXPIRY = {"expires_at": None, "due_at": NOW + 21 * DAY, "forced": True}


@pytest.mark.parametrize(
    ("of", "rules", "expected"),
    [
        ({}, {}, 30 * 1440 / 48),
        ({"expires_at": NOW + 2 * HOUR, "due_at": NOW + 108 * MINUTE}, {}, 30 * 1440 / 108),
        ({"expires_at": NOW + 10 * MINUTE, "due_at": NOW + 6 * MINUTE}, {}, 30 * 1440 / 6),
        ({"expires_at": NOW + 60 * DAY, "due_at": NOW + 5 * DAY, "provider": "facebook"}, {"provider": "facebook"}, 1),
        ({**WITHOUT_EXPIRY, **IDLE}, {"idle_limit": 30 * DAY}, 1),
        (
            {
                "last_error_type": TOKEN_EXPIRED,
                "status": "needs_reconnect",
                "expires_at": NOW - DAY,
                "due_at": NOW + HOUR,
            },
            {},
            31,
        ),
        ({"due_at": None}, {}, 0),
        ({"auth_mode": "API_KEY", "expires_at": None, "due_at": None}, {}, 0),
        (
            {"expires_at": None, "expires_source": None, "issued_at": None, "renewed_at": None, "due_at": NOW + MINUTE},
            {},
            1,
        ),
    ],
    ids=["hour", "two hours", "ten minutes", "by force", "kept alive", "lapsed", "no plan", "fixed", "unknown"],
)
def test_a_connection_is_asked_for_as_often_as_its_policy_plans_it(of, rules, expected):
    calls, _ = carried(standing(**of), policy(**rules))
    assert abs(len(calls) - expected) <= max(2, expected * 0.06) if expected > 5 else len(calls) == expected


def test_a_token_that_was_never_read_is_taken_to_live_as_long_as_others_of_its_integration():
    one = standing(expires_at=None, expires_source=None, issued_at=None, renewed_at=None, due_at=NOW + MINUTE)
    calls, _ = carried(one, policy(), life=2 * HOUR, until=NOW + DAY)
    assert 13 <= len(calls) <= 15


@pytest.mark.parametrize(
    ("of", "rules"),
    [
        ({}, {}),
        ({"number": 77}, {"margin": 5 * MINUTE, "margin_floor": MINUTE}),
        ({"expires_at": NOW + 10 * MINUTE, "due_at": NOW + 6 * MINUTE}, {}),
        ({**WITHOUT_EXPIRY, "due_at": NOW + HOUR, **IDLE}, {"idle_limit": 5 * DAY}),
        (
            {
                "last_error_type": TOKEN_EXPIRED,
                "status": "needs_reconnect",
                "expires_at": NOW - DAY,
                "due_at": NOW + HOUR,
            },
            {},
        ),
        ({"expires_at": NOW + 60 * DAY, "due_at": NOW + DAY}, {"provider": "facebook"}),
        ({}, {"force_every": 30 * MINUTE}),
        ({"grant_expires_at": NOW + 10 * DAY, "grant_source": ClockSource.PROVIDER, "renewed_at": NOW}, {}),
    ],
)
def test_calls_that_are_counted_at_once_are_those_that_are_planned_one_by_one(monkeypatch, of, rules):
    at_once, _ = carried(standing(**of), policy(**rules), until=NOW + 12 * DAY)
    monkeypatch.setattr(carrying, "_interval", lambda *_: None)
    one_by_one, _ = carried(standing(**of), policy(**rules), until=NOW + 12 * DAY)
    assert len(at_once) == len(one_by_one)
    assert all(
        abs(one - other) < timedelta(seconds=1) for (one, _), (other, _) in zip(at_once, one_by_one, strict=True)
    )
    assert [forced for _, forced in at_once] == [forced for _, forced in one_by_one]


@pytest.mark.parametrize(
    ("of", "rules", "clock", "why"),
    [
        ({"not_refreshable": FORCED_IN_VAIN}, {}, DeadClock.TOKEN, WhyLapsing.NOT_REFRESHABLE),
        ({"due_at": None}, {}, DeadClock.TOKEN, WhyLapsing.NO_PLAN),
        ({"due_at": NOW + 2 * HOUR}, {}, DeadClock.TOKEN, WhyLapsing.LATE),
        ({"due_at": NOW + 2 * HOUR, "failures": 3}, {}, DeadClock.TOKEN, WhyLapsing.FAILING),
        ({"due_at": NOW + 12 * HOUR}, {"hours": NIGHTS}, DeadClock.TOKEN, WhyLapsing.HOURS),
        (
            {"grant_expires_at": NOW + DAY, "due_at": NOW + 2 * DAY, "expires_at": None},
            {},
            DeadClock.GRANT,
            WhyLapsing.LATE,
        ),
    ],
)
def test_what_lapses_before_its_turn_is_named_with_the_reason(of, rules, clock, why):
    _, lapses = carried(standing(**of), policy(**rules))
    assert [(lapse.clock, lapse.why) for lapse in lapses] == [(clock, why)]


def test_a_token_that_is_renewed_in_time_lapses_never():
    assert carried(standing(), policy())[1] == []


def test_hours_that_close_before_a_later_renewal_let_the_token_lapse_then():
    one = standing(
        due_at=datetime(2026, 11, 30, 23, 0, tzinfo=UTC), expires_at=datetime(2026, 11, 30, 23, 10, tzinfo=UTC)
    )
    _, [lapse] = carried(one, policy(hours=NIGHTS))
    assert lapse.why is WhyLapsing.HOURS
    assert NOW + 18 * HOUR < lapse.at < NOW + 2 * DAY


def test_a_grant_that_no_renewal_moves_lapses_and_ends_its_calls():
    line = next(line for line in CATALOGUE.lines if line.rotates is False and line.refresh_life)
    name, life = line.names[0], line.refresh_life
    authorized = NOW + 3 * DAY - life
    one = standing(
        provider=name, authorized_at=authorized, grant_expires_at=authorized + life, grant_source=ClockSource.CATALOGUE
    )
    calls, [lapse] = carried(one, policy(name))
    assert (lapse.clock, lapse.why, lapse.at) == (DeadClock.GRANT, WhyLapsing.UNMOVED, NOW + 3 * DAY)
    assert max(at for at, _ in calls) < NOW + 3 * DAY


def many(count):
    """Tokens of an hour, renewed one after the other."""
    found = []
    for number in range(count):
        due_at = NOW + 48 * MINUTE * number / count
        times = {"due_at": due_at, "expires_at": due_at + 12 * MINUTE}
        issued = dict.fromkeys(("issued_at", "renewed_at"), due_at - 48 * MINUTE)
        found.append(standing(number=number, **times, **issued))
    return found


def foreseen(standings, policies=PLAIN, **arguments):
    kinds = {(one.integration, one.provider) for one in standings}
    usual = {"connections": len(standings), "weight": 1.0, "now": NOW, "budget": None, **arguments}
    return forecast(standings, {kind: policies.of("default", *kind) for kind in kinds}, **usual)


def test_each_hour_and_each_day_has_its_calls():
    found = foreseen(many(500))
    assert len(found.hours) == HOURS + 1
    assert len(found.days) == DAYS
    assert all(abs(calls - 625) < 25 for calls in found.hours[1:])
    assert abs(found.hours[0] - 625 * 40 / 60) < 25
    assert all(abs(calls - 15_000) < 450 for calls in found.days)


def test_a_part_of_the_connections_stands_for_all():
    found = foreseen(many(500), connections=5000, weight=10.0)
    assert all(abs(calls - 6250) < 250 for calls in found.hours[1:])
    assert (found.connections, found.carried) == (5000, 500)


def test_connections_with_hours_are_carried_as_a_part_of_them(monkeypatch):
    policies = for_integrations({"*": PolicyPart(hours=Hours(blackouts=(read_span("sun 03:00-03:10"),)))}, CATALOGUE)
    monkeypatch.setattr("app.domain.refreshing.forecasting.STEPS", 20_000)
    found = foreseen(many(200), policies)
    assert abs(sum(found.days) - 30 * 200 * 30) < 30 * 200 * 30 * 0.05


def test_of_a_disabled_and_of_a_paused_integration_the_deadlines_lapse():
    disabled = for_integrations({"*": PolicyPart(enabled=False)}, CATALOGUE)
    for found, why in (
        (foreseen(many(20), disabled), WhyLapsing.DISABLED),
        (foreseen(many(20), paused=["crm"]), WhyLapsing.PAUSED),
    ):
        assert sum(found.hours) == 0
        assert [(lapse.why, lapse.count) for lapse in found.lapses] == [(why, 20)]


def test_what_is_overdue_is_made_up_for_as_the_budget_allows():
    late = [standing(number=number, due_at=NOW - HOUR, expires_at=NOW + HOUR) for number in range(120)]
    found = foreseen(late, budget=4.0)
    assert found.overdue == 120
    assert max(found.minutes[20:50]) <= 5


def test_within_the_budget_nothing_comes_too_late():
    found = outlook([30.0] * 1440, 100)
    assert (found.per_minute, found.minutes_over, found.too_late) == (40, 0, 0)


def test_a_burst_waits_and_what_waits_until_its_token_expires_comes_too_late():
    minutes = [0.0] * 1440
    minutes[100] = 350.0
    found = outlook(minutes, 100)  # 40 a minute, and 85 from the sixth minute on
    assert (found.busiest, found.busiest_place, found.minutes_over, found.too_late) == (350, 100, 1, 0)
    minutes[100] = 5000.0
    late = outlook(minutes, 100).too_late
    assert late == 5000 - (5 * 40 + 5 * 85)


def test_beyond_the_budget_for_long_a_part_comes_too_late():
    found = outlook([100.0] * 1440, 100)
    assert 0.1 * 1440 * 100 < found.too_late < 0.2 * 1440 * 100


def test_a_life_that_is_known_to_some_minutes_only_is_taken_to_be_the_usual_one():
    late = [standing(number=number, issued_at=NOW + 10 * MINUTE) for number in range(90)]
    usual = many(100)
    calls = foreseen([*usual, *late]).days[5]
    assert abs(calls - 190 * 30) < 0.03 * 190 * 30


def test_a_life_of_its_own_stays():
    other = [standing(number=number, expires_at=NOW + 5 * HOUR, due_at=NOW + 288 * MINUTE) for number in range(90)]
    calls = foreseen([*many(100), *other]).days[5]
    assert abs(calls - (100 * 30 + 90 * 1440 / 288)) < 120


def test_no_call_comes_in_hours_that_are_closed():
    hours = Hours(blackouts=(read_span("00:00-03:00"),))
    calls, _ = carried(standing(), policy(hours=hours), until=NOW + 5 * DAY)
    assert len(calls) > 100
    assert all(at.hour >= 3 for at, _ in calls)


def test_a_connection_that_is_only_kept_alive_has_about_a_call_a_day_and_its_token_lapses():
    calls, [lapse] = carried(standing(), policy(keep=Keep.ALIVE))
    assert 29 <= len(calls) <= 34
    assert (lapse.clock, lapse.why) == (DeadClock.TOKEN, WhyLapsing.ALIVE)
    fallen = standing(alive_by=AliveBy.BUDGET, due_at=NOW + DAY)
    calls, [lapse] = carried(fallen, policy())
    assert lapse.why is WhyLapsing.ALIVE
    assert 29 <= len(calls) <= 34  # as long as no balance lets it return

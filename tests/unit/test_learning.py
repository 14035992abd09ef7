"""Limits are learnt from ages at which many grants died and hardly any lives on; single deaths show none."""

import random
import tomllib
from datetime import timedelta

import pytest

from app.config.refresh_tables import RefreshTables, policies_of
from app.domain.refreshing.learning import AgeSince, GrantAges, learn, policy_text, written
from app.domain.refreshing.lives import ClockSource

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
AUTHORIZATION, RENEWAL = AgeSince.AUTHORIZATION, AgeSince.RENEWAL


def dead(*pairs):
    """Ages at death: days since the authorization, and since the last renewal."""
    return [GrantAges(DAY * since if since is not None else None, DAY * idle) for since, idle in pairs]


def living(*pairs):
    return dead(*pairs)


RANDOM = random.Random(15)
HOURLY = 48 / 1440  # days between two renewals of a token that lives for an hour
SEVEN_DAYS = dead(*[(7 + RANDOM.random() * HOURLY, HOURLY) for _ in range(12)])
REVOKED = dead(*[(RANDOM.random() * 90, HOURLY) for _ in range(8)])
UNUSED = dead(*[(RANDOM.random() * 300 + 40, 30 + RANDOM.random() * 2) for _ in range(9)])
YOUNG = living(*[(RANDOM.random() * 6.9, HOURLY) for _ in range(100)])
OLD = living(*[(RANDOM.random() * 300, HOURLY) for _ in range(100)])
WEEKLY = living(*[(RANDOM.random() * 300, 7) for _ in range(100)])


@pytest.mark.parametrize(
    ("deaths", "alive", "since", "span"),
    [
        (SEVEN_DAYS, YOUNG, AUTHORIZATION, "7d"),
        (SEVEN_DAYS + REVOKED, YOUNG, AUTHORIZATION, "7d"),
        (UNUSED, WEEKLY, RENEWAL, "30d"),
        (UNUSED + dead((3, HOURLY), (200, 9)), WEEKLY, RENEWAL, "30d"),
        (dead(*[(14.2, 14.2)] * 6), [], RENEWAL, "14d"),  # never renewed: either, and that since a use is proposed
        (dead(*[(0.5, 0.5)] * 5), [], RENEWAL, "12h"),
    ],
)
def test_a_limit_is_learnt_from_deaths_at_one_age(deaths, alive, since, span):
    found = learn("default", "crm", deaths, alive)
    assert (found.why_not, found.age.since, found.span) == (None, since, span)


@pytest.mark.parametrize(
    ("deaths", "alive", "why_not"),
    [
        ([], [], "0 died; at least 5 are needed"),
        (SEVEN_DAYS[:4], YOUNG, "4 died; at least 5 are needed"),
        (dead((3, HOURLY)), YOUNG, "1 died; at least 5 are needed"),
        (REVOKED, OLD, "live on at a greater age"),
        (SEVEN_DAYS[:5] + REVOKED, YOUNG, "at most 5 of 13 died at a common age"),
        (SEVEN_DAYS, OLD, "live on at a greater age"),
        (dead(*[(RANDOM.random() * 300, HOURLY) for _ in range(50)]), OLD, "live on at a greater age"),
    ],
)
def test_nothing_is_proposed_where_too_few_died_at_one_age_or_many_live_on(deaths, alive, why_not):
    found = learn("default", "crm", deaths, alive)
    assert (found.key, found.span) == (None, None)
    assert why_not in found.why_not
    assert policy_text([found], by_environment=False) == ""


def test_an_early_death_does_not_shorten_what_is_proposed():
    for early in (0.1, 2, 6):
        found = learn("default", "crm", [*SEVEN_DAYS, *dead((early, HOURLY))], YOUNG)
        assert found.span == "7d"


def test_of_a_part_of_the_living_each_stands_for_others():
    alive = living((20, HOURLY))
    assert learn("default", "crm", SEVEN_DAYS, alive).why_not is None
    assert "50 live on" in learn("default", "crm", SEVEN_DAYS, alive, weight=50.0).why_not


def test_the_proposal_is_a_table_that_waylink_toml_takes():
    grants = [
        learn("default", "crm", SEVEN_DAYS, YOUNG),
        learn("default", 'a "b".c', UNUSED, WEEKLY),
        learn("default", "few", SEVEN_DAYS[:2], YOUNG),
    ]
    text = policy_text(grants, by_environment=False)
    tables = RefreshTables.model_validate(tomllib.loads(text))
    assert set(tables.refresh) == {"crm", 'a "b".c'}
    assert "# 12 of 12 grants died 7d to 7d after the authorization" in text
    lives = policies_of(tables).lives_of("default", "crm", None)
    assert (lives.refresh.span, lives.refresh.source, lives.rotates) == (7 * DAY, ClockSource.LEARNT, False)
    idle = policies_of(tables).lives_of("default", 'a "b".c', None)
    assert (idle.idle.span, idle.idle.source, idle.rotates) == (30 * DAY, ClockSource.LEARNT, True)


def test_with_several_environments_the_proposal_is_for_the_one_where_grants_died():
    text = policy_text([learn("staging", "crm", SEVEN_DAYS, YOUNG)], by_environment=True)
    tables = RefreshTables.model_validate(tomllib.loads(text))
    assert policies_of(tables).lives_of("staging", "crm", None).refresh.span == 7 * DAY
    assert policies_of(tables).lives_of("prod", "crm", None).refresh is None


@pytest.mark.parametrize(
    ("span", "text"),
    [(7.9 * DAY, "7d"), (2 * DAY, "2d"), (1.9 * DAY, "45h"), (90 * MINUTE, "90m"), (100 * MINUTE / 60, "100s")],
)
def test_spans_are_rounded_down(span, text):
    assert written(span) == text

"""Ages of dead grants are read from the refreshes that found them, on both databases."""

from datetime import timedelta
from uuid import UUID

import pytest

from app.db.models import Refresh
from app.db.read import grant_deaths
from app.domain.refreshing.learning import GrantAges
from app.ids import first_id, new_id
from app.services.refreshing.learnt_lives import learnt_lives, proposal
from tests.integration.refreshing.test_forecasts import connection, plan_of

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def world(open_world):
    return open_world(base_url="http://127.0.0.1:1")


def past(world, of, outcome, ago, *, requested_by=None, forced=False):
    """A finished refresh of that long ago, with an id of that time."""
    at = world.clock() - ago
    made = UUID(int=first_id(at).int | new_id().int & 0xFFFF_FFFF)
    moments = dict.fromkeys(("refresh_at", "next_at", "created_at", "finished_at"), at)
    facts = {"forced": forced, "reason": "a test's", "attempts": 1, "failures": 0, "requested_by": requested_by}
    world.add(Refresh(id=made, connection_ref=of.id, outcome=outcome, **facts, **moments))


def died(world, name, *, authorized, last, given_up=4 * DAY, integration="crm", outcome="renewed", **members):
    """A grant that Nango gave up so long after it died. authorized, last: days before its death."""
    dead = world.clock() - given_up
    authorized_at = None if authorized is None else dead - authorized
    of = connection(
        world, integration, name, **{"status": "needs_reconnect", "authorized_at": authorized_at, **members}
    )
    world.add(of)
    past(world, of, outcome, given_up + last, forced=outcome == "no_expiry")
    for after in (timedelta(0), DAY, 2 * DAY):
        past(world, of, "failed", given_up - after)
    past(world, of, "exhausted", timedelta(0))
    return of


def deaths(world):
    with world.database.read() as session:
        return grant_deaths.deaths(session)


def test_a_grant_died_at_its_first_refusal_after_the_last_renewal(world):
    died(world, "hourly", authorized=7 * DAY, last=48 * MINUTE)
    of = died(world, "forced", authorized=60 * DAY, last=30 * DAY, outcome="no_expiry")
    past(world, of, "failed", 40 * DAY)  # and was renewed after it
    assert sorted(deaths(world)["default", "crm"], key=lambda age: age.since_renewal) == [
        GrantAges(7 * DAY, 48 * MINUTE),
        GrantAges(60 * DAY, 30 * DAY),
    ]


def test_after_another_authorization_the_first_look_tells_when_the_dead_grant_was_authorized(world):
    of = died(world, "repaired", authorized=None, last=HOUR, authorized_at=world.clock() + HOUR, status="active")
    past(world, of, "first_seen", 14 * DAY)
    assert deaths(world) == {("default", "crm"): [GrantAges(10 * DAY, None)]}


def test_a_grant_that_was_not_renewed_counts_from_its_authorization(world):
    of = connection(world, "crm", "unused", authorized_at=world.clock() - 30 * DAY, status="needs_reconnect")
    world.add(of)
    past(world, of, "failed", 2 * DAY)
    past(world, of, "exhausted", timedelta(0))
    assert deaths(world) == {("default", "crm"): [GrantAges(28 * DAY, 28 * DAY)]}


def test_what_a_grant_outlived_before_is_not_the_age_at_which_it_died(world):
    of = died(world, "hourly", authorized=7 * DAY, last=48 * MINUTE)
    past(world, of, "renewed", 4 * DAY + 2 * 48 * MINUTE)
    unused = died(world, "unused", authorized=60 * DAY, last=30 * DAY)
    past(world, unused, "renewed", 4 * DAY + 31 * DAY)
    ages = deaths(world)["default", "crm"]
    assert set(ages) == {GrantAges(7 * DAY, None), GrantAges(60 * DAY, 30 * DAY)}


def test_a_death_counts_once_and_one_that_a_person_found_not_at_all(world):
    of = died(world, "twice", authorized=7 * DAY, last=HOUR)
    past(world, of, "exhausted", timedelta(0))
    other = connection(world, "crm", "by-hand")
    world.add(other)
    past(world, other, "exhausted", timedelta(0), requested_by="cli:dana")
    assert deaths(world) == {("default", "crm"): [GrantAges(7 * DAY, HOUR)]}


def test_living_grants_have_outlived_what_lies_behind_them(world, clock):
    now = clock()
    seen = {"renewed_at": now, "expires_at": now + HOUR, "expires_source": "provider"}
    old = connection(world, "crm", "old", authorized_at=now - 90 * DAY, **seen)
    world.add(old)
    world.add(plan_of(world, old, now + 2 * DAY))
    for name, members in (("failing", {"last_error_type": "x"}), ("unread", {"renewed_at": None})):
        world.add(connection(world, "crm", name, authorized_at=now - 90 * DAY, **{**seen, **members}))
    world.add(connection(world, "mail", "of another integration", authorized_at=now - 90 * DAY, **seen))
    with world.database.read() as session:
        found = grant_deaths.living(session, "default", ["crm"])
    assert (found.weight, found.ages) == (1, {"crm": [GrantAges(90 * DAY, 2 * DAY)]})


def test_deaths_at_one_age_become_a_proposal_that_changes_nothing(world):
    for number in range(6):
        died(world, f"c-{number}", authorized=7 * DAY + number * MINUTE, last=48 * MINUTE)
    died(world, "revoked", authorized=2 * DAY, last=48 * MINUTE)
    now = world.clock()
    for number in range(20):
        of = connection(world, "crm", f"alive-{number}", renewed_at=now, authorized_at=now - number * DAY / 4)
        world.add(of)
        world.add(plan_of(world, of, now + 50 * MINUTE))
    [found] = learnt_lives(world.database)
    assert (found.why_not, found.deaths, found.age.deaths, found.span) == (None, 7, 6, "7d")
    assert 'refresh_life = "7d"\nrotates = false\nlearnt = true' in proposal(world.database, [found])
    world.add(connection(world, "crm", "elsewhere", environment="staging"))
    assert "[environments.default.refresh.crm]" in proposal(world.database, [found])
    assert world.policy.refresh.lives_of("default", "crm", "other").refresh is None
    assert learnt_lives(world.database, environment="other") == []

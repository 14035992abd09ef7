"""A connection that needs its end user is told of with all that a team needs, and its case kept until the repair."""

from datetime import timedelta

import pytest

from app.db.models import Repair
from app.db.read import repair_times
from app.ids import CONNECTION, show
from app.services.maintenance import upkeep
from tests.integration.refreshing.test_expired_tokens import bring, lapse, refresh_next
from tests.integration.world import DANA, auth

HOUR = timedelta(hours=1)


@pytest.fixture
def world(open_world, gate):
    return open_world(base_url=gate.url)


@pytest.fixture
def unrenewable(world, nango, clock, connection_id):
    """A linked connection whose token expires in an hour, for good."""
    bring(nango, connection_id, expires_at=clock.now + HOUR)
    world.handle(auth(connection_id=connection_id, tags=DANA))
    return connection_id


def times(world, **filters):
    with world.database.read() as session:
        return repair_times.by_integration(session, since=world.clock() - timedelta(days=30), **filters)


def test_the_event_says_who_what_and_since_when_and_how_to_get_a_reconnect_session(world, unrenewable):
    lapse(world, unrenewable)
    connection = world.connection(unrenewable)
    [told] = world.events("connection.needs_reconnect")
    document, ref = told.document, show(CONNECTION, connection.id)
    assert (document["integration"], document["provider"], document["tags"]) == ("oauth2", connection.provider, DANA)
    assert (document["user"]["external_id"], document["organization"]["external_id"]) == ("usr_1042", "org_77")
    assert document["error"]["type"] == "token_expired"
    payload = document["payload"]
    assert payload["connection"] == ref
    assert payload["failing_since"] == connection.failing_since.isoformat() == connection.last_error_at.isoformat()
    assert payload["expires_at"] == connection.expires_at.isoformat()
    assert payload["reconnect"] == {
        "method": "POST",
        "path": f"/api/v1/connections/{ref}/reconnect-sessions",
        "body": {},
    }


def test_a_reauthorization_closes_the_case_resumes_the_plan_and_is_told_as_such(world, nango, clock, unrenewable):
    lapse(world, unrenewable)
    [case] = world.all(Repair)
    assert (case.cause, case.closed_at, case.closed_by) == ("token_expired", None, None)
    assert (case.integration, case.opened_at) == ("oauth2", world.connection(unrenewable).last_error_at)
    assert [(one.open, one.repaired, one.p50) for one in times(world)] == [(1, 0, None)]
    clock.move(5 * 3600)
    bring(nango, unrenewable, expires_at=clock.now + 30 * HOUR)
    world.handle(auth("override", connection_id=unrenewable, tags=DANA))
    [case] = world.all(Repair)
    assert case.closed_by == "reauthorized"
    assert 5 * HOUR <= case.closed_at - case.failing_since < 6 * HOUR
    assert len(world.events("connection.reauthorized")) == 1
    assert world.events("connection.recovered") == []
    assert world.connection(unrenewable).failing_since is None
    assert refresh_next(world, unrenewable).outcome in {"first_seen", "renewed"}
    [one] = times(world)
    assert (one.open, one.repaired, one.p50, one.p90) == (0, 1, case.closed_at - case.failing_since, one.p50)
    assert times(world, environment="other") == []


def test_a_recovery_and_a_deletion_close_the_case_too(world, nango, clock, unrenewable):
    lapse(world, unrenewable)
    bring(nango, unrenewable, expires_at=clock.now + 30 * HOUR)  # its webhook was missed
    world.clock.move(86_400)
    refresh_next(world, unrenewable)
    assert [case.closed_by for case in world.all(Repair)] == ["recovered"]
    assert len(world.events("connection.recovered")) == 1
    lapse(world, unrenewable)
    assert [case.closed_by for case in world.all(Repair)] == ["recovered", None]
    nango.delete(f"/connections/{unrenewable}", params={"provider_config_key": "oauth2"}).raise_for_status()
    world.wait_out(auth("deletion", connection_id=unrenewable, tags=DANA))
    assert [case.closed_by for case in world.all(Repair)] == ["recovered", "deleted"]
    assert [(one.open, one.repaired, one.deleted) for one in times(world)] == [(0, 1, 1)]


def test_a_case_that_an_earlier_release_closed_does_not_hide_the_next_one(world, nango, clock, unrenewable):
    lapse(world, unrenewable)
    bring(nango, unrenewable, expires_at=clock.now + 3 * HOUR)
    world.handle(auth("override", connection_id=unrenewable, tags=DANA))
    [case] = world.all(Repair)
    with world.database.write() as session:
        stored = session.get(Repair, case.id)
        stored.closed_at = stored.closed_by = None
    lapse(world, unrenewable)
    assert [case.closed_by for case in world.all(Repair)] == ["unseen", None]
    assert [(one.open, one.repaired) for one in times(world)] == [(1, 0)]


def test_closed_cases_are_kept_for_a_year(world, nango, clock, unrenewable):
    lapse(world, unrenewable)
    bring(nango, unrenewable, expires_at=clock.now + 3 * HOUR)
    world.handle(auth("override", connection_id=unrenewable, tags=DANA))
    lapse(world, unrenewable)
    assert len(world.all(Repair)) == 2
    for days, left in ((0, 2), (364, 2), (2, 1), (365, 1)):  # the second is open
        clock.move(days * 86_400)
        upkeep.prune(world.database, window=HOUR, clock=clock)
        assert len(world.all(Repair)) == left

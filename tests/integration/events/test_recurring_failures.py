"""Promises 8 and 9: a failed renewal is told once, and no webhook of it makes Waylink read credentials or refresh."""

from datetime import timedelta

import pytest

from app.db.models import Refresh
from app.db.read import listing
from app.ids import EVENT, show
from app.services.routing import explanations
from tests.integration.world import DANA, auth, failure


@pytest.fixture
def world(open_world, gate):
    made = open_world(base_url=gate.url)
    made.route(failed={"type": ["connection.refresh_failed"]})
    return made


@pytest.fixture
def failing(world, nango, connection_id):
    """A connection that Nango shows with an auth error, of which no failure was told yet."""
    token = {"type": "OAUTH2", "access_token": "t", "refresh_token": "r", "expires_at": "2020-01-01T00:00:00Z"}
    body = {"provider_config_key": "oauth2", "connection_id": connection_id, "credentials": token, "tags": DANA}
    nango.post("/connections", json=body).raise_for_status()
    world.handle(auth(connection_id=connection_id, tags=DANA))
    nango.post("/sandbox/faults", json={"operation": "refresh", "connection_id": connection_id}).raise_for_status()
    answer = nango.get(f"/connections/{connection_id}", params={"provider_config_key": "oauth2"})
    assert answer.status_code == 400
    return connection_id


def refused(connection_id, *, kind="refresh_token_external_error", description="The external API, request 1", **more):
    return failure("refresh", connection_id=connection_id, kind=kind, description=description, tags=DANA, **more)


def shown(world, event_id):
    with world.database.read() as session:
        return listing.event(session, event_id)


def test_identical_failures_are_one_occurrence_and_the_first_is_routed(world, failing):
    first = world.wait_out(refused(failing))
    recurring = []
    for number in range(2, 6):
        world.clock.move(3600)
        recurring.append(world.wait_out(refused(failing, description=f"The external API, request {number}")))
    assert [job.event_id for job in world.jobs("failed")] == [first]
    for event_id in recurring:
        event = world.event(event_id)
        assert (event.state, event.confirmed, event.recurrence_of) == ("processed", True, first)
        assert event.problem == event.untold
        assert show(EVENT, first) in event.untold
        assert explanations.explain(world.database, event_id).suppressed == event.untold
        assert shown(world, event_id)["recurrence_of"] == show(EVENT, first)
    assert shown(world, first)["recurrences"] == 4
    assert shown(world, recurring[0])["recurrences"] == 0
    assert world.event(first).untold is None


def test_several_in_one_batch_are_one_occurrence_too(world, failing):
    bodies = [refused(failing, description=f"The external API, request {number}") for number in range(4)]
    receipts = world.receive(*bodies)
    world.process()
    for receipt in receipts:
        world.wait_for(receipt.event_id)
    assert len(world.jobs("failed")) == 1
    assert len({world.event(receipt.event_id).recurrence_of for receipt in receipts}) == 2  # none, and the first


def test_another_failure_is_told(world, failing):
    world.wait_out(refused(failing))
    world.wait_out(refused(failing, kind="connection_test_failed"))
    world.wait_out(refused(failing, description="The client secret is wrong"))
    assert len(world.jobs("failed")) == 3


def test_the_same_failure_is_told_again_after_a_day_without_it(world, failing):
    world.wait_out(refused(failing))
    world.clock.move(timedelta(hours=23).total_seconds())
    world.wait_out(refused(failing))
    world.clock.move(timedelta(hours=25).total_seconds())
    again = world.wait_out(refused(failing))
    assert len(world.jobs("failed")) == 2
    assert world.event(again).recurrence_of is None


def test_the_same_failure_is_told_again_after_a_recovery(world, nango, failing):
    world.wait_out(refused(failing))
    nango.delete("/sandbox/faults").raise_for_status()
    nango.get(f"/connections/{failing}", params={"provider_config_key": "oauth2", "force_refresh": "true"})
    world.wait_out(auth("refresh", connection_id=failing, tags=DANA))
    assert world.connection(failing).last_error_type is None
    nango.post("/sandbox/faults", json={"operation": "refresh", "connection_id": failing}).raise_for_status()
    nango.get(f"/connections/{failing}", params={"provider_config_key": "oauth2", "force_refresh": "true"})
    world.clock.move(600)
    world.wait_out(refused(failing))
    assert len(world.jobs("failed")) == 2


def test_failures_of_two_connections_are_two_occurrences(open_world):
    world = open_world()
    world.route(failed={"type": ["connection.refresh_failed"]})
    for name in ("c-1", "c-2"):
        world.handle(auth(connection_id=name))
        world.handle(refused(name))
    assert len(world.jobs("failed")) == 2


@pytest.mark.parametrize("known", [True, False])
def test_no_failure_webhook_makes_waylink_read_credentials_or_refresh(world, gate, nango, failing, known):
    """Counted at the sandbox: first ones, recurring, duplicates, retries, and of connections that are not known."""
    name = failing
    if not known:
        token = {"type": "OAUTH2", "access_token": "t", "refresh_token": "r", "expires_at": "2020-01-01T00:00:00Z"}
        name = f"{failing}-2"
        body = {"provider_config_key": "oauth2", "connection_id": name, "credentials": token, "tags": DANA}
        nango.post("/connections", json=body).raise_for_status()
        nango.post("/sandbox/faults", json={"operation": "refresh", "connection_id": name}).raise_for_status()
        nango.get(f"/connections/{name}", params={"provider_config_key": "oauth2"})
    plans = {plan.id: plan.next_at for plan in world.all(Refresh)}
    gate.requests.clear()
    for number in range(20):
        body = refused(name, description="other words" if number % 5 == 0 else f"request {number}")
        world.wait_out(body)
        world.handle(body)  # a duplicate, which has the connection looked at again
        world.process()
        world.clock.move(200)
    world.wait_out(refused(f"{failing}-unknown"))
    assert gate.requests  # the list was asked
    assert all(path.startswith("/connections?") for path in gate.requests), gate.requests
    kept = {plan.id: plan.next_at for plan in world.all(Refresh) if plan.id in plans}
    assert kept == plans  # nor does any plan come earlier

"""Promise 13: a deadline that only the end user can move is told before it passes, once, and routed to teams."""

from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from app.domain.refreshing.policy import PolicyPart, for_integrations
from app.domain.states import ConnectionStatus
from app.services.connections import credentials
from app.services.connections.operations import Operations
from tests.integration.refreshing.test_expired_tokens import bring, lapse
from tests.integration.refreshing.test_two_clocks import refresh
from tests.integration.sandbox.sandbox_server import control, register
from tests.integration.world import DANA, auth

DAY = timedelta(days=1)
PATTERN = {"type": ["token.expiring"], "user": {"external_id": ["usr_1042"]}}


@pytest.fixture
def world(open_world, gate):
    made = open_world(base_url=gate.url, refresh=for_integrations({"*": PolicyPart(warn_before=5 * DAY)}))
    made.route(expiring=PATTERN)
    return made


@pytest.fixture
def unrenewable(world, nango, connection_id):
    """A linked connection whose token expires in 60 days, for good; a forced call has shown it."""
    bring(nango, connection_id, expires_at=datetime.now(UTC) + 60 * DAY)
    world.handle(auth(connection_id=connection_id, tags=DANA))
    refresh(world, connection_id)
    operations = Operations(world.database, world.policy, world.clients, world.clock)
    credentials.refresh(operations, world.connection(connection_id).id, actor="token:tester")
    assert world.connection(connection_id).not_refreshable
    return connection_id


def test_the_expiry_of_a_token_that_nothing_renews_is_told_days_before_and_once(world, unrenewable):
    expires_at = world.connection(unrenewable).expires_at
    plan = world.open_plan(unrenewable)
    assert timedelta(0) <= plan.next_at - (expires_at - 5 * DAY) < timedelta(minutes=5)
    with capture_logs() as logs:
        refresh(world, unrenewable)
    [told] = world.events("token.expiring")
    assert (told.origin, told.document["confirmed"], told.document["error"]["type"]) == (
        "refresh",
        True,
        "token_expiring",
    )
    assert f"{expires_at:%Y-%m-%dT%H:%M:%SZ}" in told.document["error"]["description"]
    assert "the end user has to reconnect" in told.document["error"]["description"]
    [line] = [line for line in logs if line["event"] == "token_expiring"]
    assert line["problem"] == told.document["error"]["description"]
    [job] = world.jobs("expiring")
    assert job.event_id == told.id
    lapse(world, unrenewable)
    assert len(world.events("token.expiring")) == 1
    assert world.connection(unrenewable).status == ConnectionStatus.NEEDS_RECONNECT
    assert len(world.events("connection.needs_reconnect")) == 1


def test_a_reauthorized_connection_is_told_of_anew(world, nango, clock, unrenewable):
    refresh(world, unrenewable)
    clock.move(60)
    bring(nango, unrenewable, expires_at=clock.now + 2 * DAY)
    world.handle(auth("override", connection_id=unrenewable, tags=DANA))
    assert world.connection(unrenewable).announced_expiry is None
    assert len(world.jobs("expiring")) == 1


def test_a_token_that_is_renewed_in_time_is_never_told_of(world, nango, connection_id):
    register(nango, connection_id, "oauth2", tags=DANA)
    world.handle(auth(connection_id=connection_id, tags=DANA))
    for _ in range(3):
        refresh(world, connection_id)
        control(nango, connection_id, "oauth2", expires_in=600)
    assert world.events("token.expiring") == []


def test_a_grant_whose_deadline_no_renewal_moves_is_told_of(world, nango, gate, clock, connection_id):
    register(nango, connection_id, "oauth2", tags=DANA)
    deadline = (clock.now + 4 * DAY).isoformat()

    def edit(body):
        if "credentials" not in body:
            return body
        raw = body["credentials"]["raw"] | {"refresh_token_expires_at": deadline}
        return body | {"credentials": body["credentials"] | {"raw": raw}}

    gate.edit = edit
    world.handle(auth(connection_id=connection_id, tags=DANA))
    refresh(world, connection_id)
    assert world.events("token.expiring") == []
    clock.move(3.2 * 86_400)
    control(nango, connection_id, "oauth2", expires_in=600)
    refresh(world, connection_id)  # renewed, and the deadline stayed
    assert world.plans(connection_id)[1].outcome == "renewed"
    [told] = world.events("token.expiring")
    assert told.document["error"]["type"] == "grant_expiring"
    control(nango, connection_id, "oauth2", expires_in=500)
    refresh(world, connection_id)
    assert len(world.jobs("expiring")) == 1


def test_without_a_policy_nothing_is_told(open_world, nango, gate, connection_id):
    world = open_world(base_url=gate.url, refresh=for_integrations({"*": PolicyPart(enabled=False)}))
    register(nango, connection_id, "oauth2", tags=DANA)
    world.handle(auth(connection_id=connection_id, tags=DANA))
    assert world.plans(connection_id) == []
    assert world.events("token.expiring") == []

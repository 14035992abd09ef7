"""Promise 13: a token that has expired and cannot be renewed needs a reconnect, which is announced once.

Promises 5 and 8 hold beside it: a failure, an outage and a rate limit are not the connection's end.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from app.db.models import Refresh
from app.domain.refreshing.policy import PolicyPart, for_integrations
from app.domain.states import ConnectionStatus, RefreshOutcome
from app.errors import NangoRefreshBackingOff, NangoRefreshExhausted, NangoRefreshFailed
from app.ids import CONNECTION, show
from app.services.connections import credentials
from app.services.connections.operations import Operations
from app.services.refreshing.planned import refresher_of
from tests.integration.reconciliation.test_reconciling import age, finish, reconciler_of, request
from tests.integration.sandbox.sandbox_server import control, fetch, register
from tests.integration.world import DANA, auth, failure

DAY = timedelta(days=1).total_seconds()
WHO = "token:tester"


@pytest.fixture
def world(open_world, gate):
    made = open_world(base_url=gate.url)
    made.route(
        broken={"type": ["connection.needs_reconnect"], "user": {"external_id": ["usr_1042"]}},
        again={"type": ["connection.reauthorized"]},
        recovered={"type": ["connection.recovered"]},
    )
    return made


@pytest.fixture
def at(world):
    return Operations(world.database, world.policy, world.clients, world.clock)


def bring(nango, connection_id, *, expires_at, refresh_token=None):
    """Import a connection with an OAuth token: without a refresh token, nothing ever renews it.

    (Nango contract: When a token is refreshed)
    """
    given = {"type": "OAUTH2", "access_token": "an-access-token", "expires_at": expires_at.isoformat()}
    if refresh_token:
        given["refresh_token"] = refresh_token
    body = {"provider_config_key": "oauth2", "connection_id": connection_id, "credentials": given, "tags": DANA}
    nango.post("/connections", json=body).raise_for_status()


@pytest.fixture
def unrenewable(world, nango, clock, connection_id):
    """A linked connection whose token expires in an hour, for good."""
    bring(nango, connection_id, expires_at=datetime.now(UTC) + timedelta(hours=1))
    world.handle(auth(connection_id=connection_id, tags=DANA))
    return connection_id


def refresh_next(world, connection_id, *, process=True):
    """Run the next planned refresh; its row, with the outcome."""
    plan = world.open_plan(connection_id)
    world.clock.now = max(world.clock.now, plan.next_at)
    assert world.refresher.refresh_due() == 1
    if process:
        world.process()
    [done] = world.all(Refresh, Refresh.id == plan.id)
    return done


def refresh_until_forced(world, connection_id, *, process=True):
    """Run the plain refreshes, until the next one is forced."""
    for _ in range(10):
        if world.open_plan(connection_id).forced:
            return
        refresh_next(world, connection_id, process=process)
    raise AssertionError("no refresh was forced")


def lapse(world, connection_id):
    """Refresh until the connection is given up; the refreshes there were."""
    refreshes = []
    while world.connection(connection_id).status == ConnectionStatus.ACTIVE:
        refreshes.append(refresh_next(world, connection_id))
        assert len(refreshes) < 10
    return refreshes


def test_a_token_that_expired_for_good_needs_a_reconnect_which_is_announced_once(world, unrenewable):
    with capture_logs() as logs:
        refreshes = lapse(world, unrenewable)
    connection = world.connection(unrenewable)
    assert (connection.status, connection.last_error_type) == (ConnectionStatus.NEEDS_RECONNECT, "token_expired")
    assert [done.outcome for done in refreshes] == [
        "first_seen",
        *["unchanged"] * (len(refreshes) - 2),
        "not_refreshable",
    ]
    assert [done.forced for done in refreshes] == [False] * (len(refreshes) - 1) + [True]
    assert refreshes[-1].finished_at > connection.expires_at
    assert [done.error for done in refreshes[:-1]] == [None] * (len(refreshes) - 1)
    assert "its token expired at" in refreshes[-1].error  # the history says which refresh showed it
    [line] = [line for line in logs if line["event"] == "token_expired"]
    assert (line["connection"], line["problem"]) == (show(CONNECTION, connection.id), refreshes[-1].error)
    assert world.owner(unrenewable) == ("usr_1042", "org_77")
    [announced] = world.events("connection.needs_reconnect")
    assert (announced.origin, announced.confirmed, announced.document["user"]["external_id"]) == (
        "refresh",
        True,
        "usr_1042",
    )
    assert announced.document["error"]["type"] == "token_expired"
    assert f"{connection.expires_at:%Y-%m-%dT%H:%M:%SZ}" in announced.document["error"]["description"]
    for _ in range(3):
        again = refresh_next(world, unrenewable)
        assert again.error is None
        assert (again.outcome, again.forced) == ("unchanged", False)
        assert 0.8 * DAY < (world.open_plan(unrenewable).next_at - world.clock.now).total_seconds() <= DAY
    assert world.connection(unrenewable).status == ConnectionStatus.NEEDS_RECONNECT
    assert len(world.jobs("broken")) == 1
    assert world.events("connection.recovered") == []


def test_a_reauthorization_ends_it_and_its_expiry_is_first_seen(world, nango, clock, unrenewable):
    lapse(world, unrenewable)
    bring(nango, unrenewable, expires_at=clock.now + timedelta(hours=5))
    world.handle(auth("override", connection_id=unrenewable, tags=DANA))
    connection = world.connection(unrenewable)
    assert (connection.status, connection.last_error_type) == (ConnectionStatus.ACTIVE, None)
    assert connection.expires_at is None  # of the new credentials nothing is known yet
    assert len(world.jobs("again")) == 1
    done = refresh_next(world, unrenewable)
    assert (done.outcome, done.previous_expires_at) == ("first_seen", None)
    assert world.connection(unrenewable).status == ConnectionStatus.ACTIVE
    lapse(world, unrenewable)
    assert len(world.jobs("broken")) == 2  # another token, another end


def test_a_reauthorization_whose_webhook_was_missed_is_found_within_a_day(world, nango, clock, unrenewable):
    lapse(world, unrenewable)
    bring(nango, unrenewable, expires_at=clock.now + timedelta(days=5))
    assert refresh_next(world, unrenewable).outcome == "renewed"
    connection = world.connection(unrenewable)
    assert (connection.status, connection.last_error_type) == (ConnectionStatus.ACTIVE, None)
    assert len(world.jobs("recovered")) == 1
    assert world.open_plan(unrenewable).next_at > clock.now + timedelta(days=3)


def test_reconciling_takes_it_for_no_recovery(world, nango, clock, unrenewable):
    """Nango's list shows no error of such a connection: that is how it was missed."""
    lapse(world, unrenewable)
    age(world)
    run = finish(world, reconciler := reconciler_of(world), request(reconciler))
    assert "connection.recovered" not in run.found
    assert world.connection(unrenewable).status == ConnectionStatus.NEEDS_RECONNECT


def test_an_answer_without_credentials_ends_it_not(world, gate, unrenewable):
    """An API key that may not read them gets none, and so no expiry."""
    lapse(world, unrenewable)
    gate.edit = lambda body: body | {"credentials": {}}
    assert refresh_next(world, unrenewable).outcome == "no_expiry"
    assert world.connection(unrenewable).status == ConnectionStatus.NEEDS_RECONNECT
    assert world.events("connection.recovered") == []


def test_nangos_error_that_is_gone_is_no_recovery_where_the_token_has_expired(world, nango, clock, unrenewable):
    refresh_next(world, unrenewable)
    control(nango, unrenewable, "oauth2", exhausted=True)
    world.wait_out(failure("refresh", connection_id=unrenewable, tags=DANA))
    control(nango, unrenewable, "oauth2", exhausted=False)
    clock.now = world.connection(unrenewable).expires_at + timedelta(minutes=1)
    assert refresh_next(world, unrenewable).outcome == "unchanged"
    assert world.events("connection.recovered") == []
    lapse(world, unrenewable)
    assert len(world.jobs("broken")) == 1


def test_a_plan_of_an_integration_that_is_refreshed_no_more_ends_without_a_get(world, gate, unrenewable):
    before, plan = world.connection(unrenewable), world.open_plan(unrenewable)
    policy = replace(world.policy, refresh=for_integrations({"*": PolicyPart(enabled=False)}))
    refresher = refresher_of(world.database, policy, world.clients, world.clock, world.processor.routes)
    world.clock.now, gate.status = plan.next_at, 503
    gate.requests.clear()
    refresher.refresh_due()
    [done] = world.plans(unrenewable)
    assert (done.outcome, done.finished_at, gate.requests) == ("superseded", world.clock.now, [])
    assert "not refreshed any more" in done.error
    after = world.connection(unrenewable)
    assert (after.status, after.last_error_type) == (before.status, None)


def test_what_is_renewed_by_force_alone_is_renewed_and_lives(world, nango, clock, connection_id):
    """Facebook and the like. The sandbox's clock, by which the token lives, stands for them.

    (Nango contract: When a token is refreshed)
    """
    register(nango, connection_id, "oauth2", tags=DANA)
    control(nango, connection_id, "oauth2", expires_in=3600)
    world.handle(auth(connection_id=connection_id, tags=DANA))
    refresh_until_forced(world, connection_id)
    assert refresh_next(world, connection_id).outcome == RefreshOutcome.RENEWED
    assert world.connection(connection_id).status == ConnectionStatus.ACTIVE
    assert world.events("connection.needs_reconnect") == []


@pytest.mark.parametrize("status", [429, 500, 503, 401])
def test_trouble_at_nango_is_not_the_connections_end(world, gate, clock, unrenewable, status):
    """Also where it comes at the last refresh, by force: that says nothing of the token."""
    refresh_until_forced(world, unrenewable)
    gate.status = status
    clock.now = world.open_plan(unrenewable).next_at
    world.refresher.refresh_due()
    connection = world.connection(unrenewable)
    assert connection.status == ConnectionStatus.ACTIVE
    assert connection.last_error_type != "token_expired"
    assert world.owner(unrenewable) == ("usr_1042", "org_77")
    gate.status = None
    refreshes = lapse(world, unrenewable)
    assert refreshes[-1].forced  # and only then
    assert len(world.jobs("broken")) == 1


def test_a_failing_refresh_follows_nangos_exhaustion_though_the_token_has_expired(world, nango, clock, connection_id):
    bring(nango, connection_id, expires_at=datetime.now(UTC) - timedelta(minutes=1), refresh_token="a-grant")
    nango.post("/sandbox/faults", json={"operation": "refresh", "connection_id": connection_id}).raise_for_status()
    world.handle(auth(connection_id=connection_id, tags=DANA))
    for _ in range(3):
        assert refresh_next(world, connection_id).outcome in {"failed", "backing_off"}
    assert world.connection(connection_id).status == ConnectionStatus.ACTIVE
    control(nango, connection_id, "oauth2", exhausted=True)
    assert refresh_next(world, connection_id).outcome == "exhausted"
    assert world.connection(connection_id).status == ConnectionStatus.NEEDS_RECONNECT
    assert len(world.jobs("broken")) == 1


def test_a_failure_that_was_announced_before_ends_with_the_token_not_as_a_recovery(world, nango, clock, unrenewable):
    control(nango, unrenewable, "oauth2", exhausted=True)
    world.wait_out(failure("refresh", connection_id=unrenewable, tags=DANA))
    control(nango, unrenewable, "oauth2", exhausted=False)
    refresh_until_forced(world, unrenewable, process=False)  # that Nango's error is over is not applied yet
    refresh_next(world, unrenewable)
    assert world.connection(unrenewable).last_error_type == "token_expired"
    assert world.connection(unrenewable).status == ConnectionStatus.NEEDS_RECONNECT
    assert world.jobs("recovered") == []


def test_an_expiry_of_a_kind_that_nothing_renews_is_checked_once_it_is_known(world, at, nango, clock, connection_id):
    """Such a connection gets no refresh of its own. A person's read may show an expiry, and from then on it counts."""
    register(nango, connection_id, "oauth2", tags=DANA)
    control(nango, connection_id, "oauth2", expires_in=1800)
    world.handle(auth(connection_id=connection_id, tags=DANA, mode="CUSTOM"))
    assert world.open_plan(connection_id) is None
    credentials.get_credentials(at, world.connection(connection_id).id, actor=WHO)
    expires_at = world.connection(connection_id).expires_at
    assert timedelta(0) < expires_at - world.open_plan(connection_id).next_at <= timedelta(minutes=7.5)
    refresh_next(world, connection_id)  # in the last quarter of its life, so that it is announced
    assert len(world.events("token.expiring")) == 1
    assert timedelta(0) < world.open_plan(connection_id).next_at - expires_at <= timedelta(minutes=1)
    assert len(lapse(world, connection_id)) == 1
    assert world.connection(connection_id).last_error_type == "token_expired"


# By hand


def history(world, connection_id):
    return [plan for plan in world.plans(connection_id) if plan.requested_by is not None]


def counted(outcome):
    named = {"environment": "default", "integration": "oauth2", "outcome": outcome}
    return REGISTRY.get_sample_value("waylink_refreshes_total", named) or 0


def test_a_refresh_by_hand_is_in_the_history_with_actor_and_result(world, at, nango, clock, connection_id):
    register(nango, connection_id, "oauth2", tags=DANA)
    world.handle(auth(connection_id=connection_id, tags=DANA))
    ref, planned = world.connection(connection_id).id, world.open_plan(connection_id)
    before = counted("first_seen")
    first = credentials.refresh(at, ref, actor=WHO)
    assert counted("first_seen") == before + 1
    assert first.outcome == RefreshOutcome.FIRST_SEEN
    control(nango, connection_id, "oauth2", expires_in=600)
    credentials.get_credentials(at, ref, actor=WHO, force_refresh=True)
    earlier, later = history(world, connection_id)
    assert (earlier.outcome, earlier.previous_expires_at, earlier.expires_at) == ("first_seen", None, first.expires_at)
    assert (later.outcome, later.previous_expires_at) == ("renewed", first.expires_at)
    assert later.expires_at == world.connection(connection_id).expires_at != first.expires_at
    assert {(done.requested_by, done.forced, done.attempts, done.error) for done in (earlier, later)} == {
        (WHO, True, 1, None)
    }
    assert [done.reason for done in (earlier, later)] == ["a refresh was asked for", "credentials were read"]
    assert all(done.finished_at == clock.now for done in (earlier, later))
    before = {done.id: done for done in world.plans(connection_id)}[planned.id]
    assert (before.outcome, before.finished_at) == ("superseded", clock.now)
    plan = world.open_plan(connection_id)
    assert timedelta(minutes=9) < later.expires_at - plan.next_at < timedelta(minutes=15)


def test_a_refresh_by_hand_that_fails_is_in_the_history_and_the_plan_stays(world, at, nango, gate, connection_id):
    register(nango, connection_id, "oauth2", tags=DANA)
    world.handle(auth(connection_id=connection_id, tags=DANA))
    ref, planned = world.connection(connection_id).id, world.open_plan(connection_id)
    nango.post("/sandbox/faults", json={"operation": "refresh", "connection_id": connection_id}).raise_for_status()
    with pytest.raises(credentials.NangoError):
        credentials.refresh(at, ref, actor=WHO)
    gate.status = 503
    with pytest.raises(credentials.NangoError):
        credentials.refresh(at, ref, actor=WHO)
    failed, waited = history(world, connection_id)
    assert (failed.outcome, failed.requested_by) == ("failed", WHO)
    assert failed.error
    assert (waited.outcome, waited.finished_at is None) == ("nango_down", False)
    assert world.open_plan(connection_id).id == planned.id
    assert world.connection(connection_id).status == ConnectionStatus.ACTIVE


def test_reading_credentials_is_a_refresh_only_where_nango_renewed_them(world, at, nango, connection_id):
    register(nango, connection_id, "oauth2", tags=DANA)
    world.handle(auth(connection_id=connection_id, tags=DANA))
    ref = world.connection(connection_id).id
    credentials.get_credentials(at, ref, actor=WHO)  # an hour before its expiry
    seen = world.open_plan(connection_id)
    for _ in range(3):
        credentials.get_credentials(at, ref, actor=WHO)
    assert history(world, connection_id) == []
    assert world.open_plan(connection_id).id == seen.id  # reading often puts no refresh off
    control(nango, connection_id, "oauth2", expires_in=600)
    credentials.get_credentials(at, ref, actor=WHO)
    [done] = history(world, connection_id)
    assert (done.outcome, done.forced, done.reason) == ("renewed", False, "credentials were read")


def test_a_read_is_in_the_history_where_nango_tried_and_not_while_it_waits(world, at, nango, connection_id):
    """An application reads as often as it likes: its reads do not push the refreshes out of the history."""
    register(nango, connection_id, "oauth2", tags=DANA)
    world.handle(auth(connection_id=connection_id, tags=DANA))
    control(nango, connection_id, "oauth2", expires_in=600)
    ref = world.connection(connection_id).id
    nango.post("/sandbox/faults", json={"operation": "refresh", "connection_id": connection_id}).raise_for_status()
    for error in [NangoRefreshFailed, *[NangoRefreshBackingOff] * 3]:
        with pytest.raises(error):
            credentials.get_credentials(at, ref, actor=WHO)
    assert [done.outcome for done in history(world, connection_id)] == ["failed"]
    control(nango, connection_id, "oauth2", exhausted=True)
    for _ in range(3):
        with pytest.raises(NangoRefreshExhausted):
            credentials.get_credentials(at, ref, actor=WHO)
    assert [done.outcome for done in history(world, connection_id)] == ["failed", "exhausted"]
    planned = [plan for plan in world.plans(connection_id) if plan.requested_by is None]
    assert [plan.outcome for plan in planned] == ["superseded", None]  # one refresh is due, whatever is read meanwhile


def test_a_read_that_a_newer_renewal_overtook_takes_nothing_back(world, at, nango, gate, connection_id):
    register(nango, connection_id, "oauth2", tags=DANA)
    world.handle(auth(connection_id=connection_id, tags=DANA))
    refresh_next(world, connection_id)
    old = world.connection(connection_id).expires_at

    def renew():
        control(nango, connection_id, "oauth2", expires_in=600)
        assert refresh_next(world, connection_id).outcome == "renewed"

    gate.after = renew  # Nango has answered the read, and the answer is still in flight
    credentials.get_credentials(at, world.connection(connection_id).id, actor=WHO)
    assert gate.problem is None
    assert world.connection(connection_id).expires_at not in {None, old}
    assert history(world, connection_id) == []


def test_what_a_refresh_by_hand_finds_given_up_is_concluded_by_a_planned_one_at_once(world, at, nango, connection_id):
    register(nango, connection_id, "oauth2", tags=DANA)
    world.handle(auth(connection_id=connection_id, tags=DANA))
    control(nango, connection_id, "oauth2", exhausted=True)
    with pytest.raises(credentials.NangoError):
        credentials.get_credentials(at, world.connection(connection_id).id, actor=WHO)
    assert history(world, connection_id)[0].outcome == "exhausted"
    assert refresh_next(world, connection_id).finished_at == world.clock.now
    assert world.connection(connection_id).status == ConnectionStatus.NEEDS_RECONNECT
    assert len(world.jobs("broken")) == 1
    with pytest.raises(credentials.NangoError):
        credentials.get_credentials(at, world.connection(connection_id).id, actor=WHO)
    assert world.open_plan(connection_id) is None


def test_a_forced_refresh_by_hand_of_an_expired_token_is_checked_once_more(world, at, clock, unrenewable):
    refresh_next(world, unrenewable)
    clock.move(2 * 3600)
    done = credentials.refresh(at, world.connection(unrenewable).id, actor=WHO)
    assert done.outcome == RefreshOutcome.NOT_REFRESHABLE
    assert world.connection(unrenewable).status == ConnectionStatus.ACTIVE
    [last] = lapse(world, unrenewable)
    assert (last.forced, last.finished_at) == (True, clock.now)
    assert len(world.jobs("broken")) == 1


def test_a_refresh_by_hand_that_brings_a_new_token_ends_it(world, at, nango, clock, unrenewable):
    lapse(world, unrenewable)
    bring(nango, unrenewable, expires_at=clock.now + timedelta(days=5))
    credentials.refresh(at, world.connection(unrenewable).id, actor=WHO)
    world.process()
    assert world.connection(unrenewable).status == ConnectionStatus.ACTIVE
    assert len(world.jobs("recovered")) == 1


def test_a_connection_that_is_gone_is_found_by_the_refresh_by_hand(world, at, nango, connection_id):
    register(nango, connection_id, "oauth2", tags=DANA)
    world.handle(auth(connection_id=connection_id, tags=DANA))
    nango.delete(f"/connections/{connection_id}", params={"provider_config_key": "oauth2"}).raise_for_status()
    assert fetch(nango, connection_id, "oauth2").status_code == 404
    with pytest.raises(credentials.NangoError):
        credentials.refresh(at, world.connection(connection_id).id, actor=WHO)
    assert history(world, connection_id)[0].outcome == "gone"
    assert refresh_next(world, connection_id).outcome == "gone"

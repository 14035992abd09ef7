"""Promise 3: a signature is no proof. Nango's API says what is, and its list may lag behind."""

from datetime import timedelta
from pathlib import Path

import pytest

from app.db.models import Connection, User
from app.domain.states import ConnectionStatus, EventState
from tests.integration.sandbox.sandbox_server import control, register
from tests.integration.world import DANA, OMAR, auth, failure
from tests.ports import free_port

SAMPLES = Path(__file__).parents[2] / "data" / "nango" / "samples" / "webhooks"
SCHEDULE = (2, 5, 15, 60)


@pytest.fixture
def world(open_world, base_url):
    return open_world(base_url=base_url)


@pytest.fixture
def confirm_slowly(open_world, gate):
    """A second worker; `meanwhile` runs between Nango's answer to it and its recording of that."""

    def handle(body, *, meanwhile):
        gate.after = meanwhile
        return open_world(base_url=gate.url).handle(body)

    return handle


def check_again(world, event_id, seconds):
    """Assert that the event waits just so long, and process it again then."""
    event = world.event(event_id)
    assert event.state == EventState.RECEIVED
    assert event.next_at == world.clock.now + timedelta(seconds=seconds)
    world.clock.move(seconds - 0.001)
    assert world.process().finished + world.process().waiting == 0
    world.clock.move(0.001)
    world.process()


def test_a_success_links_when_the_api_shows_it_with_the_apis_tags(world, nango, connection_id):
    nango_id = register(nango, connection_id, "oauth2", tags=DANA)["id"]
    event = world.event(world.handle(auth(connection_id=connection_id, tags=DANA)))
    assert (event.state, event.confirmed, event.document["confirmed"]) == (EventState.PROCESSED, True, True)
    connection = world.connection(connection_id)
    assert (connection.status, connection.nango_id, connection.tags) == (ConnectionStatus.ACTIVE, nango_id, DANA)
    assert world.owner(connection_id) == ("usr_1042", "org_77")


@pytest.mark.parametrize("count", [2, 30])
def test_a_burst_is_found_with_its_integration_not_by_id_alone(world, nango, connection_id, count):
    names = [f"{connection_id}-{number}" for number in range(count)]
    for name in names:
        register(nango, name, "oauth2", tags=DANA)
        register(nango, name, "oauth2-cc", tags=OMAR)
    receipts = world.receive(*[auth(connection_id=name, tags=DANA) for name in names])
    assert world.process(*receipts).finished == count
    assert {world.owner(name) for name in names} == {("usr_1042", "org_77")}


def test_tags_that_disagree_change_nothing_until_the_schedule_ends_then_the_api_holds(world, nango, connection_id):
    register(nango, connection_id, "oauth2", tags=OMAR)
    event_id = world.handle(auth(connection_id=connection_id, tags=DANA))
    for seconds in SCHEDULE:
        assert world.connection(connection_id) is None
        assert "different tags" in world.event(event_id).problem
        check_again(world, event_id, seconds)
    event, connection = world.event(event_id), world.connection(connection_id)
    assert (event.state, event.confirmed) == (EventState.PROCESSED, True)
    assert (connection.tags_disagree, connection.tags) == (True, OMAR)
    assert world.owner(connection_id) == ("usr_2001", "org_88")
    assert {user.external_id for user in world.all(User)} == {"usr_2001"}  # a body alone makes no user
    assert event.document["tags"] == OMAR


def test_tags_that_agree_again_are_no_longer_marked(world, nango, clock, connection_id):
    register(nango, connection_id, "oauth2", tags=OMAR)
    event_id = world.handle(auth(connection_id=connection_id, tags=DANA))
    for seconds in SCHEDULE:
        check_again(world, event_id, seconds)
    world.handle(auth("override", connection_id=connection_id, tags=OMAR))
    assert world.connection(connection_id).tags_disagree is False


def test_a_body_without_tags_takes_those_of_the_api_at_once(world, nango, connection_id):
    register(nango, connection_id, "oauth2", tags=DANA)
    event = world.event(world.handle(auth(connection_id=connection_id)))
    assert event.state == EventState.PROCESSED
    assert world.owner(connection_id) == ("usr_1042", "org_77")


def test_a_connection_that_nango_never_shows_is_not_confirmed_and_leaves_nothing(world, nango, connection_id):
    world.route(all={"environment": ["default"]})
    event_id = world.handle(auth(connection_id=connection_id, tags=DANA))
    for seconds in SCHEDULE:
        assert "does not show" in world.event(event_id).problem
        check_again(world, event_id, seconds)
    event = world.event(event_id)
    assert (event.state, event.failure, event.confirmed) == (EventState.FAILED, "not_confirmed", False)
    assert (world.all(Connection), world.all(User), world.jobs()) == ([], [], [])


def test_a_forwarded_body_shaped_like_an_auth_event_never_links(world, clock):
    body = (SAMPLES / "forward_unattributed_raw_shaped_like_auth.json").read_bytes()
    event_id = world.handle(body)
    for _ in range(10):
        clock.move(100)
        world.process()
    assert world.event(event_id).failure == "not_confirmed"
    assert (world.all(Connection), world.all(User)) == ([], [])


def test_a_spoofed_override_cannot_take_a_connection_over(world, nango, connection_id):
    register(nango, connection_id, "oauth2", tags=DANA)
    world.handle(auth(connection_id=connection_id, tags=DANA))
    event_id = world.handle(auth("override", connection_id=connection_id, tags=OMAR))
    for seconds in SCHEDULE:
        check_again(world, event_id, seconds)
    assert world.owner(connection_id) == ("usr_1042", "org_77")
    assert len(world.links(connection_id)) == 1


def test_nango_being_down_counts_for_nothing(open_world, world, nango, clock, connection_id):
    register(nango, connection_id, "oauth2", tags=DANA)
    down = open_world(base_url=f"http://127.0.0.1:{free_port()}")
    event_id = down.handle(auth(connection_id=connection_id, tags=DANA))
    for _ in range(8):  # more often than the schedule has lookups, or an event has claims
        event = down.event(event_id)
        assert (event.state, event.looks, event.attempts) == (EventState.RECEIVED, 0, 0)
        clock.move((event.next_at - clock.now).total_seconds())
        down.process()
    clock.move(60)
    world.process()
    assert world.owner(connection_id) == ("usr_1042", "org_77")


@pytest.mark.parametrize("status", [500, 502, 401, 302])
def test_an_answer_that_says_nothing_of_the_connection_counts_for_nothing(
    *, open_world, nango, gate, clock, connection_id, status
):
    register(nango, connection_id, "oauth2", tags=DANA)
    world = open_world(base_url=gate.url)
    gate.status = status
    event_id = world.handle(auth(connection_id=connection_id, tags=DANA))
    assert (world.event(event_id).state, world.event(event_id).looks) == (EventState.RECEIVED, 0)
    gate.status = None
    clock.move(60)
    world.process()
    assert world.event(event_id).state == EventState.PROCESSED


def test_a_rate_limit_is_waited_out_and_counts_for_nothing(world, nango, clock, connection_id):
    register(nango, connection_id, "oauth2", tags=DANA)
    nango.patch("/sandbox/settings", json={"rate_limit_per_minute": 0}).raise_for_status()
    event_id = world.handle(auth(connection_id=connection_id, tags=DANA))
    event = world.event(event_id)
    assert (event.state, event.looks) == (EventState.RECEIVED, 0)
    assert timedelta(seconds=1) <= event.next_at - clock.now <= timedelta(seconds=60)
    nango.patch("/sandbox/settings", json={"rate_limit_per_minute": 100_000}).raise_for_status()
    clock.move(60)
    world.process()
    assert world.event(event_id).state == EventState.PROCESSED


def test_a_lagging_replica_only_delays_the_link(world, nango, connection_id):
    nango.patch("/sandbox/settings", json={"replica_lag": 3600}).raise_for_status()
    register(nango, connection_id, "oauth2", tags=DANA)
    event_id = world.handle(auth(connection_id=connection_id, tags=DANA))
    check_again(world, event_id, 2)
    assert world.owner(connection_id) is None
    nango.patch("/sandbox/settings", json={"replica_lag": 0}).raise_for_status()
    check_again(world, event_id, 5)
    assert world.owner(connection_id) == ("usr_1042", "org_77")


def test_old_tags_of_a_lagging_replica_do_not_undo_a_reauthorization(world, nango, connection_id):
    register(nango, connection_id, "oauth2", tags=DANA)
    world.handle(auth(connection_id=connection_id, tags=DANA))
    nango.patch("/sandbox/settings", json={"replica_lag": 3600}).raise_for_status()
    register(nango, connection_id, "oauth2", tags=OMAR)
    event_id = world.handle(auth("override", connection_id=connection_id, tags=OMAR))
    assert world.owner(connection_id) == ("usr_1042", "org_77")
    nango.patch("/sandbox/settings", json={"replica_lag": 0}).raise_for_status()
    check_again(world, event_id, 2)
    assert world.owner(connection_id) == ("usr_2001", "org_88")
    assert world.connection(connection_id).tags_disagree is False


def test_an_older_view_never_overwrites_a_newer_one(open_world, world, nango, gate, connection_id):
    register(nango, connection_id, "oauth2", tags=DANA)
    slow = open_world(base_url=gate.url)

    def meanwhile():
        register(nango, connection_id, "oauth2", tags=OMAR)
        world.handle(auth("override", connection_id=connection_id, tags=OMAR))

    gate.after = meanwhile
    event_id = slow.handle(auth(connection_id=connection_id, tags=DANA))
    assert world.event(event_id).state == EventState.PROCESSED
    assert world.owner(connection_id) == ("usr_2001", "org_88")
    assert world.connection(connection_id).tags == OMAR


def test_no_transaction_is_open_while_nango_is_asked(open_world, nango, gate, connection_id):
    """On SQLite the store would wait ten seconds for it and fail."""
    register(nango, connection_id, "oauth2", tags=DANA)
    world = open_world(base_url=gate.url)
    gate.before = lambda: world.receive(b"A")
    world.handle(auth(connection_id=connection_id, tags=DANA))
    assert len(world.events("nango.unhandled")) + len(world.events(None)) == 1


def test_a_refresh_failure_is_believed_when_the_api_shows_an_error(world, nango, connection_id):
    register(nango, connection_id, "oauth2", tags=DANA)
    world.handle(auth(connection_id=connection_id, tags=DANA))
    event_id = world.handle(failure("refresh", connection_id=connection_id, tags=DANA, kind="refresh_failed"))
    assert world.connection(connection_id).last_error_type is None
    control(nango, connection_id, "oauth2", exhausted=True)
    check_again(world, event_id, 2)
    event, connection = world.event(event_id), world.connection(connection_id)
    assert (event.type, event.state, event.confirmed) == ("connection.refresh_failed", EventState.PROCESSED, True)
    assert (connection.last_error_type, connection.status) == ("refresh_failed", ConnectionStatus.ACTIVE)
    assert world.owner(connection_id) == ("usr_1042", "org_77")


def test_a_refresh_failure_that_the_api_never_shows_is_not_confirmed(world, nango, connection_id):
    register(nango, connection_id, "oauth2", tags=DANA)
    world.handle(auth(connection_id=connection_id, tags=DANA))
    event_id = world.handle(failure("refresh", connection_id=connection_id, tags=DANA))
    for seconds in SCHEDULE:
        check_again(world, event_id, seconds)
    assert world.event(event_id).failure == "not_confirmed"
    assert world.connection(connection_id).last_error_type is None


def test_a_recovery_is_believed_when_the_api_shows_no_error(world, nango, connection_id):
    register(nango, connection_id, "oauth2", tags=DANA)
    world.handle(auth(connection_id=connection_id, tags=DANA))
    control(nango, connection_id, "oauth2", exhausted=True)
    world.handle(failure("refresh", connection_id=connection_id, tags=DANA))
    event_id = world.handle(auth("refresh", connection_id=connection_id, tags=DANA))
    assert world.connection(connection_id).last_error_type == "unknown"
    control(nango, connection_id, "oauth2", exhausted=False)
    check_again(world, event_id, 2)
    assert world.event(event_id).type == "connection.recovered"
    assert world.connection(connection_id).last_error_type is None


@pytest.mark.parametrize("operation", ["creation", "override"])
def test_an_error_without_a_webhook_is_announced_when_a_flows_webhook_still_meets_it(
    world, nango, connection_id, operation
):
    register(nango, connection_id, "oauth2", tags=DANA)
    world.handle(auth(connection_id=connection_id, tags=DANA))
    control(nango, connection_id, "oauth2", exhausted=True)
    event_id = world.handle(auth(operation, connection_id=connection_id, tags=DANA) + b" ")
    for seconds in SCHEDULE:
        assert world.connection(connection_id).last_error_type is None
        check_again(world, event_id, seconds)
    assert world.event(event_id).state == EventState.PROCESSED
    assert world.connection(connection_id).last_error_type == "auth"
    [told] = world.events("connection.refresh_failed")
    assert (told.origin, told.connection_id) == ("system", connection_id)
    assert world.owner(connection_id) == ("usr_1042", "org_77")


@pytest.mark.parametrize("ended_by", ["override", "refresh"])
def test_an_older_failure_does_not_hide_what_ended_it(world, nango, confirm_slowly, connection_id, ended_by):
    register(nango, connection_id, "oauth2", tags=DANA)
    world.handle(auth(connection_id=connection_id, tags=DANA))
    control(nango, connection_id, "oauth2", exhausted=True)

    def meanwhile():
        control(nango, connection_id, "oauth2", exhausted=False)
        world.handle(auth(ended_by, connection_id=connection_id, tags=DANA))

    event_id = confirm_slowly(failure("refresh", connection_id=connection_id, tags=DANA), meanwhile=meanwhile)
    assert world.event(event_id).state == EventState.PROCESSED
    assert world.connection(connection_id).last_error_type is None


def test_a_deletion_is_believed_after_two_absences(world, nango, clock, connection_id):
    world.route(deleted={"type": ["connection.deleted"]})
    register(nango, connection_id, "oauth2", tags=DANA)
    world.handle(auth(connection_id=connection_id, tags=DANA))
    nango.delete(f"/connections/{connection_id}", params={"provider_config_key": "oauth2"}).raise_for_status()
    event_id = world.handle(auth("deletion", connection_id=connection_id, tags=DANA))
    assert world.connection(connection_id).status == ConnectionStatus.ACTIVE
    assert world.owner(connection_id) == ("usr_1042", "org_77")
    check_again(world, event_id, 2)
    assert world.connection(connection_id).status == ConnectionStatus.DELETED
    assert world.owner(connection_id) is None
    assert [link.close_reason for link in world.links(connection_id)] == ["deleted"]
    assert world.open_plan(connection_id) is None
    [job] = world.jobs()
    document = world.event(job.event_id).document
    assert (document["type"], document["confirmed"], document["tags"]) == ("connection.deleted", True, DANA)


def test_a_deletion_of_a_connection_that_the_api_still_shows_is_not_confirmed(world, nango, connection_id):
    register(nango, connection_id, "oauth2", tags=DANA)
    world.handle(auth(connection_id=connection_id, tags=DANA))
    event_id = world.handle(auth("deletion", connection_id=connection_id, tags=DANA))
    for seconds in SCHEDULE:
        check_again(world, event_id, seconds)
    assert world.event(event_id).failure == "not_confirmed"
    assert world.connection(connection_id).status == ConnectionStatus.ACTIVE
    assert world.owner(connection_id) == ("usr_1042", "org_77")


def test_one_absence_between_two_sightings_proves_nothing(world, nango, connection_id):
    register(nango, connection_id, "oauth2", tags=DANA)
    world.handle(auth(connection_id=connection_id, tags=DANA))
    nango.delete(f"/connections/{connection_id}", params={"provider_config_key": "oauth2"}).raise_for_status()
    event_id = world.handle(auth("deletion", connection_id=connection_id, tags=DANA))
    register(nango, connection_id, "oauth2", tags=DANA)
    check_again(world, event_id, 2)
    assert world.connection(connection_id).absences == 0
    nango.delete(f"/connections/{connection_id}", params={"provider_config_key": "oauth2"}).raise_for_status()
    check_again(world, event_id, 5)
    assert world.connection(connection_id).status == ConnectionStatus.ACTIVE
    check_again(world, event_id, 2)
    assert world.connection(connection_id).status == ConnectionStatus.DELETED


def test_a_deletion_of_what_we_learnt_without_the_api_is_confirmed_too(open_world, world, nango, connection_id):
    """An environment that got its API key later."""
    register(nango, connection_id, "oauth2", tags=DANA)
    open_world().handle(auth(connection_id=connection_id, tags=DANA))
    event_id = world.handle(auth("deletion", connection_id=connection_id, tags=DANA))
    for seconds in SCHEDULE:
        check_again(world, event_id, seconds)
    assert world.event(event_id).failure == "not_confirmed"
    assert world.owner(connection_id) == ("usr_1042", "org_77")


def test_a_deletion_of_an_unknown_connection_is_kept_and_changes_nothing(world, connection_id):
    event = world.event(world.handle(auth("deletion", connection_id=connection_id, tags=DANA)))
    assert (event.state, event.confirmed) == (EventState.PROCESSED, False)
    assert world.connection(connection_id) is None


def test_an_older_view_does_not_revive_what_was_deleted(world, nango, confirm_slowly, clock, connection_id):
    register(nango, connection_id, "oauth2", tags=DANA)
    world.handle(auth(connection_id=connection_id, tags=DANA))

    def meanwhile():
        query = {"provider_config_key": "oauth2"}
        nango.delete(f"/connections/{connection_id}", params=query).raise_for_status()
        event_id = world.handle(auth("deletion", connection_id=connection_id, tags=DANA))
        clock.move(2)
        world.process()
        assert world.event(event_id).state == EventState.PROCESSED

    confirm_slowly(auth("override", connection_id=connection_id, tags=DANA), meanwhile=meanwhile)
    assert world.connection(connection_id).status == ConnectionStatus.DELETED
    assert world.owner(connection_id) is None


@pytest.mark.parametrize("first", ["creation", "deletion"])
@pytest.mark.parametrize("told", ["creation", "override"])
def test_a_deletion_in_the_batch_that_makes_the_connection_is_not_believed_either(
    *, world, nango, connection_id, first, told
):
    """A sender that knows an id can have a deletion signed just when the connection appears."""
    world.route(all={"type": ["connection.created", "connection.reauthorized", "connection.deleted"]})
    register(nango, connection_id, "oauth2", tags=DANA)
    bodies = [
        auth("deletion", connection_id=connection_id, tags=DANA),
        auth(told, connection_id=connection_id, tags=DANA),
    ]
    world.process(*world.receive(*(bodies if first == "deletion" else reversed(bodies))))
    for seconds in SCHEDULE:
        world.clock.move(seconds)
        world.process()
    assert world.connection(connection_id).status == ConnectionStatus.ACTIVE
    assert world.owner(connection_id) == ("usr_1042", "org_77")
    assert len(world.jobs()) == 1
    announced = world.connection(connection_id).announced_nango_id
    assert (announced is not None) == (told == "creation"), "what was not announced is left to its webhook, or to a run"

"""Promise 8: tokens are renewed in time and without harm; promise 7: none of them rests here."""

from datetime import datetime, timedelta

import pytest

from app.db import refreshes as refresh_rows
from app.deadlines import MAX_CLAIMS, REFRESH_LEASE
from app.domain.refreshing.plan import Plan
from app.domain.refreshing.policy import PolicyPart, for_integrations
from app.domain.states import ConnectionStatus, RefreshOutcome
from tests.integration.sandbox.sandbox_server import control, fetch, register
from tests.integration.world import (
    DANA,
    OMAR,
    TOKEN,
    KilledError,
    auth,
    dump,
    dying_at,
    failure,
    in_threads,
)
from tests.ports import free_port

LEASE = REFRESH_LEASE.total_seconds() + 1


@pytest.fixture
def world(open_world, gate):
    return open_world(base_url=gate.url)


@pytest.fixture
def planned(world, nango, gate, clock, connection_id):
    """A linked connection whose first refresh is due and whose token expires within Nango's margin."""
    register(nango, connection_id, "oauth2", tags=DANA)
    world.handle(auth(connection_id=connection_id, tags=DANA))
    control(nango, connection_id, "oauth2", expires_in=600)
    clock.now = world.open_plan(connection_id).next_at
    gate.requests.clear()
    return connection_id


def expiry(nango, connection_id):
    """The expiry of the sandbox's token, read without renewing it."""
    listed = control(nango, connection_id, "oauth2")
    return datetime.fromisoformat(listed["credentials"]["expires_at"])


def refresh(world):
    return world.refresher.refresh_due()


def test_a_created_connection_gets_a_plan_within_minutes(world, nango, clock, connection_id):
    register(nango, connection_id, "oauth2", tags=DANA)
    world.handle(auth(connection_id=connection_id, tags=DANA))
    plan = world.open_plan(connection_id)
    assert timedelta(seconds=30) <= plan.next_at - clock.now <= timedelta(minutes=5)
    assert (plan.forced, plan.attempts, plan.failures, plan.outcome) == (False, 0, 0, None)
    assert refresh(world) == 0  # not before it is due


def test_a_get_within_the_margin_renews_and_only_the_expiry_is_kept(world, nango, gate, clock, planned):
    before = expiry(nango, planned)
    assert refresh(world) == 1
    after = expiry(nango, planned)
    assert after > before + timedelta(minutes=30)
    assert [path for path in gate.requests if "force_refresh" in path] == []
    assert world.connection(planned).expires_at == after
    done, opened = world.plans(planned)
    assert (done.finished_at, done.expires_at, done.error) == (clock.now, after, None)
    assert after - timedelta(minutes=15) < opened.next_at < after - timedelta(minutes=9)
    assert opened.next_at == opened.refresh_at


def test_a_renewal_is_distinguished_from_a_check_by_the_expiry_that_moved(world, nango, clock, planned):
    refresh(world)
    assert world.plans(planned)[0].outcome == RefreshOutcome.FIRST_SEEN
    control(nango, planned, "oauth2", expires_in=600)
    clock.now = world.open_plan(planned).next_at
    refresh(world)
    assert world.plans(planned)[1].outcome == RefreshOutcome.RENEWED
    assert world.open_plan(planned) is not None


def test_a_check_before_the_margin_renews_nothing(world, nango, clock, connection_id):
    register(nango, connection_id, "oauth2", tags=DANA)
    world.handle(auth(connection_id=connection_id, tags=DANA))
    before = expiry(nango, connection_id)
    clock.now = world.open_plan(connection_id).next_at
    refresh(world)
    assert expiry(nango, connection_id) == world.connection(connection_id).expires_at == before


def test_credentials_without_an_expiry_leave_no_plan(world, nango, planned):
    control(nango, planned, "oauth2", expires_in=None)
    refresh(world)
    assert world.plans(planned)[0].outcome == RefreshOutcome.NO_EXPIRY
    assert world.open_plan(planned) is None
    assert world.connection(planned).expires_at is None


def test_a_failure_is_tried_again_later_and_is_not_the_end(world, nango, clock, planned):
    nango.post("/sandbox/faults", json={"operation": "refresh", "connection_id": planned}).raise_for_status()
    refresh(world)
    done, opened = world.plans(planned)
    connection = world.connection(planned)
    assert (done.outcome, opened.failures) == (RefreshOutcome.FAILED, 1)
    assert timedelta(seconds=90) <= opened.next_at - clock.now <= timedelta(seconds=113)
    assert (connection.status, connection.last_error_type) == (ConnectionStatus.ACTIVE, "NangoRefreshFailed")
    assert world.owner(planned) == ("usr_1042", "org_77")
    clock.now = opened.next_at
    refresh(world)  # Nango backs off: a failure again, a longer wait
    assert world.open_plan(planned).failures == 2
    assert world.open_plan(planned).next_at - clock.now >= timedelta(minutes=15)
    nango.delete("/sandbox/faults").raise_for_status()
    control(nango, planned, "oauth2", backing_off=False)
    clock.now = world.open_plan(planned).next_at
    refresh(world)
    plan = world.open_plan(planned)
    world.process()
    assert world.connection(planned).last_error_type is None
    assert (world.open_plan(planned).id, plan.failures) == (plan.id, 0)


def test_a_webhook_of_a_failed_refresh_never_leads_to_a_call(world, nango, gate, planned):
    before = world.open_plan(planned)
    control(nango, planned, "oauth2", exhausted=True)
    world.handle(failure("refresh", connection_id=planned, tags=DANA))
    after = world.open_plan(planned)
    assert (after.id, after.next_at) == (before.id, before.next_at)
    assert all(path.startswith("/connections?") for path in gate.requests)


def test_an_exhausted_connection_needs_a_reconnect_which_is_announced_once(world, nango, clock, planned):
    world.route(broken={"type": ["connection.needs_reconnect"], "user": {"external_id": ["usr_1042"]}})
    control(nango, planned, "oauth2", exhausted=True)
    refresh(world)
    assert world.connection(planned).status == ConnectionStatus.NEEDS_RECONNECT
    assert world.open_plan(planned) is None
    assert world.plans(planned)[0].outcome == RefreshOutcome.EXHAUSTED
    [event] = world.events("connection.needs_reconnect")
    assert (event.origin, event.document["confirmed"]) == ("refresh", True)
    assert event.document["error"]["type"] == "NangoRefreshExhausted"
    assert event.document["tags"] == DANA
    [job] = world.jobs()
    assert (job.event_id, job.state) == (event.id, "available")
    assert world.owner(planned) == ("usr_1042", "org_77")
    clock.move(86_400)
    assert refresh(world) == 0


def test_a_reauthorization_ends_the_need_to_reconnect_and_plans_anew(world, nango, planned):
    control(nango, planned, "oauth2", exhausted=True)
    refresh(world)
    control(nango, planned, "oauth2", exhausted=False)
    world.handle(auth("override", connection_id=planned, tags=DANA))
    assert world.connection(planned).status == ConnectionStatus.ACTIVE
    assert world.open_plan(planned) is not None


def test_a_recovery_ends_the_need_to_reconnect_and_plans_anew(world, nango, planned):
    control(nango, planned, "oauth2", exhausted=True)
    refresh(world)
    control(nango, planned, "oauth2", exhausted=False)
    world.handle(auth("refresh", connection_id=planned, tags=DANA))
    assert world.connection(planned).status == ConnectionStatus.ACTIVE
    assert world.open_plan(planned) is not None


@pytest.fixture
def routed(world):
    """Every event of a connection is routed; the documents by type, of those that a refresh found."""
    world.route(all={"origin": ["refresh"]})

    def documents():
        found = [world.event(job.event_id).document for job in world.jobs()]
        return {document["type"]: document for document in found}

    return documents


def delete(nango, connection_id):
    nango.delete(f"/connections/{connection_id}", params={"provider_config_key": "oauth2"}).raise_for_status()


def test_a_connection_that_nango_does_not_know_is_deleted_once_its_list_agrees(world, nango, clock, planned, routed):
    delete(nango, planned)
    refresh(world)
    world.process()
    assert world.plans(planned)[0].outcome == RefreshOutcome.GONE
    assert (world.connection(planned).status, world.connection(planned).absences) == (ConnectionStatus.ACTIVE, 1)
    assert world.owner(planned) == ("usr_1042", "org_77")
    clock.move(2)
    world.process()
    assert (world.connection(planned).status, world.owner(planned)) == (ConnectionStatus.DELETED, None)
    assert routed()["connection.deleted"]["origin"] == "refresh"
    assert len(world.jobs()) == 1


def test_one_that_the_list_still_shows_is_not_deleted_and_is_kept_fresh(world, nango, clock, planned, routed):
    nango.patch("/sandbox/settings", json={"replica_lag": 3600}).raise_for_status()
    delete(nango, planned)
    refresh(world)
    assert world.open_plan(planned) is None
    for seconds in (0, 2, 2, 5, 15, 60, 60):
        clock.move(seconds)
        world.process()
    assert [event.failure for event in world.events("connection.deleted")] == ["not_confirmed"]
    assert world.connection(planned).status == ConnectionStatus.ACTIVE
    assert world.open_plan(planned) is not None
    assert routed() == {}


def test_other_tags_that_a_refresh_sees_move_the_link_and_not_the_plan(world, nango, planned, routed):
    register(nango, planned, "oauth2", tags=OMAR)
    refresh(world)
    plan = world.open_plan(planned)
    assert world.owner(planned) == ("usr_1042", "org_77")
    world.process()
    assert world.owner(planned) == ("usr_2001", "org_88")
    assert routed()["connection.tags_changed"]["tags"] == OMAR
    assert world.open_plan(planned).id == plan.id


def test_the_end_of_an_error_is_announced_once(world, nango, clock, planned, routed):
    nango.post("/sandbox/faults", json={"operation": "refresh", "connection_id": planned}).raise_for_status()
    refresh(world)
    nango.delete("/sandbox/faults").raise_for_status()
    control(nango, planned, "oauth2", backing_off=False)
    for _ in range(2):
        clock.now = world.open_plan(planned).next_at
        refresh(world)
        world.process()
    assert world.connection(planned).last_error_type is None
    assert list(routed()) == ["connection.recovered"]
    assert len(world.jobs()) == 1


def test_a_generation_without_a_webhook_is_found_by_its_refresh(world, nango, planned, routed):
    delete(nango, planned)
    made = register(nango, planned, "oauth2", tags=OMAR)["id"]
    refresh(world)
    world.process()
    assert (world.connection(planned).nango_id, world.owner(planned)) == (made, ("usr_2001", "org_88"))
    assert "connection.created" in routed()
    assert world.open_plan(planned) is not None


def test_what_a_refresh_sees_as_it_was_known_is_no_event(world, planned, routed):
    refresh(world)
    world.process()
    assert routed() == {}


def test_a_rate_limit_keeps_the_plan_open_and_says_nothing_of_the_connection(world, nango, clock, planned):
    before = world.open_plan(planned)
    nango.patch("/sandbox/settings", json={"rate_limit_per_minute": 0}).raise_for_status()
    for _ in range(MAX_CLAIMS + 1):
        assert refresh(world) == 0  # the wave learnt nothing, so the tick ends
        plan = world.open_plan(planned)
        assert (plan.id, plan.refresh_at, plan.attempts) == (before.id, before.refresh_at, 0)
        assert plan.outcome == RefreshOutcome.RATE_LIMITED
        assert timedelta(seconds=1) <= plan.next_at - clock.now <= timedelta(seconds=100)
        clock.now = plan.next_at
    assert world.connection(planned).last_error_type is None
    nango.patch("/sandbox/settings", json={"rate_limit_per_minute": 100_000}).raise_for_status()
    refresh(world)
    assert world.connection(planned).expires_at is not None


def test_nango_being_down_keeps_the_plan_open(world, open_world, clock, planned):
    before = world.open_plan(planned)
    down = open_world(base_url=f"http://127.0.0.1:{free_port()}")
    for _ in range(MAX_CLAIMS + 1):
        assert refresh(down) == 0
        plan = world.open_plan(planned)
        assert (plan.id, plan.attempts, plan.outcome) == (before.id, 0, RefreshOutcome.NANGO_DOWN)
        clock.now = plan.next_at
    assert (world.connection(planned).status, world.connection(planned).last_error_type) == ("active", None)
    refresh(world)
    assert world.connection(planned).expires_at is not None


@pytest.fixture
def forced(open_world, gate, nango, clock, connection_id):
    """A connection whose due plan is a forced one, with its world."""
    world = open_world(base_url=gate.url, refresh=for_integrations({"*": PolicyPart(force_every=timedelta(days=1))}))
    register(nango, connection_id, "oauth2", tags=DANA)
    world.handle(auth(connection_id=connection_id, tags=DANA))
    control(nango, connection_id, "oauth2", expires_in=None)
    clock.now = world.open_plan(connection_id).next_at
    refresh(world)
    assert world.open_plan(connection_id).forced
    clock.now = world.open_plan(connection_id).next_at
    gate.requests.clear()
    return world, connection_id


def calls(gate):
    return ["force_refresh=true" in path for path in gate.requests]


def test_a_policy_may_force_where_nothing_else_renews(forced, gate, nango):
    world, connection_id = forced
    refresh(world)
    assert calls(gate) == [True]
    assert world.connection(connection_id).expires_at == expiry(nango, connection_id)


def test_a_forced_call_is_never_repeated_after_a_crash_a_plain_one_shows_its_result(forced, gate, nango, clock):
    world, connection_id = forced
    with dying_at(world.database, "UPDATE refreshes SET finished_at"), pytest.raises(KilledError):
        refresh(world)
    renewed = expiry(nango, connection_id)
    assert world.connection(connection_id).expires_at is None
    assert refresh(world) == 0  # the lease of the dead runs still
    clock.move(LEASE)
    refresh(world)
    assert calls(gate) == [True, False]
    assert world.connection(connection_id).expires_at == expiry(nango, connection_id) == renewed


def test_a_forced_call_that_timed_out_is_followed_by_a_plain_one(forced, gate, clock):
    world, connection_id = forced
    gate.status = 502
    refresh(world)
    gate.status = None
    clock.now = world.open_plan(connection_id).next_at
    refresh(world)
    assert calls(gate) == [True, False]


def crash(world):
    """Have the due plan claimed by workers that die, until it is given up."""
    for _ in range(MAX_CLAIMS):
        with world.database.write() as session:
            assert refresh_rows.claim(session, limit=1, now=world.clock.now, lease=REFRESH_LEASE)
        world.clock.move(LEASE)
    refresh(world)


def test_a_plan_claimed_five_times_without_a_result_counts_as_a_failure(world, gate, clock, planned):
    seen_at = world.connection(planned).errors_seen_at
    crash(world)
    assert gate.requests == []
    assert world.connection(planned).errors_seen_at == seen_at is not None  # nothing was seen, nothing forgotten
    assert world.plans(planned)[0].outcome == RefreshOutcome.FAILED
    assert world.open_plan(planned).failures == 1


def test_crashes_do_not_hide_nangos_error_whose_end_is_announced(world, nango, clock, planned, routed):
    nango.post("/sandbox/faults", json={"operation": "refresh", "connection_id": planned}).raise_for_status()
    refresh(world)
    nango.delete("/sandbox/faults").raise_for_status()
    control(nango, planned, "oauth2", backing_off=False)
    clock.now = world.open_plan(planned).next_at
    crash(world)
    assert world.connection(planned).last_error_type == "NangoRefreshFailed"
    clock.now = world.open_plan(planned).next_at
    refresh(world)
    world.process()
    assert world.connection(planned).last_error_type is None
    assert list(routed()) == ["connection.recovered"]


@pytest.mark.parametrize("operation", ["override", "creation"])
def test_a_reauthorization_supersedes_the_plan(world, clock, planned, operation):
    clock.move(1)
    world.handle(auth(operation, connection_id=planned, tags=DANA, provider="new"))
    old, new = world.plans(planned)
    assert (old.outcome, old.finished_at) == (RefreshOutcome.SUPERSEDED, clock.now)
    assert new.next_at > clock.now


def test_an_answer_for_a_plan_that_was_superseded_meanwhile_is_not_recorded(world, nango, gate, clock, planned):
    def reauthorize():
        control(nango, planned, "oauth2", exhausted=False)
        world.handle(auth("override", connection_id=planned, tags=DANA))

    control(nango, planned, "oauth2", exhausted=True)  # the answer to the overtaken call
    gate.after = reauthorize
    refresh(world)
    assert [plan.outcome for plan in world.plans(planned)] == [RefreshOutcome.SUPERSEDED, None]
    assert world.connection(planned).status == ConnectionStatus.ACTIVE


def test_at_most_one_worker_asks_about_a_connection_at_a_time(world, open_world, gate, planned):
    gate.before = lambda: refresh(other)
    other = open_world(base_url=gate.url)
    assert sorted(in_threads(lambda: refresh(world), lambda: refresh(other))) == [0, 1]
    assert len(gate.requests) == 1


def test_a_worker_whose_lease_ran_out_does_not_record(*, world, open_world, base_url, nango, gate, clock, planned):
    other = open_world(base_url=base_url)

    def overtake():
        clock.move(LEASE)
        assert refresh(other) == 1

    gate.before = overtake
    refresh(world)
    assert len(world.plans(planned)) == 2
    assert world.connection(planned).expires_at == expiry(nango, planned)


def test_a_claim_by_another_makes_the_earlier_one_worthless(world, gate, clock, planned):
    def claim_by_another():
        clock.move(LEASE)
        with world.database.write() as session:
            assert refresh_rows.claim(session, limit=1, now=clock.now, lease=REFRESH_LEASE)

    gate.before = claim_by_another
    refresh(world)
    [plan] = world.plans(planned)
    assert (plan.finished_at, plan.attempts) == (None, 2)
    assert world.connection(planned).expires_at is None


def test_several_due_plans_run_up_to_the_limit_the_oldest_first(world, nango, clock, connection_id):
    names = [f"{connection_id}-{number}" for number in range(3)]
    for name in names:
        register(nango, name, "oauth2", tags=DANA)
        world.handle(auth(connection_id=name, tags=DANA))
    by_due = sorted(names, key=lambda name: world.open_plan(name).next_at)
    clock.move(3600)
    assert world.refresher.refresh_due(limit=2) == 2
    assert [len(world.plans(name)) for name in by_due] == [2, 2, 1]
    assert world.refresher.refresh_due(limit=2) == 1


def test_without_an_api_key_nothing_is_planned(open_world, connection_id):
    world = open_world()
    world.handle(auth(connection_id=connection_id, tags=DANA))
    assert world.plans(connection_id) == []


@pytest.mark.parametrize("mode", ["API_KEY", "BASIC", "NONE"])
def test_credentials_that_no_get_renews_get_no_plan(world, nango, connection_id, mode):
    register(nango, connection_id, "oauth2", tags=DANA)
    world.handle(auth(connection_id=connection_id, tags=DANA, mode=mode))
    assert world.plans(connection_id) == []


def test_an_integration_whose_refreshing_is_off_gets_no_plan(open_world, base_url, nango, connection_id):
    world = open_world(base_url=base_url, refresh=for_integrations({"oauth2": PolicyPart(enabled=False)}))
    register(nango, connection_id, "oauth2", tags=DANA)
    world.handle(auth(connection_id=connection_id, tags=DANA))
    assert world.plans(connection_id) == []


def test_the_schema_allows_a_next_plan_only_after_the_one_before(world, clock, planned):
    connection = world.connection(planned)
    with world.database.write() as session:
        refresh_rows.supersede(session, [connection.id], now=clock.now)
        refresh_rows.plan(session, {connection.id: Plan(clock.now, forced=False, reason="test")}, now=clock.now)
    assert len(world.plans(planned)) == 2


@pytest.mark.parametrize("integration", ["oauth2", "oauth2-cc"])
def test_no_token_of_nango_ever_rests_in_the_database(world, nango, clock, connection_id, integration):
    world.route(all={"environment": ["default"]})
    facts = {"connection_id": connection_id, "integration": integration, "tags": DANA}
    register(nango, connection_id, integration, tags=DANA)
    assert TOKEN.search(fetch(nango, connection_id, integration).text), "the canary is blind"
    world.handle(auth(**facts))
    nango.post("/sandbox/faults", json={"operation": "refresh", "times": 1}).raise_for_status()
    for change in ({"expires_in": 600}, {"backing_off": False}, {"expires_in": -5}, {"exhausted": True}):
        control(nango, connection_id, integration, **change)
        clock.now = world.open_plan(connection_id).next_at
        refresh(world)
    world.handle(failure("override", **facts))
    outcomes = [plan.outcome for plan in world.plans(connection_id)]
    assert outcomes == ["failed", "first_seen", "renewed", "exhausted"]
    assert TOKEN.findall(dump(world.database)) == []

"""Promise 6: what the webhooks missed heals, within the period, counted, and never from one partial listing."""

from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from random import Random

import pytest
from sqlalchemy import func, select, update
from structlog.testing import capture_logs

from app.db import reconciliations
from app.db.models import Connection, Difference, Event, Reconciliation
from app.deadlines import MAX_CLAIMS
from app.domain.reconciling import RECHECK_AFTER, YOUNG, RunOutcome, Stage, Trigger
from app.domain.states import ConnectionStatus, EventState
from app.services.nango_clients import NangoClients
from app.services.reconciliation.reconciler import PROCESS_WITHIN, RECONCILE_LEASE, Reconciler
from app.services.reconciliation.run_requests import open_run
from tests.drawing import seeds
from tests.integration import world as worlds
from tests.integration.sandbox.sandbox_server import control, register, serve
from tests.integration.world import DANA, OMAR, KilledError, auth, dying_at, in_threads

MINUTE = RECHECK_AFTER.total_seconds()


@pytest.fixture
def nango(clock):
    """A sandbox of its own, on our clock: its list holds what the test put there, and no webhook ever leaves it."""
    with serve(clock=clock) as client:
        yield client


@pytest.fixture
def gate(nango):
    with worlds.gate(str(nango.base_url).rstrip("/")) as door:
        yield door


@pytest.fixture
def world(open_world, gate):
    made = open_world(base_url=gate.url)
    made.route(all={"environment": ["default"]})
    return made


@pytest.fixture
def reconciler(world):
    return reconciler_of(world)


def reconciler_of(world, **changes):
    facts = {"clients": world.clients, "environments": ["default"], "clock": world.clock, "page_size": 5}
    return Reconciler(world.database, **facts | changes)


def age(world):
    """Move the clock until new connections are not young any more."""
    world.clock.move(YOUNG.total_seconds() + 5)


def delete(nango, connection_id):
    nango.delete(f"/connections/{connection_id}", params={"provider_config_key": "oauth2"}).raise_for_status()


def report(world, run):
    with world.database.read() as session:
        return reconciliations.get(session, run.id)


def request(reconciler, trigger=Trigger.DEMAND, **options):
    run = open_one(reconciler, trigger=trigger, **options)
    assert run is not None
    return run


def open_one(reconciler, environment="default", *, trigger=Trigger.DEMAND, **options):
    with reconciler.database.write() as session:
        return open_run(session, environment, trigger=trigger, now=reconciler.clock(), **options)


def first_check(world, reconciler, **options):
    """Run up to the minute's pause."""
    run = request(reconciler, **options)
    reconciler.work()
    return report(world, run)


def finish(world, reconciler, run):
    """Let time pass and both workers work until the run is over."""
    for _ in range(200):
        found = report(world, run)
        if found.finished_at is not None:
            return found
        world.clock.now = max(world.clock.now, found.next_at)
        reconciler.work()
        world.process()
    raise AssertionError(f"does not end: {found}")


def reconcile(world, reconciler, **options):
    return finish(world, reconciler, request(reconciler, **options))


def count(world, model):
    with world.database.read() as session:
        return session.scalar(select(func.count()).select_from(model))


def known(world, nango, *names, tags=DANA):
    """Connections that both sides know."""
    for name in names:
        register(nango, name, "oauth2", tags=tags)
        world.handle(auth(connection_id=name, tags=tags))
    age(world)


# What it finds


def test_a_connection_whose_webhook_was_missed_is_linked_and_routed(world, nango, reconciler):
    reconcile(world, reconciler)  # the environment's first run is its import
    nango_id = register(nango, "lost", "oauth2", tags=DANA)["id"]
    age(world)
    run = reconcile(world, reconciler)
    assert (run.outcome, run.problem, run.trigger) == (RunOutcome.COMPLETED, None, Trigger.DEMAND)
    assert (run.found, run.counted, run.healed) == ({"connection.created": 1}, {"connection.created": 1}, 1)
    assert run.missed_by_webhook == 1
    connection = world.connection("lost")
    assert (connection.status, connection.nango_id, connection.tags) == (ConnectionStatus.ACTIVE, nango_id, DANA)
    assert world.owner("lost") == ("usr_1042", "org_77")
    [event] = world.events("connection.created")
    assert (event.origin, event.confirmed, event.state) == ("reconcile", True, EventState.PROCESSED)
    assert event.document["origin"] == "reconcile"
    assert [job.event_id for job in world.jobs("all")].count(event.id) == 1
    assert world.open_plan("lost") is not None
    assert run.heal_count == 1
    assert run.heal_seconds_max == pytest.approx(YOUNG.total_seconds() + MINUTE, abs=10)


def test_what_is_the_same_on_both_sides_makes_nothing(world, nango, gate, reconciler):
    known(world, nango, *[f"same-{number}" for number in range(12)])
    before, jobs = count(world, Event), len(world.jobs())
    gate.requests.clear()
    run = reconcile(world, reconciler)
    assert (run.found, run.counted, run.seen) == ({}, {}, 12)
    assert run.pages == run.calls == len(gate.requests) <= 5
    assert (count(world, Event), len(world.jobs()), count(world, Difference)) == (before, jobs, 0)


def test_changed_tags_move_the_connection_to_its_new_owner(world, nango, reconciler):
    known(world, nango, "moved", "stays")
    register(nango, "moved", "oauth2", tags=OMAR)
    run = reconcile(world, reconciler)
    assert run.counted == {"connection.tags_changed": 1}
    assert run.missed_by_webhook == 0  # Nango announces no change of tags
    [event] = world.events("connection.tags_changed")
    assert (event.origin, event.state, event.confirmed) == ("reconcile", EventState.PROCESSED, True)
    assert run.samples == {
        "connection.tags_changed": [
            {
                "integration": "oauth2",
                "connection_id": "moved",
                "why": "tags that differ: end_user_id, organization_id",
            }
        ]
    }


def test_a_broken_connection_and_its_recovery_are_found(world, nango, reconciler):
    known(world, nango, "breaks")
    reconcile(world, reconciler)  # the first is an import
    control(nango, "breaks", "oauth2", exhausted=True)
    run = reconcile(world, reconciler)
    assert (run.counted, run.missed_by_webhook) == ({"connection.refresh_failed": 1}, 1)
    assert world.connection("breaks").last_error_type == "auth"
    assert world.owner("breaks") == ("usr_1042", "org_77")
    assert reconcile(world, reconciler).counted == {}
    control(nango, "breaks", "oauth2", exhausted=False)
    run = reconcile(world, reconciler)
    assert (run.counted, run.missed_by_webhook) == ({"connection.recovered": 1}, 1)
    assert world.connection("breaks").last_error_type is None


def test_a_connection_that_is_found_when_it_is_broken_already_is_announced_so_at_once(world, nango, reconciler):
    """An import brings in thousands of connections, and the broken ones must not show only after an hour."""
    register(nango, "broken", "oauth2", tags=DANA)
    register(nango, "whole", "oauth2", tags=DANA)
    control(nango, "broken", "oauth2", exhausted=True)
    age(world)
    assert reconcile(world, reconciler).counted == {"connection.created": 2}
    assert (world.connection("broken").last_error_type, world.connection("whole").last_error_type) == ("auth", None)
    [event] = world.events("connection.refresh_failed")
    assert (event.origin, event.confirmed, event.connection_id) == ("system", True, "broken")
    assert event.document["error"] == {"type": "auth", "description": "Nango shows an auth error"}
    assert event.document["user"]["external_id"] == "usr_1042"
    assert [job.event_id for job in world.jobs("all")].count(event.id) == 1
    assert reconcile(world, reconciler).found == {}
    control(nango, "broken", "oauth2", exhausted=False)
    assert reconcile(world, reconciler).counted == {"connection.recovered": 1}


def test_nango_that_began_anew_under_the_same_ids_is_caught_up_with(world, nango, gate, reconciler):
    """A move to a self-hosted Nango brings the connections along, and their numbers begin at one again."""
    for name in names(5, "spent"):
        register(nango, name, "oauth2", tags=OMAR)
        delete(nango, name)
    known(world, nango, *names(3, "moved"))
    with world.database.write() as session:  # Nango's answers carry the time of the machine, not the test's
        session.execute(update(Connection).values(observed_at=world.clock() - timedelta(days=1)))
    with serve() as another:
        for name in names(3, "moved"):
            register(another, name, "oauth2", tags=OMAR)
        gate.upstream = str(another.base_url).rstrip("/")
        age(world)
        run = reconcile(world, reconciler)
        assert (run.counted, run.unhealed) == ({"connection.created": 3}, 0)
        assert {world.owner(name) for name in names(3, "moved")} == {("usr_2001", "org_88")}
        assert reconcile(world, reconciler).found == {}
        register(another, "moved-00", "oauth2", tags=DANA)
        world.handle(auth("override", connection_id="moved-00", tags=DANA))
        assert world.owner("moved-00") == ("usr_1042", "org_77")


def test_a_deleted_connection_is_found(world, nango, reconciler):
    known(world, nango, "goes", "stays")
    reconcile(world, reconciler)  # the first is an import
    delete(nango, "goes")
    run = reconcile(world, reconciler)
    assert (run.counted, run.missed_by_webhook, run.healed) == ({"connection.deleted": 1}, 1, 1)
    assert world.connection("goes").status == ConnectionStatus.DELETED
    assert (world.owner("goes"), world.owner("stays")) == (None, ("usr_1042", "org_77"))
    assert reconcile(world, reconciler).found == {}


def test_another_generation_under_the_same_key_is_a_new_connection(world, nango, reconciler):
    known(world, nango, "again")
    delete(nango, "again")
    nango_id = register(nango, "again", "oauth2", tags=OMAR)["id"]
    age(world)
    run = reconcile(world, reconciler)
    assert run.counted == {"connection.created": 1}
    connection = world.connection("again")
    assert (connection.nango_id, world.owner("again")) == (nango_id, ("usr_2001", "org_88"))
    assert "new_generation" in {link.close_reason for link in world.links("again")}


def test_a_connection_that_returns_after_a_deletion_that_we_believed_is_linked_again(world, nango, reconciler):
    known(world, nango, "back")
    delete(nango, "back")
    reconcile(world, reconciler)
    register(nango, "back", "oauth2", tags=DANA)
    age(world)
    assert reconcile(world, reconciler).counted == {"connection.created": 1}
    assert world.owner("back") == ("usr_1042", "org_77")


# When a difference counts


def test_a_difference_counts_at_the_second_check_a_minute_later(world, nango, reconciler):
    register(nango, "lost", "oauth2", tags=DANA)
    age(world)
    run = first_check(world, reconciler)
    assert (run.stage, run.found, run.counted) == (Stage.CHECKING, {"connection.created": 1}, {})
    assert run.next_at - world.clock.now == RECHECK_AFTER
    world.clock.move(MINUTE - 1)
    assert reconciler.work() == []
    world.clock.move(1)
    [event_id] = reconciler.work()
    assert world.event(event_id).state == EventState.RECEIVED


def test_what_healed_meanwhile_does_not_count(world, nango, reconciler):
    known(world, nango, "late", "moved")
    register(nango, "late-2", "oauth2", tags=DANA)
    register(nango, "moved", "oauth2", tags=OMAR)
    delete(nango, "late")
    age(world)
    run = first_check(world, reconciler)
    assert sum(run.found.values()) == 3
    world.handle(auth(connection_id="late-2", tags=DANA))  # the webhook came after all
    register(nango, "moved", "oauth2", tags=DANA)  # they are registered again
    register(nango, "late", "oauth2", tags=DANA)
    events = count(world, Event)
    run = finish(world, reconciler, run)
    assert (run.counted, run.healed) == ({}, 0)
    assert (count(world, Event), count(world, Difference)) == (events, 0)


def test_young_connections_are_left_to_their_webhook(world, nango, clock, reconciler):
    register(nango, "young", "oauth2", tags=DANA)
    clock.move(YOUNG.total_seconds() - 10)
    assert reconcile(world, reconciler).found == {}
    clock.move(20)
    assert reconcile(world, reconciler).counted == {"connection.created": 1}


def test_a_lagging_replica_changes_nothing(world, nango, clock, reconciler):
    known(world, nango, "owned", "gone")
    nango.patch("/sandbox/settings", json={"replica_lag": 3600}).raise_for_status()
    register(nango, "owned", "oauth2", tags=OMAR)
    nango.patch("/sandbox/settings", json={"replica_lag": 0}).raise_for_status()
    world.handle(auth("override", connection_id="owned", tags=OMAR))
    nango.patch("/sandbox/settings", json={"replica_lag": 3600}).raise_for_status()
    register(nango, "new", "oauth2", tags=DANA)
    jobs = len(world.jobs())
    age(world)
    run = reconcile(world, reconciler)
    assert run.outcome == RunOutcome.COMPLETED
    assert world.owner("owned") == ("usr_2001", "org_88")
    assert len(world.jobs()) == jobs
    nango.patch("/sandbox/settings", json={"replica_lag": 0}).raise_for_status()
    assert reconcile(world, reconciler).counted == {"connection.created": 1}
    assert world.owner("new") == ("usr_1042", "org_77")


# One event, one job


def test_two_runs_make_one_event_while_the_first_is_unprocessed(world, nango, clock, monkeypatch, reconciler):
    register(nango, "lost", "oauth2", tags=DANA)
    age(world)
    run = first_check(world, reconciler)
    clock.move(MINUTE)
    assert len(reconciler.work()) == 1
    clock.move(PROCESS_WITHIN.total_seconds())
    reconciler.work()
    run = report(world, run)
    assert (run.outcome, run.healed) == (RunOutcome.COMPLETED, 0)
    assert "1 event still to be processed" in run.problem
    again = first_check(world, reconciler)
    clock.move(MINUTE)
    assert reconciler.work() == []
    assert (again.found, count(world, Event)) == ({"connection.created": 1}, 1)
    again = finish(world, reconciler, again)
    assert (again.counted, again.healed) == ({}, 1)
    assert world.owner("lost") == ("usr_1042", "org_77")


def test_a_late_webhook_does_not_route_the_creation_again(world, nango, reconciler):
    world.route(new={"type": ["connection.created"]})
    register(nango, "lost", "oauth2", tags=DANA)
    age(world)
    reconcile(world, reconciler)
    event_id = world.handle(auth(connection_id="lost", tags=DANA))
    assert world.event(event_id).state == EventState.PROCESSED
    assert len(world.jobs("new")) == 1
    assert len(world.links("lost")) == 1


def test_a_connection_known_by_a_webhook_alone_is_confirmed_and_not_announced_again(
    open_world, world, nango, reconciler
):
    world.route(new={"type": ["connection.created"]})
    register(nango, "told", "oauth2", tags=DANA)
    open_world().handle(auth(connection_id="told", tags=DANA))  # before the environment had an API key
    assert (world.connection("told").status, len(world.jobs("new"))) == (ConnectionStatus.UNCONFIRMED, 1)
    age(world)
    assert reconcile(world, reconciler).counted == {"connection.created": 1}
    assert (world.connection("told").status, len(world.jobs("new"))) == (ConnectionStatus.ACTIVE, 1)
    world.handle(auth(connection_id="told", tags=DANA))
    assert len(world.jobs("new")) == 1


def test_a_connection_that_is_known_by_its_reauthorization_alone_has_its_creation_announced_once(
    world, nango, reconciler
):
    world.route(new={"type": ["connection.created"]})
    register(nango, "known", "oauth2", tags=DANA)
    world.handle(auth("override", connection_id="known", tags=DANA))  # the webhook of its creation was lost
    assert (world.owner("known"), world.jobs("new")) == (("usr_1042", "org_77"), [])
    age(world)
    assert reconcile(world, reconciler).counted == {"connection.created": 1}
    assert len(world.jobs("new")) == 1
    assert (reconcile(world, reconciler).found, len(world.links("known"))) == ({}, 1)


def test_a_reauthorization_confirms_what_a_webhook_alone_announced(open_world, world, nango, reconciler):
    world.route(new={"type": ["connection.created"]})
    register(nango, "told", "oauth2", tags=DANA)
    open_world().handle(auth(connection_id="told", tags=DANA))  # before the environment had an API key
    world.handle(auth("override", connection_id="told", tags=DANA))
    age(world)
    assert (reconcile(world, reconciler).found, len(world.jobs("new"))) == ({}, 1)


def test_a_connection_known_by_a_webhook_alone_that_nango_never_shows_is_deleted(open_world, world, nango, reconciler):
    open_world().handle(auth(connection_id="forged", tags=DANA))
    known(world, nango, "stays")
    assert reconcile(world, reconciler).counted == {"connection.deleted": 1}
    assert world.connection("forged").status == ConnectionStatus.DELETED


# Paging


def names(count, prefix="c"):
    return [f"{prefix}-{number:02}" for number in range(count)]


def test_rows_that_move_while_the_list_is_read_are_not_taken_for_deleted(world, nango, gate, reconciler):
    known(world, nango, *names(14))
    reconciler = reconciler_of(world, page_size=2)  # so small that pages do not overlap
    gate.after = lambda: delete(nango, "c-13")  # of the first page: the others move up, and one is on no page
    run = first_check(world, reconciler)
    assert run.found == {"connection.deleted": 1}  # the one that hid
    run = finish(world, reconciler, run)
    assert run.counted == {}
    assert all(world.owner(name) == ("usr_1042", "org_77") for name in names(13))
    assert reconcile(world, reconciler).counted == {"connection.deleted": 1}
    assert world.connection("c-13").status == ConnectionStatus.DELETED


@pytest.mark.parametrize("gone", [1, 4, 9])
def test_rows_that_move_while_the_list_is_read_hide_no_connection(world, nango, gate, reconciler, gone):
    """Pages overlap; where more is deleted than that, an earlier page is read again."""
    reconcile(world, reconciler)
    for name in names(14, "lost"):
        register(nango, name, "oauth2", tags=DANA)
    known(world, nango, *names(10))
    gate.after = lambda: [delete(nango, name) for name in names(10)[-gone:]]  # the newest, which the first page showed
    run = first_check(world, reconciler)
    assert (run.found["connection.created"], run.found.get("connection.deleted", 0)) == (14, max(gone - 5, 0))
    run = finish(world, reconciler, run)
    assert run.counted["connection.created"] == 14
    assert world.owner("c-00") == ("usr_1042", "org_77")


def test_rows_that_come_while_the_list_is_read_are_neither_lost_nor_counted_twice(world, nango, gate, reconciler):
    known(world, nango, *names(12))
    register(nango, "lost", "oauth2", tags=DANA)
    age(world)

    def three_more():
        for name in names(3, "new"):
            register(nango, name, "oauth2", tags=DANA)

    gate.after = three_more
    run = first_check(world, reconciler)
    assert (run.found, run.seen) == ({"connection.created": 1}, 13)
    world.clock.now -= YOUNG  # the new ones are young still
    run = finish(world, reconciler, replace(run))
    assert run.counted == {"connection.created": 1}


def test_a_second_listing_serves_where_it_takes_fewer_calls(world, nango, gate, reconciler):
    for name in names(12):
        register(nango, name, "oauth2", tags=DANA)
    age(world)
    gate.requests.clear()
    run = reconcile(world, reconciler)
    assert run.counted == {"connection.created": 12}
    assert run.calls == len(gate.requests) <= 10
    assert not any("connectionId" in path for path in gate.requests)
    assert {world.owner(name) for name in names(12)} == {("usr_1042", "org_77")}


def test_a_deletion_is_looked_up_by_its_id_even_when_the_rest_is_listed_again(world, nango, gate, reconciler):
    known(world, nango, "goes", *names(3))
    delete(nango, "goes")
    for name in names(8, "lost"):
        register(nango, name, "oauth2", tags=DANA)
    age(world)
    gate.requests.clear()
    run = reconcile(world, reconciler)
    assert run.counted == {"connection.created": 8, "connection.deleted": 1}
    assert sum("connectionId=goes" in path for path in gate.requests) == 1


def test_an_empty_list_says_nothing_of_many(world, nango, reconciler):
    known(world, nango, *names(25))
    for name in names(25):
        delete(nango, name)
    run = reconcile(world, reconciler)
    assert (run.outcome, run.found, run.counted) == (RunOutcome.COMPLETED, {"connection.deleted": 25}, {})
    assert "not believed" in run.problem
    assert world.owner("c-03") == ("usr_1042", "org_77")
    run = reconcile(world, reconciler, accept_deletions=True)
    assert (run.counted, run.problem) == ({"connection.deleted": 25}, None)
    assert {connection.status for connection in world.all(Connection)} == {ConnectionStatus.DELETED}


def test_the_list_of_another_environment_says_nothing_of_ours_however_long_it_is(world, nango, reconciler):
    known(world, nango, *names(3))
    for name in names(3):
        delete(nango, name)
    for name in names(30, "other"):
        register(nango, name, "oauth2", tags=OMAR)
    age(world)
    run = reconcile(world, reconciler)
    assert run.found == {"connection.created": 30, "connection.deleted": 3}
    assert "connection.deleted" not in run.counted
    assert "3 of our connections are not in Nango's list, and 0 are" in run.problem
    assert world.owner("c-01") == ("usr_1042", "org_77")


# Dry runs, import, bounds


def test_a_dry_run_writes_nothing_but_its_report(world, nango, reconciler):
    known(world, nango, "goes", "moved")
    delete(nango, "goes")
    register(nango, "moved", "oauth2", tags=OMAR)
    register(nango, "lost", "oauth2", tags=DANA)
    age(world)
    events, jobs = count(world, Event), len(world.jobs())
    run = reconcile(world, reconciler, dry_run=True)
    assert (run.outcome, run.calls, run.counted) == (RunOutcome.COMPLETED, 1, {})
    assert run.found == {"connection.created": 1, "connection.tags_changed": 1, "connection.deleted": 1}
    assert {kind: some[0]["connection_id"] for kind, some in run.samples.items()} == {
        "connection.created": "lost",
        "connection.tags_changed": "moved",
        "connection.deleted": "goes",
    }
    assert (count(world, Event), len(world.jobs()), count(world, Difference)) == (events, jobs, 0)
    assert "usr_" not in str(run.samples)  # a report names connections, and holds no personal data


def test_the_first_run_imports_what_there_is_and_misses_no_webhook(world, nango, clock, monkeypatch, reconciler):
    monkeypatch.setattr("app.services.reconciliation.reconciler.MOST_WAITING", 20)
    world.route(new={"type": ["connection.created"]})
    for number, name in enumerate(names(120)):
        register(nango, name, "oauth2", tags=DANA if number % 2 else OMAR)
    age(world)
    run = request(reconciler, trigger=Trigger.SCHEDULE)
    reconciler.work()
    clock.move(MINUTE)
    most = 0
    while report(world, run).finished_at is None:
        reconciler.work()
        most = max(most, len([event for event in world.all(Event) if event.state == EventState.RECEIVED]))
        world.process()
        clock.move(1)
    run = report(world, run)
    assert (run.trigger, run.outcome, run.counted) == (
        Trigger.IMPORT,
        RunOutcome.COMPLETED,
        {"connection.created": 120},
    )
    assert (run.missed_by_webhook, run.heal_count, run.healed) == (0, 0, 120)
    assert most < 20 + reconciler.page_size  # bounded, however large the account
    owners = [world.owner(name) for name in names(120)]
    assert owners.count(("usr_1042", "org_77")) == owners.count(("usr_2001", "org_88")) == 60
    assert len(world.jobs("new")) == 120
    assert request(reconciler).trigger == Trigger.DEMAND


def test_one_run_at_a_time_per_environment(world, nango, reconciler):
    run = request(reconciler)
    assert open_one(reconciler) is None
    assert open_one(reconciler, dry_run=True) is None
    assert open_one(reconciler, "other") is not None
    finish(world, reconciler, run)
    request(reconciler)


def test_two_requests_at_the_same_moment_open_one_run(world, nango):
    made = in_threads(*[lambda: open_one(reconciler_of(world))] * 4)
    assert sum(run is not None for run in made) == 1


def test_reports_go_after_a_while_but_for_the_newest_completed_of_each_environment(world, nango, clock, reconciler):
    old = [reconcile(world, reconciler) for _ in range(3)]
    clock.move(3600)
    failed = finish(world, reconciler_of(world, clients=NangoClients({})), request(reconciler))
    assert failed.outcome == RunOutcome.FAILED
    with world.database.write() as session:
        assert reconciliations.prune(session, before=clock.now - timedelta(days=1), limit=10) == 0
        assert reconciliations.prune(session, before=clock.now + timedelta(days=1), limit=10) == 2
    assert [run.id for run in world.all(Reconciliation)] == [old[-1].id, failed.id]
    assert request(reconciler).trigger == Trigger.DEMAND  # it was imported once


# The schedule


def test_runs_open_by_themselves_once_in_a_period(world, nango, clock):
    reconciler = reconciler_of(world, every=timedelta(hours=1))
    reconciler.plan()
    reconciler.plan()
    [run] = world.all(Reconciliation)
    finish(world, reconciler, run)
    clock.move(3600 - (clock.now - run.created_at).total_seconds() - 1)
    reconciler.plan()
    assert count(world, Reconciliation) == 1
    clock.move(1)
    reconciler.plan()
    assert [run.trigger for run in world.all(Reconciliation)] == ["import", "schedule"]


def test_a_period_of_zero_opens_none(world, nango, reconciler):
    reconciler.plan()
    assert count(world, Reconciliation) == 0


# Faults


def test_a_rate_limit_in_the_middle_is_waited_out(world, nango, clock, reconciler):
    known(world, nango, *names(12))
    run = request(reconciler)
    nango.patch("/sandbox/settings", json={"rate_limit_per_minute": 1}).raise_for_status()
    reconciler.work()
    found = report(world, run)
    assert (found.holder, found.outcome, found.attempts, found.failures) == (None, None, 0, 0)
    assert timedelta(seconds=1) <= found.next_at - clock.now <= timedelta(seconds=60)
    nango.patch("/sandbox/settings", json={"rate_limit_per_minute": 100_000}).raise_for_status()
    assert (finish(world, reconciler, run).outcome, report(world, run).seen) == (RunOutcome.COMPLETED, 12)


def test_a_rate_limit_between_two_pages_of_the_second_check_loses_no_count(world, nango, gate, reconciler):
    for name in names(12):
        register(nango, name, "oauth2", tags=DANA)
    age(world)
    run = first_check(world, reconciler)
    world.clock.move(MINUTE)

    def limit():
        nango.patch("/sandbox/settings", json={"rate_limit_per_minute": 0}).raise_for_status()

    gate.after = limit
    assert 0 < len(reconciler.work()) < 12
    world.process()  # what was announced before the limit is processed
    world.clock.now = report(world, run).next_at
    reconciler.work()
    nango.patch("/sandbox/settings", json={"rate_limit_per_minute": 100_000}).raise_for_status()
    run = finish(world, reconciler, run)
    assert (run.counted, run.healed) == ({"connection.created": 12}, 12)


def test_an_outage_is_waited_out_and_given_up_in_the_end(open_world, world, nango, gate, clock):
    known(world, nango, *names(3))
    reconciler = reconciler_of(world)
    run = request(reconciler)
    gate.status = 502
    for _ in range(5):
        reconciler.work()
        clock.now = report(world, run).next_at
    assert "HTTP 502" in report(world, run).problem
    gate.status = None
    found = finish(world, reconciler, run)
    assert (found.outcome, found.problem, found.seen) == (RunOutcome.COMPLETED, None, 3)
    gate.status = 502
    found = reconcile(world, reconciler)
    assert (found.outcome, found.calls) == (RunOutcome.FAILED, 0)
    assert world.owner("c-01") == ("usr_1042", "org_77")


@pytest.mark.parametrize("status", [401, 403, 404, 302])
def test_a_refusal_fails_the_run_with_its_reason(world, nango, gate, reconciler, status):
    gate.status = status
    run = reconcile(world, reconciler)
    assert (run.outcome, count(world, Difference)) == (RunOutcome.FAILED, 0)
    assert str(status) in run.problem


def test_an_environment_that_lost_its_key_fails_its_run(world, open_world, nango, reconciler):
    run = request(reconciler)
    other = Reconciler(world.database, open_world().clients, [], world.clock)
    other.work()
    assert (report(world, run).outcome, "no API key" in report(world, run).problem) == (RunOutcome.FAILED, True)


def test_what_was_looked_up_before_a_fault_is_kept(world, nango, gate, reconciler):
    known(world, nango, *names(12))
    for name in names(3):
        delete(nango, name)
    run = first_check(world, reconciler)
    world.clock.move(MINUTE)

    def fail():
        gate.status = 500

    gate.after = fail
    assert len(reconciler.work()) == 1
    gate.status = None
    assert finish(world, reconciler, run).counted == {"connection.deleted": 3}


@pytest.mark.parametrize("statement", ["INSERT INTO differences", "UPDATE reconciliations", "INSERT INTO events"])
def test_a_killed_process_is_followed_where_it_was(world, nango, clock, statement):
    """Killed at every statement that writes, in both checks."""
    for name in names(12):
        register(nango, name, "oauth2", tags=DANA)
    age(world)
    run = request(reconciler_of(world))
    deaths = 0
    for _ in range(300):
        found = report(world, run)
        if found.finished_at is not None:
            break
        clock.now = max(clock.now, found.next_at)
        try:
            if deaths < 3:
                with dying_at(world.database, statement):
                    reconciler_of(world).work()
            else:
                reconciler_of(world).work()
        except KilledError:
            deaths += 1
        world.process()
    assert deaths == 3
    assert (found.outcome, found.counted, found.healed) == (RunOutcome.COMPLETED, {"connection.created": 12}, 12)
    assert len(world.events("connection.created")) == 12
    assert count(world, Difference) == 0
    assert {world.owner(name) for name in names(12)} == {("usr_1042", "org_77")}


def test_a_run_that_never_brings_a_result_is_given_up(world, nango, clock, reconciler):
    run = request(reconciler)
    # A killed worker's transaction may hold the row for a moment longer, so a tick need not claim it.
    while report(world, run).attempts <= MAX_CLAIMS:
        with dying_at(world.database, "UPDATE reconciliations SET stage"), suppress(KilledError):
            reconciler_of(world).work()
        clock.now = report(world, run).next_at
    run = finish(world, reconciler, run)
    assert (run.outcome, "without a result" in run.problem) == (RunOutcome.FAILED, True)


def test_a_process_that_lost_the_lease_writes_nothing(world, nango, gate, clock, reconciler):
    register(nango, "lost", "oauth2", tags=DANA)
    age(world)
    run = request(reconciler)
    other = reconciler_of(world)

    def meanwhile():
        clock.move(RECONCILE_LEASE.total_seconds())
        other.work()

    gate.after = meanwhile
    reconciler.work()
    found = report(world, run)
    assert (found.pages, found.stage, count(world, Difference)) == (1, Stage.CHECKING, 1)
    assert finish(world, other, run).counted == {"connection.created": 1}


def test_no_transaction_is_open_while_nango_is_asked(world, nango, gate, reconciler):
    """On SQLite the store would wait ten seconds for it and fail."""
    known(world, nango, *names(3))
    gate.before = lambda: world.receive(b"A")
    run = request(reconciler)
    reconciler.work()
    assert report(world, run).pages == 1


def test_a_process_works_on_one_run_at_a_time(world, nango, gate, reconciler):
    request(reconciler)
    open_one(reconciler, "other")
    meanwhile = []
    gate.after = lambda: meanwhile.append(reconciler.work())
    reconciler.work()
    assert meanwhile == [[]]
    assert [run.started_at is not None for run in world.all(Reconciliation)] == [True, True]


# All of it together


def what_nango_has(nango):
    found = nango.get("/connections", params={"limit": 1000}).raise_for_status().json()["connections"]
    return {row["connection_id"]: (row["id"], row["tags"], bool(row["errors"])) for row in found}


def what_we_have(world):
    living = world.all(Connection, Connection.status != ConnectionStatus.DELETED)
    return {
        connection.connection_id: (connection.nango_id, connection.tags, connection.last_error_type is not None)
        for connection in living
    }


def conclude_all(world):
    """Process the webhooks that wait for another lookup, so that a run compares their results."""
    for _ in range(10):
        if not any(event.state == EventState.RECEIVED for event in world.all(Event)):
            return
        world.clock.move(MINUTE)
        world.process()


@seeds(*range(4), 571957581, 888965511, 121034808, 129076853)
def test_one_period_after_any_changes_and_lost_webhooks_all_is_as_nango_has_it(world, nango, seed):
    """Connections are made, re-tagged, broken, repaired, deleted and made again; most webhooks never come."""
    random = Random(seed)
    reconciler = reconciler_of(world)
    world.route(new={"type": ["connection.created"]})
    generations = defaultdict(set)
    for _ in range(3):
        for _ in range(30):
            name, tags = f"c-{random.randrange(12)}", random.choice((DANA, OMAR, {}, {"plan": "pro"}))
            there = what_nango_has(nango)
            action = random.choice(("make", "retag", "break", "repair", "delete"))
            told = None
            if action in {"make", "retag"}:
                generations[name].add(register(nango, name, "oauth2", tags=tags)["id"])
                told = auth("override" if name in there else "creation", connection_id=name, tags=tags)
            elif name in there and action == "delete":
                delete(nango, name)
                told = auth("deletion", connection_id=name)
            elif name in there:
                control(nango, name, "oauth2", exhausted=action == "break")
                told = auth("refresh", connection_id=name) if action == "repair" else None
            if told is not None and random.random() < 0.3:
                world.handle(told)
        conclude_all(world)
        age(world)
        run = reconcile(world, reconciler)
        if run.problem is not None:  # all that we knew are gone, which an operator has to confirm
            assert "not believed" in run.problem
            run = reconcile(world, reconciler, accept_deletions=True)
        assert (run.outcome, run.problem) == (RunOutcome.COMPLETED, None)
        assert what_we_have(world) == what_nango_has(nango)
    owners = {name: world.owner(name) for name in what_nango_has(nango)}
    named = {name: tags.get("end_user_id") for name, (_, tags, _) in what_nango_has(nango).items()}
    assert all(owners[name] is not None and owners[name][0] == user for name, user in named.items() if user)
    routed = Counter(world.event(job.event_id).connection_id for job in world.jobs("new"))
    assert all(times <= len(generations[name]) for name, times in routed.items())  # once per generation
    assert routed.keys() >= what_nango_has(nango).keys()
    events = count(world, Event)
    assert reconcile(world, reconciler).found == {}
    assert count(world, Event) == events


# Rows of Nango's list that cannot be read


def spoiled(name, **wrong):
    def edit(body):
        rows = body["connections"]
        return {"connections": [row | wrong if row["connection_id"] == name else row for row in rows]}

    return edit


@pytest.mark.parametrize(
    "wrong",
    [{"id": 2**63}, {"tags": 5}, {"id": "x", "connection_id": 7}],
    ids=["an id no column holds", "its tags", "its names, too"],
)
def test_a_row_that_cannot_be_read_is_no_deletion_and_hides_no_other_difference(world, nango, gate, reconciler, wrong):
    known(world, nango, *[f"same-{number}" for number in range(12)])
    register(nango, "lost", "oauth2", tags=DANA)
    age(world)
    for name in ("same-2", "same-7", "same-11"):
        gate.edit = spoiled(name, **wrong)
        with capture_logs() as logs:
            run = reconcile(world, reconciler)
        assert run.outcome == RunOutcome.COMPLETED
        assert "rows that cannot be read" in run.problem
        assert "connection.deleted" not in run.counted
        assert world.connection(name).status == ConnectionStatus.ACTIVE
        assert world.owner(name) == ("usr_1042", "org_77")
        [named] = {line["connection_id"] for line in logs if line["event"] == "nango_row_unreadable"}
        assert named == (name if "connection_id" not in wrong else None)
    assert world.owner("lost") == ("usr_1042", "org_77")
    gate.edit = None
    delete(nango, "same-7")
    run = reconcile(world, reconciler)
    assert (run.problem, run.counted) == (None, {"connection.deleted": 1})


def test_a_page_of_rows_that_cannot_be_read_ends_and_deletes_nothing(world, nango, gate, reconciler):
    known(world, nango, *[f"same-{number}" for number in range(12)])
    gate.edit = lambda body: {"connections": [row | {"id": None} for row in body["connections"]]}
    run = reconcile(world, reconciler)
    assert (run.outcome, run.counted, run.seen) == (RunOutcome.COMPLETED, {}, 0)
    assert {world.connection(f"same-{number}").status for number in range(12)} == {ConnectionStatus.ACTIVE}


@pytest.mark.parametrize("created", ["0001-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999999999Z", None, "soon"])
def test_a_connection_whose_creation_has_no_readable_time_is_found_and_spoils_no_figure(
    *, world, nango, gate, reconciler, created
):
    reconcile(world, reconciler)  # the environment's first run is its import
    register(nango, "lost", "oauth2", tags=DANA)
    gate.edit = spoiled("lost", created=created)
    age(world)
    run = reconcile(world, reconciler)
    assert (run.counted, run.healed, run.heal_count) == ({"connection.created": 1}, 1, 0)
    assert world.owner("lost") == ("usr_1042", "org_77")

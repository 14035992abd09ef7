"""Bulk runs on connections: each is renewed, tagged, unlinked or deleted once, also by a worker that is stopped."""

import pytest
from sqlalchemy import select

from app.db import bulk_runs as rows
from app.db.models import Audit, Event, Refresh
from app.db.read.chosen_connections import ConnectionFilters
from app.deadlines import BULK_LEASE, MAX_CLAIMS
from app.domain.bulk_runs import BulkAct, Change
from app.errors import NangoBudgetSpent, NangoUnavailable
from app.ids import BULK_RUN, show
from app.nango.client import NangoClient
from app.services.bulk_runs.connection_acts import ConnectionActs, ConnectionsWanted
from app.services.bulk_runs.row_acts import written
from app.services.bulk_runs.run_requests import RunWanted, change_run, open_run
from app.services.bulk_runs.runner import BulkRunner
from app.services.connections import deletion
from app.services.linking import by_hand
from app.services.refreshing import pausing
from app.services.routing.cache import RouteCache
from tests.integration.sandbox.sandbox_server import fetch, register
from tests.integration.world import DANA, KilledError, auth
from tests.waiting import PATIENCE


@pytest.fixture
def world(open_world, base_url):
    return open_world(base_url=base_url)


@pytest.fixture
def known(world, nango, connection_id):
    """Three linked connections, oldest first: Nango's ids, and ours."""
    names = [f"{connection_id}-{number}" for number in range(3)]
    for name in names:
        register(nango, name, "oauth2", tags=DANA)
        world.handle(auth(connection_id=name, tags=DANA))
    return names, [world.connection(name).id for name in names]


def begin(world, act, ids, filters=None, **more):
    chosen = ConnectionsWanted(filters=filters or ConnectionFilters(ids=tuple(ids)), **more)
    world.clock.move(1)  # renewals of before are older
    told = {"shown": chosen.audited, "actor": "operator:ada", "reason": "left the company"}
    with world.database.write() as session:
        wanted = RunWanted(act=act, chosen=written(chosen), counted=len(ids), **told)
        return open_run(session, wanted, now=world.clock()).id


def runner(world, hint_events=lambda _: None):
    acts = ConnectionActs(world.database, world.policy, world.clients, RouteCache(), world.clock)
    return BulkRunner(world.database, world.clock, RouteCache(), lambda _: None, hint_events, acts)


def work(world):
    runner(world).work(seconds=PATIENCE)


def run_of(world, run_id):
    with world.database.read() as session:
        return rows.get(session, run_id)


def counts(world, run_id):
    run = run_of(world, run_id)
    return run.state, run.done, run.failed, run.left_alone


def why(world, run_id):
    with world.database.read() as session:
        return {row.id: (row.result, row.why) for row in rows.unchanged(session, run_id)}


def at_nango(nango, name):
    return fetch(nango, name, "oauth2")


def forced(monkeypatch, *, then=None):
    """The names of connections in the order of forced calls; then: what happens after each."""
    ask, asked = NangoClient.get_connection, []

    def get(client, integration, connection_id, **options):
        if not options.get("force_refresh"):
            return ask(client, integration, connection_id, **options)
        asked.append(connection_id)
        found = ask(client, integration, connection_id, **options)
        if then is not None:
            then(len(asked))
        return found

    monkeypatch.setattr(NangoClient, "get_connection", get)
    return asked


def test_each_connection_is_renewed_once_and_has_its_own_history(world, known, monkeypatch):
    names, ids = known
    asked = forced(monkeypatch)
    run = begin(world, BulkAct.REFRESH_CONNECTIONS, ids)
    work(world)
    assert counts(world, run) == ("done", 3, 0, 0)
    assert asked == names
    with world.database.read() as session:
        done = list(session.scalars(select(Refresh.connection_ref).where(Refresh.requested_by == "operator:ada")))
    assert sorted(done) == sorted(ids)
    [entry] = world.all(Audit, Audit.subject == show(BULK_RUN, run))
    assert (entry.action, entry.outcome, entry.detail["count"]) == ("connection.refreshed", "done", 3)
    assert entry.detail["reason"] == "left the company"


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_worker_that_is_killed_while_it_renews_leads_to_no_second_renewal(world, known, monkeypatch, number):
    names, ids = known

    def die(count):
        if count == number:
            raise KilledError

    asked = forced(monkeypatch, then=die)
    run = begin(world, BulkAct.REFRESH_CONNECTIONS, ids)
    with pytest.raises(KilledError):
        work(world)
    work(world)
    assert asked == names[:number], "the lease of the killed one still holds"
    world.clock.move(BULK_LEASE.total_seconds() + 1)
    work(world)
    state, done, failed, left = counts(world, run)
    assert (state, done + failed, left) == ("done", 3, 0)
    assert asked == names, "each of them once"


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_worker_that_stands_still_while_it_renews_is_passed_and_does_nothing_twice(world, known, monkeypatch, number):
    names, ids = known
    ended = []

    def stand_still(count):
        if count == number and not ended:
            world.clock.move(BULK_LEASE.total_seconds() + 1)
            work(world)
            ended.append(counts(world, run))

    asked = forced(monkeypatch, then=stand_still)
    run = begin(world, BulkAct.REFRESH_CONNECTIONS, ids)
    work(world)
    assert asked == names, "each of them once"
    [(state, done, failed, left)] = ended
    assert (state, done + failed, left) == ("done", 3, 0), "the other one has ended the run"
    assert counts(world, run) == ended[0], "and the one that wakes changes nothing of it"
    [entry] = world.all(Audit, Audit.subject == show(BULK_RUN, run))
    assert entry.outcome == "done"


def test_what_was_renewed_since_the_run_was_made_is_not_renewed_again(world, known, monkeypatch):
    names, ids = known
    run = begin(world, BulkAct.REFRESH_CONNECTIONS, ids)
    with world.database.write() as session:
        change_run(session, run, Change.PAUSE, actor="operator:ada", now=world.clock())
    asked = forced(monkeypatch)
    world.clock.move(5)
    other = begin(world, BulkAct.REFRESH_CONNECTIONS, ids[:1])
    work(world)
    assert counts(world, other) == ("done", 1, 0, 0)
    with world.database.write() as session:
        change_run(session, run, Change.RESUME, actor="operator:ada", now=world.clock())
    work(world)
    assert counts(world, run) == ("done", 3, 0, 0)
    assert asked == names


def test_renewals_of_a_paused_integration_are_left_alone(world, known, monkeypatch):
    _, ids = known
    asked = forced(monkeypatch)
    pausing.pause(world.database, "default", "oauth2", actor="operator:ada", reason="an outage", now=world.clock())
    run = begin(world, BulkAct.REFRESH_CONNECTIONS, ids[:1])
    work(world)
    assert why(world, run) == {ids[0]: ("left_alone", "renewals of its integration are paused")}
    assert asked == []


def test_connections_are_deleted_and_one_that_nango_no_longer_has_counts(world, nango, known):
    names, ids = known
    nango.delete(f"/connections/{names[1]}", params={"provider_config_key": "oauth2"}).raise_for_status()
    run = begin(world, BulkAct.DELETE_CONNECTIONS, ids)
    work(world)
    assert counts(world, run) == ("done", 3, 0, 0)
    world.process()
    assert {at_nango(nango, name).status_code for name in names} == {404}
    assert {world.connection(name).status for name in names} == {"deleted"}
    again = begin(world, BulkAct.DELETE_CONNECTIONS, ids[:1])
    work(world)
    [(result, told)] = why(world, again).values()
    assert (result, "is deleted" in told) == ("left_alone", True)


@pytest.mark.parametrize(("killed_in", "is_processed"), [(NangoClient, False), (deletion, False), (deletion, True)])
def test_a_worker_that_is_killed_after_a_deletion_has_deleted_it(world, known, monkeypatch, killed_in, is_processed):
    """At once, with its event stored, and with its event processed."""
    world.route(gone={"type": ["connection.deleted"]})
    _, ids = known
    name = "delete" if killed_in is deletion else "delete_connection"
    delete = getattr(killed_in, name)

    def die(*arguments, **options):
        delete(*arguments, **options)
        raise KilledError

    run = begin(world, BulkAct.DELETE_CONNECTIONS, ids[:2])
    with monkeypatch.context() as patched:
        patched.setattr(killed_in, name, die)
        with pytest.raises(KilledError):
            work(world)
    if is_processed:
        world.process()
        assert world.connection(known[0][0]).status == "deleted"
    world.clock.move(BULK_LEASE.total_seconds() + 1)
    work(world)
    assert counts(world, run) == ("done", 2, 0, 0)
    world.process()
    assert len(world.jobs("gone")) == 2, "each deletion is told once"


def test_tags_are_added_and_removed_within_nangos_limits(world, nango, known):
    names, ids = known
    run = begin(world, BulkAct.ADD_TAGS, ids, add_tags={"plan": "pro"})
    work(world)
    assert counts(world, run) == ("done", 3, 0, 0)
    assert all(at_nango(nango, name).json()["tags"] == {**DANA, "plan": "pro"} for name in names)
    again = begin(world, BulkAct.ADD_TAGS, ids[:1], add_tags={"plan": "pro"})
    many = begin(world, BulkAct.ADD_TAGS, ids[1:2], add_tags={f"t{number}": "x" for number in range(9)})
    work(world)
    assert why(world, again)[ids[0]] == ("left_alone", "it has these tags already")
    assert why(world, many)[ids[1]][0] == "failed"
    run = begin(world, BulkAct.REMOVE_TAGS, ids, remove_tags=["plan"])
    work(world)
    assert counts(world, run) == ("done", 3, 0, 0)
    assert at_nango(nango, names[0]).json()["tags"] == DANA
    [entry] = world.all(Audit, Audit.subject == show(BULK_RUN, again))
    assert entry.detail["add_tags"] == ["plan"], "values of tags name people"


def test_a_connection_stored_after_the_run_was_made_takes_no_place_of_a_counted_one(world, nango, known):
    names, ids = known
    run = begin(world, BulkAct.ADD_TAGS, ids, ConnectionFilters(user="usr_1042"), add_tags={"plan": "pro"})
    world.clock.move(1)
    later = f"{names[0]}-later"
    register(nango, later, "oauth2", tags=DANA)
    world.handle(auth(connection_id=later, tags=DANA))
    told = {"reason": None, "actor": "operator:ada", "clock": world.clock}
    by_hand.unlink(world.database, RouteCache(), world.policy, ids[0], **told)
    work(world)
    assert counts(world, run) == ("done", 2, 0, 1)
    assert [at_nango(nango, name).json()["tags"].get("plan") for name in (*names, later)] == [None, "pro", "pro", None]


def test_workers_are_told_of_the_events_that_follow(world, known):
    _, ids = known
    begin(world, BulkAct.DELETE_CONNECTIONS, ids[:2])
    told = []
    runner(world, told.extend).work(seconds=PATIENCE)
    stored = {event.id for event in world.all(Event, Event.state == "received")}
    assert len(stored) == 2
    assert set(told) == stored


def test_links_are_closed_and_stay_so(world, known):
    names, ids = known
    run = begin(world, BulkAct.UNLINK_CONNECTIONS, ids)
    work(world)
    assert counts(world, run) == ("done", 3, 0, 0)
    assert [world.owner(name) for name in names] == [None] * 3
    again = begin(world, BulkAct.UNLINK_CONNECTIONS, ids[:1])
    work(world)
    assert "no link to close" in why(world, again)[ids[0]][1]


def test_a_spent_budget_holds_the_run_and_no_row(world, known, monkeypatch):
    _, ids = known
    run = begin(world, BulkAct.DELETE_CONNECTIONS, ids)
    with monkeypatch.context() as patched:

        def spent(*_arguments, **_options):
            raise NangoBudgetSpent(retry_after=20)

        patched.setattr(NangoClient, "list_connections", spent)
        for _ in range(MAX_CLAIMS + 2):
            work(world)
            world.clock.move(21)
    found = run_of(world, run)
    assert (found.state, found.looked_at) == ("waiting", 0)
    assert "request budget" in found.problem
    work(world)
    assert counts(world, run) == ("done", 3, 0, 0)
    assert run_of(world, run).problem is None


def test_a_connection_that_nango_never_answers_about_ends_as_failed_and_the_others_go_on(world, known, monkeypatch):
    names, ids = known
    delete = NangoClient.delete_connection

    def silent(client, integration, connection_id, **options):
        if connection_id == names[0]:
            raise NangoUnavailable(detail="it took too long")
        return delete(client, integration, connection_id, **options)

    monkeypatch.setattr(NangoClient, "delete_connection", silent)
    run = begin(world, BulkAct.DELETE_CONNECTIONS, ids)
    for _ in range(MAX_CLAIMS):
        assert counts(world, run) == ("waiting", 0, 0, 0)
        work(world)
        world.clock.move(30)
    assert counts(world, run) == ("done", 2, 1, 0)
    assert "could not be reached" in why(world, run)[ids[0]][1]


def test_a_run_that_is_cancelled_leaves_the_rest(world, known, monkeypatch):
    _, ids = known
    run = begin(world, BulkAct.REFRESH_CONNECTIONS, ids)

    def cancel(count):
        if count == 2:
            with world.database.write() as session:
                change_run(session, run, Change.CANCEL, actor="operator:ada", now=world.clock())

    asked = forced(monkeypatch, then=cancel)
    work(world)
    assert counts(world, run) == ("cancelled", 1, 0, 0)
    assert len(asked) == 2


def test_a_runner_without_clients_leaves_runs_on_connections_to_others(world, known):
    _, ids = known
    run = begin(world, BulkAct.UNLINK_CONNECTIONS, ids)
    BulkRunner(world.database, world.clock, RouteCache(), lambda _: None, lambda _: None).work(seconds=PATIENCE)
    assert counts(world, run) == ("waiting", 0, 0, 0)

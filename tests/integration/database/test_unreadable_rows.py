"""A row that cannot be read, written by another release or by hand, stops no wave, no batch and no run."""

import json
from datetime import timedelta

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from app.db import events as event_rows
from app.db.models import Difference, Discards, Event, Job, Organization, User
from app.domain.linking import DirectoryPolicy
from app.domain.states import ConnectionStatus, EventState, JobState, RefreshOutcome
from app.ids import CONNECTION, REFRESH, new_id, show
from app.services.definitions.destination_alerts import Alerts
from app.services.linking import waiting
from app.services.maintenance import upkeep
from app.services.maintenance.retention import Retention
from tests.integration.reconciliation.test_reconciling import age, finish, reconciler_of, request
from tests.integration.sandbox.sandbox_server import control, register, serve
from tests.integration.world import DANA, OMAR, WINDOW, auth, failure, refusing
from tests.servers import ValkeyServer

# As a release wrote the year 1 on SQLite, and what PostgreSQL's driver does not read.
MOMENTS = {"sqlite": ["1-01-01 00:00:00.000000", "soon"], "postgresql": ["infinity", "0044-03-15 12:00:00+00 BC"]}


@pytest.fixture(params=[0, 1])
def moment(database, request):
    return MOMENTS[database.engine.dialect.name][request.param]


@pytest.fixture
def world(open_world, gate):
    return open_world(base_url=gate.url)


def spoil(world, table, column, value, **where):
    """Write a value past all types into the rows that `where` names."""
    names = " AND ".join(f"{name} = :{name}" for name in where)
    cast = {"sqlite": ":value", "postgresql": "CAST(:value AS timestamptz)"}[world.database.engine.dialect.name]
    if value.startswith(("{", "[")):
        cast = cast.replace("timestamptz", "jsonb")
    with world.database.engine.begin() as connection:
        statement = text(f"UPDATE {table} SET {column} = {cast} WHERE {names}")
        assert connection.execute(statement, {"value": value, **where}).rowcount


def connect(world, nango, *names, tags=DANA):
    for name in names:
        register(nango, name, "oauth2", tags=tags)
        world.handle(auth(connection_id=name, tags=tags))


def test_a_refresh_wave_renews_the_connection_and_all_others(world, nango, clock, connection_id, moment):
    names = [f"{connection_id}-{number}" for number in range(3)]
    connect(world, nango, *names)
    bad = names[1]
    for name in names:
        control(nango, name, "oauth2", expires_in=600)
    ref = world.connection(bad).id
    for column in ("expires_at", "observed_at", "errors_seen_at", "last_error_at", "created_at", "updated_at"):
        spoil(world, "connections", column, moment, connection_id=bad)
    with world.database.engine.begin() as connection:  # a plan's own moments, but for when it is due
        which = {"ref": ref.hex if world.database.is_sqlite else ref}
        cast = ":value" if world.database.is_sqlite else "CAST(:value AS timestamptz)"
        connection.execute(
            text(f"UPDATE refreshes SET refresh_at = {cast}, created_at = {cast} WHERE connection_ref = :ref"),
            which | {"value": moment},
        )
    clock.move(300)
    with capture_logs() as logs:
        assert world.refresher.refresh_due() == 3
    for name in names:
        done, opened = world.plans(name)
        assert done.outcome == RefreshOutcome.FIRST_SEEN
        assert opened.next_at > clock.now
        assert world.connection(name).expires_at == done.expires_at > clock.now + timedelta(minutes=30)
    named = {line["column"]: line["rows"] for line in logs if line["event"] == "value_unreadable"}
    assert named["connections.expires_at"] == [show(CONNECTION, ref)]
    assert named["refreshes.refresh_at"] == [show(REFRESH, world.plans(bad)[0].id)]


def test_a_fault_of_one_refresh_ends_with_it(world, nango, clock, connection_id):
    names = [f"{connection_id}-{number}" for number in range(3)]
    connect(world, nango, *names)
    bad = world.connection(names[1])
    clock.move(300)
    # The plan that would follow its GET is refused by the database.
    ref = bad.id.hex if world.database.is_sqlite else bad.id
    with refusing(world.database, "refreshes", "connection_ref", ref), capture_logs() as logs:
        assert world.refresher.refresh_due() == 3
    [fault] = [line for line in logs if line["event"] == "refresh_fault"]
    assert fault["connection"] == show(CONNECTION, bad.id)
    assert [len(world.plans(name)) for name in names] == [2, 1, 2]
    clock.move(80)
    assert world.refresher.refresh_due() == 1
    assert len(world.plans(names[1])) == 2


def test_the_next_webhooks_of_the_connection_and_of_others_are_applied(world, nango, connection_id, moment):
    bad, good = f"{connection_id}-bad", f"{connection_id}-good"
    connect(world, nango, bad, good)
    for column in ("expires_at", "observed_at", "errors_seen_at", "owner_look_at", "created_at"):
        spoil(world, "connections", column, moment, connection_id=bad)
    spoil(world, "connections", "known_tags", "[1]", connection_id=bad)
    for name in (bad, good):
        register(nango, name, "oauth2", tags=OMAR)
    receipts = world.receive(*[auth("override", connection_id=name, tags=OMAR) for name in (bad, good)])
    world.process(*receipts)
    for receipt, name in zip(receipts, (bad, good), strict=True):
        world.wait_for(receipt.event_id)
        assert world.event(receipt.event_id).state == EventState.PROCESSED
        assert world.owner(name) == ("usr_2001", "org_88")
        assert world.connection(name).status == ConnectionStatus.ACTIVE
    control(nango, bad, "oauth2", exhausted=True)
    world.wait_out(failure("refresh", connection_id=bad, tags=OMAR))
    assert world.connection(bad).last_error_type is not None


def test_an_event_whose_moments_cannot_be_read_keeps_no_other_of_its_batch_waiting(world, nango, connection_id, moment):
    bad, good = f"{connection_id}-bad", f"{connection_id}-good"
    for name in (bad, good):
        register(nango, name, "oauth2", tags=DANA)
    first, second = world.receive(*[auth(connection_id=name, tags=DANA) for name in (bad, good)])
    for column in ("received_at", "last_seen_at"):
        which = first.event_id.hex if world.database.is_sqlite else first.event_id
        spoil(world, "events", column, moment, id=which)
    world.process(first, second)
    for receipt in (first, second):
        assert world.event(receipt.event_id).state == EventState.PROCESSED
    assert {world.owner(name) for name in (bad, good)} == {("usr_1042", "org_77")}


@pytest.fixture
def own_nango():
    """Runs go through the whole list: it holds what the test put there."""
    with serve() as client:
        yield client


def test_a_run_compares_all_connections(open_world, own_nango, moment):
    world, nango = open_world(base_url=str(own_nango.base_url).rstrip("/")), own_nango
    names = [f"same-{number}" for number in range(4)]
    connect(world, nango, *names)
    age(world)
    for name in names:
        register(nango, name, "oauth2", tags=OMAR)
    for column in ("observed_at", "errors_seen_at", "created_at"):
        spoil(world, "connections", column, moment, connection_id=names[0])
    spoil(world, "connections", "tags", "[1]", connection_id=names[1])
    reconciler = reconciler_of(world)
    run = request(reconciler)
    reconciler.work()
    for column in ("first_seen_at", "since"):
        spoil(world, "differences", column, moment, connection_id=names[2])
    unknown = {"id": new_id(), "environment": "default", "integration": "oauth2", "connection_id": names[3]}
    world.add(Difference(**unknown, type="connection.of_another_release", first_seen_at=world.clock.now))
    for column in ("created_at", "stage_since", "started_at"):
        spoil(world, "reconciliations", column, moment, environment="default")
    found = finish(world, reconciler, run)
    assert found.outcome == "completed"
    assert {world.owner(name) for name in names} == {("usr_2001", "org_88")}
    assert world.all(Difference) == []


def test_pruning_forgets_what_is_old_and_needs_no_moment_of_it(world, nango, clock, connection_id, moment):
    connect(world, nango, connection_id)
    [event] = world.events("connection.created")
    for column in ("received_at", "last_seen_at", "processed_at", "next_at"):
        spoil(world, "events", column, moment, connection_id=connection_id)
    spoil(world, "deliveries", "first_at", moment, environment="default")
    clock.move(timedelta(days=40).total_seconds())
    Retention(world.database, timedelta(days=30), clock).run(seconds=5)
    assert world.all(Event, Event.id == event.id) == []
    upkeep.prune(world.database, window=WINDOW, clock=clock)


def test_connections_that_wait_for_their_owner_are_linked(open_world, gate, nango, connection_id, moment):
    world = open_world(base_url=gate.url, directory=DirectoryPolicy.REQUIRE)
    names = [f"{connection_id}-{number}" for number in range(3)]
    connect(world, nango, *names)
    assert {world.owner(name) for name in names} == {None}
    for column in ("owner_look_at", "observed_at", "expires_at", "created_at"):
        spoil(world, "connections", column, moment, connection_id=names[0])
    spoil(world, "connections", "tags", "[1]", connection_id=names[1])
    add_dana(world)
    waiting.link_waiting(world.database, world.processor.routes, world.policy, clock=world.clock)
    assert [world.owner(name) for name in (names[0], names[2])] == [("usr_1042", "org_77")] * 2


def add_dana(world):
    now = world.clock.now
    organization = Organization(id=new_id(), external_id="org_77", created_at=now)
    world.add(organization)
    world.add(User(id=new_id(), external_id="usr_1042", organization_id=organization.id, created_at=now))


def test_alerts_of_dead_letters_are_announced_for_every_destination(world, clock, moment):
    for team in ("crm", "sales"):
        world.add(
            Discards(
                team=team, destination="jobs", environment="default", next_at=clock.now, since=clock.now, count=1,
                facts={"jobs": []},
            )
        )  # fmt: skip
    spoil(world, "discards", "since", moment, team="crm")
    spoil(world, "discards", "facts", "[1]", team="crm")
    assert Alerts().announce_waiting(world.database, clock=clock) == 2


def test_a_job_whose_document_cannot_be_read_is_given_up_and_the_others_leave(open_world, broker_url, valkey):
    teams: ValkeyServer = valkey
    world = open_world(teams_url=teams.url(1))
    world.route(all={"environment": ["default"]})
    for name in ("bad", "good"):
        world.handle(auth(connection_id=name, tags=DANA))
    spoil(world, "events", "document", "[1]", connection_id="bad")
    world.deliverer.deliver()
    states = {job.state for job in world.jobs() if world.event(job.event_id).connection_id == "bad"}
    assert states == {JobState.DISCARDED}
    [job] = [job for job in world.all(Job) if job.state == JobState.DISCARDED][:1]
    assert (job.problem, job.fault) == ("the document of its event cannot be read", "ours")
    assert {job.state for job in world.jobs() if world.event(job.event_id).connection_id == "good"} == {
        JobState.COMPLETED
    }


def test_an_own_event_that_cannot_be_read_is_no_edit_of_the_tags(world, nango, connection_id):
    connect(world, nango, connection_id)
    ref = world.connection(connection_id).id
    with world.database.write() as session:
        for body in (b"\xff", b"{}", json.dumps({"type": "connection.of_another_release"}).encode()):
            event_rows.insert_own(
                session, [body], environment="default", origin="operator", now=world.clock.now, connection_ref=ref
            )
    register(nango, connection_id, "oauth2", tags=OMAR)
    with capture_logs() as logs:
        world.wait_out(auth("override", connection_id=connection_id, tags=OMAR))
    assert world.owner(connection_id) == ("usr_2001", "org_88")
    assert {line["event"] for line in logs} == {"own_event_unreadable"}  # and no batch_failed

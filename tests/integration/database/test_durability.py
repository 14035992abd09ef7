"""Commits that wait for the disk, and those that need not."""

from contextlib import closing

import pytest
from sqlalchemy import event, text

from app.db.engine import connect
from app.domain.states import JobState
from tests.integration.delivery.destinations import add, fill, states
from tests.integration.world import auth
from tests.ports import free_port

WAITS = {"sqlite": ("PRAGMA synchronous", 2, 1), "postgresql": ("SHOW synchronous_commit", "on", "off")}


def mode(session):
    return session.scalar(text(WAITS[session.get_bind().dialect.name][0]))


@pytest.fixture
def modes(database):
    """Whether each transaction that wrote waits for the disk, in the order of their commits."""
    found = []

    def committing(connection):
        if connection.get_execution_options().get("waylink_read_only"):
            return
        ask, on, _off = WAITS[connection.dialect.name]
        found.append(connection.connection.driver_connection.execute(ask).fetchone()[0] == on)

    event.listen(database.engine, "commit", committing)
    yield found
    event.remove(database.engine, "commit", committing)


def test_each_transaction_has_the_durability_that_it_asks_for_whatever_came_before(database):
    _, on, off = WAITS[database.engine.dialect.name]
    for durable in (True, False, False, True, False, True):
        with database.write(durable=durable) as session:
            assert mode(session) == (on if durable else off)
    with database.write() as session:
        assert mode(session) == on


def test_other_connections_see_at_once_what_need_not_wait_and_wait_for_the_disk_themselves(database):
    ask, on, _off = WAITS[database.engine.dialect.name]
    version = text("SELECT version FROM route_set")
    with closing(connect(database.engine.url.render_as_string(hide_password=False))) as web:
        with database.write(durable=False) as session:
            session.execute(text("UPDATE route_set SET version = 77"))
        for opened in (web, database):
            with opened.read() as session:
                assert session.scalar(version) == 77
        with web.write() as session:
            assert mode(session) == on
        with database.engine.begin() as connection:
            assert connection.scalar(text(ask)) == on


def test_an_event_is_claimed_without_waiting_and_applied_with_it(world, modes):
    world.receive(auth())
    modes.clear()
    world.process()
    assert modes[:2] == [False, True]
    assert world.events("connection.created")


def test_an_accepted_job_is_recorded_without_waiting(open_world, valkey, broker_url, modes):
    world = open_world(teams_url=valkey.url(1))
    add(world, "crm")
    fill(world, "crm", 3)
    modes.clear()
    world.deliverer.deliver()
    assert states(world, "crm") == {JobState.COMPLETED: 3}
    assert set(modes) == {False}


def test_a_failure_is_recorded_for_good(open_world, modes):
    world = open_world(teams_url=f"redis://127.0.0.1:{free_port()}/1")
    add(world, "crm")
    fill(world, "crm", 3)
    modes.clear()
    world.deliverer.deliver()
    assert states(world, "crm") == {JobState.RETRYABLE: 3}
    assert True in modes

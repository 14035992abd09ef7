"""Rows in bulk: one statement for a batch, the same values as through the models, on both databases."""

import uuid
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy.exc import IntegrityError

from app.db import bulk
from app.db import connections as connection_rows
from app.db.connections import ConnectionKey
from app.db.models import Connection, Event, User
from app.domain.states import EventState
from app.ids import new_id
from app.services.events.processor import SQLITE_BATCH
from tests.integration.world import DANA, OMAR, auth, in_threads

NOW = datetime(2026, 11, 22, 20, 4, 29, 120, tzinfo=UTC)


def user(external_id, **members):
    return {"id": new_id(), "external_id": external_id, "email": None, "created_at": NOW, **members}


@contextmanager
def statements(database):
    """The statements that are executed meanwhile."""
    seen = []

    def note(_connection, _cursor, sql, _parameters, _context, _executemany):
        if not sql.startswith("BEGIN"):
            seen.append(sql)

    sqlalchemy_event.listen(database.engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        sqlalchemy_event.remove(database.engine, "before_cursor_execute", note)


def test_every_kind_of_value_comes_back_through_the_models_as_it_was(world):
    connection = connection_rows.new(ConnectionKey("default", "oauth2", "c-1"), now=NOW)
    connection.tags = {"naïve": "O'Brien", "quote": '"\\', "snow": "\u2603", "percent": "100 %s"}
    connection.nango_id, connection.tags_disagree = 2**62, True
    connection.observed_at = NOW.astimezone(timezone(timedelta(hours=2)))
    with world.database.write() as session:
        connection_rows.insert(session, [connection])
    read = world.connection("c-1")
    assert {name: getattr(read, name) for name in ("id", "tags", "nango_id", "tags_disagree", "observed_at")} == {
        name: getattr(connection, name) for name in ("id", "tags", "nango_id", "tags_disagree", "observed_at")
    }
    assert read.drift is None
    with world.database.write() as session:
        assert connection_rows.lock(session, [connection.key]) == {connection.key: connection}


def test_an_update_changes_the_named_columns_of_the_named_rows_only(world):
    first, second = user("one", email="a@b.example"), user("two", email="c@d.example")
    with world.database.write() as session:
        bulk.insert(session, User, [first, second])
        bulk.update(session, User, [{"display_name": "Dana", "id": first["id"]}, {"id": second["id"], "email": None}])
    found = {each.external_id: (each.email, each.display_name) for each in world.all(User)}
    assert found == {"one": ("a@b.example", "Dana"), "two": (None, None)}


def test_an_update_on_conditions_leaves_rows_alone_that_changed_meanwhile(world):
    names = ("same", "other", "twice", "renamed")
    users = {name: user(name, email=f"{name}@a.example", display_name="Dana") for name in names}
    users["renamed"]["display_name"] = "Omar"
    ids = {name: user["id"] for name, user in users.items()}
    changes = [
        {"id": ids["same"], "email": "same@a.example", "display_name": "1"},
        {"id": ids["other"], "email": "another@a.example", "display_name": "1"},
        {"id": ids["twice"], "email": "before@a.example", "display_name": "1"},
        {"id": ids["twice"], "email": "twice@a.example", "display_name": "2"},
        {"id": ids["renamed"], "email": "renamed@a.example", "display_name": "1"},
        {"id": new_id(), "email": "nobody@a.example", "display_name": "1"},
    ]
    with world.database.write() as session:
        bulk.insert(session, User, list(users.values()))
        changed = bulk.update_where(session, User, changes, same="email", also="users.display_name = 'Dana'")
    assert changed == {(ids["same"], "same@a.example"), (ids["twice"], "twice@a.example")}
    found = {user.external_id: user.display_name for user in world.all(User)}
    assert found == {"same": "1", "other": "Dana", "twice": "2", "renamed": "Omar"}


def test_rows_whose_key_is_taken_are_left_out_or_refused(world):
    with world.database.write() as session:
        assert bulk.insert(session, User, [user("one")]) == 1
        assert bulk.insert(session, User, [user("one"), user("two")], skip_existing=True) == 1
    with pytest.raises(IntegrityError), world.database.write() as session:
        bulk.insert(session, User, [user("one")])


def test_rows_too_large_for_one_parameter_go_in_parts(world, monkeypatch):
    monkeypatch.setattr(bulk, "MAX_JSON", 1000)
    with world.database.write() as session:
        assert bulk.insert(session, User, [user(str(number), email="x" * 300) for number in range(9)]) == 9
    assert len(world.all(User)) == 9


def test_a_batch_takes_the_same_few_statements_however_many_events_it_has(world):
    world.route(all={"type": ["connection.created", "connection.linked"]})
    world.handle(auth(tags=DANA))  # loads the routes
    counts = []
    for size in (2, SQLITE_BATCH - 1):
        receipts = world.receive(
            *[auth(connection_id=str(uuid.uuid4()), tags={"end_user_id": str(uuid.uuid4())}) for _ in range(size)]
        )
        with statements(world.database) as seen:
            assert world.process(*receipts).finished == size
        counts.append(len(seen))
    assert counts[0] == counts[1] < 20


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)  # SQLite has one writer at a time
def test_a_connection_that_another_worker_makes_meanwhile_fails_no_event(world, open_world):
    """The second worker finds the key taken when it writes, and decides anew."""
    other = open_world()
    ahead = []
    world.receive(auth(tags=DANA), auth("override", tags=OMAR))

    def overtake(_connection, _cursor, sql, _parameters, _context, _executemany):
        if sql.startswith("INSERT INTO connections") and not ahead:
            ahead.append(sql)
            assert other.process().finished == 1

    sqlalchemy_event.listen(world.database.engine, "before_cursor_execute", overtake)
    assert world.processor.process(limit=1).finished == 1
    assert {event.state for event in world.all(Event)} == {EventState.PROCESSED}
    assert len(world.links("c-1")) == 2


def test_two_workers_that_make_the_same_connections_at_once_make_each_once(world, open_world):
    other = open_world()
    names = [f"c-{number}" for number in range(20)]
    world.receive(*[auth(connection_id=name, tags=DANA) for name in names])
    world.receive(*[auth(connection_id=name, tags=OMAR) for name in reversed(names)])
    in_threads(
        lambda: world.processor.process(limit=20),
        lambda: other.processor.process(limit=20),
    )
    assert {event.state for event in world.all(Event)} == {EventState.PROCESSED}
    assert len(world.all(Connection)) == 20
    assert all(len([link for link in world.links(name) if link.closed_at is None]) == 1 for name in names)

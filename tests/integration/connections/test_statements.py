"""Database statements of an API call on a connection, and the announcement of the events it stored."""

from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from unittest import mock

import msgspec
import pytest
from sqlalchemy import event as sqlalchemy_event

from app.brokers.celery_broker import PROCESS_EVENTS
from app.brokers.hints import Hints
from app.db.models import Connection, Event
from app.domain.access import Access, Scope
from app.domain.states import Origin
from app.errors import Conflict
from app.ids import CONNECTION, EVENT, show
from app.nango.client import NangoClient
from app.web.api import connection_edits, connections
from app.web.api.endpoint import Call, Context
from tests.integration.sandbox.sandbox_server import control, register
from tests.integration.world import DANA, auth


@dataclass
class Sent:
    """A broker that keeps what it is sent."""

    messages: list = field(default_factory=list)

    def send(self, messages):
        self.messages += messages


@pytest.fixture
def world(open_world, base_url):
    return open_world(base_url=base_url)


@pytest.fixture
def con(world, nango, connection_id):
    """A linked connection, as the API names it."""
    register(nango, connection_id, "oauth2", tags=DANA)
    world.handle(auth(connection_id=connection_id, tags=DANA))
    return show(CONNECTION, world.connection(connection_id).id)


@pytest.fixture
def patch(nango, con, connection_id):
    """Changes the tags past Waylink, to these."""

    def change(**tags):
        which = {"provider_config_key": "oauth2"}
        nango.patch(f"/connections/{connection_id}", params=which, json={"tags": tags}).raise_for_status()

    return change


@pytest.fixture
def broker():
    return Sent()


@pytest.fixture
def call(world, broker):
    context = Context(world.database, world.policy, world.clients, world.clock, Hints(broker), means=None)
    return Call(Access("tester", frozenset(Scope)), context)


@contextmanager
def counted(database):
    """Statements by their first word, and as `connection reads` those that read its row."""
    found = Counter()

    def count(_connection, _cursor, sql, _parameters, _context, _executemany):
        word = sql.split(maxsplit=1)[0]
        if word in {"SELECT", "INSERT", "UPDATE", "DELETE"}:
            found["all"] += 1
        if word == "SELECT" and "FROM connections" in sql.replace("\n", " "):
            found["connection reads"] += 1

    sqlalchemy_event.listen(database.engine, "before_cursor_execute", count)
    try:
        yield found
    finally:
        sqlalchemy_event.remove(database.engine, "before_cursor_execute", count)


def credentials(call, con, **query):
    shape = connections.CredentialsQuery
    return connections.get_credentials.run(call, con, msgspec.convert(query, shape))


def hinted(broker):
    """Ids of the events that were announced to the workers."""
    assert all(message.task == PROCESS_EVENTS for message in broker.messages)
    return [event_id for message in broker.messages for event_id in message.kwargs["ids"]]


def stored(world):
    return [show(EVENT, event.id) for event in world.all(Event, Event.origin == Origin.OPERATOR)]


def refresh(call, con):
    return connections.refresh_connection.run(call, con, connections.RefreshNow())


def set_tags(call, con, **tags):
    return connection_edits.set_tags.run(call, con, connection_edits.TagsBody(tags=tags))


# Each with how often it reads the connection's row, and how many statements it has in all.
CALLS = {
    "get credentials": (credentials, 2, 8),
    "get credentials, renewed": (partial(credentials, force_refresh=True), 2, 13),
    "refresh": (refresh, 2, 13),
    "delete": (partial(connections.delete_connection.run, query=connections.DeletionQuery()), 1, 6),
    "set tags": (partial(set_tags, a="b"), 2, 8),
    "get metadata": (connection_edits.get_metadata.run, 1, 1),
    "reconnect": (partial(connection_edits.create_reconnect_session.run, body=connection_edits.ReconnectBody()), 1, 3),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_row_is_read_once_and_once_more_where_nango_was_asked_meanwhile(world, call, con, name):
    run, reads, statements = CALLS[name]
    with counted(world.database) as found:
        run(call, con)
    assert found == {"connection reads": reads, "all": statements}


def test_credentials_that_are_unchanged_cost_one_query_for_a_plan(world, call, con):
    credentials(call, con)
    with counted(world.database) as found:
        credentials(call, con)
    assert found == {"connection reads": 2, "all": 6}


def test_an_edit_where_only_the_list_can_be_read_searches_earlier_ones_once(world, call, con, nango, connection_id):
    control(nango, connection_id, "oauth2", exhausted=True)
    with counted(world.database) as found:
        set_tags(call, con, a="b")
    assert found == {"connection reads": 2, "all": 8}


def test_drifted_tags_are_put_back_by_the_row_that_was_read(world, call, con, patch, connection_id):
    patch()
    world.handle(auth("override", connection_id=connection_id, tags={}))
    with counted(world.database) as found:
        assert connection_edits.restore_tags.run(call, con).changed
    assert found == {"connection reads": 2, "all": 8}


@pytest.mark.parametrize("name", ["get credentials", "refresh", "get metadata", "reconnect"])
def test_nothing_is_hinted_where_nothing_was_stored(world, call, con, broker, name):
    CALLS[name][0](call, con)
    assert not stored(world)
    assert not broker.messages


@pytest.mark.parametrize("name", ["delete", "set tags", "get credentials", "refresh"])
def test_the_events_that_a_call_stored_are_hinted(world, call, patch, broker, name):
    patch(theirs="1")  # which credentials show, too
    [row] = world.all(Connection)
    CALLS[name][0](call, show(CONNECTION, row.id))
    [event_id] = stored(world)
    assert hinted(broker) == [event_id]


def test_what_was_stored_before_a_refusal_is_hinted(world, call, con, broker, patch):
    write = NangoClient.set_tags

    def overtaken(client, *arguments, **options):
        write(client, *arguments, **options)
        patch(theirs="1")

    with mock.patch.object(NangoClient, "set_tags", overtaken), pytest.raises(Conflict, match="at the same time"):
        set_tags(call, con, a="b")
    [event_id] = stored(world)
    assert hinted(broker) == [event_id]

"""A drift ends in one step: the tags that named the owner are written back. Siblings are shown."""

import pytest

from app.db.read import connection_listing
from app.db.read.listing import ListFilters
from app.domain.linking import DuplicatesPolicy, OwnerChangePolicy
from app.errors import Conflict
from app.services.connections import sessions, tags
from app.services.connections.operations import Operations
from app.services.connections.sessions import ConnectOptions
from tests.integration.sandbox.sandbox_server import control, fetch, register
from tests.integration.world import DANA, OMAR, auth

WHO = "token:tester"
DANA_OWNS = ("usr_1042", "org_77")
SUPERSEDE = {"*": DuplicatesPolicy.SUPERSEDE}


def operations_of(world):
    return Operations(world.database, world.policy, world.clients, world.clock)


def at_nango(nango, connection_id):
    return fetch(nango, connection_id, "oauth2").json()["tags"]


@pytest.fixture
def world(open_world, base_url):
    return open_world(base_url=base_url)


@pytest.fixture
def drift(world, nango, connection_id):
    """Make Dana's connection and re-authorize it with these tags; our id of it."""

    def make(present, *, into=world, before=DANA):
        register(nango, connection_id, "oauth2", tags=before)
        into.handle(auth(connection_id=connection_id, tags=before))
        into.clock.move(1)
        register(nango, connection_id, "oauth2", tags=present)
        into.handle(auth("override", connection_id=connection_id, tags=present))
        assert into.connection(connection_id).drift is not None
        return into.connection(connection_id).id

    return make


@pytest.mark.parametrize("broken", [False, True])
def test_wiped_tags_are_written_back_and_the_drift_is_over(*, world, nango, drift, connection_id, broken):
    world.route(changed={"type": ["connection.tags_changed"], "origin": ["operator"]})
    ref = drift({}, before=DANA | {"plan": "pro"})
    if broken:
        control(nango, connection_id, "oauth2", exhausted=True, expires_in=0)
    done = tags.restore_tags(operations_of(world), ref, actor=WHO)
    assert (done.tags, done.changed) == (DANA | {"plan": "pro"}, True)
    world.process()
    connection = world.connection(connection_id)
    assert (connection.drift, connection.known_tags, connection.tags) == (None, None, DANA | {"plan": "pro"})
    assert world.owner(connection_id) == DANA_OWNS
    assert len(world.links(connection_id)) == 1
    assert len(world.jobs("changed")) == 1


def test_tags_of_today_that_name_no_owner_stay_and_those_that_do_are_put_back(world, nango, drift, connection_id):
    ref = drift({"plan": "free", "end_user_email": "nobody@acme.example"}, before=DANA | {"plan": "pro", "seats": "5"})
    tags.restore_tags(operations_of(world), ref, actor=WHO)
    assert at_nango(nango, connection_id) == DANA | {"plan": "free", "seats": "5"}


def test_a_held_owner_is_refused_by_putting_the_tags_back(open_world, base_url, nango, drift, connection_id):
    world = open_world(base_url=base_url, owner_change=OwnerChangePolicy.HOLD)
    ref = drift(OMAR, into=world)
    tags.restore_tags(operations_of(world), ref, actor=WHO)
    world.process()
    assert (world.connection(connection_id).drift, world.owner(connection_id)) == (None, DANA_OWNS)


def test_without_a_drift_there_is_nothing_to_put_back(world, nango, connection_id):
    register(nango, connection_id, "oauth2", tags=DANA)
    world.handle(auth(connection_id=connection_id, tags=DANA))
    with pytest.raises(Conflict, match="no tags to put back"):
        tags.restore_tags(operations_of(world), world.connection(connection_id).id, actor=WHO)


def test_a_reconnect_session_of_a_drifting_connection_has_the_tags_of_its_link(world, drift, connection_id):
    ref = drift({"plan": "free"})
    opened = sessions.reconnect(operations_of(world), ref, tags=None, options=ConnectOptions(), actor=WHO)
    assert opened.tags == DANA | {"plan": "free"}


@pytest.mark.parametrize("duplicates", [{}, SUPERSEDE])
def test_several_connections_of_one_owner_are_listed_and_name_each_other(*, open_world, base_url, nango, duplicates):
    world = open_world(base_url=base_url, duplicates=duplicates)
    names = [f"several-{len(duplicates)}-{world.clock.now.timestamp()}-{number}" for number in range(3)]
    for name in names:
        register(nango, name, "oauth2", tags=DANA)
        world.handle(auth(connection_id=name, tags=DANA))
    other = f"{names[0]}-other"
    register(nango, other, "oauth2-cc", tags=DANA)
    world.handle(auth(connection_id=other, tags=DANA, integration="oauth2-cc"))
    register(nango, f"{other}-org", "oauth2", tags={"organization_id": "org_77"})
    world.handle(auth(connection_id=f"{other}-org", tags={"organization_id": "org_77"}))
    with world.database.read() as session:
        rows = connection_listing.connections(session, ListFilters(duplicates=True))
        shown = {name: connection_listing.connection(session, world.connection(name).id) for name in [*names, other]}
    listed = {row["connection_id"] for row in rows}
    assert listed == set(names)
    for name in names:
        siblings = shown[name]["siblings"]
        assert [sibling["connection_id"] for sibling in siblings] == [
            other for other in reversed(names) if other != name
        ]
        assert [sibling["linked"] for sibling in siblings] == [
            not duplicates or each == names[2] for each in reversed(names) if each != name
        ]
    assert shown[other]["siblings"] == []

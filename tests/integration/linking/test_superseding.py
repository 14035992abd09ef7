"""Several live connections of one owner to one integration: kept side by side, or the newest takes over."""

from itertools import permutations, product

import pytest
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy import update

from app.db.models import Audit, Connection, Link, Organization, User
from app.domain.linking import DirectoryPolicy, DuplicatesPolicy, OwnerChangePolicy
from app.domain.states import ConnectionStatus, EventState
from app.errors import InvalidInput
from app.ids import new_id
from app.services.linking import supersede_existing as standing
from app.services.linking import waiting
from tests.integration.sandbox.sandbox_server import register
from tests.integration.world import DANA, OMAR, WINDOW, auth, in_threads

DANA_OWNS, OMAR_OWNS = ("usr_1042", "org_77"), ("usr_2001", "org_88")
SUPERSEDE = {"oauth2": DuplicatesPolicy.SUPERSEDE}


@pytest.fixture
def world(open_world, base_url):
    made = open_world(base_url=base_url, duplicates=SUPERSEDE)
    made.route(linked={"type": ["connection.linked"]})
    return made


@pytest.fixture
def three(nango, connection_id):
    """Three connections of Dana's in Nango, oldest first."""
    names = [f"{connection_id}-{number}" for number in range(3)]
    for name in names:
        register(nango, name, "oauth2", tags=DANA)
    return names


def delete(nango, connection_id):
    nango.delete(f"/connections/{connection_id}", params={"provider_config_key": "oauth2"}).raise_for_status()


def confirm_deletion(world, nango, connection_id):
    delete(nango, connection_id)
    world.handle(auth("deletion", connection_id=connection_id, tags=DANA))
    world.clock.move(2)
    world.process()
    assert world.connection(connection_id).status == ConnectionStatus.DELETED


def owners(world, connection_ids):
    return [world.owner(connection_id) for connection_id in connection_ids]


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("together", [False, True])
def test_the_newest_has_the_link_in_any_order_of_arrival(*, world, three, order, together):
    bodies = [auth(connection_id=three[place], tags=DANA) for place in order]
    if together:
        world.process(*world.receive(*bodies))
    else:
        for body in bodies:
            world.handle(body)
    assert owners(world, three) == [None, None, DANA_OWNS]
    for older in three[:2]:
        connection = world.connection(older)
        assert (connection.status, connection.unlinked_reason) == (ConnectionStatus.ACTIVE, "superseded")
        assert {link.close_reason for link in world.links(older)} <= {"superseded"}
    assert world.connection(three[2]).unlinked_reason is None


def test_two_workers_that_make_one_each_end_at_the_newest(open_world, base_url, world, three):
    other = open_world(base_url=base_url, duplicates=SUPERSEDE)
    world.handle(auth(connection_id=three[0], tags=DANA))
    _, [second] = (world.receive(auth(connection_id=id_, tags=DANA)) for id_ in three[1:])
    in_threads(lambda: world.processor.process(limit=1), lambda: other.process(second))
    while world.process().finished:
        pass
    assert owners(world, three) == [None, None, DANA_OWNS]


def test_keep_is_the_default_and_asks_the_database_nothing(open_world, base_url, three):
    def statements(duplicates):
        world, seen = open_world(base_url=base_url, duplicates=duplicates), []

        def note(_connection, _cursor, statement, *_):
            seen.append(statement)

        sqlalchemy_event.listen(world.database.engine, "before_cursor_execute", note)
        world.handle(auth(connection_id=three[2], tags=DANA))
        sqlalchemy_event.remove(world.database.engine, "before_cursor_execute", note)
        world.clock.move(WINDOW.total_seconds() + 1)
        return [
            statement
            for statement in seen
            if ("pg_advisory_xact_lock(" in statement and "set_config" not in statement)  # claims take one of their own
            or "superseded_by IN" in statement
            or "JOIN links" in statement
        ]

    world = open_world(base_url=base_url)
    for id_ in three:
        world.handle(auth(connection_id=id_, tags=DANA))
    assert owners(world, three) == [DANA_OWNS] * 3
    world.clock.move(WINDOW.total_seconds() + 1)
    assert statements({}) == []
    assert statements({"oauth2-cc": DuplicatesPolicy.SUPERSEDE}) == []
    assert statements(SUPERSEDE) != []


def test_a_policy_for_all_others_stands_under_the_asterisk(open_world, base_url, three):
    everywhere = {"*": DuplicatesPolicy.SUPERSEDE, "oauth2": DuplicatesPolicy.KEEP}
    world = open_world(base_url=base_url, duplicates=everywhere)
    for id_ in three:
        world.handle(auth(connection_id=id_, tags=DANA))
    assert owners(world, three) == [DANA_OWNS] * 3


def test_only_the_same_owner_at_the_same_integration_is_superseded(world, nango, connection_id):
    other, elsewhere = f"{connection_id}-other", f"{connection_id}-elsewhere"
    register(nango, connection_id, "oauth2", tags=DANA)
    register(nango, elsewhere, "oauth2-cc", tags=DANA)
    register(nango, other, "oauth2", tags=DANA | {"organization_id": "org_88"})
    for id_, facts in ((connection_id, {}), (elsewhere, {"integration": "oauth2-cc"}), (other, {})):
        tags = DANA | ({"organization_id": "org_88"} if id_ == other else {})
        world.handle(auth(connection_id=id_, tags=tags, **facts))
    assert owners(world, [connection_id, elsewhere, other]) == [DANA_OWNS, DANA_OWNS, ("usr_1042", "org_88")]


def test_an_organization_alone_is_an_owner_too(world, nango, connection_id):
    older, newer = f"{connection_id}-1", f"{connection_id}-2"
    for id_ in (older, newer):
        register(nango, id_, "oauth2", tags={"organization_id": "org_77"})
        world.handle(auth(connection_id=id_, tags={"organization_id": "org_77"}))
    assert owners(world, [older, newer]) == [None, (None, "org_77")]


def test_what_was_superseded_stays_so_when_it_is_authorized_again(world, three):
    for id_ in three:
        world.handle(auth(connection_id=id_, tags=DANA))
    world.handle(auth("override", connection_id=three[0], tags=DANA))
    assert owners(world, three) == [None, None, DANA_OWNS]
    assert len(world.links(three[2])) == 1


def test_its_token_is_kept_fresh_all_the_same(world, three):
    """It lives on in Nango, and may have to step in."""
    for id_ in three:
        world.handle(auth(connection_id=id_, tags=DANA))
    assert world.open_plan(three[0]) is not None


def test_the_link_that_stands_is_announced_to_the_teams(world, three):
    for id_ in three[:2]:
        world.handle(auth(connection_id=id_, tags=DANA))
    announced = [world.event(job.event_id).document for job in world.jobs("linked")]
    assert [document["connection_id"] for document in announced] == three[:2]


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_when_the_newest_is_deleted_the_next_one_has_the_link_again(world, nango, three, order):
    for place in order:
        world.handle(auth(connection_id=three[place], tags=DANA))
    world.clock.move(1)
    confirm_deletion(world, nango, three[2])
    assert owners(world, three) == [None, DANA_OWNS, None]
    connection = world.connection(three[1])
    assert (connection.unlinked_reason, connection.superseded_by) == (None, None)
    announced = world.event(world.jobs("linked")[-1].event_id).document
    assert (announced["connection_id"], announced["user"]["external_id"]) == (three[1], "usr_1042")
    confirm_deletion(world, nango, three[1])
    assert owners(world, three) == [DANA_OWNS, None, None]


def test_when_the_newest_moves_to_another_owner_the_next_one_has_the_link_again(world, nango, three):
    for id_ in three:
        world.handle(auth(connection_id=id_, tags=DANA))
    register(nango, three[2], "oauth2", tags=OMAR)
    world.handle(auth("override", connection_id=three[2], tags=OMAR))
    assert owners(world, three) == [None, DANA_OWNS, OMAR_OWNS]
    register(nango, three[1], "oauth2", tags=OMAR)
    world.handle(auth("override", connection_id=three[1], tags=OMAR))
    assert owners(world, three) == [DANA_OWNS, None, OMAR_OWNS]
    assert [link.close_reason for link in world.links(three[1])][-1] == "reassigned"


def test_a_deleted_one_that_was_superseded_is_out_of_it(world, nango, three):
    for id_ in three:
        world.handle(auth(connection_id=id_, tags=DANA))
    confirm_deletion(world, nango, three[1])
    confirm_deletion(world, nango, three[2])
    assert owners(world, three) == [DANA_OWNS, None, None]


def test_a_held_change_of_the_owner_is_not_superseded(open_world, base_url, nango, three):
    world = open_world(base_url=base_url, duplicates=SUPERSEDE, owner_change=OwnerChangePolicy.HOLD)
    world.handle(auth(connection_id=three[0], tags=DANA))
    register(nango, three[1], "oauth2", tags=OMAR)
    world.handle(auth(connection_id=three[1], tags=OMAR))
    register(nango, three[1], "oauth2", tags=DANA)
    world.handle(auth("override", connection_id=three[1], tags=DANA))
    assert owners(world, three[:2]) == [DANA_OWNS, OMAR_OWNS]


def test_a_new_generation_takes_over_from_all(world, nango, three):
    for id_ in three:
        world.handle(auth(connection_id=id_, tags=DANA))
    delete(nango, three[0])
    register(nango, three[0], "oauth2", tags=DANA)
    world.handle(auth(connection_id=three[0], tags=DANA, provider="made-again"))
    assert owners(world, three) == [DANA_OWNS, None, None]


def test_without_an_api_key_it_is_unknown_which_is_newer(open_world, three):
    world = open_world(duplicates=SUPERSEDE)
    for id_ in three:
        assert world.event(world.handle(auth(connection_id=id_, tags=DANA))).state == EventState.PROCESSED
    assert owners(world, three) == [DANA_OWNS] * 3


@pytest.mark.parametrize("sizes", list(product((1, 2), repeat=2)))
def test_a_chain_in_batches_of_any_size_hands_back_in_order(world, nango, three, sizes):
    bodies = [auth(connection_id=id_, tags=DANA) for id_ in three]
    start = 0
    for size in sizes:
        world.process(*world.receive(*bodies[start : start + size]))
        start += size
    for body in bodies[start:]:
        world.handle(body)
    world.clock.move(1)
    delete(nango, three[2])
    delete(nango, three[1])
    world.receive(*[auth("deletion", connection_id=id_, tags=DANA) for id_ in three[1:]])
    world.process()
    world.clock.move(2)
    world.process()
    assert owners(world, three) == [DANA_OWNS, None, None]


@pytest.mark.parametrize("linked_before", [None, 1, 2])
def test_connections_that_waited_for_their_owner_are_no_exception(open_world, nango, base_url, three, linked_before):
    world = open_world(base_url=base_url, duplicates=SUPERSEDE, directory=DirectoryPolicy.REQUIRE)
    world.route(linked={"type": ["connection.linked"]})
    for id_ in three:
        world.handle(auth(connection_id=id_, tags=DANA))
    assert owners(world, three) == [None] * 3
    at = world.clock()
    acme = Organization(id=new_id(), external_id=DANA["organization_id"], created_at=at)
    dana = User(id=new_id(), external_id=DANA["end_user_id"], created_at=at)
    world.add(acme, dana)
    if linked_before is not None:  # this one has the link already
        world.add(
            Link(
                id=new_id(),
                connection_ref=world.connection(three[linked_before]).id,
                nango_id=world.connection(three[linked_before]).nango_id,
                user_id=dana.id,
                organization_id=acme.id,
                linked_by="end_user_id",
                opened_at=at,
            )
        )
        with world.database.write() as session:
            settled = update(Connection).where(Connection.connection_id == three[linked_before])
            session.execute(settled.values(unlinked_reason=None))
    looked_at = waiting.link_waiting(world.database, world.processor.routes, world.policy, clock=world.clock)
    assert looked_at == (3 if linked_before is None else 2)
    if linked_before == 2:
        assert world.events("connection.linked") == [], "an older connection was never linked, and nothing is announced"
    assert owners(world, three) == [None, None, DANA_OWNS]
    assert [world.connection(id_).unlinked_reason for id_ in three] == ["superseded", "superseded", None]
    assert waiting.link_waiting(world.database, world.processor.routes, world.policy, clock=world.clock) == 0
    confirm_deletion(world, nango, three[2])
    assert owners(world, three) == [None, DANA_OWNS, None], "the next one has it when the newest is gone"


@pytest.fixture
def standing_links(open_world, nango, base_url, three, connection_id):
    """Dana has three linked connections and Omar two, from when the policy was `keep`."""
    before = open_world(base_url=base_url)
    omars = [f"{connection_id}-omar-{number}" for number in range(2)]
    for name in omars:
        register(nango, name, "oauth2", tags=OMAR)
    for name, tags in [*((id_, DANA) for id_ in three), *((id_, OMAR) for id_ in omars)]:
        before.handle(auth(connection_id=name, tags=tags))
    assert owners(before, [*three, *omars]) == [DANA_OWNS] * 3 + [OMAR_OWNS] * 2
    return omars


@pytest.mark.parametrize("chunk", [1, 50])
def test_links_that_stood_before_the_policy_are_counted_and_closed_on_demand(
    *, world, nango, three, standing_links, monkeypatch, chunk
):
    monkeypatch.setattr(standing, "CHUNK", chunk)
    found = standing.count(world.database, world.policy)
    assert (found.owners, found.links) == (2, {"oauth2": 3})
    assert owners(world, three) == [DANA_OWNS] * 3
    announced = len(world.events("connection.linked"))
    done = standing.supersede(world.database, world.policy, world.processor.routes, actor="cli:test", clock=world.clock)
    assert (done.owners, done.links) == (2, {"oauth2": 3})
    assert owners(world, three) == [None, None, DANA_OWNS]
    assert owners(world, standing_links) == [None, OMAR_OWNS]
    assert [world.connection(id_).unlinked_reason for id_ in three] == ["superseded", "superseded", None]
    assert len(world.events("connection.linked")) == announced, "the connection that keeps the link had it"
    assert standing.count(world.database, world.policy) == standing.DuplicateCounts()
    [act] = world.all(Audit, Audit.action == "links.superseded")
    assert (act.outcome, act.detail) == ("done", {"owners": 2, "links_closed": {"oauth2": 3}})
    confirm_deletion(world, nango, three[2])
    assert owners(world, three) == [None, DANA_OWNS, None], "the next one has it when the newest is gone"


def test_where_every_policy_is_keep_nothing_can_be_superseded(open_world, base_url, standing_links):
    world = open_world(base_url=base_url)
    with pytest.raises(InvalidInput, match="no integration has the policy"):
        standing.supersede(world.database, world.policy, world.processor.routes, actor="cli:test", clock=world.clock)
    other = open_world(base_url=base_url, duplicates={"slack": DuplicatesPolicy.SUPERSEDE})
    assert standing.count(other.database, other.policy) == standing.DuplicateCounts()

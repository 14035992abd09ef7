"""Links that an operator closes or has decided anew, and why a connection is linked or not."""

import pytest
from sqlalchemy import select

from app.db.models import Audit
from app.domain.linking import DirectoryPolicy, DuplicatesPolicy, OwnerChangePolicy
from app.errors import Conflict, NotFound
from app.ids import CONNECTION, new_id, show
from app.services.linking import by_hand, explaining
from tests.integration.linking.test_linking import DANA_OWNS, OMAR_OWNS, add_user, reauthorize
from tests.integration.sandbox.sandbox_server import register
from tests.integration.world import DANA, OMAR, auth


@pytest.fixture
def world(open_world, base_url):
    return open_world(base_url=base_url)


@pytest.fixture
def linked(world, nango, connection_id):
    """A confirmed connection of Dana's."""
    register(nango, connection_id, "oauth2", tags=DANA)
    world.handle(auth(connection_id=connection_id, tags=DANA))
    return connection_id


def unlink(world, connection_id, reason="they asked"):
    ref = world.connection(connection_id).id
    by_hand.unlink(
        world.database, world.processor.routes, world.policy, ref, reason=reason, actor="cli:ada", clock=world.clock
    )


def relink(world, connection_id):
    ref = world.connection(connection_id).id
    return by_hand.relink(world.database, world.processor.routes, world.policy, ref, actor="cli:ada", clock=world.clock)


def cause(world, connection_id):
    with world.database.read() as session:
        return explaining.explain(session, world.connection(connection_id).id, world.policy).cause


def audited(world):
    with world.database.read() as session:
        rows = session.scalars(select(Audit).order_by(Audit.id)).all()
    return [(row.actor, row.action, row.subject) for row in rows if row.action.startswith("connection.")]


def test_an_unlinked_connection_stays_so_while_its_tags_name_the_same_owner(world, nango, linked):
    assert cause(world, linked) == "linked"
    unlink(world, linked)
    [link] = world.links(linked)
    assert (link.closed_at, link.close_reason) == (world.clock.now, "by_operator")
    assert cause(world, linked) == "by_operator"
    for tags in (DANA, {}, {"plan": "pro"}, DANA):
        reauthorize(world, nango, linked, tags)
        assert (world.owner(linked), cause(world, linked)) == (None, "by_operator")
    assert len(world.events("connection.linked")) == 1
    assert audited(world) == [("cli:ada", "connection.unlinked", show(CONNECTION, world.connection(linked).id))]
    reauthorize(world, nango, linked, OMAR)
    assert (world.owner(linked), cause(world, linked)) == (OMAR_OWNS, "linked")


def test_an_unlinked_connection_is_linked_again_by_hand_and_teams_are_told(world, linked):
    world.route(linked={"type": ["connection.linked"]})
    unlink(world, linked)
    with pytest.raises(Conflict, match="no link to close"):
        unlink(world, linked)
    done = relink(world, linked)
    assert (done.linked, done.changed) == (True, True)
    assert (world.owner(linked), cause(world, linked)) == (DANA_OWNS, "linked")
    event = world.events("connection.linked")[-1]
    assert event.document["previous_owner"] is None
    assert [job.event_id for job in world.jobs("linked")] == [event.id]
    again = relink(world, linked)
    assert (again.linked, again.changed) == (True, False)
    assert len(world.events("connection.linked")) == 2


def test_a_held_change_is_released_by_hand(open_world, nango, base_url, world, linked):
    holding = open_world(base_url=base_url, owner_change=OwnerChangePolicy.HOLD)
    reauthorize(holding, nango, linked, OMAR)
    assert (holding.owner(linked), cause(holding, linked)) == (DANA_OWNS, "owner_change_held")
    relink(holding, linked)
    assert (holding.owner(linked), cause(holding, linked)) == (OMAR_OWNS, "linked")
    assert holding.connection(linked).known_tags is None
    event = holding.events("connection.linked")[-1]
    assert event.document["previous_owner"]["user"]["external_id"] == "usr_1042"
    assert event.document["user"]["external_id"] == "usr_2001"


def test_an_owner_that_is_not_known_is_told_and_leaves_the_connection_unlinked(
    open_world, nango, base_url, connection_id
):
    world = open_world(base_url=base_url, directory=DirectoryPolicy.REQUIRE)
    register(nango, connection_id, "oauth2", tags={"end_user_id": "usr_9"})
    world.handle(auth(connection_id=connection_id, tags={"end_user_id": "usr_9"}))
    assert cause(world, connection_id) == "unknown_user"
    done = relink(world, connection_id)
    assert (done.linked, done.reason) == (False, "unknown_user")
    add_user(world, "usr_9")
    assert cause(world, connection_id) == "linked_soon"
    assert relink(world, connection_id).linked
    assert world.owner(connection_id) == ("usr_9", None)


def test_an_email_of_another_organization_links_to_the_organization_alone_and_says_so(world, nango, connection_id):
    add_user(world, "usr_7", email="lee@acme.example", organization="org_other")
    tags = {"end_user_email": "lee@acme.example", "organization_id": "org_77"}
    register(nango, connection_id, "oauth2", tags=tags)
    world.handle(auth(connection_id=connection_id, tags=tags))
    assert world.owner(connection_id) == (None, "org_77")
    assert cause(world, connection_id) == "linked_to_organization"


def test_what_cannot_be_linked_is_refused_with_its_reason(world, nango, connection_id):
    register(nango, connection_id, "oauth2", tags={"plan": "pro"})
    world.handle(auth(connection_id=connection_id, tags={"plan": "pro"}))
    with pytest.raises(Conflict, match="name no owner"):
        relink(world, connection_id)
    for act in (by_hand.relink, by_hand.unlink):
        more = {"reason": None} if act is by_hand.unlink else {}
        with pytest.raises(NotFound):
            act(world.database, world.processor.routes, world.policy, new_id(), actor="x", clock=world.clock, **more)


def test_with_supersede_the_next_connection_of_the_owner_has_the_link_again(open_world, nango, base_url, connection_id):
    world = open_world(base_url=base_url, duplicates={"*": DuplicatesPolicy.SUPERSEDE})
    older, newer = f"{connection_id}-1", f"{connection_id}-2"
    for each in (older, newer):
        register(nango, each, "oauth2", tags=DANA)
        world.handle(auth(connection_id=each, tags=DANA))
    assert (world.owner(older), world.owner(newer)) == (None, DANA_OWNS)
    assert cause(world, older) == "superseded"
    with pytest.raises(Conflict, match="newer connection"):
        relink(world, older)
    unlink(world, newer)
    assert (world.owner(older), world.owner(newer)) == (DANA_OWNS, None)


def test_with_the_policy_sql_the_applications_database_is_asked_again(open_world, nango, base_url, world, linked):
    unlink(world, linked)
    asking = open_world(base_url=base_url, directory=DirectoryPolicy.SQL)
    done = relink(asking, linked)
    assert (done.linked, done.asked) == (False, True)
    assert asking.connection(linked).owner_look_at == world.clock.now

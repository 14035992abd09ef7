"""Promise 5: a connection that cannot be linked waits with its reason, and is linked once its owner appears."""

import pytest

from app.db.models import Organization, User
from app.domain.linking import DirectoryPolicy
from app.ids import new_id
from app.services.linking import waiting
from tests.integration.world import DANA, auth


@pytest.fixture
def world(open_world):
    return open_world(directory=DirectoryPolicy.REQUIRE)


def add_user(world, external_id, **members):
    world.add(User(id=new_id(), external_id=external_id, created_at=world.clock(), **members))


def add_organization(world, external_id):
    world.add(Organization(id=new_id(), external_id=external_id, created_at=world.clock()))


def requery(world):
    return waiting.link_waiting(world.database, world.processor.routes, world.policy, clock=world.clock)


def test_a_connection_is_linked_once_its_user_and_organization_appear(world):
    world.route(linked={"type": ["connection.linked"]})
    world.handle(auth(tags=DANA))
    assert world.owner("c-1") is None
    assert requery(world) == 0
    add_organization(world, "org_77")
    requery(world)
    assert world.connection("c-1").unlinked_reason == "unknown_user"
    add_user(world, "usr_1042")
    requery(world)
    assert world.owner("c-1") == ("usr_1042", "org_77")
    assert world.connection("c-1").unlinked_reason is None
    [link] = world.links("c-1")
    assert link.linked_by == "end_user_id"
    [link_event] = world.events("connection.linked")
    assert link_event.document["user"]["external_id"] == "usr_1042"
    assert [job.event_id for job in world.jobs("linked")] == [link_event.id]


def test_a_linked_connection_is_not_checked_again(world):
    world.handle(auth(tags={"end_user_id": "usr_1042"}))
    add_user(world, "usr_1042")
    assert requery(world) == 1
    assert requery(world) == 0
    assert len(world.links("c-1")) == 1


def test_a_late_user_is_found_by_an_email_in_any_case(world):
    world.handle(auth(tags={"end_user_email": "Dana.Wu@acme.example"}))
    assert world.connection("c-1").unlinked_reason == "unknown_email"
    add_user(world, "usr_1042", email="dana.wu@ACME.example")
    requery(world)
    assert world.owner("c-1") == ("usr_1042", None)


def test_an_email_that_several_late_users_have_links_to_none_and_is_not_checked_for_ever(world):
    world.handle(auth(tags={"end_user_email": "shared@acme.example"}))
    for external_id in ("usr_1", "usr_2"):
        add_user(world, external_id, email="shared@acme.example")
    assert requery(world) == 1
    assert world.owner("c-1") is None
    assert world.connection("c-1").unlinked_reason == "ambiguous_email"
    assert requery(world) == 0

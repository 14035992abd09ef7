"""Promise 5: a failure never unlinks; a confirmed different owner does."""

from itertools import pairwise

import pytest
from sqlalchemy import func, select

from app.db.models import Connection, Event, Organization, User
from app.domain.linking import DirectoryPolicy, OwnerChangePolicy, TagKeys
from app.domain.routing import ANNOUNCED_BEFORE
from app.domain.states import ConnectionStatus, EventState
from app.ids import new_id
from tests.integration.sandbox.sandbox_server import connect, register
from tests.integration.world import DANA, OMAR, WINDOW, auth, failure

DANA_OWNS, OMAR_OWNS = ("usr_1042", "org_77"), ("usr_2001", "org_88")


@pytest.fixture
def world(open_world, base_url):
    return open_world(base_url=base_url)


@pytest.fixture
def linked(world, nango, connection_id):
    """A confirmed connection of Dana's."""
    register(nango, connection_id, "oauth2", tags=DANA)
    world.handle(auth(connection_id=connection_id, tags=DANA))
    assert world.owner(connection_id) == DANA_OWNS
    return connection_id


def reauthorize(world, nango, connection_id, tags):
    """A re-authorization with these tags, at Nango and by its webhook."""
    register(nango, connection_id, "oauth2", tags=tags)
    return world.event(world.handle(auth("override", connection_id=connection_id, tags=tags)))


def add_user(world, external_id, *, email=None, organization=None):
    now = world.clock.now
    known = {organization.external_id: organization.id for organization in world.all(Organization)}
    if organization and organization not in known:
        known[organization] = new_id()
        world.add(Organization(id=known[organization], external_id=organization, created_at=now))
    owner = known.get(organization)
    world.add(User(id=new_id(), external_id=external_id, email=email, organization_id=owner, created_at=now))


def test_a_link_says_which_tag_proved_it_and_which_event(world, linked):
    [link] = world.links(linked)
    connection = world.connection(linked)
    [event] = world.events("connection.created")
    assert (link.linked_by, link.event_id, link.nango_id) == ("end_user_id", event.id, connection.nango_id)
    assert (connection.drift, connection.unlinked_reason) == (None, None)


def test_a_first_link_is_announced_with_its_owner_and_no_previous_one(world, linked):
    [link_event] = world.events("connection.linked")
    assert link_event.document["user"]["external_id"] == "usr_1042"
    assert link_event.document["organization"]["external_id"] == "org_77"
    assert link_event.document["previous_owner"] is None
    assert (link_event.origin, link_event.state, link_event.document["confirmed"]) == (
        "system",
        EventState.PROCESSED,
        True,
    )


@pytest.mark.parametrize(
    ("tags", "drift"),
    [
        ({}, "tags_wiped"),
        ({"plan": "pro"}, "owner_tag_missing"),
        ({"end_user_id": "usr_1042"}, "owner_tag_missing"),
        ({"organization_id": "org_77"}, "owner_tag_missing"),
        ({"end_user_email": "nobody@acme.example"}, "owner_unresolved"),
    ],
)
def test_tags_that_no_longer_name_the_owner_keep_the_link_and_are_shown_as_drift(world, nango, linked, tags, drift):
    event = reauthorize(world, nango, linked, tags)
    assert event.state == EventState.PROCESSED
    assert world.owner(linked) == DANA_OWNS
    assert len(world.links(linked)) == 1
    assert (world.connection(linked).drift, world.connection(linked).tags) == (drift, tags)
    assert event.document["user"]["external_id"] == "usr_1042"
    reauthorize(world, nango, linked, DANA)
    assert world.connection(linked).drift is None


def test_a_confirmed_different_owner_closes_the_link_opens_another_and_is_announced(world, nango, linked):
    world.route(linked={"type": ["connection.linked"], "previous_owner": {"user": {"external_id": ["usr_1042"]}}})
    reauthorize(world, nango, linked, OMAR)
    old, new = world.links(linked)
    assert (old.closed_at, old.close_reason) == (world.clock.now, "reassigned")
    assert new.closed_at is None
    assert world.owner(linked) == OMAR_OWNS
    link_event = world.events("connection.linked")[-1]
    assert link_event.document["user"]["external_id"] == "usr_2001"
    assert link_event.document["previous_owner"]["user"]["external_id"] == "usr_1042"
    assert link_event.document["previous_owner"]["organization"]["external_id"] == "org_77"
    [job] = world.jobs()
    assert job.event_id == link_event.id


def test_with_the_policy_hold_a_different_owner_waits_for_an_operator(open_world, world, nango, base_url, linked):
    holding = open_world(base_url=base_url, owner_change=OwnerChangePolicy.HOLD)
    reauthorize(holding, nango, linked, OMAR)
    assert world.owner(linked) == DANA_OWNS
    assert world.connection(linked).drift == "owner_change_held"
    assert len(world.events("connection.linked")) == 1


def test_with_the_policy_hold_an_owner_that_becomes_more_precise_is_no_change(
    open_world, nango, base_url, connection_id
):
    holding = open_world(base_url=base_url, owner_change=OwnerChangePolicy.HOLD)
    register(nango, connection_id, "oauth2", tags={"organization_id": "org_77"})
    holding.handle(auth(connection_id=connection_id, tags={"organization_id": "org_77"}))
    reauthorize(holding, nango, connection_id, DANA)
    assert holding.owner(connection_id) == DANA_OWNS


@pytest.mark.parametrize(
    ("known", "tags", "reason"),
    [
        ([], DANA, "unknown_organization"),
        ([], {"end_user_id": "usr_1042"}, "unknown_user"),
        ([("usr_9", None, "org_77")], DANA, "unknown_user"),
        ([], {}, "no_owner_tags"),
    ],
)
def test_with_the_policy_require_no_user_is_made_and_the_reason_is_kept(
    *, open_world, nango, base_url, connection_id, known, tags, reason
):
    world = open_world(base_url=base_url, directory=DirectoryPolicy.REQUIRE)
    for external_id, email, organization in known:
        add_user(world, external_id, email=email, organization=organization)
    register(nango, connection_id, "oauth2", tags=tags)
    event = world.event(world.handle(auth(connection_id=connection_id, tags=tags)))
    connection = world.connection(connection_id)
    assert (event.state, connection.status) == (EventState.PROCESSED, ConnectionStatus.ACTIVE)
    assert connection.unlinked_reason == reason
    wanted = (connection.wanted_user, connection.wanted_organization)
    assert wanted == (tags.get("end_user_id"), tags.get("organization_id"))
    assert world.owner(connection_id) is None
    assert len(world.all(User)) == len(known)
    assert event.document["user"] is None


def test_with_the_policy_require_known_owners_are_linked(open_world, nango, base_url, connection_id):
    world = open_world(base_url=base_url, directory=DirectoryPolicy.REQUIRE)
    add_user(world, "usr_1042", organization="org_77")
    register(nango, connection_id, "oauth2", tags=DANA)
    world.handle(auth(connection_id=connection_id, tags=DANA))
    assert world.owner(connection_id) == DANA_OWNS


@pytest.mark.parametrize(
    ("users", "tags", "owner", "reason"),
    [
        ([("u1", None)], {}, ("u1", None), None),
        ([("u1", "org_1")], {}, ("u1", None), None),
        ([("u1", "org_1")], {"organization_id": "org_1"}, ("u1", "org_1"), None),
        ([("u1", None), ("u2", None)], {}, None, "ambiguous_email"),
        ([("u1", "org_1"), ("u2", "org_2")], {}, None, "ambiguous_email"),
        ([("u1", "org_1"), ("u2", "org_2")], {"organization_id": "org_2"}, ("u2", "org_2"), None),
        ([("u1", "org_1")], {"organization_id": "org_2"}, (None, "org_2"), None),
        ([], {}, None, "unknown_email"),
    ],
)
def test_an_email_links_only_where_it_names_one_user_and_never_across_organizations(
    *, world, nango, connection_id, users, tags, owner, reason
):
    for external_id, organization in users:
        add_user(world, external_id, email="Dana.Wu@acme.example", organization=organization)
    tags = {"end_user_email": "dana.wu@ACME.example", **tags}
    register(nango, connection_id, "oauth2", tags=tags)
    world.handle(auth(connection_id=connection_id, tags=tags))
    assert world.owner(connection_id) == owner
    assert world.connection(connection_id).unlinked_reason == reason
    assert len(world.all(User)) == len(users)  # an e-mail alone makes no user


def test_a_legacy_end_user_links_where_there_are_no_tags(world, nango, connection_id):
    end_user = {"endUserId": "usr_2001", "organizationId": "org_88", "tags": {}}
    register(nango, connection_id, "oauth2", endUser=end_user)
    world.handle(auth(connection_id=connection_id, end_user=end_user))
    assert world.owner(connection_id) == OMAR_OWNS
    assert world.links(connection_id)[0].linked_by == "endUser.endUserId"


def test_tags_win_over_the_legacy_end_user(world, nango, connection_id):
    end_user = {"endUserId": "usr_1042", "organizationId": "org_77", "tags": {}}
    register(nango, connection_id, "oauth2", tags=OMAR, endUser=end_user)
    world.handle(auth(connection_id=connection_id, tags=OMAR, end_user=end_user))
    assert world.owner(connection_id) == OMAR_OWNS


def test_which_tags_name_the_owner_is_configurable(open_world, nango, base_url, connection_id):
    keys = TagKeys(user_id="account", organization_id="tenant")
    world = open_world(base_url=base_url, tag_keys=keys)
    tags = {"account": "a-1", "tenant": "t-1", "end_user_id": "somebody"}
    register(nango, connection_id, "oauth2", tags=tags)
    world.handle(auth(connection_id=connection_id, tags=tags))
    assert world.owner(connection_id) == ("a-1", "t-1")


def test_what_the_directory_says_is_completed_by_tags_and_not_overwritten(world, nango, connection_id):
    add_user(world, "usr_1042", email="kept@acme.example")
    names = {"end_user_display_name": "Dana Wu", "organization_display_name": "Acme"}
    tags = DANA | {"end_user_email": "other@acme.example"} | names
    register(nango, connection_id, "oauth2", tags=tags)
    world.handle(auth(connection_id=connection_id, tags=tags))
    [user] = world.all(User)
    assert (user.email, user.display_name) == ("kept@acme.example", "Dana Wu")
    assert [organization.name for organization in world.all(Organization)] == ["Acme"]


def test_a_failed_reauthorization_labelled_creation_keeps_the_link_and_is_called_what_it_is(world, clock, linked):
    event = world.event(world.handle(failure(connection_id=linked, description="token=abc123def456ghi")))
    assert event.type == event.document["type"] == "connection.reauthorization_failed"
    assert event.document["error"] == {"type": "unknown", "description": "token=[hidden]"}
    assert event.document["user"]["external_id"] == "usr_1042"
    assert world.owner(linked) == DANA_OWNS
    assert world.connection(linked).status == ConnectionStatus.ACTIVE


def test_a_failed_override_keeps_the_link(world, linked):
    event = world.event(world.handle(failure("override", connection_id=linked, tags=OMAR)))
    assert event.type == "connection.reauthorization_failed"
    assert world.owner(linked) == DANA_OWNS
    assert world.connection(linked).tags == DANA


def test_a_failed_creation_of_an_unknown_connection_is_called_so(world, connection_id):
    assert world.event(world.handle(failure(connection_id=connection_id))).type == "connection.creation_failed"


def test_a_new_generation_under_the_same_key_is_a_new_connection(world, nango, clock, linked):
    world.route(created={"type": ["connection.created"]})
    first = world.connection(linked).nango_id
    nango.delete(f"/connections/{linked}", params={"provider_config_key": "oauth2"}).raise_for_status()
    second = register(nango, linked, "oauth2", tags=OMAR)["id"]
    clock.move(1)
    world.handle(auth(connection_id=linked, tags=OMAR))
    old, new = world.links(linked)
    assert (old.nango_id, old.close_reason) == (first, "new_generation")
    assert (new.nango_id, new.closed_at) == (second, None)
    assert world.owner(linked) == OMAR_OWNS
    assert world.events("connection.linked")[-1].document["previous_owner"] is None
    assert len(world.jobs()) == 1


def test_a_new_generation_of_the_same_owner_gets_a_link_of_its_own(world, nango, linked):
    nango.delete(f"/connections/{linked}", params={"provider_config_key": "oauth2"}).raise_for_status()
    register(nango, linked, "oauth2", tags=DANA)
    world.handle(auth(connection_id=linked, tags=DANA, provider="again"))
    assert [link.close_reason for link in world.links(linked)] == ["new_generation", None]


def test_a_new_generation_without_owner_tags_does_not_inherit_the_link(world, nango, linked):
    nango.delete(f"/connections/{linked}", params={"provider_config_key": "oauth2"}).raise_for_status()
    register(nango, linked, "oauth2")
    world.handle(auth(connection_id=linked, tags={}))
    assert world.owner(linked) is None
    assert world.connection(linked).unlinked_reason == "no_owner_tags"


def test_connection_created_is_routed_once_per_generation(world, nango, clock, connection_id):
    world.route(created={"type": ["connection.created"]})
    register(nango, connection_id, "oauth2", tags=DANA)
    for _ in range(3):
        last = world.handle(auth(connection_id=connection_id, tags=DANA))
        clock.move(WINDOW.total_seconds() + 1)
    assert len(world.events("connection.created")) == 3
    assert len(world.jobs()) == 1
    assert world.event(last).problem == ANNOUNCED_BEFORE
    nango.delete(f"/connections/{connection_id}", params={"provider_config_key": "oauth2"}).raise_for_status()
    register(nango, connection_id, "oauth2", tags=DANA)
    world.handle(auth(connection_id=connection_id, tags=DANA))
    assert len(world.jobs()) == 2


def test_the_two_events_of_one_flow_may_come_in_either_order(world, nango, connection_id):
    """A GitHub App sends creation and override, neither waited for (Nango contract: When auth webhooks are sent)."""
    world.route(both={"type": ["connection.created", "connection.reauthorized"]})
    register(nango, connection_id, "oauth2", tags=DANA)
    world.handle(auth("override", connection_id=connection_id, tags=DANA))
    world.handle(auth(connection_id=connection_id, tags=DANA))
    assert len(world.links(connection_id)) == 1
    assert len(world.jobs()) == 2


def test_links_are_never_deleted_and_at_most_one_is_open(world, nango, clock, linked):
    for tags in (OMAR, DANA, OMAR, {}, DANA):
        clock.move(1)
        reauthorize(world, nango, linked, tags)
    links = world.links(linked)
    assert [link.closed_at is None for link in links] == [False] * 4 + [True]
    assert all(later.opened_at == earlier.closed_at for earlier, later in pairwise(links))


def test_a_real_flow_through_the_sandbox_is_linked_by_its_sessions_tags(world, nango):
    connection_id = connect(nango, integration="apikey", tags=DANA)
    facts = {"connection_id": connection_id, "integration": "apikey", "mode": "API_KEY", "provider": "private"}
    world.handle(auth(tags=DANA, **facts))
    assert world.owner(connection_id) == DANA_OWNS
    with world.database.read() as session:
        assert session.scalar(select(func.count()).where(Event.state == EventState.PROCESSED)) == 2


def test_drift_keeps_the_last_tags_that_named_the_owner_until_tags_name_it_again(world, nango, linked):
    reauthorize(world, nango, linked, DANA | {"plan": "pro"})
    assert world.connection(linked).known_tags is None
    for tags in ({}, {"plan": "free"}, {}):
        world.clock.move(1)
        reauthorize(world, nango, linked, tags)
        connection = world.connection(linked)
        assert (connection.known_tags, connection.tags) == (DANA | {"plan": "pro"}, tags)
        assert world.owner(linked) == DANA_OWNS
    reauthorize(world, nango, linked, DANA)
    assert (world.connection(linked).known_tags, world.connection(linked).drift) == (None, None)


def test_a_held_change_keeps_the_tags_of_the_link_that_stands(open_world, base_url, nango, linked):
    world = open_world(base_url=base_url, owner_change=OwnerChangePolicy.HOLD)
    reauthorize(world, nango, linked, OMAR)
    assert (world.connection(linked).drift, world.connection(linked).known_tags) == ("owner_change_held", DANA)


def test_a_link_that_no_tag_named_leaves_no_tags_to_write_back(world, nango, connection_id):
    end_user = {"endUserId": "usr_2001", "organizationId": "org_88", "tags": {}}
    register(nango, connection_id, "oauth2", endUser=end_user)
    world.handle(auth(connection_id=connection_id, end_user=end_user))
    with world.database.write() as session:
        session.query(Connection).update({"tags": {"plan": "pro"}})
    nango.delete(f"/connections/{connection_id}", params={"provider_config_key": "oauth2"}).raise_for_status()
    register(nango, connection_id, "oauth2")
    known = world.connection(connection_id)
    with world.database.write() as session:
        session.query(Connection).update({"nango_id": known.nango_id + 1})
    world.handle(auth("override", connection_id=connection_id, tags={}))
    assert (world.owner(connection_id), world.connection(connection_id).drift) == (OMAR_OWNS, "tags_wiped")
    assert world.connection(connection_id).known_tags is None


def test_a_deletion_and_a_new_generation_forget_the_tags_that_were_kept(world, nango, clock, linked):
    reauthorize(world, nango, linked, {})
    nango.delete(f"/connections/{linked}", params={"provider_config_key": "oauth2"}).raise_for_status()
    register(nango, linked, "oauth2")
    clock.move(WINDOW.total_seconds())
    world.handle(auth(connection_id=linked, tags={}))
    assert world.connection(linked).known_tags is None

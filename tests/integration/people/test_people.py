"""Users and organizations: written once, never overwritten in silence, and waiting connections are linked at once."""

import threading

import pytest

from app.db import audit
from app.db import people as rows
from app.db.audit import AuditFilters
from app.db.models import Connection, Link, Organization, User
from app.db.people import PeopleFilters
from app.domain.linking import DirectoryPolicy, DuplicatesPolicy
from app.domain.people import OwnerKind
from app.errors import AlreadyExists, InvalidFields, NotFound, StillOwns
from app.services import directory
from app.services.events import batch
from app.services.linking import waiting
from app.services.people import records
from app.services.people.records import EntryResult
from tests.integration.sandbox.sandbox_server import register
from tests.integration.world import DANA, auth, in_threads, wait_for_a_lock
from tests.waiting import PATIENCE

USER, ORGANIZATION = OwnerKind.USER, OwnerKind.ORGANIZATION


@pytest.fixture
def world(open_world):
    return open_world(directory=DirectoryPolicy.REQUIRE)


def add(world, kind=USER, /, chunks=waiting.MAX_CHUNKS, **fields):
    """Write, then link the waiting connections, as the edges do. The id, and the number of connections linked."""
    with world.database.write() as session:
        merged = records.add(session, kind, fields, actor="cli:test", now=world.clock())
    return merged.outcomes[0].id, link(world, merged, chunks=chunks)


def change(world, id_, kind=USER, /, **fields):
    with world.database.write() as session:
        merged = records.change(session, kind, id_, fields, actor="cli:test", now=world.clock())
    return merged.outcomes[0].result, link(world, merged)


def link(world, merged, **bounds):
    routes = world.processor.routes
    return waiting.link_appeared(world.database, routes, world.policy, merged.appeared, clock=world.clock, **bounds)


def remove(world, id_, kind=USER, /, *, force=False):
    return records.remove(world.database, kind, id_, force=force, actor="cli:test", clock=world.clock)


def shown(world, id_, kind=USER, /):
    with world.database.read() as session:
        return rows.get(session, kind, id_)


def listed(world, kind=USER, /, **filters):
    with world.database.read() as session:
        return [row["external_id"] for row in rows.listing(session, kind, PeopleFilters(**filters))]


def test_an_added_person_is_shown_with_every_field(world):
    organization, _ = add(world, ORGANIZATION, external_id="org_77", name="Acme")
    user, _ = add(world, external_id="usr_1042", email="Dana@acme.example", display_name="Dana", organization="org_77")
    person = shown(world, user)
    assert person | {"id": ..., "created_at": ...} == {
        "id": ..., "external_id": "usr_1042", "email": "Dana@acme.example", "display_name": "Dana",
        "organization": "org_77", "connections": 0, "created_at": ..., "updated_at": None, "removed_at": None,
        "links": [],
    }  # fmt: skip
    assert shown(world, organization, ORGANIZATION)["users"] == 1


def test_a_second_one_of_an_external_id_is_refused_and_names_the_first(world):
    user, _ = add(world, external_id="usr_1042", display_name="Dana")
    with pytest.raises(AlreadyExists) as refused:
        add(world, external_id="usr_1042", display_name="Other")
    assert refused.value.existing == f"usr_{user.hex}"
    assert shown(world, user)["display_name"] == "Dana"


def test_of_two_that_are_added_at_once_one_wins_and_the_other_gets_an_error(world):
    def attempt(name):
        def run():
            try:
                return add(world, external_id="usr_1", display_name=name)[0]
            except AlreadyExists as refused:
                return refused.existing

        return run

    first, second = in_threads(attempt("A"), attempt("B"))
    ids = {id_ if isinstance(id_, str) else f"usr_{id_.hex}" for id_ in (first, second)}
    assert len(ids) == 1
    assert len(world.all(User)) == 1


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)  # SQLite lets one write after the other
def test_a_write_that_finds_an_unfinished_insert_of_the_same_id_waits_and_yields(world):
    ready = threading.Event()

    def first():
        with world.database.write() as session:
            records.add(session, USER, {"external_id": "usr_1", "display_name": "A"}, actor="cli:a", now=world.clock())
            ready.set()
            wait_for_a_lock(world)

    def second():
        assert ready.wait(PATIENCE)
        with world.database.write() as session:
            entries = [{"external_id": "usr_0"}, {"external_id": "usr_1", "email": "a@b.example"}]
            return records.merge(session, USER, entries, now=world.clock())

    _, merged = in_threads(first, second)
    assert [outcome.result for outcome in merged.outcomes] == [EntryResult.ADDED, EntryResult.CHANGED]
    assert merged.outcomes[1].id == next(user.id for user in world.all(User) if user.external_id == "usr_1")
    assert {(user.external_id, user.email, user.display_name) for user in world.all(User)} == {
        ("usr_0", None, None),
        ("usr_1", "a@b.example", "A"),
    }


def test_wrong_fields_and_unknown_organizations_write_nothing(world):
    with pytest.raises(InvalidFields) as refused:
        add(world, external_id="", email="nobody")
    assert [(fault.field, fault.rule) for fault in refused.value.faults] == [
        ("external_id", "required"),
        ("external_id", "empty"),
        ("email", "email"),
    ]
    with pytest.raises(InvalidFields, match="add it first"):
        add(world, external_id="usr_1", organization="org_404")
    assert world.all(User) == []


def test_a_change_touches_what_was_given_and_clears_what_is_none(world):
    add(world, ORGANIZATION, external_id="org_77")
    user, _ = add(world, external_id="usr_1", email="a@b.example", display_name="A", organization="org_77")
    world.clock.move(5)
    assert change(world, user, display_name="B", email=None)[0] is EntryResult.CHANGED
    person = shown(world, user)
    assert (person["display_name"], person["email"], person["organization"]) == ("B", None, "org_77")
    assert person["updated_at"] == world.clock.now.isoformat()
    world.clock.move(5)
    assert change(world, user, display_name="B")[0] is EntryResult.UNCHANGED
    assert shown(world, user)["updated_at"] == person["updated_at"]
    change(world, user, organization=None)
    assert shown(world, user)["organization"] is None


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)  # on SQLite no transaction writes meanwhile
def test_what_a_person_says_while_a_batch_is_at_it_is_not_overwritten_by_a_tag(open_world, monkeypatch):
    world = open_world()
    id_, _ = add(world, external_id="usr_1042")
    locking = directory.rows.lock_users

    def lock_users(session, users):
        monkeypatch.undo()
        assert [user.external_id for user in users] == ["usr_1042"]
        change(world, id_, display_name="Dana Wu")
        locking(session, users)

    monkeypatch.setattr(directory.rows, "lock_users", lock_users)
    said = {"end_user_email": "dana@acme.example", "end_user_display_name": "Dana"}
    world.handle(auth(tags=DANA | said))
    [user] = world.all(User)
    assert (user.email, user.display_name) == ("dana@acme.example", "Dana Wu")


def test_an_external_id_of_another_person_cannot_be_taken(world):
    first, _ = add(world, external_id="usr_1")
    second, _ = add(world, external_id="usr_2")
    with pytest.raises(AlreadyExists) as refused:
        change(world, second, external_id="usr_1")
    assert refused.value.existing == f"usr_{first.hex}"
    change(world, second, external_id="usr_3")
    assert shown(world, second)["external_id"] == "usr_3"
    with pytest.raises(NotFound):
        change(world, second, ORGANIZATION, name="x")


def test_connections_that_wait_are_linked_by_the_add_itself(world):
    world.route(linked={"type": ["connection.linked"]})
    world.handle(auth(tags=DANA))
    assert add(world, ORGANIZATION, external_id="org_77")[1] == 0
    assert world.connection("c-1").unlinked_reason == "unknown_user"
    assert add(world, external_id="usr_1042")[1] == 1
    assert world.owner("c-1") == ("usr_1042", "org_77")
    assert len(world.jobs("linked")) == 1


def test_a_change_of_external_id_or_email_links_connections_that_wait_for_the_new_one(world):
    world.handle(auth(tags={"end_user_id": "usr_9"}))
    world.handle(auth(connection_id="c-2", tags={"end_user_email": "Eve@acme.example"}))
    user, _ = add(world, external_id="usr_1")
    assert change(world, user, external_id="usr_9")[1] == 1
    assert change(world, user, email="eve@ACME.example")[1] == 1
    assert (world.owner("c-1"), world.owner("c-2")) == (("usr_9", None), ("usr_9", None))


def test_an_email_that_named_two_links_once_one_of_them_gives_it_up(world):
    world.handle(auth(tags={"end_user_email": "shared@acme.example"}))
    first, _ = add(world, external_id="usr_1", email="shared@acme.example")
    assert world.owner("c-1") == ("usr_1", None)
    add(world, external_id="usr_2", email="Shared@acme.example")
    world.handle(auth(connection_id="c-2", tags={"end_user_email": "shared@acme.example"}))
    assert world.connection("c-2").unlinked_reason == "ambiguous_email"
    assert change(world, first, email="own@acme.example")[1] == 1
    assert world.owner("c-2") == ("usr_2", None)


def test_many_that_wait_are_linked_in_bounded_batches_and_the_rest_is_left_to_beat(world, monkeypatch):
    monkeypatch.setattr(waiting, "CHUNK", 3)
    bodies = [auth(connection_id=f"c-{number}", tags={"end_user_id": "usr_1"}) for number in range(8)]
    world.process(*world.receive(*bodies))
    assert add(world, external_id="usr_1", chunks=2)[1] == 6
    assert waiting.link_waiting(world.database, world.processor.routes, world.policy, clock=world.clock) == 2
    assert len(world.all(Link)) == 8


def test_those_that_stay_ambiguous_do_not_keep_the_others_from_their_turn(world, monkeypatch):
    monkeypatch.setattr(waiting, "CHUNK", 2)
    for external_id in ("usr_1", "usr_2"):
        add(world, external_id=external_id, email="shared@acme.example")
    tags = {"end_user_email": "shared@acme.example"}
    world.process(*world.receive(*(auth(connection_id=f"a-{number}", tags=tags) for number in range(5))))
    world.handle(auth(connection_id="b-1", tags={"end_user_id": "usr_3"}))
    assert add(world, external_id="usr_3", email="shared@acme.example")[1] == 1
    assert world.owner("b-1") == ("usr_3", None)


def test_a_user_added_while_a_batch_makes_a_connection_wait_is_found_by_beat(world, monkeypatch):
    """The add searches before the batch has committed, and finds none; on SQLite one of the two comes first."""
    people_added = None
    if world.database.is_sqlite:
        in_threads(lambda: world.handle(auth(tags={"end_user_id": "usr_1"})), lambda: add(world, external_id="usr_1"))
    else:
        write = batch.Batch._write

        def add_first(batch):
            nonlocal people_added
            people_added = people_added or in_threads(lambda: add(world, external_id="usr_1"))[0]
            write(batch)

        monkeypatch.setattr(batch.Batch, "_write", add_first)
        world.handle(auth(tags={"end_user_id": "usr_1"}))
        assert people_added[1] == 0
        assert world.owner("c-1") is None
    waiting.link_waiting(world.database, world.processor.routes, world.policy, clock=world.clock)
    assert world.owner("c-1") == ("usr_1", None)
    assert len(world.links("c-1")) == 1


def test_a_user_with_connections_is_not_removed_unless_forced_and_then_their_links_are_history(world):
    user, _ = add(world, external_id="usr_1", email="a@b.example")
    world.handle(auth(tags={"end_user_id": "usr_1"}))
    with pytest.raises(StillOwns) as refused:
        remove(world, user)
    assert refused.value.found == {"connections": 1, "users": 0}
    assert world.owner("c-1") == ("usr_1", None)
    done = remove(world, user, force=True)
    assert (done.links_closed, done.kept) == (1, True)
    [link] = world.links("c-1")
    assert (link.close_reason, link.user_id) == ("user_removed", user)
    assert world.connection("c-1").unlinked_reason == "unknown_user"
    assert world.connection("c-1").status != "deleted"
    assert (listed(world), listed(world, removed=True)) == ([], ["usr_1"])
    assert listed(world, removed=True, external_id="usr_1") == ["usr_1"]
    assert shown(world, user)["links"][0]["close_reason"] == "user_removed"
    with pytest.raises(NotFound):
        remove(world, user)


def test_an_external_id_is_free_again_and_its_new_user_gets_what_waits(world):
    user, _ = add(world, external_id="usr_1", email="a@b.example")
    world.handle(auth(tags={"end_user_id": "usr_1"}))
    remove(world, user, force=True)
    again, linked = add(world, external_id="usr_1")
    assert (again != user, linked) == (True, 1)
    assert [link.user_id for link in world.links("c-1")] == [user, again]


def test_a_removed_user_is_found_neither_by_id_nor_by_email(world):
    user, _ = add(world, external_id="usr_1", email="a@b.example")
    world.handle(auth(tags={"end_user_id": "usr_1"}))
    remove(world, user, force=True)
    world.handle(auth(connection_id="c-2", tags={"end_user_email": "a@b.example"}))
    assert world.connection("c-2").unlinked_reason == "unknown_email"
    waiting.link_waiting(world.database, world.processor.routes, world.policy, clock=world.clock)
    assert (world.owner("c-1"), world.owner("c-2")) == (None, None)


def test_a_user_that_never_had_a_connection_is_removed_without_a_trace(world):
    user, _ = add(world, external_id="usr_1")
    assert remove(world, user).kept is False
    assert world.all(User) == []


def test_an_organization_is_removed_with_its_links_and_lets_its_users_go(world):
    organization, _ = add(world, ORGANIZATION, external_id="org_77")
    user, _ = add(world, external_id="usr_1", organization="org_77")
    world.handle(auth(tags={"organization_id": "org_77"}))
    with pytest.raises(StillOwns, match=r"owns 1 connection and has 1 user"):
        remove(world, organization, ORGANIZATION)
    done = remove(world, organization, ORGANIZATION, force=True)
    assert (done.links_closed, done.users_released, done.kept) == (1, 1, True)
    assert shown(world, user)["organization"] is None
    assert world.links("c-1")[0].close_reason == "organization_removed"


def test_removed_users_keep_no_organization(world, monkeypatch):
    """Its list says that it has none: the rows are history, and cannot be seen where it is refused."""
    monkeypatch.setattr(records, "CHUNK", 2)
    organization, _ = add(world, ORGANIZATION, external_id="org_77")
    for number in range(5):
        user, _ = add(world, external_id=f"usr_{number}", organization="org_77")
        world.handle(auth(connection_id=f"c-{number}", tags={"end_user_id": f"usr_{number}"}))
        assert remove(world, user, force=True).kept
    there, _ = add(world, external_id="usr_there", organization="org_77")
    with pytest.raises(StillOwns, match=r"has 1 user"):
        remove(world, organization, ORGANIZATION)
    remove(world, there)
    assert remove(world, organization, ORGANIZATION).users_released == 0
    assert (world.all(Organization), {user.organization_id for user in world.all(User)}) == ([], {None})


def test_connections_that_gave_way_wait_like_those_they_gave_way_to(open_world, nango, base_url, connection_id):
    world = open_world(
        base_url=base_url, directory=DirectoryPolicy.REQUIRE, duplicates={"oauth2": DuplicatesPolicy.SUPERSEDE}
    )
    user, _ = add(world, external_id="usr_1")
    for name in (connection_id, f"{connection_id}-newer"):
        register(nango, name, "oauth2", tags={"end_user_id": "usr_1"})
        world.handle(auth(connection_id=name, tags={"end_user_id": "usr_1"}))
    assert world.connection(connection_id).unlinked_reason == "superseded"
    assert remove(world, user, force=True).links_closed == 1
    assert {connection.unlinked_reason for connection in world.all(Connection)} == {"unknown_user"}


def test_many_links_are_closed_a_chunk_at_a_time(world, monkeypatch):
    monkeypatch.setattr(records, "CHUNK", 2)
    user, _ = add(world, external_id="usr_1")
    bodies = [auth(connection_id=f"c-{number}", tags={"end_user_id": "usr_1"}) for number in range(5)]
    world.process(*world.receive(*bodies))
    assert remove(world, user, force=True).links_closed == 5
    assert all(connection.unlinked_reason == "unknown_user" for connection in world.all(Connection))


def test_a_listing_goes_on_after_a_row_and_filters(world):
    add(world, ORGANIZATION, external_id="org_77")
    ids = [
        add(world, external_id=f"usr_{number}", email=f"U{number}@acme.example", **more)[0]
        for number, more in enumerate(({}, {"organization": "org_77"}, {}))
    ]
    assert listed(world, limit=2) == ["usr_2", "usr_1"]
    assert listed(world, limit=2, before=ids[1]) == ["usr_0"]
    assert listed(world, email="u2@ACME.example") == ["usr_2"]
    assert listed(world, organization="org_77") == ["usr_1"]
    assert listed(world, external_id="usr_0") == ["usr_0"]


def test_the_audit_names_the_actor_and_the_fields_but_no_value(world):
    user, _ = add(world, external_id="usr_1", email="canary@acme.example")
    change(world, user, display_name="Canary")
    change(world, user, display_name="Canary")
    world.handle(auth(tags={"end_user_id": "usr_1"}))
    remove(world, user, force=True)
    with world.database.read() as session:
        told = [
            (entry.actor, entry.action, entry.subject, entry.detail) for entry in audit.newest(session, AuditFilters())
        ]
    assert {(actor, subject) for actor, _, subject, _ in told} == {("cli:test", f"usr_{user.hex}")}
    assert [(action, detail) for _, action, _, detail in reversed(told)] == [
        ("user.added", {"fields": ["email", "external_id"]}),
        ("user.changed", {"fields": ["display_name"]}),
        ("user.released", {"links_closed": 1, "users_released": 0}),
        ("user.removed", {"history_kept": True}),
    ]

"""A removal of a user or organization and a transaction that links to it at the same moment: one waits for the other.

On SQLite, which lets one write after the other, there is nothing to wait for.
"""

import pytest

from app.db import owner_locks
from app.db.models import Organization, User
from app.domain.linking import DirectoryPolicy
from app.domain.people import OwnerKind
from app.errors import StillOwns
from app.services.events import batch
from app.services.linking import waiting
from app.services.linking.deferred import DeferredLinks
from app.services.maintenance import integrity
from app.services.people import records
from app.services.people.records import EntryResult
from tests.integration.meeting import at_once, hold
from tests.integration.world import auth

pytestmark = pytest.mark.parametrize("database", ["postgresql"], indirect=True)

TAGS = {OwnerKind.USER: {"end_user_id": "owner"}, OwnerKind.ORGANIZATION: {"organization_id": "owner"}}
BOTH_KINDS = pytest.mark.parametrize("kind", list(OwnerKind))


@pytest.fixture
def world(open_world):
    return open_world(directory=DirectoryPolicy.REQUIRE)


def add(world, kind, **fields):
    with world.database.write() as session:
        merged = records.merge(session, kind, [{"external_id": "owner", **fields}], now=world.clock())
    return merged.outcomes[0]


def remove(world, kind, id_, *, force=False):
    return records.remove(world.database, kind, id_, force=force, actor="cli:test", clock=world.clock)


def handle(world, kind, connection_id):
    return world.handle(auth(connection_id=connection_id, tags=TAGS[kind]))


def owners(world, connection_id):
    return [link.user_id or link.organization_id for link in world.links(connection_id)]


@BOTH_KINDS
@pytest.mark.parametrize("history", [False, True], ids=["the row goes", "the row stays for its history"])
def test_a_batch_waits_for_a_removal_and_links_to_no_removed_owner(world, monkeypatch, kind, history):
    id_ = add(world, kind).id
    if history:
        handle(world, kind, "old")
    there = hold(monkeypatch, world, owner_locks, "lock_owners")
    removed, _ = at_once(lambda: remove(world, kind, id_, force=True), there, lambda: handle(world, kind, "c-1"))
    assert removed.kept is history
    assert (owners(world, "c-1"), world.connection("c-1").unlinked_reason) == ([], f"unknown_{kind}")
    assert integrity.broken(world.database) == []


@BOTH_KINDS
def test_a_batch_that_creates_owners_makes_a_new_one_after_a_removal(open_world, monkeypatch, kind):
    world = open_world(directory=DirectoryPolicy.CREATE)
    id_ = add(world, kind).id
    there = hold(monkeypatch, world, owner_locks, "lock_owners")
    at_once(lambda: remove(world, kind, id_), there, lambda: handle(world, kind, "c-1"))
    [made] = world.all(User if kind is OwnerKind.USER else Organization)
    assert made.id != id_
    assert owners(world, "c-1") == [made.id]


@BOTH_KINDS
@pytest.mark.parametrize("force", [False, True], ids=["refused", "forced"])
def test_a_removal_waits_for_a_batch_and_finds_its_link(world, monkeypatch, kind, force):
    id_ = add(world, kind).id
    there = hold(monkeypatch, world, batch.Batch, "_write")

    def removing():
        if force:
            return remove(world, kind, id_, force=True)
        with pytest.raises(StillOwns):
            remove(world, kind, id_)
        return None

    _, removed = at_once(lambda: handle(world, kind, "c-1"), there, removing)
    assert owners(world, "c-1") == [id_]
    assert [link.closed_at is not None for link in world.links("c-1")] == [force]
    assert (removed and (removed.links_closed, removed.kept)) == ((1, True) if force else None)
    assert integrity.broken(world.database) == []


def test_a_removal_waits_for_a_connection_that_is_linked_later_than_its_event(world, monkeypatch):
    handle(world, OwnerKind.USER, "c-1")
    id_ = add(world, OwnerKind.USER).id
    there = hold(monkeypatch, world, DeferredLinks, "write")

    def removing():
        with pytest.raises(StillOwns):
            remove(world, OwnerKind.USER, id_)

    at_once(
        lambda: waiting.link_waiting(world.database, world.processor.routes, world.policy, clock=world.clock),
        there,
        removing,
    )
    assert owners(world, "c-1") == [id_]


def user_of(world):
    """Add a user of the organization."""
    with world.database.write() as session:
        entry = {"external_id": "member", "organization": "owner"}
        return records.merge(session, OwnerKind.USER, [entry], now=world.clock()).outcomes[0]


def test_a_user_is_not_added_to_an_organization_that_is_being_removed(world, monkeypatch):
    id_ = add(world, OwnerKind.ORGANIZATION).id
    there = hold(monkeypatch, world, owner_locks, "lock_owners")
    _, outcome = at_once(lambda: remove(world, OwnerKind.ORGANIZATION, id_), there, lambda: user_of(world))
    assert outcome.result is EntryResult.REFUSED
    assert world.all(User) == []


def test_an_organization_is_not_removed_while_a_user_is_added_to_it(world, monkeypatch):
    id_ = add(world, OwnerKind.ORGANIZATION).id
    there = hold(monkeypatch, world, records, "_write")

    def removing():
        with pytest.raises(StillOwns, match=r"has 1 user"):
            remove(world, OwnerKind.ORGANIZATION, id_)

    at_once(lambda: user_of(world), there, removing)
    assert [user.organization_id for user in world.all(User)] == [id_]


def test_a_user_does_not_move_into_an_organization_that_is_being_removed(world, monkeypatch):
    id_, user = add(world, OwnerKind.ORGANIZATION).id, add(world, OwnerKind.USER).id
    there = hold(monkeypatch, world, records, "_record")

    def moving():
        with world.database.write() as session:
            records.change(
                session, OwnerKind.USER, user, {"organization": "owner"}, actor="cli:test", now=world.clock()
            )

    def removing():
        with pytest.raises(StillOwns, match=r"has 1 user"):
            remove(world, OwnerKind.ORGANIZATION, id_)

    at_once(moving, there, removing)
    assert [found.organization_id for found in world.all(User)] == [id_]

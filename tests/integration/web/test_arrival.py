"""In whatever order webhooks arrive, and however the list lags behind them, a connection ends where Nango has it.

Every order is tried, with Nango's list standing still after each of the steps that the webhooks announce.
"""

from dataclasses import dataclass
from itertools import pairwise, permutations

import pytest

from app.db.models import Event, Link
from app.domain.states import ConnectionStatus, EventState
from tests.integration.sandbox.sandbox_server import register
from tests.integration.world import DANA, OMAR, auth

OWNERS = {"usr_1042": ("usr_1042", "org_77"), "usr_2001": ("usr_2001", "org_88"), None: None}
LATER = 20  # seconds, between the lookups of the schedule
PRO = DANA | {"plan": "pro"}


@dataclass(frozen=True)
class Step:
    """A change at Nango and its webhook. Without tags it is a deletion."""

    operation: str
    tags: dict | None
    marks: str  # so that no two webhooks of a story are the same bytes

    def happen(self, nango, connection_id):
        if self.tags is None:
            query = {"provider_config_key": "oauth2"}
            nango.delete(f"/connections/{connection_id}", params=query).raise_for_status()
        else:
            register(nango, connection_id, "oauth2", tags=self.tags)

    def body(self, connection_id):
        tags = self.tags if self.tags is not None else DANA
        return auth(self.operation, connection_id=connection_id, tags=tags, provider=f"google-{self.marks}")


MOVED = (Step("creation", DANA, "a"), Step("override", OMAR, "b"))
MOVED_AND_BACK = (*MOVED, Step("override", PRO, "c"))
WIPED = (Step("creation", DANA, "a"), Step("override", {}, "b"), Step("override", OMAR, "c"))
MADE_AGAIN = (*MOVED, Step("deletion", None, "c"), Step("creation", PRO, "d"))
DELETED = (*MOVED, Step("deletion", None, "c"))


def lag(nango, seconds):
    nango.patch("/sandbox/settings", json={"replica_lag": seconds}).raise_for_status()


def announced(world, connection_id):
    documents = [world.event(job.event_id).document for job in world.jobs()]
    return [document["type"] for document in documents if document["connection_id"] == connection_id]


def live_through(*, world, nango, clock, story, shown, prefix):
    """Let the story happen once for every order of its webhooks; the connections, each with its order.

    shown: so many steps the list shows while the webhooks arrive; LATER it shows all of them.
    """
    cases = {f"{prefix}-{number}": order for number, order in enumerate(permutations(range(len(story))))}
    for place, step in enumerate(story):
        lag(nango, 0 if place < shown else 3600)
        for connection_id in cases:
            step.happen(nango, connection_id)
    if shown == len(story):
        lag(nango, 0)
    for place in range(len(story)):
        receipts = world.receive(*[story[order[place]].body(name) for name, order in cases.items()])
        world.process(*receipts)
        clock.move(0.1)
    for second in range(150):
        if second == LATER:
            lag(nango, 0)
        clock.move(1)
        world.process()
    assert world.all(Event, Event.state == EventState.RECEIVED) == []
    return cases


@pytest.fixture
def world(open_world, base_url, monkeypatch):
    monkeypatch.setattr("app.services.events.lookups.PAGE_EVERY", 0.0)  # the clock runs faster than the burst
    made = open_world(base_url=base_url)
    made.route(all={"type": ["connection.created", "connection.deleted"]})
    return made


@pytest.mark.parametrize(
    ("story", "shown"),
    [
        pytest.param(story, shown, id=f"{name}, list at {shown}")
        for name, story in (("moved", MOVED), ("moved and back", MOVED_AND_BACK), ("wiped, then moved", WIPED))
        for shown in range(len(story) + 1)
    ],
)
def test_the_owner_is_the_one_that_nango_has_in_the_end(*, world, nango, clock, story, shown, connection_id):
    cases = live_through(world=world, nango=nango, clock=clock, story=story, shown=shown, prefix=connection_id)
    final = story[-1].tags
    for id_, order in cases.items():
        connection = world.connection(id_)
        assert (connection.status, connection.tags) == (ConnectionStatus.ACTIVE, final), order
        assert world.owner(id_) == OWNERS[final["end_user_id"]], order
        assert announced(world, id_) == ["connection.created"], order
        assert_no_overlap(world, connection)


@pytest.mark.parametrize("shown", [0, 2, 4])
def test_a_new_generation_ends_at_its_own_owner_whatever_of_the_old_one_still_arrives(
    *, world, nango, clock, shown, connection_id
):
    cases = live_through(world=world, nango=nango, clock=clock, story=MADE_AGAIN, shown=shown, prefix=connection_id)
    for name, order in cases.items():
        connection = world.connection(name)
        listed = nango.get("/connections", params={"connectionId": name}).json()["connections"]
        assert connection.nango_id == connection.announced_nango_id == listed[0]["id"], order
        assert (connection.status, connection.tags) == (ConnectionStatus.ACTIVE, PRO), order
        assert world.owner(name) == OWNERS["usr_1042"], order
        assert 1 <= announced(world, name).count("connection.created") <= 2, order
        assert_no_overlap(world, connection)


@pytest.mark.parametrize("shown", range(4))
def test_what_is_gone_has_no_owner_and_was_never_taken_from_the_living(*, world, nango, clock, shown, connection_id):
    cases = live_through(world=world, nango=nango, clock=clock, story=DELETED, shown=shown, prefix=connection_id)
    for name, order in cases.items():
        connection = world.connection(name)
        if connection is None:  # it was deleted before any lookup
            continue
        first_announced = order.index(2)
        seen_after = [place for place in order[first_announced + 1 :] if place < 2]
        if connection.status == ConnectionStatus.DELETED:
            assert world.owner(name) is None, order
        else:  # the deletion came before anything that it could undo: reconciling finds it
            assert seen_after, order
        assert announced(world, name).count("connection.created") <= 1, order
        assert_no_overlap(world, connection)


def assert_no_overlap(world, connection):
    links = world.all(Link, Link.connection_ref == connection.id)
    assert sum(link.closed_at is None for link in links) <= 1
    for earlier, later in pairwise(links):
        assert earlier.closed_at is not None
        assert earlier.closed_at <= later.opened_at

"""Whatever names a connection that is not known here: once Nango shows it, it is made and linked first (promise 6)."""

import json
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest

from app.db.models import Event
from app.domain.confirming import ABOUT_TYPES, CONFIRMABLE_TYPES, NAMING_TYPES, Absent, Snapshot
from app.domain.event import OPERATIONS, EventError, EventType, read
from app.domain.own_event import OwnEvent
from app.domain.states import ConnectionStatus, EventState, Origin
from app.services import own_events
from app.services.events.connection_transitions import KNOWN_BEFORE
from tests.integration.sandbox.sandbox_server import control, register
from tests.integration.world import DANA, OMAR, auth, failure, in_threads, sync

OWNER = ("usr_1042", "org_77")
CREATED, LINKED = "connection.created", "connection.linked"
FAILED, RECOVERED, DELETED = "connection.refresh_failed", "connection.recovered", "connection.deleted"


def unknown_operation(connection_id):
    return json.dumps({**json.loads(auth(connection_id=connection_id)), "operation": "suspended"}).encode()


def unknown_type(connection_id):
    return sync(connection_id, type="connection.health")


@dataclass(frozen=True)
class Case:
    """One way to name a connection. `body` takes its id; `kind` is of an own event instead.

    failing: Nango shows an auth error. announced: the types routed where Nango shows the connection, in order; absent:
    where it does not; unasked: where it cannot be asked. made_unasked: without an API key the connection is made too.
    """

    body: Any = None
    kind: EventType | None = None
    failing: bool = False
    announced: tuple[str, ...] = ()
    suppressed: str | None = None  # why the event itself is not routed where Nango shows the connection
    rejected: bool = False  # where Nango shows the connection
    absent: tuple[str, ...] = ()
    unasked: tuple[str, ...] = ()
    made_unasked: bool = False


def named(body, kind, **facts):
    """A case whose webhook is routed by itself, whether or not Nango shows the connection."""
    return Case(body, announced=(CREATED, LINKED, kind), absent=(kind,), unasked=(kind,), **facts)


CASES = {
    "creation": Case(
        lambda c: auth(connection_id=c, tags=DANA), announced=(LINKED, CREATED), unasked=(LINKED, CREATED),
        made_unasked=True,
    ),
    "override": Case(
        lambda c: auth("override", connection_id=c, tags=DANA), announced=(LINKED, "connection.reauthorized"),
        unasked=(LINKED, "connection.reauthorized"), made_unasked=True,
    ),
    "creation failure": Case(
        lambda c: failure(connection_id=c), announced=(CREATED, LINKED, "connection.reauthorization_failed"),
        absent=("connection.creation_failed",), unasked=("connection.creation_failed",),
    ),
    "override failure": named(
        lambda c: failure("override", connection_id=c), "connection.reauthorization_failed"
    ),
    "refresh failure": Case(
        lambda c: failure("refresh", connection_id=c), failing=True, announced=(CREATED, LINKED, FAILED),
        unasked=(FAILED,),
    ),
    "refresh failure that is over": Case(
        lambda c: failure("refresh", connection_id=c), announced=(CREATED, LINKED), rejected=True, unasked=(FAILED,),
    ),
    "recovery": Case(
        lambda c: auth("refresh", connection_id=c), announced=(CREATED, LINKED), suppressed=KNOWN_BEFORE,
        unasked=(RECOVERED,),
    ),
    "recovery that did not last": Case(
        lambda c: auth("refresh", connection_id=c), failing=True, announced=(CREATED, FAILED, LINKED), rejected=True,
        unasked=(RECOVERED,),
    ),
    "deletion": Case(
        lambda c: auth("deletion", connection_id=c), announced=(CREATED, LINKED), rejected=True, absent=(DELETED,),
        unasked=(DELETED,),
    ),
    "sync": named(sync, "nango.sync"),
    "forward": named(lambda c: sync(c, type="forward", **{"from": "slack"}), "nango.forward"),
    "async action": named(lambda c: sync(c, type="async_action"), "nango.async_action"),
    "unknown operation": named(unknown_operation, "nango.unhandled"),
    "unknown type": named(unknown_type, "nango.unhandled"),
    "found failure": Case(kind=EventType.CONNECTION_REFRESH_FAILED, failing=True, announced=(CREATED, LINKED, FAILED),
        unasked=(FAILED,)),
    "found tags": Case(kind=EventType.CONNECTION_TAGS_CHANGED, announced=(LINKED, "connection.tags_changed"),
        unasked=(LINKED, "connection.tags_changed"), made_unasked=True),
    "found creation": Case(kind=EventType.CONNECTION_CREATED, announced=(LINKED, CREATED), unasked=(LINKED, CREATED),
        made_unasked=True),
}  # fmt: skip
ALL = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def test_every_webhook_that_names_a_connection_is_in_the_table():
    """A type that Waylink learns, or an operation, is one more case."""
    bodies = [read(case.body("c")) for case in CASES.values() if case.body]
    assert all(body.key == ("oauth2", "c") for body in bodies)
    assert {body.type for body in bodies} == CONFIRMABLE_TYPES - {EventType.CONNECTION_TAGS_CHANGED} | NAMING_TYPES | (
        ABOUT_TYPES
    )
    assert {(body.operation, body.success) for body in bodies if body.is_auth or body.operation} >= set(
        OPERATIONS.values()
    )


def submit(world, case, connection_id, *, environment="default"):
    """Receive the webhook, or store the own event as reconciliation does; the event's id."""
    if case.kind is None:
        [receipt] = world.receive(case.body(connection_id), environment=environment)
        return receipt.event_id
    error = EventError("auth", "it broke") if case.failing else None
    own = OwnEvent(type=case.kind, integration="oauth2", connection_id=connection_id, error=error)
    with world.database.write() as session:
        [event_id] = own_events.store(
            session, [own], environment=environment, origin=Origin.RECONCILE, now=world.clock()
        )
    return event_id


def process_all(world, event_id):
    """Process until nothing waits, with the clock moved."""
    for _ in range(20):
        world.process()
        waiting = [event.next_at for event in world.all(Event) if event.state == EventState.RECEIVED]
        if not waiting:
            return world.event(event_id)
        world.clock.now = max(world.clock.now, min(waiting))
    raise AssertionError("something waits for ever")


def announced(world):
    """The types of what was routed, and the owners that they name, in the order of the jobs."""
    documents = [world.event(job.event_id).document for job in world.jobs()]
    return [document["type"] for document in documents], {
        (document["user"] or {}).get("external_id") for document in documents
    }


@pytest.fixture
def asking(open_world, gate):
    world = open_world(base_url=gate.url)
    world.route(all={"environment": ["default"]})
    return world


@ALL
def test_a_connection_that_nango_shows_is_made_and_linked_first(asking, nango, connection_id, case):
    register(nango, connection_id, "oauth2", tags=DANA)
    if case.failing:
        control(nango, connection_id, "oauth2", exhausted=True)
    event = process_all(asking, submit(asking, case, connection_id))
    kinds, owners = announced(asking)
    assert sorted(kinds) == sorted(case.announced)
    assert owners == {"usr_1042"}
    assert asking.owner(connection_id) == OWNER
    assert event.state == (EventState.FAILED if case.rejected else EventState.PROCESSED)
    assert event.untold == case.suppressed
    if case is not CASES["deletion"]:  # its connection was made after it had been given up
        assert event.connection_ref == asking.connection(connection_id).id
    connection = asking.connection(connection_id)
    assert connection.status == ConnectionStatus.ACTIVE
    assert (connection.last_error_type is not None) is case.failing
    if CREATED in kinds:
        assert connection.announced_nango_id == connection.nango_id


@ALL
def test_its_creation_is_announced_once_whatever_else_reports_it_later(asking, nango, clock, connection_id, case):
    register(nango, connection_id, "oauth2", tags=DANA)
    if case.failing:
        control(nango, connection_id, "oauth2", exhausted=True)
    process_all(asking, submit(asking, case, connection_id))
    process_all(asking, submit(asking, CASES["creation"], connection_id))
    clock.move(1)
    process_all(asking, submit(asking, CASES["sync"], connection_id))
    kinds, _ = announced(asking)
    assert kinds.count(CREATED) == 1
    assert kinds.count(LINKED) == 1


@ALL
def test_what_nango_does_not_show_makes_nothing(asking, connection_id, case):
    event = process_all(asking, submit(asking, case, connection_id))
    kinds, owners = announced(asking)
    assert tuple(kinds) == case.absent
    assert owners <= {None}
    assert asking.connection(connection_id) is None
    assert event.state == (EventState.PROCESSED if case.absent else EventState.FAILED)


@ALL
def test_without_an_api_key_the_body_is_all_there_is(world, connection_id, case):
    world.route(all={"environment": ["default"]})
    if case.kind is not None:
        return  # what is found is found through the API
    event = process_all(world, submit(world, case, connection_id))
    kinds, _ = announced(world)
    assert sorted(kinds) == sorted(case.unasked)
    assert event.state == EventState.PROCESSED
    assert (world.connection(connection_id) is not None) is case.made_unasked


@ALL
@pytest.mark.parametrize("first", ["creation", "case"])
def test_in_one_batch_with_its_creation_nothing_is_found_and_nothing_waits(asking, nango, connection_id, case, first):
    if case.rejected:
        return  # those wait for another answer of Nango's
    register(nango, connection_id, "oauth2", tags=DANA)
    if case.failing:
        control(nango, connection_id, "oauth2", exhausted=True)
    order = [CASES["creation"], case] if first == "creation" else [case, CASES["creation"]]
    if case is CASES["creation"]:
        order = [case]
    for place in order:
        submit(asking, place, connection_id)
    asking.process()
    events = asking.all(Event)
    assert {event.state for event in events} == {EventState.PROCESSED}
    assert [event for event in events if event.origin == Origin.SYSTEM and event.type == CREATED] == []
    kinds, _ = announced(asking)
    assert kinds.count(CREATED) == 1


@pytest.mark.parametrize("name", ["creation failure", "override failure", "refresh failure", "recovery"])
def test_a_newer_generation_is_made_first_and_not_announced_to_the_older_ones_owner(asking, nango, connection_id, name):
    """The same id again, for another customer, and no webhook announced it."""
    register(nango, connection_id, "oauth2", tags=OMAR)
    process_all(asking, submit(asking, Case(lambda c: auth(connection_id=c, tags=OMAR)), connection_id))
    query = {"provider_config_key": "oauth2"}
    nango.delete(f"/connections/{connection_id}", params=query).raise_for_status()
    register(nango, connection_id, "oauth2", tags=DANA)
    if CASES[name].failing:
        control(nango, connection_id, "oauth2", exhausted=True)
    event = process_all(asking, submit(asking, CASES[name], connection_id))
    assert event.document["user"]["external_id"] == "usr_1042"
    assert asking.owner(connection_id) == OWNER


def test_a_refresh_failure_keeps_its_own_error_and_is_announced_once(asking, nango, connection_id):
    register(nango, connection_id, "oauth2", tags=DANA)
    control(nango, connection_id, "oauth2", exhausted=True)
    body = failure("refresh", connection_id=connection_id, kind="refresh_token_external_error")
    event = process_all(asking, submit(asking, Case(lambda _c: body), connection_id))
    assert (event.confirmed, event.document["error"]["type"]) == (True, "refresh_token_external_error")
    assert asking.connection(connection_id).last_error_type == "refresh_token_external_error"
    assert announced(asking)[0].count(FAILED) == 1


def test_a_deletion_that_a_lagging_list_does_not_show_yet_makes_nothing(asking, nango, clock, connection_id):
    register(nango, connection_id, "oauth2", tags=DANA)
    event_id = submit(asking, CASES["deletion"], connection_id)
    asking.process()
    query = {"provider_config_key": "oauth2"}
    nango.delete(f"/connections/{connection_id}", params=query).raise_for_status()
    assert process_all(asking, event_id).state == EventState.PROCESSED
    assert asking.connection(connection_id) is None
    assert announced(asking)[0] == [DELETED]


@pytest.mark.parametrize("name", ["creation failure", "override failure", "unknown type", "unknown operation", "sync"])
def test_what_names_an_id_that_nango_takes_no_question_about_does_not_wait_for_ever(asking, gate, connection_id, name):
    gate.status = 400
    event = process_all(asking, submit(asking, CASES[name], connection_id))
    assert event.state == EventState.PROCESSED
    assert asking.connection(connection_id) is None


@ALL
@pytest.mark.parametrize("status", [401, 404, 500])
def test_while_nango_cannot_be_asked_it_waits_and_then_heals(asking, gate, nango, *, connection_id, case, status):
    register(nango, connection_id, "oauth2", tags=DANA)
    if case.failing:
        control(nango, connection_id, "oauth2", exhausted=True)
    event_id = submit(asking, case, connection_id)
    gate.status = status
    for _ in range(6):
        asking.process()
        assert asking.event(event_id).state == EventState.RECEIVED
        asking.clock.now = asking.event(event_id).next_at
    assert asking.connection(connection_id) is None
    gate.status = None
    process_all(asking, event_id)
    assert asking.owner(connection_id) == OWNER


@ALL
def test_a_connection_of_another_environment_is_not_made(open_world, gate, nango, *, base_url, connection_id, case):
    world = open_world(base_url=base_url)
    world.route(all={"environment": ["default", "other"]})
    world.policy.environments["other"] = replace(world.policy.environments["default"], name="other", base_url=gate.url)
    gate.edit = lambda _answer: {"connections": []}
    register(nango, connection_id, "oauth2", tags=DANA)
    process_all(world, submit(world, case, connection_id, environment="other"))
    kinds, owners = announced(world)
    assert tuple(kinds) == case.absent
    assert owners <= {None}
    assert world.connection(connection_id) is None


@ALL
def test_two_workers_at_once_make_it_once(asking, open_world, gate, nango, *, connection_id, case):
    """It and a sync, which finds the connection at its second lookup."""
    register(nango, connection_id, "oauth2", tags=DANA)
    if case.failing:
        control(nango, connection_id, "oauth2", exhausted=True)
    other = open_world(base_url=gate.url)
    events = [submit(asking, each, connection_id) for each in (case, Case(partial(sync, model="Task")))]
    for _ in range(20):
        in_threads(*(partial(worker.processor.process, limit=1) for worker in (asking, other) for _ in events))
        waiting = [event.next_at for event in asking.all(Event) if event.state == EventState.RECEIVED]
        if not waiting:
            break
        asking.clock.now = max(asking.clock.now, min(waiting))
    assert not waiting
    kinds, owners = announced(asking)
    assert (kinds.count(CREATED), kinds.count(LINKED), kinds.count("nango.sync")) == (
        (CREATED in case.announced, 1, 1 + ("nango.sync" in case.announced))
    )
    assert owners == {"usr_1042"}
    assert asking.owner(connection_id) == OWNER


def test_while_nango_is_away_a_failed_flow_waits(asking, gate, nango, clock, connection_id):
    register(nango, connection_id, "oauth2", tags=DANA)
    gate.status = 500
    event_id = submit(asking, CASES["creation failure"], connection_id)
    for _ in range(6):
        asking.process()
        assert (asking.event(event_id).state, asking.event(event_id).looks) == (EventState.RECEIVED, 0)
        clock.now = asking.event(event_id).next_at
    gate.status = None
    assert process_all(asking, event_id).type == "connection.reauthorization_failed"


def test_a_failed_flow_of_a_known_connection_does_not_wait_for_nango(asking, gate, nango, connection_id):
    register(nango, connection_id, "oauth2", tags=DANA)
    process_all(asking, submit(asking, CASES["creation"], connection_id))
    gate.status = 500
    event_id = submit(asking, CASES["creation failure"], connection_id)
    asking.process()
    assert asking.event(event_id).state == EventState.PROCESSED


def test_what_a_found_event_was_found_by_is_enough(asking, gate, nango, connection_id):
    """A difference that reconciliation found, of a connection that was erased meanwhile."""
    nango_id = register(nango, connection_id, "oauth2", tags=DANA)["id"]
    control(nango, connection_id, "oauth2", exhausted=True)
    lookup = Snapshot(nango_id, DANA, None, "google-mail", True, asking.clock())
    own = OwnEvent(
        type=EventType.CONNECTION_REFRESH_FAILED, integration="oauth2", connection_id=connection_id, lookup=lookup
    )
    with asking.database.write() as session:
        [event_id] = own_events.store(
            session, [own], environment="default", origin=Origin.RECONCILE, now=asking.clock()
        )
    process_all(asking, event_id)
    assert asking.owner(connection_id) == OWNER
    assert sorted(announced(asking)[0]) == [CREATED, LINKED, FAILED]


def test_a_found_absence_of_what_is_unknown_makes_nothing(asking, connection_id):
    lookup = Absent(asking.clock(), again=True)
    own = OwnEvent(type=EventType.CONNECTION_DELETED, integration="oauth2", connection_id=connection_id, lookup=lookup)
    with asking.database.write() as session:
        [event_id] = own_events.store(
            session, [own], environment="default", origin=Origin.RECONCILE, now=asking.clock()
        )
    assert process_all(asking, event_id).state == EventState.PROCESSED
    assert asking.connection(connection_id) is None

"""From received to processed with signing keys only: bodies are all there is."""

import base64
import json
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from unittest import mock

import psycopg
import pytest
from sqlalchemy import update
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from app.db import decisions
from app.db.models import Connection, Event, Job, Link, RouteVersion, User
from app.deadlines import EVENT_LEASE, MAX_CLAIMS
from app.domain.states import ConnectionStatus, EventState
from app.ids import EVENT, show
from app.services.events import processor
from app.services.events.claiming import Claims
from app.services.events.pending_event import PendingEvent
from app.services.events.processor import Processor
from tests.integration.sandbox.sandbox_server import register
from tests.integration.world import DANA, OMAR, KilledError, auth, dying_at, failure, in_threads, refusing, sync

DATA = Path(__file__).parents[2] / "data" / "nango"
LEASE = EVENT_LEASE.total_seconds() + 1
SUCCESSES = {"creation", "override"}


def samples():
    return [path.read_bytes() for path in sorted((DATA / "samples" / "webhooks").glob("*.json"))]


def recordings():
    lines = (DATA / "recorded" / "webhooks.jsonl").read_text().split("\n")
    return [base64.b64decode(json.loads(line)["body_b64"]) for line in lines if line]


def named_owner(body):
    """The owner that a body names, read as plainly as can be: tags first, then the legacy end user."""
    tags, end_user = body.get("tags") or {}, body.get("endUser") or {}
    user = tags.get("end_user_id") or end_user.get("endUserId")
    organization = tags.get("organization_id") or end_user.get("organizationId")
    return (user, organization) if user or organization else None


@pytest.mark.parametrize(("bodies", "owned"), [(samples(), 11), (recordings(), 3)], ids=["samples", "recordings"])
def test_every_sample_and_recording_is_linked_as_its_tags_say(world, clock, bodies, owned):
    owners = {}
    linked = 0
    for raw in bodies:
        event = world.event(world.wait_out(raw))
        clock.move(200)  # beyond the window: the recordings repeat themselves
        assert event.state == EventState.PROCESSED, event.problem
        assert event.body == raw or b'"error"' in raw  # an error text is scrubbed, nothing else is touched
        body = json.loads(raw)
        if not isinstance(body, dict) or body.get("type") != "auth" or not body["success"]:
            continue
        if body["operation"] in SUCCESSES:
            key = body["connectionId"]
            owners[key] = named_owner(body) or owners.get(key)
            assert world.owner(key) == owners[key]
            assert world.connection(key).tags == (body.get("tags") or {})
            assert event.document["confirmed"] is False
            linked += owners[key] is not None
    assert linked == owned


def test_failures_and_forwards_alone_make_no_connection(world):
    for raw in (failure(connection_id="new", operation="creation"), failure("refresh", connection_id="new"), sync()):
        assert world.event(world.wait_out(raw)).state == EventState.PROCESSED
    assert world.all(Connection) == []


@pytest.mark.parametrize("kind", ["sync", "forward", "async_action"])
def test_a_body_without_tags_gets_its_connections_tags_and_owner(world, kind):
    world.handle(auth(tags=DANA | {"plan": "pro"}))
    sender = "google-mail" if kind == "forward" else "nango"
    event = world.event(world.handle(sync(type=kind, **{"from": sender}, payload={"n": 1})))
    document = event.document
    assert document["type"] == f"nango.{kind}"
    assert document["tags"] == DANA | {"plan": "pro"}
    assert document["user"]["external_id"] == "usr_1042"
    assert document["organization"]["external_id"] == "org_77"
    assert (document["provider"], document["auth_mode"]) == ("google-mail", "OAUTH2")
    assert document["payload"]["payload"] == {"n": 1} if kind == "sync" else document["payload"] == {"n": 1}


def test_the_document_has_every_member_of_the_contract_whatever_the_event(world):
    world.handle(auth(tags=DANA))
    world.handle(sync())
    world.handle(b"[1]")
    members = (
        "id type origin occurred_at environment integration provider auth_mode operation success confirmed "
        "connection_id tags user organization previous_owner error payload"
    )
    documents = {event.type: event.document for event in world.all(Event)}
    assert set(documents) == {"connection.created", "connection.linked", "nango.sync", "nango.unhandled"}
    assert {tuple(sorted(document)) for document in documents.values()} == {tuple(sorted(members.split()))}
    assert all(event.document["id"] == show(EVENT, event.id) for event in world.all(Event))
    assert documents["connection.linked"]["origin"] == "system"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[[1]]",
        b'"text"',
        b"1e999",
        b'{"type":"integration"}',
        b'{"type":"auth"}',
        b'{"a":"\\u0000\\ud800"}',
        b"[" * 5000,
        b'{"type":"forward","from":"x","providerConfigKey":"p","payload":' + b"[" * 5000,
        b'{"type":"forward","from":"x","providerConfigKey":"p","payload":' + b"[" * 300 + b"]" * 300 + b"}",
    ],
)
def test_what_is_not_understood_is_kept_as_unhandled_and_can_be_routed(world, body):
    world.route(all={"type": ["nango.unhandled"]})
    event = world.event(world.handle(body))
    assert (event.type, event.state, event.body) == ("nango.unhandled", EventState.PROCESSED, body)
    assert event.document["payload"] is None
    assert len(world.jobs()) == 1


@pytest.mark.parametrize(
    "payload",
    [
        '"\\u0000 \\ud800 \\udc00\\ud83d\\ude00"',
        '{"\\u0000":1}',
        "9" * 4000,
        "[1.5,-0.25,1e-300]",
        "[" * 90 + "]" * 90,
        '[{"a":1,"a":2}]',
        '"' + "x" * 1_000_000 + '"',
    ],
    ids=["unstorable text", "unstorable key", "huge integer", "doubles", "deep", "duplicate keys", "long"],
)
def test_a_forward_of_any_json_is_stored_routed_and_read_back(world, payload):
    world.route(all={"type": ["nango.forward"]})
    body = f'{{"from":"x","type":"forward","providerConfigKey":"oauth2","payload":{payload}}}'
    event = world.event(world.handle(body.encode()))
    assert (event.type, event.state) == ("nango.forward", EventState.PROCESSED), event.problem
    expected = json.loads(payload.replace("\\u0000", "\\ufffd").replace("\\ud800", "\\ufffd"), strict=False)
    if isinstance(expected, str):
        expected = expected.replace("\udc00", "\ufffd")
    assert event.document["payload"] == expected
    assert len(world.jobs()) == 1


def test_nesting_that_only_our_own_walk_cannot_follow_is_unhandled_and_harms_no_neighbour(world):
    deep = b"[" * 900 + b'"\\u0041"' + b"]" * 900
    body = b'{"from":"x","type":"forward","providerConfigKey":"p","connectionId":"c","payload":' + deep + b"}"
    receipts = world.receive(auth(connection_id="one", tags=DANA), body, auth(connection_id="two", tags=DANA))
    assert world.process(*receipts).finished == 3
    assert {event.state for event in world.all(Event)} == {EventState.PROCESSED}


def test_a_poison_event_fails_alone_with_its_traceback(world):
    bodies = [auth(connection_id=name, tags=DANA) for name in ("one", "poison", "two")]
    receipts = world.receive(*bodies)
    with refusing(world.database, "connections", "connection_id", "poison"):
        applied = world.process(*receipts)
    assert applied.finished == 3
    states = {event.connection_id: event for event in world.all(Event) if event.body or event.state == "failed"}
    failed = world.event(receipts[1].event_id)
    assert (failed.state, failed.failure) == (EventState.FAILED, "error")
    assert "Traceback" in failed.problem
    assert "refused on purpose" in failed.problem
    assert failed.type == "connection.created"
    assert states["one"].state == states["two"].state == EventState.PROCESSED
    assert world.owner("one") == world.owner("two") == ("usr_1042", "org_77")
    assert world.connection("poison") is None


def test_a_database_that_goes_away_is_no_fault_of_the_event(world, clock):
    receipts = world.receive(auth(connection_id="one", tags=DANA), auth(connection_id="two", tags=DANA))
    with refusing(world.database, "connections", "connection_id", "two", away=True), suppress(OperationalError):
        world.process(*receipts)
    left = world.event(receipts[1].event_id)
    assert (left.state, left.failure, left.attempts) == (EventState.RECEIVED, None, 0)
    assert world.process().finished == 0  # its lease runs still
    clock.move(LEASE)
    world.process()
    for name in ("one", "two"):
        assert world.owner(name) == ("usr_1042", "org_77")


def test_a_lost_connection_is_logged_once_and_not_for_each_event(world):
    receipts = world.receive(*[auth(connection_id=f"c-{number}", tags=DANA) for number in range(20)])
    lost = OperationalError("INSERT", {}, psycopg.OperationalError("server closed the connection unexpectedly"))
    failing = mock.patch.object(processor.Batch, "apply", side_effect=lost)
    with capture_logs() as lines, failing, pytest.raises(OperationalError):
        world.process(*receipts)
    assert lines == []
    assert {world.event(receipt.event_id).state for receipt in receipts} == {EventState.RECEIVED}


def test_without_an_api_key_no_event_prepares_a_lookup(world, monkeypatch):
    prepared = []
    monkeypatch.setattr(PendingEvent, "wanted", property(prepared.append))
    receipts = world.receive(*[auth(connection_id=f"c-{number}", tags=DANA) for number in range(3)])
    assert world.process(*receipts).finished == 3
    assert not prepared


def test_a_batch_is_several_transactions_where_all_other_writers_wait_for_each(world, monkeypatch):
    monkeypatch.setattr(processor, "SQLITE_BATCH", 2)
    sizes = []
    apply = Processor._apply

    def counted(processor, batch, judged, routes):
        sizes.append(len(judged))
        return apply(processor, batch, judged, routes)

    monkeypatch.setattr(Processor, "_apply", counted)
    receipts = world.receive(*[auth(connection_id=f"c-{number}", tags=DANA) for number in range(5)])
    assert world.process(*receipts).finished == 5
    assert sizes == ([2, 2, 1] if world.database.is_sqlite else [5])


def test_an_event_that_kills_its_worker_is_given_up_after_five_claims_and_its_neighbours_are_done(world, clock):
    names = ["one", "two", "deadly", "three"]
    receipts = dict(zip(names, world.receive(*[auth(connection_id=name, tags=DANA) for name in names]), strict=True))
    deaths = 0
    with dying_at(world.database, "INSERT INTO connections", "deadly"):
        for _ in range(20):
            try:
                world.process(*receipts.values())
            except KilledError:
                deaths += 1
            clock.move(LEASE)
    crashed = world.event(receipts["deadly"].event_id)
    assert (crashed.state, crashed.failure) == (EventState.FAILED, "crashed")
    assert deaths == MAX_CLAIMS
    for name in ("one", "two", "three"):
        assert world.event(receipts[name].event_id).state == EventState.PROCESSED
        assert world.owner(name) == ("usr_1042", "org_77")


def test_a_killed_worker_leaves_nothing_half_done_and_the_next_does_everything_once(world, clock):
    world.route(created={"type": ["connection.created"]})
    receipts = world.receive(*[auth(connection_id=f"c-{number}", tags=DANA) for number in range(5)])
    with dying_at(world.database, "INSERT INTO jobs"), pytest.raises(KilledError):
        world.process(*receipts)
    assert (world.all(Connection), world.all(Link), world.all(User), world.jobs()) == ([], [], [], [])
    assert {event.attempts for event in world.all(Event)} == {0}
    assert world.process(*receipts).finished == 0
    clock.move(LEASE)
    assert world.process().finished == 5
    assert len(world.all(Connection)) == len(world.all(Link)) == len(world.jobs()) == 5


def test_a_worker_whose_lease_ran_out_does_not_record(*, open_world, nango, base_url, gate, clock, connection_id):
    register(nango, connection_id, "oauth2", tags=DANA)
    slow, quick = open_world(base_url=gate.url), open_world(base_url=base_url)
    slow.route(created={"type": ["connection.created"]})

    def overtake():
        clock.move(LEASE)
        assert quick.process().finished == 1

    gate.before = overtake
    [receipt] = slow.receive(auth(connection_id=connection_id, tags=DANA))
    assert slow.process(receipt).finished == 0
    assert slow.event(receipt.event_id).state == EventState.PROCESSED
    assert len(slow.jobs()) == len(slow.links(connection_id)) == 1


def test_a_claim_by_another_makes_the_earlier_one_worthless(open_world, nango, gate, clock, connection_id):
    register(nango, connection_id, "oauth2", tags=DANA)
    world = open_world(base_url=gate.url)

    def claim_by_another():
        clock.move(LEASE)
        assert Claims(world.database, clock).take_possibly_poison().events

    gate.before = claim_by_another
    [receipt] = world.receive(auth(connection_id=connection_id, tags=DANA))
    assert world.process(receipt).finished == 0
    event = world.event(receipt.event_id)
    assert (event.state, event.attempts) == (EventState.RECEIVED, 1)
    assert world.connection(connection_id) is None


def test_ids_that_name_nothing_are_only_hints(world):
    [receipt] = world.receive(b"A")
    with world.database.write() as session:
        session.get(Event, receipt.event_id).next_at = world.clock.now + timedelta(hours=1)
    assert world.process(receipt).finished == 0


def test_two_workers_on_one_backlog_make_one_link_and_one_job_per_event_and_route(world, open_world):
    world.route(
        created={"type": ["connection.created"]},
        linked={"type": ["connection.linked"]},
        all={"environment": ["default"]},
    )
    for start in range(0, 60, 20):
        world.receive(
            *[
                auth(connection_id=f"c-{number % 12}", tags=DANA if number % 2 else OMAR, environment=str(number))
                for number in range(start, start + 20)
            ]
        )
    other = open_world()

    def drain(worker):
        while worker.processor.process(limit=7).finished:
            pass

    in_threads(lambda: drain(world), lambda: drain(other))
    events = world.all(Event)
    assert {event.state for event in events} == {EventState.PROCESSED}
    received = [event for event in events if event.body]
    assert {event.attempts for event in received} == {0}
    assert len(received) == 60
    jobs = [(job.event_id, job.route) for job in world.all(Job)]
    assert len(jobs) == len(set(jobs))
    assert set(jobs) >= {(event.id, "all") for event in events}
    assert len(jobs) == len(_decisions(world))
    assert {(event.id, "created") for event in received} <= set(jobs)
    assert len(world.all(Connection)) == 12
    assert all(len(world.links(f"c-{number}")) == 1 for number in range(12))


def test_decisions_say_route_version_and_each_condition(world):
    world.route(pro={"type": ["connection.created"], "tags": {"plan": ["pro", {"prefix": "ent"}]}})
    event_id = world.handle(auth(tags=DANA | {"plan": "enterprise"}))
    world.handle(auth(connection_id="c-2", tags=DANA | {"plan": "free"}))
    [(decided, decision)] = _decisions(world)
    assert (decided, decision.team, decision.route, decision.route_version) == (event_id, "crm", "pro", 1)
    conditions = {condition["path"]: condition for condition in decision.conditions}
    assert conditions["tags.plan"]["actual"] == "enterprise"
    assert {event.route_set for event in world.all(Event)} == {1}  # non-matches can be explained again too


def test_routes_that_change_are_used_from_the_next_batch_on(world):
    world.route(one={"type": ["connection.created"]})
    world.handle(auth(connection_id="c-1", tags=DANA))
    world.route(two={"type": ["connection.created"]})
    world.handle(auth(connection_id="c-2", tags=DANA))
    assert [job.route for job in world.jobs()] == ["one", "two"]


def test_a_body_without_the_api_leaves_the_connection_unconfirmed(world):
    event = world.event(world.handle(auth(tags=DANA)))
    assert event.confirmed is False
    assert world.connection("c-1").status == ConnectionStatus.UNCONFIRMED
    assert world.open_plan("c-1") is None


def test_an_older_body_that_is_processed_late_does_not_overwrite_a_newer_one(world, clock):
    [old] = world.receive(auth("override", tags=DANA))
    with world.database.write() as session:
        session.get(Event, old.event_id).next_at = clock.now + timedelta(seconds=30)
    clock.move(10)
    world.handle(auth("override", tags=OMAR))
    clock.move(30)
    assert world.process().finished == 1
    assert world.owner("c-1") == ("usr_2001", "org_88")
    assert world.connection("c-1").tags == OMAR


def _decisions(world):
    with world.database.read() as session:
        return [(row.id, found) for row in session.query(Event) for found in decisions.of_event(session, row.id)]


def test_a_token_in_an_error_text_does_not_rest_with_the_body(world):
    """Nango may embed what the provider answered; the fixture greps every table for the token as well."""
    token = f"sandbox-access-token-{'0a' * 32}"
    body = failure("override", description=f'{{"access_token": "{token}"}} was refused')
    event = world.event(world.handle(body))
    assert event.state == EventState.PROCESSED
    assert token.encode() not in event.body
    assert b"was refused" in event.body
    assert event.document["error"]["description"].endswith("was refused")
    [repeated] = world.receive(body)
    assert (repeated.event_id, repeated.duplicate) == (event.id, True)


def test_a_route_that_no_longer_compiles_does_not_stop_the_others(world):
    world.route(good={"type": ["connection.created"]}, bad={"type": ["x"]})
    with world.database.write() as session:
        session.execute(update(RouteVersion).where(RouteVersion.name == "bad").values(pattern={}))
    world.handle(auth(tags=DANA))
    assert [job.route for job in world.jobs()] == ["good"]


def test_what_a_provider_calls_an_error_stays_as_it_came(world):
    """Such a body, forwarded raw, is no failure of Nango's, and ours is the only copy."""
    body = b'{"error": {"code": 7, "details": ["a", "b"]}, "id": 1}'
    event = world.event(world.handle(body))
    assert (event.type, event.body) == ("nango.unhandled", body)


@pytest.mark.parametrize(
    "members",
    [
        {"type": "auth", "operation": "creation", "success": False, "error": "the answer was access_token=hunter2-x"},
        {"type": "auth", "operation": "rotation", "success": True, "details": {"password": "hunter2-x"}},
        {"type": "tomorrow", "message": "Authorization: Bearer hunter2-x"},
        {"type": "sync", "success": True, "syncName": "s", "checkpoints": {"to": {"pageToken": "hunter2-x"}}},
    ],
    ids=lambda members: members["type"],
)
def test_what_an_earlier_release_stored_is_scrubbed_when_it_is_processed(world, members):
    body = {"from": "nango", "connectionId": "c-1", "providerConfigKey": "github", **members}
    event = world.event(world.wait_out(json.dumps(body).encode()))
    assert event.state == EventState.PROCESSED
    assert b"hunter2-x" not in event.body
    assert b"[hidden]" in event.body
    assert "hunter2-x" not in json.dumps(event.document)

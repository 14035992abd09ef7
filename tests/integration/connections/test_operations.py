"""Operations on connections: done at Nango, verified there, audited, and followed here by the one pipeline."""

import logging
from datetime import timedelta
from unittest import mock

import pytest
from pydantic import SecretStr
from sqlalchemy import select, update

from app.config.nango_environment import Environment, SigningKeys
from app.db import leases
from app.db.models import Audit, Connection, Event
from app.deadlines import EDIT_LEASE
from app.domain.budget import Priority
from app.domain.confirming import Snapshot
from app.domain.event import EventType
from app.domain.linking import Drift
from app.domain.own_event import OwnEvent
from app.domain.states import ConnectionStatus, Origin, RefreshOutcome
from app.errors import (
    Conflict,
    InvalidFields,
    InvalidInput,
    InvalidTags,
    NangoConnectionNotFound,
    NangoForbidden,
    NangoRefreshExhausted,
    NangoRefreshFailed,
    NangoUnavailable,
    NangoUnknownIntegration,
    NotFound,
)
from app.ids import CONNECTION, new_id, show
from app.nango.client import NangoClient
from app.nango.credentials import NoCredentials
from app.services import own_events
from app.services.connections import credentials, deletion, metadata, operations, sessions, tags
from app.services.connections.operations import Operations
from app.services.connections.sessions import ConnectOptions, SessionOwner
from app.services.events.connection_transitions import KNOWN_BEFORE
from app.services.nango_clients import NangoClients
from tests.integration.sandbox.sandbox_server import control, fetch, open_session, register, run_flow
from tests.integration.world import DANA, OMAR, TOKEN, KilledError, auth, dump, in_threads
from tests.ports import free_port

WHO = "token:tester"


@pytest.fixture
def world(open_world, base_url):
    return open_world(base_url=base_url)


@pytest.fixture
def at(world):
    return Operations(world.database, world.policy, world.clients, world.clock)


@pytest.fixture
def known(world, nango, connection_id):
    """A linked connection: our id of it."""
    register(nango, connection_id, "oauth2", tags=DANA)
    world.handle(auth(connection_id=connection_id, tags=DANA))
    return world.connection(connection_id).id


def at_nango(nango, connection_id):
    return fetch(nango, connection_id, "oauth2").json()["tags"]


def audited(world):
    with world.database.read() as session:
        return list(session.scalars(select(Audit).order_by(Audit.id)))


def patch(nango, connection_id, **body):
    """Change the connection at Nango directly, without Waylink."""
    nango.patch(f"/connections/{connection_id}", params={"provider_config_key": "oauth2"}, json=body).raise_for_status()


def test_set_tags_end_at_nango_and_record_link_and_routes_follow(world, at, nango, known, connection_id):
    world.route(changed={"type": ["connection.tags_changed"], "origin": ["operator"]})
    done = tags.set_tags(at, known, {**OMAR, "Plan": "pro"}, actor=WHO)
    assert (done.tags, done.changed, done.elsewhere) == ({**OMAR, "plan": "pro"}, True, False)
    assert at_nango(nango, connection_id) == {**OMAR, "plan": "pro"}
    assert world.connection(connection_id).tags == DANA
    world.process()
    assert world.connection(connection_id).tags == {**OMAR, "plan": "pro"}
    assert world.owner(connection_id) == ("usr_2001", "org_88")
    [job] = world.jobs("changed")
    document = world.event(job.event_id).document
    assert (document["origin"], document["confirmed"], document["tags"]["plan"]) == ("operator", True, "pro")
    [act] = audited(world)
    assert (act.actor, act.action, act.subject) == (WHO, "tags.set", show(CONNECTION, known))
    assert (act.outcome, act.detail["keys"]) == ("done", ["end_user_id", "organization_id", "plan"])


def test_one_tag_is_added_changed_and_removed_and_the_others_stay(world, at, nango, known, connection_id):
    assert tags.add_tags(at, known, {"PLAN": "pro"}, actor=WHO).tags == {**DANA, "plan": "pro"}
    again = tags.add_tags(at, known, {"plan": "ent"}, actor=WHO)
    assert (again.tags, again.elsewhere) == ({**DANA, "plan": "ent"}, False), (
        "an edit of ours, though not processed yet"
    )
    patch(nango, connection_id, tags={**DANA, "plan": "theirs"})
    assert tags.add_tags(at, known, {"plan": "ent"}, actor=WHO).elsewhere
    assert at_nango(nango, connection_id) == {**DANA, "plan": "ent"}
    assert tags.remove_tags(at, known, ["Plan"], actor=WHO).tags == DANA
    assert not tags.remove_tags(at, known, ["plan"], actor=WHO).changed
    world.process()
    assert (world.connection(connection_id).tags, world.owner(connection_id)) == (DANA, ("usr_1042", "org_77"))


def test_our_own_edits_at_the_same_moment_lose_nothing(world, at, nango, known, connection_id):
    count = 6
    done = in_threads(*(lambda n=n: tags.add_tags(at, known, {f"t{n}": str(n)}, actor=WHO) for n in range(count)))
    assert all(result.changed for result in done)
    wanted = {**DANA, **{f"t{n}": str(n) for n in range(count)}}
    assert at_nango(nango, connection_id) == wanted
    world.process()
    assert world.connection(connection_id).tags == wanted


def test_an_edit_that_waits_too_long_for_another_fails_and_a_dead_ones_lease_ends(world, at, known, clock, monkeypatch):
    monkeypatch.setattr(operations, "WAIT_SECONDS", 0.2)
    name = f"edit:{show(CONNECTION, known)}"
    with world.database.write() as session:
        assert leases.take(session, name, holder=new_id(), now=clock(), lasts=EDIT_LEASE)
    with pytest.raises(Conflict, match="somebody else") as refused:
        tags.add_tags(at, known, {"plan": "pro"}, actor=WHO)
    assert refused.value.retry_after
    clock.move(EDIT_LEASE.total_seconds())
    assert tags.add_tags(at, known, {"plan": "pro"}, actor=WHO).changed


def test_a_foreign_edit_after_ours_is_a_conflict_with_what_is_there(world, at, nango, known, connection_id):
    write = NangoClient.set_tags

    def overtaken(client, *arguments, **options):
        write(client, *arguments, **options)
        patch(nango, connection_id, tags=OMAR)

    with (
        mock.patch.object(NangoClient, "set_tags", overtaken),
        pytest.raises(Conflict, match="somebody else") as refused,
    ):
        tags.add_tags(at, known, {"plan": "pro"}, actor=WHO)
    assert refused.value.found == {"tags": OMAR}
    world.process()
    # Nango's tags count, whichever program wrote them.
    assert world.owner(connection_id) == ("usr_2001", "org_88")
    assert [act.outcome for act in audited(world)] == ["failed"]


def test_an_edit_made_elsewhere_before_ours_is_kept_and_announced(world, at, nango, known, connection_id):
    patch(nango, connection_id, tags={**DANA, "theirs": "1"})
    done = tags.add_tags(at, known, {"ours": "1"}, actor=WHO)
    assert (done.tags, done.elsewhere) == ({**DANA, "theirs": "1", "ours": "1"}, True)
    with pytest.raises(Conflict, match="expected") as refused:
        tags.set_tags(at, known, {}, expected=DANA, actor=WHO)
    assert refused.value.found == {"tags": done.tags}
    assert at_nango(nango, connection_id) == done.tags
    assert tags.set_tags(at, known, DANA, expected=done.tags, actor=WHO).changed


def test_tags_can_be_set_however_broken_the_credentials_are(world, at, nango, known, connection_id):
    control(nango, connection_id, "oauth2", exhausted=True)
    done = tags.add_tags(at, known, {"plan": "pro"}, actor=WHO)
    assert done.tags == {**DANA, "plan": "pro"}
    world.process()
    assert world.connection(connection_id).tags == {**DANA, "plan": "pro"}


def test_edits_do_not_undo_each_other_where_only_the_lagging_list_can_be_read(world, at, nango, known, connection_id):
    control(nango, connection_id, "oauth2", exhausted=True)
    nango.patch("/sandbox/settings", json={"replica_lag": 50}).raise_for_status()
    tags.add_tags(at, known, {"t1": "1"}, actor=WHO)
    second = tags.add_tags(at, known, {"t2": "2"}, actor=WHO)
    assert (second.tags, second.elsewhere) == ({**DANA, "t1": "1", "t2": "2"}, False)
    assert sessions.reconnect(at, known, tags=None, options=ConnectOptions(), actor=WHO).tags == second.tags
    world.process()
    third = tags.remove_tags(at, known, ["t1"], actor=WHO)
    assert (third.tags, third.elsewhere) == ({**DANA, "t2": "2"}, False)
    nango.patch("/sandbox/settings", json={"replica_lag": 0}).raise_for_status()
    [row] = nango.get("/connections", params={"connectionId": connection_id}).json()["connections"]
    assert row["tags"] == third.tags


@pytest.mark.parametrize("in_record", [True, False])
def test_a_list_that_lags_behind_an_edit_does_not_undo_it(*, world, at, nango, known, clock, in_record):
    connection_id = at.find(known).connection_id
    nango.patch("/sandbox/settings", json={"replica_lag": 50}).raise_for_status()
    edited = tags.add_tags(at, known, {"plan": "pro"}, actor=WHO).tags
    if in_record:
        world.process()
    with world.database.write() as session:  # the record of the edit waits for a moment
        session.execute(update(Event).where(Event.state == "received").values(next_at=clock.now + timedelta(seconds=1)))
    [receipt] = world.receive(auth("override", connection_id=connection_id, tags=DANA))
    world.process()
    clock.move(1)
    event = world.event(receipt.event_id)
    assert (event.state, event.problem) == ("received", "Nango's list may not show yet what Waylink wrote")
    world.process()
    assert world.connection(connection_id).tags == edited
    nango.patch("/sandbox/settings", json={"replica_lag": 0}).raise_for_status()
    world.wait_for(receipt.event_id)
    assert world.event(receipt.event_id).state == "processed"
    assert world.connection(connection_id).tags == edited


def test_what_a_run_found_on_a_list_that_lags_behind_an_edit_is_checked_again(world, at, nango, known, connection_id):
    nango_id = world.connection(connection_id).nango_id
    edited = tags.add_tags(at, known, {"plan": "pro"}, actor=WHO).tags
    world.process()
    lagging = Snapshot(nango_id, DANA, None, "google-mail", False, world.clients.of("default", Priority.CONFIRM).now())
    found = OwnEvent(
        type=EventType.CONNECTION_TAGS_CHANGED, integration="oauth2", connection_id=connection_id, lookup=lagging
    )
    with world.database.write() as session:
        [event_id] = own_events.store(
            session, [found], environment="default", origin=Origin.RECONCILE, now=world.clock()
        )
    world.process()
    assert world.connection(connection_id).tags == edited
    world.clock.move(2)
    world.process()
    assert (world.event(event_id).state, world.event(event_id).untold) == ("processed", KNOWN_BEFORE)
    assert (world.connection(connection_id).tags, world.connection(connection_id).tags_disagree) == (edited, False)


def test_a_foreign_change_just_after_an_edit_is_followed(world, at, nango, known, connection_id):
    tags.add_tags(at, known, {"plan": "pro"}, actor=WHO)
    patch(nango, connection_id, tags=OMAR)
    world.wait_out(auth("override", connection_id=connection_id, tags=OMAR))
    assert (world.connection(connection_id).tags, world.owner(connection_id)) == (OMAR, ("usr_2001", "org_88"))


def test_a_foreign_change_of_a_while_ago_is_kept_where_only_the_list_can_be_read(
    world, at, nango, known, connection_id
):
    control(nango, connection_id, "oauth2", exhausted=True)
    patch(nango, connection_id, tags={**DANA, "theirs": "1"})
    with world.database.write() as session:
        session.execute(update(Connection).values(observed_at=world.clock.now - timedelta(minutes=2)))
    done = tags.add_tags(at, known, {"ours": "1"}, actor=WHO)
    assert (done.tags, done.elsewhere) == ({**DANA, "theirs": "1", "ours": "1"}, True)


@pytest.mark.parametrize(
    "case",
    [
        ({"1bad": "x"}, "invalid_key"),
        ({"k" * 65: "x"}, "key_too_long"),
        ({"k": ""}, "value_empty"),
        ({"k": "v" * 256}, "value_too_long"),
        ({"k": "a\0b"}, "value_unstorable"),
        ({"end_user_email": "nobody"}, "invalid_email"),
        ({f"k{n}": "x" for n in range(11)}, "too_many"),
        ({"Plan": "a", "plan": "b"}, "duplicate"),
    ],
)
def test_tags_that_nango_would_refuse_are_refused_before_it_is_asked(world, known, gate, open_world, case):
    wanted, rule = case
    behind = open_world(base_url=gate.url)
    with pytest.raises(InvalidTags) as refused:
        tags.set_tags(Operations(world.database, behind.policy, behind.clients, world.clock), known, wanted, actor=WHO)
    assert rule in {fault.rule for fault in refused.value.faults}
    assert gate.requests == []


def test_an_eleventh_tag_is_refused_after_the_merge_and_nothing_is_written(at, nango, known, connection_id):
    tags.set_tags(at, known, {f"k{n}": "x" for n in range(10)}, actor=WHO)
    with pytest.raises(InvalidTags, match="11 tags"):
        tags.add_tags(at, known, {"k10": "x"}, actor=WHO)
    assert len(at_nango(nango, connection_id)) == 10


def test_metadata_is_replaced_and_merged_at_nango_and_kept_nowhere_here(world, at, nango, known, connection_id):
    metadata.set_metadata(at, known, {"secretish": "m3tadata-canary", "n": {"a": 1}}, actor=WHO)
    metadata.update_metadata(at, known, {"n": {"b": 2}, "more": None}, actor=WHO)
    assert metadata.get_metadata(at, known) == {"secretish": "m3tadata-canary", "n": {"b": 2}, "more": None}
    assert [(act.action, act.detail["keys"]) for act in audited(world)] == [
        ("metadata.set", ["n", "secretish"]),
        ("metadata.updated", ["more", "n"]),
    ]
    assert "m3tadata-canary" not in dump(world.database)
    with pytest.raises(InvalidInput, match="NUL"):
        metadata.set_metadata(at, known, {"a": "\0"}, actor=WHO)


def test_credentials_come_live_and_rest_nowhere_and_the_actor_is_kept(world, at, nango, known, caplog):
    caplog.set_level(logging.DEBUG)
    plain = credentials.get_credentials(at, known, actor=WHO).credentials
    whole = credentials.get_credentials(at, known, actor=WHO, refresh_token=True).credentials
    assert TOKEN.fullmatch(plain.access_token)
    assert plain.refresh_token is None
    assert TOKEN.fullmatch(whole.refresh_token)
    assert TOKEN.findall(dump(world.database) + caplog.text) == []
    first, second = audited(world)
    assert (first.actor, first.action, first.outcome) == (WHO, "credentials.read", "done")
    assert (first.detail, second.detail["refresh_token"]) == ({"force_refresh": False, "refresh_token": False}, True)


def test_a_forced_refresh_renews_and_its_result_is_kept(world, at, nango, known, connection_id):
    control(nango, connection_id, "oauth2", expires_in=600)
    credentials.get_credentials(at, known, actor=WHO)
    before = world.connection(connection_id).expires_at
    done = credentials.refresh(at, known, actor=WHO)
    assert done.outcome == RefreshOutcome.RENEWED
    assert world.connection(connection_id).expires_at == done.expires_at > before
    nango.post("/sandbox/faults", json={"operation": "refresh", "connection_id": connection_id}).raise_for_status()
    with pytest.raises(NangoRefreshFailed):
        credentials.refresh(at, known, actor=WHO)
    assert world.connection(connection_id).last_error_type == "NangoRefreshFailed"
    nango.delete("/sandbox/faults").raise_for_status()
    credentials.refresh(at, known, actor=WHO)
    world.process()
    [recovered] = world.events("connection.recovered")
    assert (recovered.origin, recovered.state) == ("operator", "processed"), (
        "it is announced to the teams as any recovery"
    )
    assert world.connection(connection_id).last_error_type is None
    assert [act.outcome for act in audited(world)] == ["done", "done", "failed", "done"]


def test_a_forced_refresh_waits_for_the_planned_one_that_is_running(world, at, known, connection_id, clock):
    clock.now = world.open_plan(connection_id).next_at
    with world.database.write() as session:
        plan = session.merge(world.open_plan(connection_id))
        plan.attempts, plan.next_at = 1, clock.now.replace(year=clock.now.year + 1)
    with pytest.raises(Conflict, match="under way"):
        credentials.refresh(at, known, actor=WHO)


def test_exhausted_credentials_are_reported_as_such(at, nango, known, connection_id):
    control(nango, connection_id, "oauth2", exhausted=True)
    with pytest.raises(NangoRefreshExhausted):
        credentials.get_credentials(at, known, actor=WHO)


def test_a_deletion_ends_at_nango_closes_the_link_and_is_routed(world, at, nango, known, connection_id):
    world.route(gone={"type": ["connection.deleted"], "origin": ["operator"]})
    assert not deletion.delete(at, known, actor=WHO).was_gone
    assert fetch(nango, connection_id, "oauth2").status_code == 404
    world.process()
    assert world.connection(connection_id).status == ConnectionStatus.DELETED
    assert world.owner(connection_id) is None
    assert len(world.jobs("gone")) == 1
    with pytest.raises(Conflict, match="is deleted"):
        deletion.delete(at, known, actor=WHO)
    with pytest.raises(Conflict, match="is deleted"):
        tags.set_tags(at, known, {}, actor=WHO)


def test_one_that_nango_lost_is_deleted_here_all_the_same(world, at, nango, known, connection_id):
    nango.delete(f"/connections/{connection_id}", params={"provider_config_key": "oauth2"}).raise_for_status()
    assert deletion.delete(at, known, actor=WHO).was_gone
    world.process()
    assert world.connection(connection_id).status == ConnectionStatus.DELETED


def test_a_connection_made_anew_under_the_same_ids_is_not_touched(world, at, nango, known, connection_id):
    nango.delete(f"/connections/{connection_id}", params={"provider_config_key": "oauth2"}).raise_for_status()
    register(nango, connection_id, "oauth2", tags=OMAR)
    for act in (deletion.delete, lambda *a, **b: tags.set_tags(*a, {}, **b)):
        with pytest.raises(Conflict, match="made anew"):
            act(at, known, actor=WHO)
    assert at_nango(nango, connection_id) == OMAR


def test_a_session_links_each_connection_made_with_it_to_the_owner_it_names(world, at, nango):
    owner = SessionOwner(user_id="usr_1042", organization_id="org_77")
    made = sessions.connect(
        at,
        "default",
        tags={"Plan": "pro"},
        owner=owner,
        allowed_integrations=["oauth2"],
        options=ConnectOptions(),
        actor=WHO,
    )
    assert made.tags == {**DANA, "plan": "pro"}
    assert made.token not in repr(made)
    connection_id = run_flow(nango, "/sandbox/oauth/oauth2", made.token).raise_for_status().json()["connectionId"]
    world.handle(auth(connection_id=connection_id, tags=made.tags))
    assert world.owner(connection_id) == ("usr_1042", "org_77")
    assert made.token not in dump(world.database)


def test_a_session_that_names_two_owners_is_refused(at):
    with pytest.raises(InvalidFields, match=r"tags\.end_user_id"):
        sessions.connect(
            at,
            "default",
            tags={"End_User_Id": "a"},
            owner=SessionOwner(user_id="b"),
            allowed_integrations=(),
            options=ConnectOptions(),
            actor=WHO,
        )


def test_a_session_for_an_integration_nango_does_not_know_is_refused(at, world):
    with pytest.raises(NangoUnknownIntegration):
        sessions.connect(
            at,
            "default",
            tags={},
            owner=SessionOwner(),
            allowed_integrations=["none"],
            options=ConnectOptions(),
            actor=WHO,
        )
    assert [(act.action, act.outcome, act.detail["error"]) for act in audited(world)] == [
        ("session.created", "failed", "NangoUnknownIntegration")
    ]


@pytest.mark.parametrize("broken", [False, True])
def test_a_reconnect_keeps_the_tags(at, nango, known, connection_id, broken):
    if broken:
        control(nango, connection_id, "oauth2", exhausted=True)
    made = sessions.reconnect(at, known, tags=None, options=ConnectOptions(), actor=WHO)
    assert made.tags == DANA
    run_flow(nango, "/sandbox/oauth/oauth2", made.token).raise_for_status()
    assert at_nango(nango, connection_id) == DANA
    assert sessions.reconnect(at, known, tags=OMAR, options=ConnectOptions(), actor=WHO).tags == OMAR


def test_a_reconnect_brings_back_the_tags_that_an_earlier_one_wiped(world, at, nango, known, connection_id):
    wiping = open_session(nango, connection_id=connection_id, integration_id="oauth2")
    run_flow(nango, "/sandbox/oauth/oauth2", wiping).raise_for_status()
    world.handle(auth("override", connection_id=connection_id, tags={}))
    assert (world.connection(connection_id).drift, at_nango(nango, connection_id)) == (Drift.TAGS_WIPED, {})
    made = sessions.reconnect(at, known, tags=None, options=ConnectOptions(), actor=WHO)
    assert made.tags == DANA
    run_flow(nango, "/sandbox/oauth/oauth2", made.token).raise_for_status()
    world.handle(auth("override", connection_id=connection_id, tags=DANA))
    assert world.connection(connection_id).drift is None
    assert world.owner(connection_id) == ("usr_1042", "org_77")


def test_what_is_not_there_or_cannot_be_asked_is_said(world, open_world, known, at):
    with pytest.raises(NotFound):
        tags.set_tags(at, new_id(), {}, actor=WHO)
    keyless = open_world()
    with pytest.raises(Conflict, match="API key"):
        tags.set_tags(Operations(world.database, keyless.policy, keyless.clients, world.clock), known, {}, actor=WHO)
    away = open_world(base_url=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(NangoUnavailable):
        tags.set_tags(Operations(world.database, away.policy, away.clients, world.clock), known, {}, actor=WHO)
    with pytest.raises(NotFound, match="environment"):
        sessions.connect(
            at, "elsewhere", tags={}, owner=SessionOwner(), allowed_integrations=(), options=ConnectOptions(), actor=WHO
        )


def test_one_that_nango_does_not_know_fails_as_what_it_is(world, at, nango, known, connection_id):
    nango.delete(f"/connections/{connection_id}", params={"provider_config_key": "oauth2"}).raise_for_status()
    with pytest.raises(NangoConnectionNotFound):
        tags.add_tags(at, known, {"a": "b"}, actor=WHO)
    assert audited(world)[-1].detail["error"] == "NangoConnectionNotFound"


@pytest.fixture
def operations_of(world, nango, base_url):
    """Desks whose API key has these scopes only."""
    opened = []

    def make(*scopes):
        answer = nango.post("/sandbox/keys", json={"scopes": list(scopes)}).raise_for_status().json()
        key = SecretStr(answer["key"]["api_key"])
        environment = Environment("default", base_url, "acme", SigningKeys(), api_key=key)
        opened.append(NangoClients({"default": environment}))
        return Operations(world.database, world.policy, opened[-1], world.clock)

    yield make
    for clients in opened:
        clients.close()
    nango.delete("/sandbox/keys").raise_for_status()


def test_a_key_that_lacks_a_scope_is_named_as_the_reason(known, operations_of):
    reader = operations_of("environment:connections:read", "environment:connections:list")
    for act in (
        lambda: tags.add_tags(reader, known, {"a": "b"}, actor=WHO),
        lambda: deletion.delete(reader, known, actor=WHO),
        lambda: metadata.set_metadata(reader, known, {}, actor=WHO),
        lambda: sessions.reconnect(reader, known, tags=None, options=ConnectOptions(), actor=WHO),
        lambda: credentials.refresh(reader, known, actor=WHO),
    ):
        with pytest.raises(NangoForbidden, match="environment:connect"):
            act()


def test_credentials_that_the_key_may_not_read_are_not_taken_for_none(known, operations_of, world):
    reader = operations_of("environment:connections:read", "environment:connections:list")
    with pytest.raises(NangoForbidden, match="read_credentials"):
        credentials.get_credentials(reader, known, actor=WHO)
    assert [act.outcome for act in audited(world)] == ["failed"]


def test_a_connection_without_credentials_is_not_taken_for_a_key_without_a_scope(world, at, nango, connection_id):
    register(nango, connection_id, "unauth", tags=DANA)
    world.handle(auth(connection_id=connection_id, integration="unauth", tags=DANA, mode="NONE"))
    con = world.connection(connection_id).id
    for known_mode in ("NONE", None):  # a reconciliation does not learn of it: the list has no auth mode
        with world.database.write() as session:
            session.execute(update(Connection).values(auth_mode=known_mode))
        assert isinstance(credentials.get_credentials(at, con, actor=WHO).credentials, NoCredentials)
        assert credentials.refresh(at, con, actor=WHO).outcome == RefreshOutcome.NO_EXPIRY


def test_an_action_whose_process_died_stays_begun(world, at, known):
    def die(*_arguments, **_options):
        raise KilledError

    with mock.patch.object(NangoClient, "set_tags", die), pytest.raises(KilledError):
        tags.add_tags(at, known, {"plan": "pro"}, actor=WHO)
    assert [(act.action, act.outcome) for act in audited(world)] == [("tags.added", "begun")]

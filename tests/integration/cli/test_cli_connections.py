"""`waylink connections …`: what operators do to connections, as commands with exit codes and JSON."""

import io
import json
import re
import uuid
from contextlib import closing
from unittest import mock

import pytest
from sqlalchemy import select

from app.brokers.celery_broker import EVENTS_QUEUE, Broker
from app.clock import utc_now
from app.db.engine import connect
from app.db.ingest import NewDelivery
from app.db.models import Connection
from app.domain.signature import fingerprint
from app.ids import new_id
from app.runtime.wiring import policy_of
from app.services.events import intake
from app.services.events.processor import Processor
from app.services.nango_clients import NangoClients
from tests.integration.cli.test_cli import Command, one_line_error
from tests.integration.sandbox.sandbox_server import API_KEY, SIGNING_KEY, fetch, register
from tests.integration.web.web_server import settings_of
from tests.integration.world import DANA, OMAR, TOKEN, WINDOW, auth
from tests.ports import free_port


@pytest.fixture
def command(request, tmp_path, base_url, broker_url) -> Command:
    variables = {
        "WAYLINK_BROKER_URL": broker_url,
        "WAYLINK_NANGO_API_KEY": API_KEY,
        "WAYLINK_NANGO_SIGNING_KEYS": SIGNING_KEY,
        "WAYLINK_NANGO_BASE_URL": base_url,
    }
    if getattr(request, "param", "sqlite") == "postgresql":
        variables["WAYLINK_DATABASE_URL"] = request.getfixturevalue("postgres_url")
    made = Command(tmp_path, variables)
    assert made.inside("migrate").returncode == 0
    return made


def work(command: Command, *bodies: bytes) -> None:
    """Store and process these bodies as web and a worker would."""
    settings = settings_of(command.variables, folder=command.folder)
    with closing(connect(command.database_url)) as database:
        now = utc_now()
        new = [NewDelivery(new_id(), "default", fingerprint("default", body), body, now) for body in bodies]
        if new:
            with database.write() as session:
                intake.store(session, new, window=WINDOW, now=now)
        clients = NangoClients(settings.environments)
        Processor(database, policy_of(settings), clients, utc_now).process()
        clients.close()


@pytest.fixture
def known(command, nango, connection_id) -> str:
    """A linked connection, by Nango's id."""
    register(nango, connection_id, "oauth2", tags=DANA)
    work(command, auth(connection_id=connection_id, tags=DANA))
    return connection_id


def test_those_whose_renewal_fails_are_listed_with_since_when_and_how_often(command, nango, known):
    other = f"{known}-other"
    register(nango, other, "oauth2", tags=DANA)
    work(command, auth(connection_id=other, tags=DANA))
    with closing(connect(command.database_url)) as database, database.write() as session:
        row = session.scalars(select(Connection).where(Connection.connection_id == known)).one()
        row.last_error_type, row.failing_since = "refresh_token", utc_now()
    [found] = command.json("connections", "--failing")
    assert (found["connection_id"], found["last_error_type"]) == (known, "refresh_token")
    heading = command.inside("connections", "--failing").stdout.splitlines()[0]
    assert re.split("  +", heading)[:4] == ["connection id", "age", "failures", "last error type"]


def test_a_connection_is_found_shown_and_its_credentials_only_on_request(command, known):
    [row] = command.json("connections", "--tag", "end_user_id=usr_1042", "--organization", "org_77")
    assert (row["connection_id"], row["user"]) == (known, "usr_1042")
    assert command.json("connections", "--tag", "plan=pro") == []
    assert command.json("connections", "--query", "usr_1042 tag.organization_id:org_77") == [row]
    assert command.json("connections", "--query", "usr_2001") == []
    assert "did you mean `user`" in one_line_error(command.inside("connections", "--query", "usr:x"), 2)
    assert command.json("connections", "--drift") == command.json("connections", "--needs-reconnect") == []
    for name in (row["id"], known):
        shown = command.json("connections", "show", name)
        assert (shown["id"], "credentials" in shown) == (row["id"], False)
    live = command.json("connections", "get", known, "--credentials", "--force-refresh", "--refresh-token")
    assert TOKEN.fullmatch(live["credentials"]["access_token"])
    assert TOKEN.fullmatch(live["credentials"]["refresh_token"])
    [act] = command.json("audit", "--subject", row["id"])
    assert (act["action"], act["outcome"]) == ("credentials.read", "done")
    assert act["actor"].startswith("cli:")
    assert TOKEN.search(json.dumps(act)) is None
    assert command.json("connections", "refresh", known)["outcome"] == "renewed"
    refreshes = command.json("connections", "show", known)["refreshes"]
    last, first = [refresh for refresh in refreshes if refresh["requested_by"]]
    assert (last["outcome"], last["reason"]) == ("renewed", "a refresh was asked for")
    assert (first["outcome"], first["reason"]) == ("first_seen", "credentials were read")
    assert last["requested_by"] == first["requested_by"] == act["actor"]
    assert last["previous_expires_at"] == first["expires_at"]
    assert len(refreshes) > 2  # planned ones, too


@pytest.mark.parametrize("command", ["sqlite", "postgresql"], indirect=True)
def test_an_operation_on_a_connection_that_only_nango_has_brings_it_in(command, nango, connection_id):
    register(nango, connection_id, "oauth2", tags=DANA)
    register(nango, connection_id, "apikey", tags=OMAR)
    told = one_line_error(command.inside("connections", "refresh", connection_id, "--integration", "oauth2"), 1)
    assert "made and linked now" in told
    work(command)
    assert command.json("connections", "refresh", connection_id)["outcome"] == "first_seen"
    [row] = command.json("connections")
    assert (row["integration"], row["user"]) == ("oauth2", "usr_1042")
    assert [event["origin"] for event in command.json("events", "--type", "connection.created")] == ["operator"]
    [act] = command.json("audit", "--subject", connection_id)
    assert (act["action"], act["outcome"]) == ("connection.found", "done")


def test_a_command_announces_the_event_that_it_stored_to_the_workers(command, known, broker_url):
    with closing(Broker.at("internal", broker_url)) as broker:
        command.inside("connections", "metadata", "get", known)
        assert broker.queue_length(EVENTS_QUEUE) == 0
        assert command.inside("connections", "tags", "add", known, "plan=pro").returncode == 0
        assert broker.queue_length(EVENTS_QUEUE) == 1
        assert one_line_error(command.inside("connections", "delete", "absent", "--yes"), 1)
        assert broker.queue_length(EVENTS_QUEUE) == 1


COMMANDS = pytest.mark.parametrize(
    "arguments",
    [
        ("show",), ("refresh",), ("delete", "--yes"), ("reconnect",), ("restore-tags",),
        ("tags", "set", "a=b"), ("tags", "add", "a=b"), ("tags", "remove", "a"),
        ("metadata", "get"), ("metadata", "set", '{"a": 1}'), ("metadata", "update", '{"a": 1}'),
    ],
    ids=" ".join,
)  # fmt: skip


@COMMANDS
def test_every_command_that_names_a_connection_brings_it_in(command, nango, connection_id, arguments):
    register(nango, connection_id, "oauth2", tags=DANA)
    words = 2 if arguments[0] in {"tags", "metadata"} else 1
    done = command.inside("connections", *arguments[:words], connection_id, *arguments[words:])
    assert "made and linked now" in one_line_error(done, 1)
    work(command)
    assert [connection["user"] for connection in command.json("connections")] == ["usr_1042"]


@pytest.mark.parametrize("named", [(), ("--integration", "apikey"), ("--environment", "other")])
def test_an_operation_on_a_connection_that_nango_does_not_show_finds_none(command, nango, connection_id, named):
    if named:
        register(nango, connection_id, "oauth2", tags=DANA)
    told = one_line_error(command.inside("connections", "refresh", connection_id, *named), 1)
    assert told.endswith(f"no connection '{connection_id}'")
    assert command.json("audit", "--subject", connection_id) == command.json("events") == []


def test_an_id_that_cannot_be_one_of_nangos_is_not_found(command):
    assert one_line_error(command.inside("connections", "refresh", "c" * 300), 1).endswith("c'")


def test_where_nango_cannot_be_asked_a_command_does_not_say_that_there_is_no_such_connection(command):
    command.variables["WAYLINK_NANGO_BASE_URL"] = f"http://127.0.0.1:{free_port()}"
    told = one_line_error(command.inside("connections", "refresh", "c-1"), 1)
    assert "Nango" in told
    assert "no connection" not in told
    assert command.json("events") == []


@pytest.mark.parametrize("noun", ["connections", "events", "jobs", "users", "orgs", "teams", "destinations", "routes"])
def test_list_is_the_same_as_the_noun_alone(command, known, noun):
    assert command.json(noun, "list") == command.json(noun)
    if noun in {"connections", "events"}:
        assert command.json(noun, "list", "--connection-id", known) != command.json(
            noun, "list", "--connection-id", "x"
        )


def test_the_same_id_under_two_integrations_asks_for_the_integration(command, nango, known):
    register(nango, known, "apikey", tags=OMAR)
    work(command, auth(connection_id=known, integration="apikey", tags=OMAR))
    assert "name integration" in one_line_error(command.inside("connections", "show", known), 1)
    assert command.json("connections", "show", known, "--integration", "apikey")["user"] == "usr_2001"


def test_tags_are_set_added_and_removed(command, nango, known):
    added = command.json("connections", "tags", "add", known, "Plan=pro", "seats=5")
    assert added == {"tags": {**DANA, "plan": "pro", "seats": "5"}, "changed": True, "changed_elsewhere": False}
    assert command.json("connections", "tags", "remove", known, "SEATS")["tags"] == {**DANA, "plan": "pro"}
    assert command.json("connections", "tags", "set", known, "end_user_id=usr_2001")["changed"]
    assert fetch(nango, known, "oauth2").json()["tags"] == {"end_user_id": "usr_2001"}
    work(command)
    assert command.json("connections", "show", known)["user"] == "usr_2001"
    assert "expected key=value" in one_line_error(command.inside("connections", "tags", "add", known, "plan"), 2)
    assert "1bad" in one_line_error(command.inside("connections", "tags", "add", known, "1bad=x"), 2)
    assert "twice" in one_line_error(command.inside("connections", "tags", "add", known, "a=1", "a=2"), 2)


def test_all_tags_go_only_where_it_is_said_and_agreed_to(command, nango, known):
    act = ("connections", "tags", "set", known)
    for wrong in (act, (*act, "--clear", "plan=pro"), (*act, "--yes")):
        done = command.inside(*wrong)
        assert (done.returncode, "--clear" in done.stderr) == (2, True)
    for answer in (b"", b"n\n"):
        with mock.patch("sys.stdin", io.TextIOWrapper(io.BytesIO(answer))):
            asked = command.inside(*act, "--clear")
        assert (asked.returncode, "end_user_id=usr_1042" in asked.stderr) == (1, True)
    assert fetch(nango, known, "oauth2").json()["tags"] == DANA
    assert command.json(*act, "--clear", "--yes")["tags"] == {}
    assert fetch(nango, known, "oauth2").json()["tags"] == {}


def test_all_metadata_goes_only_where_it_is_said_and_agreed_to(command, known, tmp_path):
    act = ("connections", "metadata", "set", known)
    assert command.inside(*act, '{"folder": "inbox"}').returncode == 0
    (tmp_path / "empty.json").write_text("{}")
    (tmp_path / "nothing.json").write_text("")
    for wrong in (act, (*act, "{}"), (*act, "empty.json"), (*act, "nothing.json"), (*act, "--clear", '{"a": 1}')):
        assert command.inside(*wrong).returncode == 2
    with mock.patch("sys.stdin", io.TextIOWrapper(io.BytesIO(b""))):
        assert command.inside(*act, "-").returncode == 2
        asked = command.inside(*act, "--clear")
    assert (asked.returncode, "(folder)" in asked.stderr) == (1, True)
    assert command.json("connections", "metadata", "get", known) == {"folder": "inbox"}
    assert command.inside(*act, "--clear", "--yes").returncode == 0
    assert command.json("connections", "metadata", "get", known) == {}


def test_metadata_comes_as_json_from_the_command_line_or_a_file(command, known, tmp_path):
    assert command.inside("connections", "metadata", "set", known, '{"a": 1}').returncode == 0
    (tmp_path / "more.json").write_text('{"b": {"c": 2}}')
    assert command.inside("connections", "metadata", "update", known, "more.json").returncode == 0
    assert command.json("connections", "metadata", "get", known) == {"a": 1, "b": {"c": 2}}
    with mock.patch("sys.stdin", io.TextIOWrapper(io.BytesIO('{"d": "é"}'.encode()), "ascii")):
        assert command.inside("connections", "metadata", "set", known, "-").returncode == 0
    assert command.json("connections", "metadata", "get", known) == {"d": "é"}
    (tmp_path / "latin.json").write_bytes('{"canary": "é"}'.encode("latin-1"))
    for bad in (
        "nothing",
        '{"canary": ',
        '{"canary"}',
        '["canary"]' + " " * 5000,
        "latin.json",
        ".",
        "canary\0",
        "[1]",
    ):
        assert "canary" not in one_line_error(command.inside("connections", "metadata", "set", known, bad), 2)
    for piped in (b'["canary"]', b"\xff", b""):
        with mock.patch("sys.stdin", io.TextIOWrapper(io.BytesIO(piped))):
            one_line_error(command.inside("connections", "metadata", "set", known, "-"), 2)


def test_sessions_are_opened_and_a_reconnect_keeps_the_tags(command, known):
    made = command.json("connections", "connect", "--user", "usr_1", "--tag", "plan=pro", "--integration", "oauth2")
    assert made["tags"] == {"end_user_id": "usr_1", "plan": "pro"}
    assert made["connect_link"].endswith(made["token"])
    assert command.json("connections", "reconnect", known)["tags"] == DANA
    assert command.json("connections", "reconnect", known, "--tag", "plan=x")["tags"] == {"plan": "x"}
    one_line_error(command.inside("connections", "connect", "--integration", "none"), 1)


def test_a_connection_is_imported_from_a_file_or_standard_input(command, nango):
    content = json.dumps({"type": "API_KEY", "apiKey": "canary-of-an-import"})
    (command.folder / "key.json").write_text(content)
    asked = ("connections", "import", "apikey")
    made = command.json(*asked, "key.json", "--connection-id", "imported-1", "--user", "usr_1", "--tag", "plan=pro")
    assert made["tags"] == {"end_user_id": "usr_1", "plan": "pro"}
    work(command)
    assert command.json("connections", "show", "imported-1")["user"] == "usr_1"
    with mock.patch("sys.stdin", io.TextIOWrapper(io.BytesIO(content.encode()))):
        assert command.json(*asked, "-")["connection_id"]
    for given in (content, "absent.json"):
        error = one_line_error(command.inside(*asked, given), 2)
        assert "canary" not in error
    assert "oauth2" in [row["integration"] for row in command.json("integrations")]


def test_a_deletion_asks_first_and_a_refusal_deletes_nothing(command, nango, known):
    with mock.patch("sys.stdin", io.StringIO("n\n")):
        refused = command.inside("connections", "delete", known)
    assert (refused.returncode, "oauth2" in refused.stderr, "nothing was deleted" in refused.stderr) == (1, True, True)
    with mock.patch("sys.stdin", io.StringIO()):  # without a terminal there is no confirmation
        assert command.inside("connections", "delete", known).returncode == 130
    assert fetch(nango, known, "oauth2").status_code == 200
    assert command.json("connections", "delete", known, "--yes")["deleted"]
    work(command)
    assert command.json("connections", "show", known)["status"] == "deleted"
    assert "is deleted" in one_line_error(command.inside("connections", "delete", known, "--yes"), 1)


def test_what_cannot_be_done_is_one_line_and_its_exit_code(command, known):
    one_line_error(command.inside("connections", "show", str(uuid.uuid4())), 1)
    one_line_error(command.inside("connections", "show", "con_nonsense"), 2)
    one_line_error(command.inside("connections", "show", known, "--force-refresh"), 2)
    done = command.inside("connections", "--needs-reconnect", "--status", "active")
    assert done.returncode == 2
    away = command.variables["WAYLINK_NANGO_BASE_URL"]
    command.variables["WAYLINK_NANGO_BASE_URL"] = "http://127.0.0.1:1"
    assert "reached" in one_line_error(command.inside("connections", "tags", "set", known, "a=b"), 1)
    command.variables["WAYLINK_NANGO_BASE_URL"] = away


@pytest.mark.parametrize("command", ["sqlite", "postgresql"], indirect=True)
def test_an_argument_that_is_no_text_is_one_line(command):
    for arguments in (
        ("connections", "show", "\udcff"),
        ("connections", "--user", "\udcff"),
        ("audit", "--actor", "a\udcff"),
    ):
        place = arguments.index(next(argument for argument in arguments if "\udcff" in argument)) + 1
        assert f"argument {place} is not UTF-8" in one_line_error(command.inside(*arguments), 2)


def test_the_tags_of_a_drifting_connection_are_put_back_by_one_command(command, nango, known):
    assert "no tags to put back" in one_line_error(command.inside("connections", "restore-tags", known), 1)
    register(nango, known, "oauth2", tags={})
    work(command, auth("override", connection_id=known, tags={}))
    [row] = command.json("connections", "--drift")
    assert (row["drift"], command.json("connections", "show", known)["known_tags"]) == ("tags_wiped", DANA)
    assert command.json("connections", "restore-tags", known)["tags"] == DANA
    work(command)
    assert command.json("connections", "--drift") == []
    assert fetch(nango, known, "oauth2").json()["tags"] == DANA
    assert command.json("connections", "--duplicates") == []


def test_a_link_is_explained_closed_with_consent_and_decided_anew(command, known):
    assert command.json("connections", "explain", known)["cause"] == "linked"
    assert command.inside("connections", "unlink", known).returncode == 1
    assert command.json("connections", "show", known)["user"] == "usr_1042"
    assert command.json("connections", "unlink", known, "--yes", "--reason", "they asked")["linked"] is False
    explained = command.inside("connections", "explain", known, "--json")
    assert (explained.returncode, json.loads(explained.stdout)["cause"]) == (1, "by_operator")
    assert command.json("connections", "relink", known)["linked"] is True
    assert command.json("connections", "show", known)["user"] == "usr_1042"
    [done, closed] = [row for row in command.json("audit") if row["action"].startswith("connection.")]
    assert (closed["action"], closed["detail"]) == ("connection.unlinked", {"reason": "they asked"})
    assert done["action"] == "connection.relinked"
    assert command.inside("connections", "explain", "nobody").returncode == 1

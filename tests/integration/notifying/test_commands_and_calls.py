"""Channels by command and over REST: tried at once, shown with their state, and never with an address or a secret."""

import json

import pytest

from app.db import audit
from app.db.audit import AuditFilters
from app.db.engine import connect
from tests.integration.api.api_client import open_api, problem_of
from tests.integration.cli.test_cli import Command
from tests.integration.notifying.servers import http_side, mail_side

KEY = "whsec_QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo="
CONFIG = """
[notify]
installation = "acme"
[notify.channels.chat]
kind = "slack"
url_env = "CHAT_URL"
[notify.channels.mail]
kind = "email"
server = "127.0.0.1:{port}"
security = "none"
sender = "waylink@acme.example"
recipients = ["on-call@acme.example"]
[notify.channels.ops]
kind = "webhook"
url = "{url}"
secret_env = "OPS_SECRET"
"""
LOOPBACK = {"WAYLINK_ALLOWED_DESTINATION_RANGES": "127.0.0.0/8"}


@pytest.fixture
def sides():
    with http_side() as endpoint, mail_side() as mail:
        yield endpoint, mail


@pytest.fixture
def variables(sides, tmp_path):
    endpoint, mail = sides
    (tmp_path / "waylink.toml").write_text(CONFIG.format(port=mail.port, url=endpoint.url))
    secrets = {"OPS_SECRET": KEY, "CHAT_URL": f"{endpoint.url}/T0/B0/secretpath"}
    return LOOPBACK | secrets | {"WAYLINK_NANGO_SIGNING_KEYS": "k"}


@pytest.fixture
def waylink(variables, tmp_path):
    command = Command(tmp_path, variables)
    assert command.inside("migrate").returncode == 0
    return command


def test_a_test_message_goes_to_every_channel_and_its_answer_is_shown(waylink, sides):
    endpoint, mail = sides
    done = waylink.inside("notify", "test", "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [(row["channel"], row["taken"], row["answer"]) for row in rows] == [
        ("chat", True, "answered 200: ok"),
        ("mail", True, "taken"),
        ("ops", True, "answered 200: ok"),
    ]
    assert len(endpoint.requests) == 2
    assert "[acme] this is a test" in mail.mails[0][1]
    database = connect(waylink.database_url)
    with database.read() as session:
        tested = [row.subject for row in audit.newest(session, AuditFilters(limit=9, action="notification.tested"))]
    database.close()
    assert sorted(tested) == ["chat", "mail", "ops"]


def test_one_that_is_not_taken_ends_with_one_and_names_no_secret(waylink, sides):
    endpoint, _ = sides
    endpoint.answers = [(403, b"invalid_token")]
    done = waylink.inside("notify", "test", "chat")
    assert done.returncode == 1
    assert "answered 403: invalid_token" in done.stdout
    assert "secretpath" not in done.stdout + done.stderr
    listed = waylink.inside("notify", "--wide")
    assert listed.returncode == 0
    for secret in ("secretpath", "QUJD", "ABCDEF", "127.0.0.1"):
        assert secret not in listed.stdout + listed.stderr


def test_a_channel_that_is_not_there_is_said(waylink):
    done = waylink.inside("notify", "test", "pager")
    assert (done.returncode, done.stdout) == (1, "")
    assert "pager" in done.stderr
    (waylink.folder / "waylink.toml").write_text("")
    done = waylink.inside("notify", "test")
    assert (done.returncode, done.stdout) == (1, "")
    assert "[notify.channels.<name>]" in done.stderr


def test_a_missing_secret_stops_nothing_and_is_red_with_its_variable(waylink, sides):
    del waylink.variables["OPS_SECRET"]
    rows = {row["id"]: row for row in waylink_status(waylink)}
    told = rows["notifications:ops"]
    assert (told["level"], told["repair"]) == ("red", "waylink notify test ops")
    assert "the variable OPS_SECRET is not set" in told["cause"]
    assert rows["notifications:chat"]["level"] == "ok"
    assert waylink.inside("migrate").returncode == 0
    [row] = json.loads(waylink.inside("notify", "test", "ops", "--json").stdout)
    assert (row["taken"], "OPS_SECRET" in row["answer"]) == (False, True)


def waylink_status(command):
    return json.loads(command.inside("status", "--json").stdout)


def test_a_wrong_channel_is_refused_with_its_line(waylink):
    (waylink.folder / "waylink.toml").write_text('[notify.channels.ops]\nkind = "pigeon"\n')
    done = waylink.inside("notify")
    assert done.returncode == 2
    assert "waylink.toml:2: notify.channels.ops.kind: is none of" in done.stderr


def test_over_rest_channels_are_shown_and_tried(variables, sides, broker_url, tmp_path, monkeypatch):
    endpoint, _ = sides
    url = f"sqlite:///{tmp_path}/waylink.db"
    own = {**variables, "WAYLINK_CONFIG": str(tmp_path / "waylink.toml")}
    own.pop("WAYLINK_NANGO_SIGNING_KEYS")
    for name in ("CHAT_URL", "OPS_SECRET"):
        monkeypatch.setenv(name, own[name])
    (tmp_path / "web").mkdir()
    with open_api(database_url=url, broker_url=broker_url, folder=tmp_path / "web", **own) as api:
        rows = api.json("/notifications", who="viewer")["data"]
        assert [(row["channel"], row["state"], row["checks"]) for row in rows] == [
            ("chat", "working", []), ("mail", "working", []), ("ops", "working", [])
        ]  # fmt: skip
        problem_of(api("POST", "/notifications/test", who="viewer", json={}), 403, "forbidden")
        problem_of(api("POST", "/notifications/test", json={"channel": "pager"}), 404, "not_found")
        endpoint.answers = [(500, b"")]
        answer = api("POST", "/notifications/test", json={"channel": "ops"})
        [row] = answer.json()["data"]
        assert (answer.status_code, row["taken"], row["answer"]) == (200, False, "answered 500")
        everything = api("POST", "/notifications/test", json={}).json()["data"]
        assert [(row["channel"], row["taken"]) for row in everything] == [
            ("chat", False), ("mail", True), ("ops", False)
        ]  # fmt: skip
        assert "secretpath" not in answer.text

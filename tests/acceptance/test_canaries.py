"""Promise 7: secrets are planted in Nango, everything happens to them that can, and then all that rests is searched.

Every planted value holds one marker, made anew for each run. It is searched for as it is and in the forms in which it
would hide: base64, as in Celery's messages, hex, and percent-encoded.
"""

import base64
import json
import secrets
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from app import errors
from app.brokers.celery_broker import Broker
from app.brokers.messages import Message
from app.domain.standard_webhooks import read_secret, write_secret
from app.nango import NangoClient
from tests import openid_provider
from tests.acceptance.harness import Sandbox, Waylink, creation, installation, until
from tests.console_walk import kind_of, walked, words_of
from tests.integration.delivery.endpoints import endpoints
from tests.ports import free_port
from tests.quoted_secrets import TEXTS, places
from tests.waiting import PATIENCE

NANGO_ITSELF = {"sandbox.json", "sandbox-state.json"}  # the sandbox's own files: it is Nango's side
EXPIRING = {"OAUTH2", "OAUTH2_CC", "APP", "JWT", "BILL", "TWO_STEP", "SIGNATURE", "AWS_SIGV4"}


class Canary:
    """Makes secret values, and finds them again."""

    def __init__(self) -> None:
        self.marker = f"canary{secrets.token_hex(10)}"
        self.forms: list[bytes] = []
        self.know(self.marker.encode())

    def know(self, plain: bytes) -> None:
        """Find this, too."""
        # Base64 has three forms of a text, by where it stands; the ends mix with the neighbours and are cut off.
        shifted = [base64.b64encode(b"\0" * shift + plain)[4 if shift else 0 : -4] for shift in range(3)]
        self.forms += [plain, *shifted, plain.hex().encode(), "".join(f"%{byte:02X}" for byte in plain).encode()]

    def plant(self, name: str) -> str:
        return f"{name}-{self.marker}-{secrets.token_hex(8)}"

    def found_in(self, content: bytes | str) -> bool:
        text = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
        return any(form in text for form in self.forms)


def credentials_of_every_type(canary: Canary) -> dict[str, dict[str, Any]]:
    """As a GET shows them (Nango contract: Credential types), refresh tokens and raw included."""
    plant = canary.plant

    def fields(*names: str) -> dict[str, Any]:
        return {name: plant(name) for name in names}

    raw = {"access_token": plant("raw"), "refresh_token": plant("raw-refresh"), "deep": [{"id_token": plant("deep")}]}
    # Members that Waylink reads the grant's deadline from.
    raw |= fields("refresh_token_expires_at", "x_refresh_token_expires_in") | {"refresh_token_expires_in": 30 * 86_400}
    oauth2 = {"type": "OAUTH2", **fields("access_token", "refresh_token"), "raw": raw, "config_override": fields("id")}
    app = {"type": "APP", **fields("access_token", "jwtToken"), "raw": raw}
    found: dict[str, dict[str, Any]] = {
        "OAUTH2": oauth2,
        "OAUTH2_CC": fields("token", "client_id", "client_secret", "client_certificate", "client_private_key")
        | {"raw": raw},
        "OAUTH1": fields("oauth_token", "oauth_token_secret") | {"raw": raw},
        "API_KEY": fields("apiKey"),
        "BASIC": fields("username", "password"),
        "INSTALL_PLUGIN": fields("username", "password"),
        "TBA": fields("token_id", "token_secret") | {"config_override": fields("client_id", "client_secret")},
        "APP": app,
        "CUSTOM": {"raw": raw, "app": app, "user": oauth2},
        "JWT": fields("token", "privateKeyId", "issuerId") | {"privateKey": fields("id", "secret")},
        "BILL": fields("username", "password", "organization_id", "dev_key", "session_id", "user_id") | {"raw": raw},
        "TWO_STEP": fields("token", "refresh_token", "password") | {"raw": raw},
        "SIGNATURE": fields("username", "password", "token"),
        "AWS_SIGV4": fields(
            "role_arn", "region", "service", "access_key_id", "secret_access_key", "session_token", "external_id"
        )
        | {"raw": raw},
    }
    return {mode: {"type": mode, **values} for mode, values in found.items()}


@pytest.fixture
def waylink() -> Iterator[Waylink]:
    with installation(example=True, WAYLINK_LOG_LEVEL="debug") as waylink:
        waylink.up("--no-scenario")
        yield waylink


@pytest.mark.timeout(600)  # some thirty commands and ten waits, on a machine that may be busy
def test_no_credential_rests_anywhere_whatever_was_done_with_it(waylink: Waylink) -> None:
    canary, sandbox = Canary(), waylink.sandbox()
    planted = credentials_of_every_type(canary)
    connections = {mode: connect(waylink, sandbox, mode, values) for mode, values in planted.items()}
    by_hand = authorize(sandbox, canary)
    until("all are linked", lambda: len(linked(waylink)) == len(planted) + 1, every=0.5)

    told = read_as_an_application_does(sandbox, connections, canary)
    assert canary.found_in(read_through_waylink(waylink)), "callers with the right read them"
    refuse_an_authorization(waylink, sandbox, canary)
    quote_in_webhooks(waylink, sandbox, connections["OAUTH2"], canary)
    renew(waylink, EXPIRING)
    fail_to_renew(waylink, sandbox, canary)
    replace_credentials(sandbox, by_hand, canary)
    until("all events are processed", lambda: all_processed(waylink), every=0.5)

    assert canary.found_in((waylink.data / "sandbox-state.json").read_bytes()), "nothing was planted"
    assert not [words for words in told if canary.found_in(words)]
    assert leaks(waylink, canary) == []
    assert not [name for name, output in said(waylink).items() if canary.found_in(output)]
    assert not [path for path, text in shown(waylink).items() if canary.found_in(text)]


def connect(waylink: Waylink, sandbox: Sandbox, mode: str, values: dict[str, Any]) -> str:
    """A connection of this type, whose webhook comes to Waylink. Its token expires within Nango's margin."""
    integration = f"every-{mode.lower()}"
    body = json.loads(creation(1, group=mode.lower(), integration=integration)) | {"authMode": mode}
    sandbox.call("POST", "/sandbox/connections", json=body | {"credentials": values})
    if mode in EXPIRING:
        place = f"/sandbox/connections/{body['connectionId']}?provider_config_key={integration}"
        sandbox.call("PATCH", place, json={"expires_in": 300})
    content = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
    assert waylink.post(content, sandbox.signing_key).status_code == 202
    return str(body["connectionId"])


def authorize(sandbox: Sandbox, canary: Canary) -> str:
    """An end user types in an API key; the sandbox sends the webhook."""
    body = {"tags": {"end_user_id": "typist", "organization_id": "acme"}}
    token = sandbox.call("POST", "/connect/sessions", json=body)["data"]["token"]
    path = f"/api-auth/api-key/apikey?connect_session_token={token}"
    return str(sandbox.call("POST", path, json={"apiKey": canary.plant("typed")})["connectionId"])


def read_as_an_application_does(sandbox: Sandbox, connections: dict[str, str], canary: Canary) -> list[str]:
    """Every type with its credentials; what reprs, errors and their contexts say of it."""
    told = []
    with NangoClient(base_url=sandbox.base_url, api_key=sandbox.api_key) as nango:
        for mode, connection_id in connections.items():
            found = nango.get_connection(f"every-{mode.lower()}", connection_id, refresh_token=mode == "OAUTH2")
            assert found.credentials.type == mode
            token = nango.get_token(f"every-{mode.lower()}", connection_id)
            told += [repr(found), str(found.credentials), "" if isinstance(token, str) else repr(token)]
        fault = {"operation": "get_connection", "times": 1, "status": 500, "message": f"Bearer {canary.plant('t')}"}
        sandbox.call("POST", "/sandbox/faults", json=fault)
        with pytest.raises(errors.NangoUnavailable) as failed:
            nango.get_connection("every-oauth2", connections["OAUTH2"])
        told += [str(failed.value), repr(vars(failed.value)), repr(failed.value.__context__)]
    return told


def read_through_waylink(waylink: Waylink) -> str:
    """Read each connection with its credentials, over REST and by command, as a caller with that right; all output."""
    made = waylink.run("token", "create", "reader", "--scope", "credentials", "--json")
    token = json.loads(made.stdout)["token"]
    answers = []
    for connection in linked(waylink):
        path = f"/api/v1/connections/{connection['id']}/credentials"
        answer = waylink.http.get(path, headers={"authorization": f"Bearer {token}"})
        assert answer.headers["cache-control"] == "no-store"
        answers.append(answer.raise_for_status().text)
    answers.append(waylink.run("connections", "show", linked(waylink)[0]["id"], "--credentials", "--json").stdout)
    return "".join(answers)


def refuse_an_authorization(waylink: Waylink, sandbox: Sandbox, canary: Canary) -> None:
    """The provider answers with a token in its error, which Nango passes on in a webhook.

    (Nango contract: When auth webhooks are sent)
    """
    said_so = f'400 {{"access_token": "{canary.plant("refused")}"}} Authorization: Bearer {canary.plant("refused")}'
    sandbox.call("POST", "/sandbox/faults", json={"operation": "authorize", "times": 1, "message": said_so})
    token = sandbox.call("POST", "/connect/sessions", json={"tags": {}})["data"]["token"]
    with pytest.raises(httpx.HTTPStatusError):
        sandbox.call("POST", f"/sandbox/oauth/oauth2?connect_session_token={token}", json={})
    failures = ("--type", "connection.creation_failed")
    until("the failure was announced", lambda: waylink.listing("events", *failures), every=0.3)


def quote_in_webhooks(waylink: Waylink, sandbox: Sandbox, connection_id: str, canary: Canary) -> None:
    """Nango's own webhooks, of types known and unknown, whose members quote a credential in every form."""
    about = {"from": "nango", "connectionId": connection_id, "providerConfigKey": "every-oauth2"}
    kinds = [
        {"type": "auth", "operation": "creation", "success": False, "authMode": "OAUTH2"},
        {"type": "auth", "operation": "rotation", "success": True},
        {"type": "sync", "syncName": "contacts", "model": "Contact", "success": False},
        {"type": "async_action"},
        {"type": "tomorrow"},
    ]
    quoted = [text.format(canary.plant("quoted")) for text in TEXTS.values()]
    members = [place for text in quoted for place in places(text).values()]
    sent = members[:: len(places("")) + 1] + list(places(quoted[0]).values())  # every form, and every place
    for number, facts in enumerate(sent):
        body = about | kinds[number % len(kinds)] | facts | {"number": number}
        content = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        assert waylink.post(content, sandbox.signing_key).status_code == 202


def renew(waylink: Waylink, modes: set[str]) -> None:
    """Let all plans fall due, until each of these types was asked for."""
    due_now(waylink)
    until("all were refreshed", lambda: refreshed(waylink) >= len(modes), every=0.5)


def fail_to_renew(waylink: Waylink, sandbox: Sandbox, canary: Canary) -> None:
    """The provider refuses with a token in its words: an answer of the API, and a webhook."""
    words = f'invalid_grant for refresh_token={canary.plant("grant")} {{"token": "{canary.plant("grant")}"}}'
    sandbox.call("POST", "/sandbox/faults", json={"operation": "refresh", "message": words})
    for connection in linked(waylink):
        if connection["integration"].startswith("every-"):
            place = (
                f"/sandbox/connections/{connection['connection_id']}?provider_config_key={connection['integration']}"
            )
            sandbox.call("PATCH", place, json={"expires_in": 300})
    before = refreshed(waylink)
    due_now(waylink)
    until("the refusals are recorded", lambda: refreshed(waylink) > before and failures(waylink), every=0.5)
    sandbox.call("DELETE", "/sandbox/faults")


def replace_credentials(sandbox: Sandbox, connection_id: str, canary: Canary) -> None:
    """An import over a connection that is known: an override, with credentials from elsewhere."""
    with NangoClient(base_url=sandbox.base_url, api_key=sandbox.api_key) as nango:
        key = {"type": "API_KEY", "apiKey": canary.plant("imported")}
        tags = {"end_user_id": "typist", "organization_id": "acme"}
        nango.import_connection("apikey", key, tags=tags, metadata={}, connection_id=connection_id)


def shown(waylink: Waylink) -> dict[str, str]:
    """The pages of the console that links lead an operator to."""
    made = json.loads(waylink.run("operator", "add", "reader", "--role", "operator", "--json").stdout)
    link, password = made["link"].removeprefix(waylink.origin), "correct horse battery staple"
    with httpx.Client(base_url=waylink.origin, headers=OWN, trust_env=False, timeout=PATIENCE) as browser:
        assert browser.post(link, data={"password": password, "repeated": password}).status_code == 303
        pages = {path: words_of(answer) for path, answer in walked(browser).items()}
    assert {"/console/events/{event_id}", "/console/jobs"} <= {kind_of(path) for path in pages}
    return pages


def linked(waylink: Waylink) -> list[dict[str, Any]]:
    return [connection for connection in waylink.listing("connections", "--limit", "100") if connection["user"]]


def all_processed(waylink: Waylink) -> bool:
    return waylink.sql("SELECT count(*) FROM events WHERE state = 'received'")[0][0] == 0


def refreshed(waylink: Waylink) -> int:
    return int(waylink.sql("SELECT count(*) FROM refreshes WHERE finished_at IS NOT NULL")[0][0])


def failures(waylink: Waylink) -> int:
    return int(waylink.sql("SELECT count(*) FROM refreshes WHERE outcome = 'failed'")[0][0])


def due_now(waylink: Waylink) -> None:
    """By hand, because plans lie minutes to hours ahead: only the time is moved."""
    waylink.sql("UPDATE refreshes SET next_at = '2020-01-01 00:00:00' WHERE finished_at IS NULL")


# The search


def leaks(waylink: Waylink, canary: Canary) -> list[str]:
    """Every place where a canary rests: files with logs, columns of tables, keys of the broker."""
    files = [path for path in waylink.folder.rglob("*") if path.is_file() and path.name not in NANGO_ITSELF]
    assert {"waylink.db", "0-up.log"} <= {file.name for file in files}
    found = [file.name for file in files if canary.found_in(file.read_bytes())]
    found += leaking_columns(waylink.data / "waylink.db", canary)
    return found + leaking_keys(waylink.data / "broker" / "valkey.sock", canary)


def leaking_columns(database: Path, canary: Canary) -> list[str]:
    """Every value of every table; a file's search alone would miss what a page or the log of writes splits."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        assert len(tables) > 10
        found = []
        for table in tables:
            rows = connection.execute(f'SELECT * FROM "{table}"')
            names = [column[0] for column in rows.description]
            for row in rows:
                values = zip(names, row, strict=True)
                found += [f"{table}.{name}" for name, value in values if canary.found_in(_bytes(value))]
    connection.close()
    return found


def leaking_keys(socket: Path, canary: Canary) -> list[str]:
    """Every key of the internal and of the teams' broker, with all it holds."""
    found = []
    for number in (0, 1):
        with redis.Redis(unix_socket_path=str(socket), db=number) as client:
            found += [f"{number}/{key!r}" for key in client.scan_iter() if canary.found_in(_held(client, key))]
    return found


def _held(client: redis.Redis, key: bytes) -> bytes:
    readers = {
        b"string": lambda: client.get(key),
        b"list": lambda: client.lrange(key, 0, -1),
        b"hash": lambda: client.hgetall(key),
        b"set": lambda: client.smembers(key),
        b"zset": lambda: client.zrange(key, 0, -1, withscores=True),
        b"none": lambda: "gone since it was listed, as kombu's locks are",
    }
    # A list's repr keeps printable bytes as they are, which all forms of a canary are.
    return key + repr(readers[client.type(key)]()).encode()


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


def said(waylink: Waylink) -> dict[str, str]:
    """Output of commands and the API about all there is, for a caller that may not read credentials."""
    listings = ("connections", "events", "jobs", "rejections", "status", "audit")
    output = {noun: _output(waylink.run(noun, "--json")) for noun in listings}
    events = waylink.listing("events", "--limit", "500")
    failed = next(event for event in events if event["type"] == "connection.creation_failed")
    output["event"] = _output(waylink.run("events", "show", failed["id"]))
    made = waylink.run("token", "create", "viewer", "--scope", "viewer", "--json")
    headers = {"authorization": f"Bearer {json.loads(made.stdout)['token']}"}
    for event in events:
        output[event["id"]] = waylink.http.get(f"/api/v1/events/{event['id']}", headers=headers).raise_for_status().text
    assert sum("[hidden]" in shown for shown in output.values()) > len(TEXTS) // 2
    for connection in linked(waylink):
        for path in (f"/api/v1/connections/{connection['id']}", f"/api/v1/connections/{connection['id']}/credentials"):
            output[path] = waylink.http.get(path, headers=headers).text
    return output


def _output(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout + done.stderr


# Secrets of teams

TEAMS = """
[teams.crm.destinations.hook]
kind = "http"
url = "{url}/200"
secret_env = "HOOK_SECRET"

[teams.crm.destinations.broken]
kind = "http"
url = "{url}/500"
secret_env = "HOOK_SECRET"

[teams.crm.destinations.own]
kind = "celery"
queue = "team.crm.jobs"
broker_url_env = "CRM_BROKER"

[[routes]]
name = "hook"
team = "crm"
destination = "hook"
job = "crm.hook"
pattern = '{{"type": ["connection.created"]}}'

[[routes]]
name = "broken"
team = "crm"
destination = "broken"
job = "crm.broken"
pattern = '{{"type": ["connection.created"]}}'

[[routes]]
name = "own"
team = "crm"
destination = "own"
job = "crm.own"
pattern = '{{"type": ["connection.created"]}}'
"""


@pytest.mark.timeout(300)
def test_no_signing_secret_and_no_brokers_password_of_a_team_rests_or_is_shown() -> None:
    canary = Canary()
    secret = write_secret(canary.marker.encode().ljust(32, b"x"))
    own = f"redis://crm:{canary.plant('password')}@127.0.0.1:{free_port()}/0"
    variables = {"HOOK_SECRET": secret, "CRM_BROKER": own, "WAYLINK_ALLOWED_DESTINATION_RANGES": "127.0.0.0/8"}
    with (
        endpoints() as server,
        installation(config=TEAMS.format(url=server.url), WAYLINK_LOG_LEVEL="debug", **variables) as waylink,
    ):
        waylink.up("--no-scenario")
        sandbox, bodies = waylink.sandbox(), [creation(number) for number in range(6)]
        sandbox.register(*bodies)
        for body in bodies:  # more than it takes for two breakers to open
            assert waylink.post(body, sandbox.signing_key).status_code == 202
        until("the good one has all", lambda: len(server.of("/200")) == 6)
        until("the others have failed", lambda: len(waylink.listing("jobs", "--state", "retryable")) == 12, every=0.5)
        told = [
            _output(waylink.run("destinations", *command, "--json"))
            for command in ([], ["show", "crm/hook"], ["secrets", "crm/hook"], ["check"])
        ]
        rotated = waylink.run("destinations", "rotate-secret", "crm/broken", "--json")
        canary.know(read_secret(json.loads(rotated.stdout)["secret"]))
        told.append(_output(waylink.run("destinations", "test", "crm/broken", "--json")))
        assert " " in server.of("/500")[-1].headers["webhook-signature"], "signed by both"
        told += [_output(waylink.run(*command)) for command in (["check"], ["routes", "plan"], ["audit", "--json"])]
        told += [_output(waylink.run(noun, "--json")) for noun in ("jobs", "events", "status")]
        one_of_each = {job["destination"]: job["id"] for job in waylink.listing("jobs")}
        told += [json.dumps(waylink.show("jobs", id_)) for id_ in one_of_each.values()]
        assert not [words for words in told if canary.found_in(words)]
        assert not [path for path, text in shown(waylink).items() if canary.found_in(text)]
        assert leaks(waylink, canary) == []


# Secrets of operators

GROUPS = """
[[operators.groups]]
group = "ops"
role = "operator"
"""
OWN = {"sec-fetch-site": "same-origin"}


@pytest.mark.timeout(300)
def test_no_secret_of_an_operator_rests_or_is_shown() -> None:
    """Passwords, links, sessions, and what the identity provider sends: with each refused once, too."""
    canary = Canary()
    with openid_provider.serve() as provider:
        variables = {
            "WAYLINK_OIDC_ISSUER": provider.origin,
            "WAYLINK_OIDC_CLIENT_ID": openid_provider.CLIENT_ID,
            "WAYLINK_OIDC_CLIENT_SECRET": openid_provider.CLIENT_SECRET,
        }
        with installation(config=GROUPS, WAYLINK_LOG_LEVEL="debug", **variables) as waylink:
            waylink.up("--no-scenario")
            pages = sign_in_with_a_password(waylink, canary) + sign_in_at_the_provider(waylink, provider, canary)
            for secret in (*provider.seen, openid_provider.CLIENT_SECRET):
                canary.know(secret.encode())
            told = [_output(waylink.run("operator", *command)) for command in (["list"], ["sessions", "ada"])]
            told += [_output(waylink.run(*command)) for command in (["audit", "--json"], ["status"], ["check"])]
            assert "operator.signed_in" in "".join(told)
            assert not [words for words in (*pages, *told) if canary.found_in(words)]
            assert leaks(waylink, canary) == []


def sign_in_with_a_password(waylink: Waylink, canary: Canary) -> list[str]:
    """Set a password by a link, sign in, and fail to, also with the password typed as the name; the pages seen."""
    made = json.loads(waylink.run("operator", "add", "ada", "--role", "operator", "--json").stdout)
    link, password = made["link"].removeprefix(waylink.origin), canary.plant("password")
    canary.know(link.rpartition("/")[2].encode())
    with httpx.Client(base_url=waylink.origin, headers=OWN, trust_env=False, timeout=PATIENCE) as browser:
        answers = [browser.post(link, data={"password": password, "repeated": password + "x"})]
        answers.append(browser.post(link, data={"password": password, "repeated": password}))
        assert answers[-1].status_code == 303
        answers += [browser.get("/console"), browser.get("/console/account"), browser.get("/api/v1/operators")]
        canary.know(browser.cookies["waylink-session"].encode())
        answers.append(browser.post("/console/sign-in", data={"name": "ada", "password": password[:-1]}))
        assert answers[-1].status_code == 422
        assert browser.post("/console/sign-in", data={"name": password, "password": ""}).status_code == 422
        answers.append(browser.post("/console/sign-in", data={"name": "ada", "password": password}))
        assert answers[-1].status_code == 303
        canary.know(browser.cookies["waylink-session"].encode())
    return [answer.text for answer in answers]


def sign_in_at_the_provider(waylink: Waylink, provider: openid_provider.Provider, canary: Canary) -> list[str]:
    """Without a group that has access, with a token that is spoilt, and as an operator; the pages seen."""
    pages = []
    spoil = [lambda token: token, lambda token: token[:-8] + "A" * 8, lambda token: token]
    with httpx.Client(
        base_url=waylink.origin, headers=OWN, trust_env=False, timeout=PATIENCE, follow_redirects=True
    ) as browser:
        for groups, change, status in zip(([], ["ops"], ["ops"]), spoil, (403, 403, 200), strict=True):
            provider.person["groups"], provider.change_token = groups, change
            answer = browser.get("/console/sign-in/oidc")
            assert answer.status_code == status
            pages.append(answer.text)
        canary.know(browser.cookies["waylink-session"].encode())
    return pages


# The search itself can fail


@pytest.mark.parametrize("shift", range(3))
def test_a_canary_is_found_in_every_form(shift: int) -> None:
    canary = Canary()
    text = "x" * shift + canary.plant("secret")
    assert canary.found_in(text)
    assert canary.found_in(json.dumps({"body": base64.b64encode(text.encode()).decode()}))
    assert canary.found_in(text.encode().hex())
    assert canary.found_in("".join(f"%{byte:02X}" for byte in text.encode()))
    assert not canary.found_in("x" * shift + Canary().plant("secret"))


def test_a_canary_is_found_in_a_column_and_in_a_message(tmp_path: Path) -> None:
    canary = Canary()
    with closing(sqlite3.connect(tmp_path / "w.db")) as connection, connection:
        for number in range(12):
            connection.execute(f"CREATE TABLE t{number} (a TEXT, b BLOB)")
        connection.execute("INSERT INTO t3 VALUES (?, ?)", (canary.plant("a"), b"\0" + canary.plant("b").encode()))
    assert leaking_columns(tmp_path / "w.db", canary) == ["t3.a", "t3.b"]


def test_a_canary_is_found_in_the_broker() -> None:
    canary = Canary()
    with installation() as waylink:
        waylink.up("--no-scenario")
        socket = waylink.data / "broker" / "valkey.sock"
        broker = Broker.at("teams", f"redis+socket://{socket}?virtual_host=1")
        assert leaking_keys(socket, canary) == []
        broker.send([Message("team.crm.jobs", "crm.job", "id-1", {"job": {"token": canary.plant("job")}})])
        broker.close()
        assert leaking_keys(socket, canary) == ["1/b'team.crm.jobs'"]

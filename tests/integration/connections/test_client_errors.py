"""Each way Nango can fail is an error of its own: made to happen in the sandbox, met through the client."""

import time

import httpx
import pytest

from app import errors
from app.nango import NangoClient
from app.nango.credentials import NoCredentials, OAuth2Credentials
from app.sandbox.faults import OF_PROVIDERS, Operation
from app.sandbox.scopes import KNOWN
from tests.integration.sandbox.sandbox_server import control, fetch, register, serve

UNKNOWN_KEY = "00000000-0000-4000-8000-000000000000"
OPERATIONS = {
    "list_connections": lambda nango: nango.list_connections(),
    "get_connection": lambda nango: nango.get_connection("oauth2", "known"),
    "delete_connection": lambda nango: nango.delete_connection("oauth2", "doomed"),
    "patch_connection": lambda nango: nango.set_tags("oauth2", "known", {"a": "b"}),
    "import_connection": lambda nango: nango.import_connection(
        "apikey", {"type": "API_KEY", "apiKey": "k"}, tags={}, metadata={}, connection_id="imported"
    ),
    "set_metadata": lambda nango: nango.set_metadata("oauth2", "known", {"a": 1}),
    "update_metadata": lambda nango: nango.update_metadata("oauth2", ["known"], {"a": 1}),
    "create_connect_session": lambda nango: nango.create_connect_session(tags={}),
    "create_reconnect_session": lambda nango: nango.create_reconnect_session("oauth2", "known", tags={}),
    "list_integrations": lambda nango: nango.list_integrations(),
    "get_integration": lambda nango: nango.get_integration("oauth2"),
}
NEEDED = {
    "list_connections": "environment:connections:list",
    "get_connection": "environment:connections:read",
    "delete_connection": "environment:connections:delete",
    "patch_connection": "environment:connections:update",
    "import_connection": "environment:connections:create",
    "set_metadata": "environment:connections:update",
    "update_metadata": "environment:connections:update",
    "create_connect_session": "environment:connect_sessions:write",
    "create_reconnect_session": "environment:connect_sessions:write",
    "list_integrations": "environment:integrations:list",
    "get_integration": "environment:integrations:read",
}


@pytest.fixture(scope="module")
def server():
    with serve() as client:
        yield client


@pytest.fixture
def sandbox(server):
    """With a connection that is known and one that may be deleted; without faults and further keys."""
    for connection_id in ("known", "doomed"):
        register(server, connection_id, "oauth2", tags={"team": "red"})
        control(server, connection_id, "oauth2", expires_in=3600, exhausted=False)
    yield server
    server.delete("/sandbox/faults").raise_for_status()
    server.delete("/sandbox/keys").raise_for_status()


@pytest.fixture
def open_client(sandbox):
    opened = []

    def make(*scopes, api_key=None, **options):
        """With all scopes, or with a new key of these."""
        if scopes:
            answer = sandbox.post("/sandbox/keys", json={"scopes": list(scopes)}).raise_for_status()
            api_key = answer.json()["key"]["api_key"]
        key = api_key or sandbox.headers["authorization"].removeprefix("Bearer ")
        opened.append(NangoClient(base_url=str(sandbox.base_url), api_key=key, **options))
        return opened[-1]

    yield make
    for client in opened:
        client.close()


@pytest.fixture
def nango(open_client):
    return open_client()


def fail(sandbox, operation, **rule):
    sandbox.post("/sandbox/faults", json={"operation": operation, **rule}).raise_for_status()


def test_every_operation_of_the_sandbox_is_one_of_the_clients():
    assert set(OPERATIONS) == set(NEEDED) == set(Operation) - OF_PROVIDERS - {Operation.ANY_CALL}


# Keys and scopes


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_key_without_the_scope_gets_an_error_that_names_it(open_client, operation):
    with pytest.raises(errors.NangoForbidden) as refused:
        OPERATIONS[operation](open_client(*(KNOWN - closure(NEEDED[operation]))))
    assert refused.value.status == 403
    assert NEEDED[operation] in str(refused.value)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_key_with_this_one_scope_is_enough(open_client, operation):
    OPERATIONS[operation](open_client(NEEDED[operation]))


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("key", ["not-a-uuid", UNKNOWN_KEY])
def test_a_wrong_key_is_unauthorized_everywhere(open_client, operation, key):
    with pytest.raises(errors.NangoUnauthorized) as refused:
        OPERATIONS[operation](open_client(api_key=key))
    assert key not in str(refused.value)


def test_wildcards_cover_what_is_below_them(open_client):
    everything = open_client("environment:connections:*")
    OPERATIONS["get_connection"](everything)
    OPERATIONS["set_metadata"](everything)
    with pytest.raises(errors.NangoForbidden):
        OPERATIONS["list_integrations"](everything)


def test_a_key_that_may_not_read_credentials_gets_none_and_refreshes_nothing(sandbox, open_client):
    reader = open_client("environment:connections:read")
    control(sandbox, "known", "oauth2", expires_in=60)
    assert reader.get_connection("oauth2", "known").credentials == NoCredentials(type="")
    assert reader.get_connection("oauth2", "known").tags == {"team": "red"}
    for flag in ("force_refresh", "refresh_token", "refresh_github_app_jwt_token"):
        with pytest.raises(errors.NangoForbidden, match="read_credentials"):
            reader.get_connection("oauth2", "known", **{flag: True})
    shown = control(sandbox, "known", "oauth2")
    found = open_client("environment:connections:read_credentials").get_connection("oauth2", "known")
    assert isinstance(found.credentials, OAuth2Credentials)
    assert found.credentials.access_token != shown["credentials"]["access_token"]


def test_an_integrations_credentials_need_their_own_scope_and_show_in_no_repr(open_client, nango):
    found = nango.get_integration("oauth2", webhook_url=True, credentials=True)
    assert found.credentials["client_secret"] == "sandbox-secret-oauth2"
    assert "sandbox-secret" not in repr(found)
    assert found.webhook_url
    assert nango.get_integration("oauth2").credentials is None
    reader = open_client("environment:integrations:read")
    assert reader.get_integration("oauth2").key == "oauth2"
    with pytest.raises(errors.NangoForbidden, match="environment:integrations:read_credentials"):
        reader.get_integration("oauth2", credentials=True)


def test_a_key_of_few_scopes_cannot_make_itself_others(sandbox, open_client):
    key = sandbox.post("/sandbox/keys", json={"scopes": ["environment:connections:*"]}).json()["key"]["api_key"]
    answer = sandbox.post(
        "/sandbox/keys", json={"scopes": ["environment:*"]}, headers={"authorization": f"Bearer {key}"}
    )
    assert answer.status_code == 403


def test_an_unknown_scope_is_refused_with_those_there_are(sandbox):
    answer = sandbox.post("/sandbox/keys", json={"scopes": ["environment:connections:write"]})
    assert answer.status_code == 400
    assert "environment:connections:update" in answer.json()["error"]["errors"][0]["message"]
    assert sandbox.post("/sandbox/keys", json={}).status_code == 400


def closure(scope):
    """The scope, what includes it, and what does as well."""
    stronger = {"list": "list_credentials", "read": "read_credentials"}
    area, _, verb = scope.rpartition(":")
    return {scope, f"{area}:*", "environment:*", f"{area}:{stronger.get(verb, verb)}"}


# Failures


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    ("rule", "error"),
    [
        ({"status": 500}, errors.NangoUnavailable),
        ({"status": 503}, errors.NangoUnavailable),
        ({"status": 400}, errors.NangoInvalidRequest),
        ({"status": 401}, errors.NangoUnauthorized),
        ({"status": 403}, errors.NangoForbidden),
        ({"status": 429, "retry_after": 7}, errors.NangoRateLimited),
        ({"status": 400, "code": "resource_capped"}, errors.NangoPlanLimit),
        ({"status": 400, "code": "unknown_provider_config"}, errors.NangoUnknownIntegration),
        ({"status": 418}, errors.NangoUnexpected),
        ({"status": 404, "code": "no_such_route"}, errors.NangoUnexpected),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else value.__name__,
)
def test_what_each_call_can_be_answered_is_its_own_error(sandbox, nango, operation, rule, error):
    fail(sandbox, operation, times=1, **rule)
    with pytest.raises(errors.NangoError) as raised:
        OPERATIONS[operation](nango)
    assert type(raised.value) is error
    if error is errors.NangoRateLimited:
        assert raised.value.retry_after == 7
    OPERATIONS["list_connections"](nango)  # that was the one time


def test_refused_credentials_of_an_import_are_their_own_error(sandbox, nango):
    for code in ("connection_test_failed", "connection_validation_failed"):
        fail(sandbox, "import_connection", times=1, status=400, code=code)
        with pytest.raises(errors.NangoCredentialsRefused):
            OPERATIONS["import_connection"](nango)


def test_a_refresh_fails_then_backs_off_and_ends_exhausted(sandbox, nango):
    fail(sandbox, "refresh", provider_config_key="oauth2")
    control(sandbox, "known", "oauth2", expires_in=60)
    with pytest.raises(errors.NangoRefreshFailed):
        nango.get_connection("oauth2", "known")
    with pytest.raises(errors.NangoRefreshBackingOff):
        nango.get_connection("oauth2", "known")
    with pytest.raises(errors.NangoRefreshFailed):  # force skips the waiting (Nango contract: Forced refreshes)
        nango.get_connection("oauth2", "known", force_refresh=True)
    control(sandbox, "known", "oauth2", exhausted=True)
    with pytest.raises(errors.NangoRefreshExhausted):
        nango.get_token("oauth2", "known")
    sandbox.delete("/sandbox/faults").raise_for_status()
    assert nango.get_token("oauth2", "known", force_refresh=True)
    assert nango.get_token("oauth2", "known")


@pytest.mark.parametrize("status", [403, 424, 500])
def test_a_failed_refresh_of_an_odd_status_is_one_all_the_same(sandbox, nango, status):
    fail(sandbox, "refresh", times=1, status=status)
    with pytest.raises(errors.NangoRefreshFailed):
        nango.get_connection("oauth2", "known", force_refresh=True)


def test_what_the_provider_said_is_reported_without_its_tokens(sandbox, nango):
    said = 'Bearer canary0123456789abcdef {"refresh_token": "canary0123456789abcdef"}'
    fail(sandbox, "refresh", times=1, message=f"The provider said: {said}")
    with pytest.raises(errors.NangoRefreshFailed, match="The provider said") as raised:
        nango.get_connection("oauth2", "known", force_refresh=True)
    assert "canary" not in f"{raised.value} {raised.value!r} {vars(raised.value)}"


def test_no_answer_in_time_is_unavailable(sandbox, nango):
    fail(sandbox, "any_call", delay=5)
    for operation in (nango.list_connections, nango.list_integrations):
        with pytest.raises(errors.NangoUnavailable):
            operation(timeout=0.3)


def test_a_slow_answer_is_waited_for(sandbox, nango):
    fail(sandbox, "list_connections", delay=0.5, times=1)
    started = time.monotonic()
    nango.list_connections()
    assert time.monotonic() - started >= 0.5


def test_a_client_with_retries_gets_over_what_passes(sandbox, open_client):
    patient = open_client(retries=2)
    fail(sandbox, "get_connection", times=2, status=502)
    assert patient.get_connection("oauth2", "known")
    fail(sandbox, "set_metadata", times=1, status=429, retry_after=0)
    patient.set_metadata("oauth2", "known", {})


# Faults hit what they name and nothing else


def test_a_fault_can_be_narrowed_to_an_integration_and_to_a_connection(sandbox, nango):
    register(sandbox, "known", "basic")
    fail(sandbox, "any_call", provider_config_key="basic", connection_id="known", status=500)
    with pytest.raises(errors.NangoUnavailable):
        nango.set_tags("basic", "known", {})
    with pytest.raises(errors.NangoUnavailable):
        nango.set_metadata("basic", ["other", "known"], {})
    with pytest.raises(errors.NangoUnavailable):
        nango.create_reconnect_session("basic", "known", tags={})
    nango.set_tags("oauth2", "known", {})
    nango.list_connections()


def test_a_fault_can_strike_a_share_of_the_calls(sandbox, nango):
    fail(sandbox, "list_integrations", rate=0.5, status=500)
    results = []
    for _ in range(60):
        try:
            nango.list_integrations()
            results.append(True)
        except errors.NangoUnavailable:
            results.append(False)
    assert 10 < results.count(False) < 50


def test_any_call_spares_providers_and_a_provider_takes_no_status_of_calls(sandbox):
    fail(sandbox, "any_call", status=500)
    control(sandbox, "known", "oauth2", expires_in=60)
    assert fetch(sandbox, "known", "oauth2").status_code == 500
    sandbox.delete("/sandbox/faults", params={"operation": "any_call"}).raise_for_status()
    assert fetch(sandbox, "known", "oauth2").status_code == 200
    answer = sandbox.post("/sandbox/faults", json={"operation": "refresh", "delay": 3})
    assert answer.json()["error"]["errors"][0]["path"] == ["delay"]


@pytest.mark.parametrize(
    "rule", [{"operation": "nope"}, {"operation": "any_call", "rate": 2}, {"operation": "any_call", "status": 200}]
)
def test_a_fault_that_makes_no_sense_is_refused(sandbox, rule):
    assert sandbox.post("/sandbox/faults", json=rule).status_code == 400


def test_faults_are_shown_as_they_were_made(sandbox):
    rule = {"operation": "get_connection", "rate": 0.25, "status": 429, "retry_after": 3}
    fail(sandbox, **rule)
    [shown] = sandbox.get("/sandbox/faults").json()["faults"]
    assert rule.items() <= shown.items()


def test_keys_survive_a_restart_of_the_sandbox(tmp_path):
    state = tmp_path / "state.json"
    with serve(state_file=state) as client:
        made = client.post("/sandbox/keys", json={"scopes": ["environment:connections:list"]}).json()["key"]
    with serve(state_file=state) as client:
        assert client.get("/sandbox/keys").json()["keys"] == [made]
        headers = {"authorization": f"Bearer {made['api_key']}"}
        assert client.get("/connections", headers=headers).status_code == httpx.codes.OK
        assert client.get("/integrations", headers=headers).status_code == httpx.codes.FORBIDDEN


# What cannot be sent


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("", "must be a text that is not empty"),
        (None, "must be a text that is not empty"),
        ("s3cret" + "x" * 250, "has 256 characters, at most 255"),
        ("😀" * 128, "has 256 characters, at most 255"),
        ("s3cret\0", r"holds a NUL or a lone surrogate \(7 characters\)"),
        ("s3cret\ud800", r"holds a NUL or a lone surrogate \(7 characters\)"),
    ],
)
def test_an_id_that_nango_cannot_have_given_out_is_refused_by_field_rule_and_length(nango, value, words):
    for call in (
        lambda: nango.get_connection("oauth2", value),
        lambda: nango.delete_connection("oauth2", value),
        lambda: nango.set_tags("oauth2", value, {}),
        lambda: nango.set_metadata("oauth2", [value], {}),
        lambda: nango.create_reconnect_session("oauth2", value, tags={}),
    ):
        with pytest.raises(errors.InvalidInput, match=rf"connection_ids?(\[0\])? {words}") as raised:
            call()
        assert "s3cret" not in str(raised.value)
    for call in (
        lambda: nango.get_connection(value, "known"),
        lambda: nango.set_metadata(value, "known", {}),
        lambda: nango.create_reconnect_session(value, "known", tags={}),
        lambda: nango.get_integration(value),
    ):
        with pytest.raises(errors.InvalidInput, match=f"^integration {words}"):
            call()


def test_one_text_is_not_taken_for_a_list_of_its_letters(nango):
    with pytest.raises(errors.InvalidInput, match="allowed_integrations must be a list"):
        nango.create_connect_session(tags={}, allowed_integrations="oauth2")
    with pytest.raises(errors.InvalidInput, match="integrations must be a list"):
        nango.list_connections(integrations="oauth2")

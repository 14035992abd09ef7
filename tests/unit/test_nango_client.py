"""The Nango client against the contract's samples and a real server's recordings."""

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

import httpx
import pytest

from app import errors
from app.nango import credentials
from app.nango.client import NangoClient
from app.nango.types import ListedConnection, RateLimit
from app.nango.wire_credentials import parse_credentials

DATA = Path(__file__).resolve().parents[1] / "data" / "nango"
SAMPLES = {path.stem: json.loads(path.read_text("utf-8")) for path in (DATA / "samples" / "rest").glob("*.json")}
RECORDED = {
    exchange["name"]: exchange
    for exchange in map(json.loads, (DATA / "recorded" / "rest.jsonl").read_text("utf-8").splitlines())
}
API_KEY = "9a1b2c3d-1111-4111-8111-abcdefabcdef"
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
Handler = Callable[[httpx.Request], httpx.Response]


def client_for(handler: Handler, **options: object) -> NangoClient:
    settings: dict = {"base_url": "https://nango.example", "clock": lambda: NOW} | options
    return NangoClient(api_key=API_KEY, transport=httpx.MockTransport(handler), **settings)


def answering(status: int = 200, body: object = None, **headers: str) -> NangoClient:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client_for(lambda _: httpx.Response(status, content=content, headers=named))


def replaying(exchange: dict) -> NangoClient:
    """Answers as recorded, and fails when the request is not the recorded one."""
    wanted, answer = exchange["request"], exchange["response"]
    content = answer["body"] if isinstance(answer["body"], str) else json.dumps(answer["body"])

    def handler(request: httpx.Request) -> httpx.Response:
        asked, given = urlsplit(wanted["path"]), request.url
        assert request.method == wanted["method"]
        assert unquote(given.raw_path.decode().split("?")[0]) == unquote(asked.path)
        sent = dict(parse_qsl(given.query.decode(), keep_blank_values=True))
        recorded = dict(parse_qsl(asked.query, keep_blank_values=True))
        assert {name: sent.get(name) for name in recorded} == recorded
        assert set(sent) - set(recorded) <= {"limit", "page"}
        return httpx.Response(answer["status"], content=content.encode(), headers=answer["headers"])

    return client_for(handler)


def ask_as_recorded(exchange: dict) -> object:
    """Calls the method that stands for the recorded request."""
    asked = urlsplit(exchange["request"]["path"])
    query = dict(parse_qsl(asked.query, keep_blank_values=True))
    client = replaying(exchange)
    segments = [unquote(segment) for segment in asked.path.split("/")[1:]]
    if segments == ["connections"]:
        return client.list_connections(
            connection_id=query.get("connectionId"),
            search=query.get("search"),
            integrations=[each for each in query.get("integrationId", "").split(",") if each],
            tags={name[5:-1]: value for name, value in query.items() if name.startswith("tags[")},
            limit=int(query.get("limit", 100)),
            page=int(query.get("page", 0)),
        )
    if segments[0] == "connections":
        flags = {name: query[name] == "true" for name in ("force_refresh", "refresh_token") if name in query}
        return client.get_connection(query["provider_config_key"], segments[1], **flags)
    if segments == ["integrations"]:
        return client.list_integrations()
    return client.get_integration(segments[1], webhook_url=query.get("include") == "webhook")


def ours(exchange: dict) -> bool:
    asked = urlsplit(exchange["request"]["path"])
    query = dict(parse_qsl(asked.query))
    sendable = 1 <= int(query.get("limit", 1)) <= 2000 and int(query.get("page", 0)) >= 0
    single = asked.path.startswith("/connections/")
    return (
        exchange["request"]["method"] == "GET"
        and asked.path.startswith(("/connections", "/integrations"))
        and sendable
        and ("provider_config_key" in query or not single)
        and "endUserId" not in query  # deprecated
        and asked.query.count("tags[team]") < 2
    )


OURS = {name: exchange for name, exchange in (SAMPLES | RECORDED).items() if ours(exchange)}
SUCCESSES = sorted(name for name, exchange in OURS.items() if exchange["response"]["status"] == 200)
REFUSED_HERE = {"error_400_invalid_query_params_tags": "invalid_key", "list_tags_empty_value": "value_empty"}
FAILURES = sorted(set(OURS) - set(SUCCESSES) - set(REFUSED_HERE))


@pytest.mark.parametrize("name", SUCCESSES)
def test_every_known_success_is_understood(name: str):
    answer = ask_as_recorded(OURS[name])
    assert answer.observed_at == NOW


def test_the_known_answers_cover_what_we_claim():
    assert len(SUCCESSES) >= 30
    assert len(FAILURES) >= 12


EXPECTED_FAILURES = {
    "error_400_invalid_credentials_refresh_failed": errors.NangoRefreshFailed,
    "error_400_unknown_provider_config": errors.NangoUnknownIntegration,
    "error_401_invalid_secret_key_format": errors.NangoUnauthorized,
    "error_401_missing_auth_header": errors.NangoUnauthorized,
    "error_401_unknown_account": errors.NangoUnauthorized,
    "error_403_force_refresh_without_credentials_scope": errors.NangoForbidden,
    "error_403_scope": errors.NangoForbidden,
    "error_404_get_connection": errors.NangoConnectionNotFound,
    "error_424_invalid_credentials_backoff": errors.NangoRefreshBackingOff,
    "error_424_invalid_credentials_exhausted": errors.NangoRefreshExhausted,
    "error_429": errors.NangoRateLimited,
    "get_bad_key_text": errors.NangoUnauthorized,
    "get_bearer_lowercase": errors.NangoUnauthorized,
    "get_empty_bearer": errors.NangoUnauthorized,
    "get_unknown": errors.NangoConnectionNotFound,
    "rate_limit_5": errors.NangoRateLimited,
}


@pytest.mark.parametrize("name", FAILURES)
def test_each_failure_kind_is_its_own_error(name: str):
    with pytest.raises(errors.NangoError) as raised:
        ask_as_recorded(OURS[name])
    assert type(raised.value) is EXPECTED_FAILURES[name]
    assert raised.value.status == OURS[name]["response"]["status"]
    assert raised.value.code == json_body(OURS[name])["error"]["code"]


@pytest.mark.parametrize("name", REFUSED_HERE)
def test_tags_that_nango_would_refuse_in_a_filter_are_not_sent(name: str):
    with pytest.raises(errors.InvalidTags) as raised:
        ask_as_recorded(OURS[name])
    assert [fault.rule for fault in raised.value.faults] == [REFUSED_HERE[name]]


def json_body(exchange: dict) -> dict:
    body = exchange["response"]["body"]
    return json.loads(body) if isinstance(body, str) else body


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (301, b"", errors.NangoUnexpected),
        (404, b"<html>not here</html>", errors.NangoUnexpected),
        (404, b'{"message": "no route"}', errors.NangoUnexpected),
        (404, b'{"error": {"code": "unknown_connection"}}', errors.NangoConnectionNotFound),
        (400, b'{"error": {"code": "unknown_connection"}}', errors.NangoConnectionNotFound),
        (400, b'{"error": {"code": "invalid_credentials", "message": null}}', errors.NangoRefreshFailed),
        (500, b'{"error": {"code": "invalid_credentials", "message": "?"}}', errors.NangoRefreshFailed),
        (424, b'{"error": {"code": "invalid_credentials", "message": "new words"}}', errors.NangoRefreshFailed),
        (503, b'{"error": {"code": "invalid_credentials"}}', errors.NangoProviderDown),
        (400, b'{"error": {"code": "invalid_credentials", "message": "Status code 502"}}', errors.NangoProviderDown),
        (400, b'{"error": {"code": "invalid_credentials", "message": "ECONNREFUSED"}}', errors.NangoProviderDown),
        (400, b'{"error": {"code": "invalid_credentials", "message": "timeout of 9 ms"}}', errors.NangoProviderDown),
        (400, b'{"error": {"code": "invalid_credentials", "message": "lock timed out"}}', errors.NangoRefreshFailed),
        (400, b'{"error": {"code": "invalid_credentials", "message": "id 1503 is wrong"}}', errors.NangoRefreshFailed),
        (408, b"", errors.NangoUnavailable),
        (415, b'{"error": {"code": "invalid_content_type"}}', errors.NangoInvalidRequest),
        (418, b"", errors.NangoUnexpected),
        (500, b'{"error": {"code": "server_error"}}', errors.NangoUnavailable),
        (502, b"\xff\xfe", errors.NangoUnavailable),
        (503, b"[" * 100_000, errors.NangoUnavailable),
        (200, b"", errors.NangoUnexpected),
        (200, b"[]", errors.NangoUnexpected),
        (200, b'{"id": "text"}', errors.NangoUnexpected),
        (200, b"\xff", errors.NangoUnexpected),
    ],
)
def test_answers_no_sample_shows_are_still_one_of_our_errors(status: int, body: bytes, error: type):
    with pytest.raises(errors.NangoError) as raised:
        answering(status, body).get_connection("google", "c1")
    assert type(raised.value) is error


def test_a_missing_integration_is_not_a_missing_connection():
    with pytest.raises(errors.NangoUnknownIntegration):
        answering(404, {"error": {"code": "not_found"}}).get_integration("nope")
    with pytest.raises(errors.NangoUnexpected):
        answering(404, {"error": {"code": "not_found"}}).list_connections()


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "17"}, 17.0),
        ({"retry_after": "0"}, 0.0),
        ({"retry_after": "-3"}, 0.0),
        ({"retry_after": "1e12"}, 3600.0),
        ({"retry_after": "nan"}, 60.0),
        ({"retry_after": "soon"}, 60.0),
        ({"retry_after": "inf"}, 60.0),
        ({"retry_after": "9" * 5000}, 60.0),
        ({"retry_after": "Fri, 31 Dec 9999 23:59:59 -2359"}, 3600.0),
        ({"retry_after": "Mon, 01 Jan 0001 00:00:00 +2359"}, 0.0),
        ({"retry_after": "Mon, 32 Jan 10000 00:00:00 GMT"}, 60.0),
        ({"x_ratelimit_reset": "9" * 30, "x_ratelimit_limit": "1", "x_ratelimit_remaining": "0"}, 60.0),
        ({"x_ratelimit_reset": "253402300799", "x_ratelimit_limit": "1", "x_ratelimit_remaining": "0"}, 3600.0),
        ({"retry_after": "Sun, 22 Nov 2026 12:00:30 GMT"}, 30.0),
        ({}, 60.0),
    ],
)
def test_a_rate_limit_says_how_long_to_wait(headers: dict, seconds: float):
    with pytest.raises(errors.NangoRateLimited) as raised:
        answering(429, {"error": {"code": "too_many_request"}}, **headers).list_connections()
    assert raised.value.retry_after == seconds


def test_without_retry_after_the_end_of_the_window_counts():
    reset = str(int((NOW + timedelta(seconds=42)).timestamp()))
    limits = {"x_ratelimit_limit": "200", "x_ratelimit_remaining": "0", "x_ratelimit_reset": reset}
    client = answering(429, {}, **limits)
    with pytest.raises(errors.NangoRateLimited) as raised:
        client.list_connections()
    assert raised.value.retry_after == 42.0
    assert client.rate_limit == RateLimit(limit=200, remaining=0, reset_at=NOW + timedelta(seconds=42))


def test_the_rate_limit_comes_with_every_answer_and_survives_one_without():
    page = ask_as_recorded(SAMPLES["list_connections_page0"])
    assert page.rate_limit == RateLimit(limit=1000, remaining=997, reset_at=datetime.fromtimestamp(1787306460, UTC))
    answers = [
        httpx.Response(200, json={"connections": []}, headers=SAMPLES["error_429"]["response"]["headers"]),
        httpx.Response(200, json={"connections": []}, headers={"x-ratelimit-reset": "never"}),
    ]
    client = client_for(lambda _: answers.pop(0))
    assert client.rate_limit is None
    client.list_connections()
    client.list_connections()
    assert client.rate_limit.remaining == 0


SECRETS = ["ya29.SAMPLE", "1//SAMPLE", "csecret", "cc_SAMPLE", "sk_test_SAMPLE", "key_SAMPLE"]


@pytest.mark.parametrize("name", [name for name in SUCCESSES if "credentials" in json_body(OURS[name])])
def test_no_repr_shows_a_secret(name: str):
    found = ask_as_recorded(OURS[name])
    sent = json_body(OURS[name])["credentials"]
    values = [value for key, value in sent.items() if key not in {"type", "expires_at"} and isinstance(value, str)]
    shown = repr(found) + str(found.credentials) + f"{found.credentials!r}"
    assert not [value for value in {*values, *SECRETS} if len(value) > 2 and value in shown]
    assert "secrets hidden" in repr(found.credentials)
    assert found.credentials.type == sent.get("type", "")


def test_credentials_are_typed_by_their_kind():
    def sample(name: str) -> object:
        return ask_as_recorded(SAMPLES[name]).credentials

    oauth2 = sample("get_connection_oauth2_with_refresh_token")
    assert isinstance(oauth2, credentials.OAuth2Credentials)
    assert (oauth2.access_token, oauth2.refresh_token) == ("ya29.SAMPLE", "1//SAMPLE")
    assert oauth2.expires_at == datetime(2026, 8, 21, 9, 59, 59, tzinfo=UTC)
    assert sample("get_connection_oauth2").refresh_token is None
    assert sample("get_connection_oauth2_no_expiry").expires_at is None
    client_credentials = sample("get_connection_oauth2_cc")
    assert (client_credentials.token, client_credentials.client_secret) == ("cc_SAMPLE", "csecret")
    assert sample("get_connection_api_key").api_key == "sk_test_SAMPLE"
    basic = sample("get_connection_basic")
    assert (basic.username, basic.password) == ("key_SAMPLE", "")
    assert sample("get_connection_oauth1").oauth_token_secret == "s"
    assert sample("get_connection_tba").token_id == "i"
    assert isinstance(sample("get_connection_without_credentials_scope"), credentials.NoCredentials)


BILL = dict.fromkeys(["username", "password", "organization_id", "dev_key"], "s3cret")
AWS = dict.fromkeys(["role_arn", "region", "service", "access_key_id", "secret_access_key", "session_token"], "s3cret")


@pytest.mark.parametrize(
    ("sent", "kind", "fields"),
    [
        ({"type": "APP", "access_token": "s3cret", "jwtToken": "j"}, credentials.AppCredentials, {"jwt_token": "j"}),
        ({"type": "AWS_SIGV4", **AWS}, credentials.AwsCredentials, {"region": "s3cret", "external_id": None}),
        (
            {"type": "JWT", "token": "s3cret", "x": 1},
            credentials.TokenCredentials,
            {"token": "s3cret", "fields": {"x": 1}},
        ),
        (
            {"type": "BILL", **BILL, "session_id": "s3cret", "raw": {"x": "s3cret"}},
            credentials.BillCredentials,
            {"session_id": "s3cret", "user_id": None, "dev_key": "s3cret", "raw": {"x": "s3cret"}},
        ),
        (
            {"type": "SIGNATURE", "username": "u", "password": "s3cret"},
            credentials.SignatureCredentials,
            {"password": "s3cret", "token": None, "raw": {}},
        ),
        ({"type": "INSTALL_PLUGIN", "password": "s3cret"}, credentials.BasicCredentials, {"password": "s3cret"}),
        (
            {"type": "TWO_STEP", "refresh_token": "s3cret", "raw": {"y": 1}},
            credentials.TokenCredentials,
            {"refresh_token": "s3cret", "fields": {}, "raw": {"y": 1}},
        ),
        ({"type": "BRAND_NEW", "key": "s3cret"}, credentials.TokenCredentials, {"fields": {"key": "s3cret"}}),
        ({"type": "BASIC", "username": None}, credentials.BasicCredentials, {"username": "", "password": ""}),
        ({"type": "NONE"}, credentials.NoCredentials, {}),
        ({}, credentials.NoCredentials, {}),
    ],
)
def test_every_type_of_the_contract_is_read(sent: dict, kind: type, fields: dict):
    read = parse_credentials(sent)
    assert type(read) is kind
    assert {name: getattr(read, name) for name in fields} == fields
    assert "s3cret" not in repr(read)


def test_github_app_credentials_hold_both_parts():
    user = {"type": "OAUTH2", "access_token": "u", "raw": {}}
    custom = parse_credentials({"type": "CUSTOM", "user": user, "app": None, "raw": {"x": "s3cret"}})
    assert custom.user.access_token == "u"
    assert custom.app is None
    assert "s3cret" not in repr(custom)


@pytest.mark.parametrize("sent", [{"type": "OAUTH2"}, {"type": 5}, {"type": "API_KEY", "apiKey": ["s3cret"]}])
def test_unreadable_credentials_are_named_without_their_values(sent: dict):
    with pytest.raises(errors.NangoUnexpected) as raised:
        parse_credentials(sent)
    assert "s3cret" not in str(raised.value)


NASTY_IDS = ["a/b", "a b+c", 'it\'s "q"', "%2F", "a?b#c", "...", "~[x]|@${}\\_-", "ü"]


@pytest.mark.parametrize("connection_id", NASTY_IDS)
def test_an_id_is_always_one_path_segment(connection_id: str):
    paths = []

    def handler(request: httpx.Request) -> httpx.Response:
        paths.append(request.url.raw_path.decode())
        return httpx.Response(404, json={"error": {"code": "not_found"}})

    client = client_for(handler, base_url="https://nango.example/behind/a/proxy/")
    with pytest.raises(errors.NangoConnectionNotFound):
        client.get_connection("my int+@x", connection_id)
    path, _, query = paths[0].partition("?")
    prefix, _, segment = path.rpartition("/")
    assert prefix == "/behind/a/proxy/connections"
    assert unquote(segment) == connection_id
    assert dict(parse_qsl(query)) == {"provider_config_key": "my int+@x"}


@pytest.mark.parametrize("identity", ["", ".", ".."])
def test_an_id_that_would_change_the_path_is_refused(identity: str):
    client = client_for(lambda _: pytest.fail("sent"))
    with pytest.raises(errors.InvalidInput):
        client.get_connection("google", identity)
    with pytest.raises(errors.InvalidInput):
        client.get_integration(identity)


def test_an_answer_about_another_connection_is_not_believed():
    body = SAMPLES["get_connection_oauth2"]["response"]["body"]
    with pytest.raises(errors.NangoUnexpected):
        answering(200, body).get_connection("google-mail", "somebody-else")
    with pytest.raises(errors.NangoUnexpected):
        answering(200, body).get_connection("other", body["connection_id"])


def test_a_listed_connection_has_what_the_list_knows():
    first, second = ask_as_recorded(SAMPLES["list_connections_page0"]).connections
    assert (first.id, first.integration, first.auth_errors) == (90412, "google-mail", False)
    assert first.tags["workspace_id"] == "ws-3"
    assert first.created_at == datetime(2026, 8, 20, 10, 11, 12, 345000, tzinfo=UTC)
    assert second.auth_errors
    assert second.errors[0].log_id == "VrnbtykXJFckCm3HP93t"
    (third,) = ask_as_recorded(SAMPLES["list_connections_page1_partial"]).connections
    assert third.end_user.organization.display_name == "Globex"


def test_the_same_id_under_two_integrations_is_two_connections():
    page = ask_as_recorded(SAMPLES["list_connections_same_id_two_integrations"])
    assert [(each.integration, each.connection_id) for each in page.connections] == [
        ("slack-b", "shared-id"),
        ("slack-a", "shared-id"),
    ]


@pytest.mark.parametrize(
    ("sent", "at"),
    [
        ("2026-11-22T12:20:53.490Z", datetime(2026, 11, 22, 12, 20, 53, 490000, tzinfo=UTC)),
        ("2026-11-22 12:20:53.49+00", datetime(2026, 11, 22, 12, 20, 53, 490000, tzinfo=UTC)),
        ("0001-01-01T00:00:00.000Z", None),
        ("0001-01-01T00:00:00+14:00", None),
        ("9999-12-31T23:59:59.999999999Z", None),
        ("s3cret", None),
        ("", None),
        (None, None),
        (True, None),
        (10**400, None),
        ({"s3cret": 1}, None),
    ],
)
def test_a_moment_that_cannot_be_read_counts_as_none_wherever_it_stands(sent: object, at: datetime | None):
    [listed] = answering(200, {"connections": [row(1) | {"created": sent}]}).list_connections().connections
    assert listed.created_at == at
    detail = SAMPLES["get_connection_oauth2"]["response"]["body"]
    moments = dict.fromkeys(("created_at", "updated_at", "last_fetched_at"), sent)
    body = detail | moments | {"credentials": detail["credentials"] | {"expires_at": sent}}
    found = answering(200, body).get_connection(detail["provider_config_key"], detail["connection_id"])
    assert [found.created_at, found.updated_at, found.last_fetched_at, found.expires_at] == [at] * 4
    session = {"token": "t", "connect_link": "https://connect.example", "expires_at": sent}
    assert answering(201, {"data": session}).create_connect_session(tags={}).expires_at == at
    integration = {"unique_key": "k", "provider": "p", "created_at": sent, "updated_at": sent}
    [integration_] = answering(200, {"data": [integration]}).list_integrations().integrations
    assert (integration_.created_at, integration_.updated_at) == (at, at)


@pytest.mark.parametrize("mode", ["OAUTH1", "API_KEY", "BASIC", "TBA", "CUSTOM", "NONE", "", "SOMETHING_NEW"])
def test_any_type_of_credentials_may_have_an_expiry(mode: str):
    needed = dict.fromkeys(("oauth_token", "oauth_token_secret", "apiKey", "token_id", "token_secret"), "s3cret")
    sent = {"type": mode, "expires_at": "2026-11-22T13:00:00Z", **needed}
    assert parse_credentials(sent).expires_at == NOW + timedelta(hours=1)


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"id": 2**63}, "id"),
        ({"id": -(2**63) - 1}, "id"),
        ({"id": 10**400}, "id"),
        ({"id": 1.5}, "id"),
        ({"id": "12"}, "id"),
        ({"id": None}, "id"),
        ({"id": True}, "id"),
        ({"provider": 5}, "provider"),
        ({"errors": "many"}, "errors"),
        ({"tags": {"plan": 5}}, "tags"),
        ({"end_user": "usr"}, "end_user"),
    ],
)
def test_a_row_that_cannot_be_read_is_named_and_hides_no_other(wrong: dict, problem: str):
    rows = [row(3), row(2) | wrong | {"metadata": "s3cret"}, row(1)]
    page = answering(200, {"connections": rows}).list_connections()
    assert ids(page.connections) == [3, 1]
    assert page.size == 3
    [bad] = page.unreadable
    assert (bad.integration, bad.connection_id) == ("google", "c2")
    assert problem in bad.problem
    assert "s3cret" not in bad.problem
    assert page.may_hide("google", "c2") == bad.problem
    assert page.may_hide("google", "c1") is None
    assert page.may_hide("slack", "c2") is None


@pytest.mark.parametrize("row_of_nothing", [None, 5, "text", [], {}, {"id": 2, "connection_id": 7}])
def test_a_row_without_readable_names_may_be_any_connection(row_of_nothing: object):
    page = answering(200, {"connections": [row(3), row_of_nothing]}).list_connections()
    assert ids(page.connections) == [3]
    assert page.may_hide("any", "c9") == page.unreadable[0].problem


def test_a_page_that_is_none_is_still_an_error():
    for body in ({"connections": {}}, {"connections": None}, {}, [], "text"):
        with pytest.raises(errors.NangoUnexpected):
            answering(200, body).list_connections()


def test_paging_goes_on_past_rows_that_cannot_be_read():
    table = [row(number) if number % 3 else row(number) | {"id": "text"} for number in range(25, 0, -1)]

    def handler(request: httpx.Request) -> httpx.Response:
        page, limit = int(request.url.params["page"]), int(request.url.params["limit"])
        return httpx.Response(200, json={"connections": table[page * limit : (page + 1) * limit]})

    found = ids(client_for(handler).iterate_connections(limit=10))
    assert found == [number for number in range(25, 0, -1) if number % 3]


@pytest.mark.parametrize("text", ["a\\u0000b", "a\\ud800b", "a\\udfff\\ud800b"])
def test_characters_that_no_database_takes_are_replaced(text: str):
    sent = json.dumps({"connections": [row(1) | {"tags": {"plan": "PLAN"}}]}).replace("PLAN", text).encode()
    [found] = answering(200, sent).list_connections().connections
    assert set(found.tags["plan"]) <= {"a", "b", "\ufffd"}
    assert found.tags["plan"].startswith("a\ufffd")


def row(number: int) -> dict:
    names = {"connection_id": f"c{number}", "provider_config_key": "google", "provider": "google"}
    return {"id": number, **names, "errors": [], "tags": {}, "created": "2026-02-02T00:00:00+00:00"}


def paging(tables: list[list[int]], asked: list[dict]) -> NangoClient:
    """A client of which each request sees the next table, as rows come and go during paging."""

    def handler(request: httpx.Request) -> httpx.Response:
        query = dict(request.url.params)
        asked.append(query)
        table = tables[min(len(asked), len(tables)) - 1]
        start = int(query["page"]) * int(query["limit"])
        return httpx.Response(200, json={"connections": [row(n) for n in table[start : start + int(query["limit"])]]})

    return client_for(handler)


def ids(rows: list[ListedConnection]) -> list[int]:
    return [each.id for each in rows]


def test_iterating_ends_after_the_first_page_that_is_not_full():
    asked: list[dict] = []
    client = paging([[5, 4, 3, 2, 1]], asked)
    assert ids(list(client.iterate_connections(limit=2, tags={"org": "7"}, integrations=["google"]))) == [5, 4, 3, 2, 1]
    assert [query["page"] for query in asked] == ["0", "1", "2"]
    assert all(query["tags[org]"] == "7" and query["integrationId"] == "google" for query in asked)


def test_a_full_last_page_costs_one_more_request():
    asked: list[dict] = []
    assert ids(list(paging([[4, 3, 2, 1]], asked).iterate_connections(limit=2))) == [4, 3, 2, 1]
    assert len(asked) == 3


def test_rows_pushed_to_the_next_page_come_once():
    client = paging([[4, 3, 2, 1], [6, 5, 4, 3, 2, 1]], [])
    assert ids(list(client.iterate_connections(limit=2))) == [4, 3, 2, 1]


def test_a_list_that_never_ends_is_given_up():
    client = client_for(lambda _: httpx.Response(200, json={"connections": [row(1), row(2)]}))
    with pytest.raises(errors.NangoUnexpected, match="repeats"):
        list(client.iterate_connections(limit=2))


@pytest.mark.parametrize("arguments", [{"limit": 0}, {"limit": 2001}, {"page": -1}])
def test_a_page_nango_would_refuse_is_not_asked_for(arguments: dict):
    with pytest.raises(errors.InvalidInput):
        client_for(lambda _: pytest.fail("sent")).list_connections(**arguments)


def test_observed_at_is_the_moment_before_the_request():
    moments = [NOW, NOW + timedelta(seconds=30)]

    def handler(request: httpx.Request) -> httpx.Response:
        moments.pop(0)
        return httpx.Response(200, json={"connections": [row(1)]})

    page = client_for(handler, clock=lambda: moments[0]).list_connections()
    assert page.observed_at == NOW
    assert page.connections[0].observed_at == NOW


def test_the_api_key_is_sent_and_shown_nowhere(caplog: pytest.LogCaptureFixture):
    caplog.set_level("DEBUG")
    seen = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["authorization"])
        message = f"Bearer {API_KEY} and {API_KEY} are wrong"
        return httpx.Response(401, json={"error": {"code": "unknown_account", "message": message}})

    client = client_for(handler)
    with pytest.raises(errors.NangoUnauthorized) as raised:
        client.list_connections()
    assert seen == [f"Bearer {API_KEY}"]
    assert API_KEY not in f"{client!r} {client} {raised.value} {raised.value!r} {vars(raised.value)} {caplog.text}"


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (httpx.ConnectError, "ConnectError"),
        (httpx.ReadTimeout, "no answer in time"),
        (httpx.ConnectTimeout, "no answer in time"),
        (httpx.RemoteProtocolError, "the connection was closed"),
    ],
)
def test_no_answer_is_unavailable_and_holds_no_request(failure: type[httpx.TransportError], words: str):
    def handler(request: httpx.Request) -> httpx.Response:
        raise failure("s3cret", request=request)

    with pytest.raises(errors.NangoUnavailable) as raised:
        client_for(handler).get_connection("google", "c1", force_refresh=True)
    assert words in str(raised.value)
    assert "s3cret" not in str(raised.value)
    assert raised.value.__context__ is None
    assert raised.value.__cause__ is None


def test_nothing_is_sent_twice():
    calls = []

    def handler(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        raise httpx.ReadError("lost", request=request)

    with pytest.raises(errors.NangoUnavailable):
        client_for(handler).get_connection("google", "c1", force_refresh=True)
    assert len(calls) == 1


def test_redirects_are_not_followed():
    calls = []

    def handler(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        return httpx.Response(302, headers={"location": "https://evil.example/"})

    with pytest.raises(errors.NangoUnexpected, match="redirect"):
        client_for(handler).list_connections()
    assert len(calls) == 1


def test_error_text_is_short_and_holds_no_token_or_payload():
    message = 'Refused: token=abc123secret Bearer zzz999zzz {"provider_error_payload":"s3cret"} ' + "x" * 5000
    with pytest.raises(errors.NangoRefreshFailed) as raised:
        answering(400, {"error": {"code": "invalid_credentials", "message": message}}).get_connection("g", "c")
    text = str(raised.value)
    assert len(text) < 400
    assert not [each for each in ("abc123secret", "zzz999zzz", "s3cret", "payload") if each in text]


def test_control_characters_of_an_error_do_not_reach_a_terminal():
    body = {"error": {"code": "x\x1b[2J", "message": "a\x1b[31mb\r\nc"}}
    with pytest.raises(errors.NangoInvalidRequest) as raised:
        answering(400, body).list_connections()
    assert str(raised.value).isprintable()


def test_a_refused_field_is_named():
    body = SAMPLES["error_400_invalid_query_params_tags"]["response"]["body"]
    with pytest.raises(errors.NangoInvalidRequest, match=r"tags\.1bad: Invalid key"):
        answering(400, body).list_connections()


def timeouts_of(client_options: dict, call_options: dict) -> dict:
    seen = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.extensions["timeout"])
        return httpx.Response(200, json={"connections": []})

    client_for(handler, **client_options).list_connections(**call_options)
    return seen[0]


def test_time_outs_have_defaults_and_can_only_be_shortened_by_a_call():
    assert timeouts_of({}, {}) == {"connect": 5.0, "read": 35.0, "write": 35.0, "pool": 5.0}
    assert timeouts_of({"connect_timeout": 1.0, "read_timeout": 2.0}, {})["read"] == 2.0
    shortened = {"connect": 3.0, "read": 3.0, "write": 3.0, "pool": 3.0}
    assert timeouts_of({}, {"timeout": 3.0}) == pytest.approx(shortened, abs=0.5)
    assert timeouts_of({}, {"timeout": 10.0})["connect"] == 5.0


def test_an_answer_that_trickles_in_is_cut_off(monkeypatch: pytest.MonkeyPatch):
    ticks = iter(range(0, 1000, 30))
    monkeypatch.setattr("app.nango.transport.time.monotonic", lambda: float(next(ticks)))

    def trickle():
        while True:
            yield b" "

    client = client_for(lambda _: httpx.Response(200, content=trickle()))
    with pytest.raises(errors.NangoUnavailable, match="too long"):
        client.list_connections()


def test_an_endless_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("app.nango.transport.MAX_BODY", 1000)

    def endless():
        while True:
            yield b" " * 600

    with pytest.raises(errors.NangoUnexpected, match="too large"):
        client_for(lambda _: httpx.Response(200, content=endless())).list_connections()


def test_integrations_are_listed_and_one_is_shown_with_its_webhook_url():
    (listed,) = ask_as_recorded(SAMPLES["list_integrations"]).integrations
    assert (listed.key, listed.provider, listed.webhook_url) == ("google-mail", "google-mail", None)
    shown = ask_as_recorded(SAMPLES["get_integration"])
    assert shown.webhook_url.endswith("/google-mail")
    assert shown.forward_webhooks


def test_leaving_the_client_closes_it():
    with client_for(lambda _: httpx.Response(200, json={"connections": []})) as client:
        client.list_connections()
    with pytest.raises(RuntimeError):
        client.list_connections()


def test_the_client_needs_nothing_else_of_waylink():
    """Applications import it on its own."""
    code = "import sys, app.nango; print(*sorted(name.partition('.')[0] for name in sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "httpx" in loaded
    assert not {"sqlalchemy", "celery", "redis", "pydantic", "starlette", "structlog"} & set(loaded)

"""Nango's rules and oddities that no recording shows whole, and the sandbox's own controls."""

import html
import json
import re
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from tests.integration.sandbox.sandbox_server import connect, control, fetch, open_session, register, run_flow, serve
from tests.waiting import PATIENCE, until

AUTH_MODES = ["APP", "JWT", "BILL", "TWO_STEP", "SIGNATURE", "AWS_SIGV4", "OAUTH1", "TBA", "CUSTOM", "NEW_ONE"]
PRIVATE_URLS = [
    "http://10.0.0.1/",
    "http://localhost:1/",
    "http://[::1]/",
    "http://x.nango.dev/",
    "ftp://example.com/",
    "http://[",
]


@pytest.fixture(scope="module")
def sandbox():
    with serve() as client:
        yield client


def code(response):
    return response.status_code, response.json()["error"]["code"]


def listed(client, **query):
    return client.get("/connections", params=query).raise_for_status().json()["connections"]


class TestApiKeysAndScopes:
    @pytest.mark.parametrize(
        ("header", "expected"),
        [
            (None, "missing_auth_header"),
            ("Bearer nope", "invalid_secret_key_format"),
            ("Basic 4d70f328", "invalid_secret_key_format"),
            ("Bearer 11111111-1111-4111-8111-111111111111", "unknown_account"),
        ],
    )
    def test_a_wrong_key_is_401_everywhere_and_without_rate_limit_headers(self, sandbox, header, expected):
        headers = {"authorization": header} if header else {}
        for method, path in (("GET", "/connections"), ("GET", "/sandbox/deliveries"), ("POST", "/connect/sessions")):
            with httpx.Client(base_url=sandbox.base_url, trust_env=False, timeout=PATIENCE) as anonymous:
                response = anonymous.request(method, path, headers=headers)
            assert code(response) == (401, expected)
            assert response.json()["error"]["payload"] == {}
            assert "x-ratelimit-limit" not in response.headers

    def test_the_controls_spend_no_rate_limit(self, sandbox):
        assert "x-ratelimit-limit" not in sandbox.get("/sandbox/settings").headers

    def test_a_429_says_when_to_come_back(self):
        with serve(rate_limit_per_minute=2) as client:
            remaining = [client.get("/connections").headers["x-ratelimit-remaining"] for _ in range(2)]
            refused = client.get("/connections?limit=1")
        assert remaining == ["1", "0"]
        assert refused.json() == {"error": {"code": "too_many_request", "method": "GET", "path": "/connections"}}
        assert 50 <= int(refused.headers["retry-after"]) <= 60

    @pytest.mark.parametrize(
        ("content", "content_type", "expected"),
        [
            (b"{}", "text/plain", (415, "invalid_content_type")),
            (b"{}", None, (415, "invalid_content_type")),
            (b'{"a":', "application/json", (400, "invalid_json")),
            (b'{"a": NaN}', "application/json", (400, "invalid_json")),
            (b'"text"', "application/json", (400, "invalid_json")),
            (b"\xff", "application/json", (400, "invalid_json")),
            (b"[" * 100_000, "application/json", (400, "invalid_json")),
            (b"[]", "application/json; charset=utf-8", (400, "invalid_body")),
        ],
    )
    def test_a_body_must_be_json(self, sandbox, content, content_type, expected):
        headers = {"content-type": content_type} if content_type else {}
        assert code(sandbox.post("/connect/sessions", content=content, headers=headers)) == expected

    @pytest.mark.parametrize(("method", "path"), [("GET", "/nothing"), ("PUT", "/connections"), ("GET", "/<b>")])
    def test_an_unknown_path_or_method_is_a_plain_404_page(self, sandbox, method, path):
        response = sandbox.request(method, path)
        assert (response.status_code, response.headers["content-type"]) == (404, "text/html; charset=utf-8")
        assert f"Cannot {method} {html.escape(path)}" in response.text

    @pytest.mark.parametrize("method", ["GET", "OPTIONS"])
    def test_every_origin_may_call(self, sandbox, method):
        assert sandbox.request(method, "/connections").headers["access-control-allow-origin"] == "*"


class TestSessions:
    def test_a_session_makes_several_connections(self, sandbox):
        token = open_session(sandbox, tags={"a": "b"})
        ids = [run_flow(sandbox, "/auth/unauthenticated/unauth", token).json()["connectionId"] for _ in range(2)]
        assert ids[0] != ids[1]
        assert {row["connection_id"] for row in listed(sandbox, **{"tags[a]": "b"})} >= set(ids)

    def test_a_reconnect_session_without_tags_wipes_them(self, sandbox):
        connection_id = connect(sandbox, integration="oauth2", tags={"a": "b"})
        connect(sandbox, integration="oauth2", connection_id=connection_id, integration_id="oauth2")
        assert fetch(sandbox, connection_id, "oauth2").json()["tags"] == {}

    def test_reconnecting_keeps_the_generation_and_resets_metadata_but_not_for_oauth(self, sandbox):
        for integration, kept in (("apikey", {}), ("basic", {}), ("oauth2", {"m": 1})):
            connection_id = connect(sandbox, integration=integration)
            before = fetch(sandbox, connection_id, integration).json()
            body = {"connection_id": [connection_id], "provider_config_key": integration, "metadata": {"m": 1}}
            assert sandbox.post("/connections/metadata", json=body).status_code == 201
            connect(sandbox, integration=integration, connection_id=connection_id, integration_id=integration)
            after = fetch(sandbox, connection_id, integration).json()
            assert (after["id"], after["metadata"]) == (before["id"], kept)
            assert after["credentials"] != before["credentials"] or integration in {"apikey", "basic"}

    def test_too_many_tags_after_merging_is_a_500(self, sandbox):
        body = {"tags": {f"k{n}": "v" for n in range(10)}, "end_user": {"id": "u"}}
        assert code(sandbox.post("/connect/sessions", json=body)) == (500, "server_error")

    @pytest.mark.parametrize("value", ["a\\u0000b", "a\\ud800"])
    def test_a_nul_or_half_a_pair_is_a_500(self, sandbox, value):
        headers = {"content-type": "application/json"}
        for body in (f'{{"tags":{{"k":"{value}"}}}}', f'{{"end_user":{{"id":"{value}"}}}}'):
            response = sandbox.post("/connect/sessions", content=body.encode(), headers=headers)
            assert code(response) == (500, "server_error")

    def test_strict_bodies_name_every_fault(self, sandbox):
        body = {"tags": {"bad key": "v"}, "foo": 1, "allowed_integrations": ["nope"]}
        response = sandbox.post("/connect/sessions", json=body)
        paths = [issue["path"] for issue in response.json()["error"]["errors"]]
        assert paths == [["tags", "bad key"], ["allowed_integrations", "0"], []]

    def test_an_unknown_pair_cannot_be_reconnected(self, sandbox):
        body = {"connection_id": "missing", "integration_id": "apikey"}
        response = sandbox.post("/connect/sessions/reconnect", json=body)
        assert code(response) == (400, "invalid_body")
        assert "errors" not in response.json()["error"]

    def test_a_reconnect_session_says_so_and_shows_no_tags(self, sandbox):
        connection_id = connect(sandbox)
        token = open_session(sandbox, connection_id=connection_id, integration_id="apikey", tags={"s": "secret"})
        data = sandbox.get("/connect/session", headers={"authorization": f"Bearer {token}"}).json()["data"]
        assert (data["isReconnecting"], data["allowed_integrations"]) == (True, ["apikey"])
        assert "secret" not in json.dumps(data)

    def test_the_flow_has_to_fit_the_integration(self, sandbox):
        token = open_session(sandbox)
        assert code(run_flow(sandbox, "/api-auth/api-key/oauth2", token, {"apiKey": "k"})) == (400, "invalid_auth_mode")
        assert code(run_flow(sandbox, "/api-auth/api-key/nope", token, {"apiKey": "k"}))[0] == 404
        assert code(run_flow(sandbox, "/api-auth/api-key/apikey", token, {})) == (400, "invalid_body")
        params = {"connect_session_token": token, "connection_id": "mine"}
        assert code(sandbox.post("/auth/unauthenticated/unauth", params=params)) == (400, "invalid_query_params")


class TestRefreshing:
    def token(self, response):
        assert response.status_code == 200, response.text
        credentials = response.json()["credentials"]
        return credentials.get("access_token") or credentials["token"]

    @pytest.mark.parametrize("integration", ["oauth2", "oauth2-cc"])
    def test_a_get_refreshes_within_the_margin_only(self, sandbox, integration):
        connection_id = connect(sandbox, integration=integration)
        first = self.token(fetch(sandbox, connection_id, integration))
        control(sandbox, connection_id, integration, expires_in=16 * 60)
        assert self.token(fetch(sandbox, connection_id, integration)) == first
        control(sandbox, connection_id, integration, expires_in=15 * 60 - 1)
        renewed = fetch(sandbox, connection_id, integration)
        assert self.token(renewed) != first
        expiry = datetime.fromisoformat(renewed.json()["credentials"]["expires_at"])
        assert timedelta(minutes=59) < expiry - datetime.now(UTC) < timedelta(minutes=61)
        assert self.token(fetch(sandbox, connection_id, integration)) == self.token(renewed)

    def test_force_refreshes_at_once_but_not_without_a_refresh_token(self, sandbox):
        connection_id = connect(sandbox, integration="oauth2")
        first = self.token(fetch(sandbox, connection_id, "oauth2"))
        assert self.token(fetch(sandbox, connection_id, "oauth2", force_refresh="1")) != first
        token = open_session(sandbox)
        grant = run_flow(sandbox, "/sandbox/oauth/oauth2", token, {"refresh_token": False, "expires_in": 1})
        connection_id = grant.json()["connectionId"]
        stuck = self.token(fetch(sandbox, connection_id, "oauth2"))
        assert self.token(fetch(sandbox, connection_id, "oauth2", force_refresh="true")) == stuck

    def test_no_expiry_is_refreshed_only_when_forced(self, sandbox):
        token = open_session(sandbox)
        connection_id = run_flow(sandbox, "/sandbox/oauth/oauth2", token, {"expires_in": None}).json()["connectionId"]
        first = fetch(sandbox, connection_id, "oauth2")
        assert "expires_at" not in first.json()["credentials"]
        assert self.token(fetch(sandbox, connection_id, "oauth2")) == self.token(first)
        assert self.token(fetch(sandbox, connection_id, "oauth2", force_refresh="yes")) != self.token(first)

    def test_refresh_tokens_show_only_when_asked_for(self, sandbox):
        connection_id = connect(sandbox, integration="oauth2")
        assert "refresh_token" not in fetch(sandbox, connection_id, "oauth2").text
        credentials = fetch(sandbox, connection_id, "oauth2", refresh_token="true").json()["credentials"]
        assert credentials["refresh_token"] == credentials["raw"]["refresh_token"]

    def test_failures_back_off_and_end_exhausted_until_forced(self, sandbox):
        connection_id = connect(sandbox, integration="oauth2")
        control(sandbox, connection_id, "oauth2", expires_in=0)
        rule = {"operation": "refresh", "provider_config_key": "oauth2", "connection_id": connection_id}
        sandbox.post("/sandbox/faults", json=rule).raise_for_status()
        failed = fetch(sandbox, connection_id, "oauth2")
        assert code(failed) == (400, "invalid_credentials")
        assert failed.json()["error"]["payload"]["connection"]["credentials"] == {}
        backing_off = fetch(sandbox, connection_id, "oauth2")
        assert code(backing_off) == (424, "invalid_credentials")
        assert "Backing off" in backing_off.json()["error"]["message"]
        (row,) = listed(sandbox, connectionId=connection_id)
        assert [error["type"] for error in row["errors"]] == ["auth"]
        control(sandbox, connection_id, "oauth2", backing_off=False)
        assert fetch(sandbox, connection_id, "oauth2").status_code == 400
        control(sandbox, connection_id, "oauth2", exhausted=True)
        exhausted = fetch(sandbox, connection_id, "oauth2")
        assert code(exhausted) == (424, "invalid_credentials")
        assert "refresh limit" in exhausted.json()["error"]["message"]
        cleared = sandbox.delete("/sandbox/faults", params={"connection_id": connection_id})
        assert cleared.json() == {"cleared": 1}
        assert fetch(sandbox, connection_id, "oauth2", force_refresh="true").status_code == 200
        assert fetch(sandbox, connection_id, "oauth2").json()["errors"] == []

    def test_reconnecting_ends_the_trouble(self, sandbox):
        connection_id = connect(sandbox, integration="oauth2")
        control(sandbox, connection_id, "oauth2", exhausted=True)
        connect(sandbox, integration="oauth2", connection_id=connection_id, integration_id="oauth2", tags={})
        assert fetch(sandbox, connection_id, "oauth2").status_code == 200

    def test_static_credentials_never_refresh(self, sandbox):
        for integration in ("apikey", "basic", "unauth"):
            connection_id = connect(sandbox, integration=integration)
            first = fetch(sandbox, connection_id, integration, force_refresh="true").json()["credentials"]
            assert fetch(sandbox, connection_id, integration).json()["credentials"] == first
            assert "expires_at" not in first

    def test_made_up_tokens_are_recognisable_long_and_never_the_same(self, sandbox):
        texts = [fetch(sandbox, connect(sandbox, integration="oauth2"), "oauth2").text for _ in range(3)]
        tokens = {match for text in texts for match in re.findall(r"sandbox-access-token-[0-9a-f]{64}", text)}
        assert len(tokens) == 3


class TestList:
    def test_newest_first_in_pages(self, sandbox):
        ids = [connect(sandbox, tags={"paged": "yes"}) for _ in range(5)]
        pages = [listed(sandbox, limit=2, page=page, **{"tags[paged]": "yes"}) for page in range(3)]
        assert [[row["connection_id"] for row in page] for page in pages] == [
            ids[:2:-1],
            [ids[2], ids[1]],
            [ids[0]],
        ]
        numbers = [row["id"] for page in pages for row in page]
        assert numbers == sorted(numbers, reverse=True)

    def test_tag_filters_are_exact_lower_cased_and_checked(self, sandbox):
        connection_id = connect(sandbox, tags={"Filter.Key/x": "Väl ue"})
        assert [row["connection_id"] for row in listed(sandbox, **{"tags[FILTER.key/x]": "Väl ue"})] == [connection_id]
        assert listed(sandbox, **{"tags[filter.key/x]": "väl ue"}) == []
        for query in ({"tags[1bad]": "x"}, {"tags": "x"}, {"foo": "1"}, {"limit": "2001"}, {"limit": "x"}):
            assert code(sandbox.get("/connections", params=query)) == (400, "invalid_query_params")

    def test_the_list_lags_while_a_get_is_current(self):
        query = {"provider_config_key": "apikey"}
        with serve(replica_lag=3600) as client:

            def lag(seconds):
                client.patch("/sandbox/settings", json={"replica_lag": seconds}).raise_for_status()

            connection_id = connect(client, tags={"v": "1"})
            assert fetch(client, connection_id, "apikey").status_code == 200
            assert listed(client) == []
            lag(0)
            assert [row["tags"] for row in listed(client)] == [{"v": "1"}]
            lag(3600)
            client.patch(f"/connections/{connection_id}", params=query, json={"tags": {"v": "2"}}).raise_for_status()
            assert [row["tags"] for row in listed(client)] == [{"v": "1"}]
            assert fetch(client, connection_id, "apikey").json()["tags"] == {"v": "2"}
            lag(0.1)
            until("it is shown", lambda: listed(client, connectionId=connection_id)[0]["tags"] == {"v": "2"})
            lag(3600)
            client.delete(f"/connections/{connection_id}", params=query).raise_for_status()
            assert fetch(client, connection_id, "apikey").status_code == 404
            assert len(listed(client)) == 1
            lag(0.1)
            until("it is no longer shown", lambda: not listed(client))


class TestConnections:
    def test_a_deleted_pair_comes_back_as_another_generation(self, sandbox):
        first = register(sandbox, "again", "apikey")
        sandbox.delete("/connections/again?provider_config_key=apikey").raise_for_status()
        assert register(sandbox, "again", "apikey")["id"] > first["id"]

    def test_one_id_may_live_under_two_integrations(self, sandbox):
        register(sandbox, "shared", "apikey", tags={"in": "apikey"})
        register(sandbox, "shared", "oauth2", tags={"in": "oauth2"})
        assert [row["provider_config_key"] for row in listed(sandbox, connectionId="shared")] == ["oauth2", "apikey"]

    @pytest.mark.parametrize("strange", ["a/b", "a b+c", "quo'te\"", "per%cent"])
    def test_strange_ids_are_one_path_segment(self, sandbox, strange):
        allowed = "%" not in strange
        body = {"connectionId": strange, "providerConfigKey": "apikey"}
        registered = sandbox.post("/sandbox/connections", json=body)
        assert registered.status_code == (201 if allowed else 400)
        path = f"/connections/{httpx.URL(path='/' + strange).raw_path.decode()[1:].replace('/', '%2F')}"
        response = sandbox.get(path, params={"provider_config_key": "apikey"})
        assert response.status_code == (200 if allowed else 400), response.text

    def test_registering_takes_a_webhook_body_and_makes_what_is_unknown(self, sandbox):
        body = {
            "from": "nango",
            "type": "auth",
            "operation": "creation",
            "success": True,
            "environment": "prod",
            "connectionId": "from-webhook",
            "providerConfigKey": "google-mail",
            "provider": "google-mail",
            "authMode": "OAUTH2",
            "tags": {"plan": "pro"},
            "endUser": {"endUserId": "u", "endUserEmail": None, "tags": {}},
        }
        record = sandbox.post("/sandbox/connections", json=body).json()
        assert (record["provider"], record["tags"], record["end_user"]["id"]) == ("google-mail", {"plan": "pro"}, "u")
        assert fetch(sandbox, "from-webhook", "google-mail").json()["credentials"]["type"] == "OAUTH2"
        again = sandbox.post("/sandbox/connections", json=body | {"tags": {"plan": "max"}}).json()
        assert (again["id"], again["tags"]) == (record["id"], {"plan": "max"})
        assert sandbox.get("/integrations/google-mail").json()["data"]["provider"] == "google-mail"

    @pytest.mark.parametrize("mode", AUTH_MODES)
    def test_every_auth_mode_has_credentials(self, sandbox, mode):
        register(sandbox, f"mode-{mode}", f"int-{mode}", authMode=mode, provider="p")
        response = fetch(sandbox, f"mode-{mode}", f"int-{mode}", force_refresh="true")
        assert response.json()["credentials"]["type"] == mode

    def test_an_override_url_must_be_public_and_an_empty_one_clears_it(self, sandbox):
        register(sandbox, "hooked", "apikey")
        query = {"provider_config_key": "apikey"}
        for refused in PRIVATE_URLS:
            body = {"webhook_url_override": refused}
            assert code(sandbox.patch("/connections/hooked", params=query, json=body)) == (400, "invalid_body")
        for given, kept in (("https://hooks.example.com/n", "https://hooks.example.com/n"), ("", None)):
            sandbox.patch("/connections/hooked", params=query, json={"webhook_url_override": given}).raise_for_status()
            assert fetch(sandbox, "hooked", "apikey").json()["webhook_url_override"] == kept

    def test_metadata_is_all_or_nothing_and_merges_one_level(self, sandbox):
        register(sandbox, "meta", "apikey")
        body = {"connection_id": "meta", "provider_config_key": "apikey", "metadata": {"a": {"x": 1}, "b": 1}}
        assert sandbox.post("/connections/metadata", json=body).status_code == 201
        assert sandbox.patch("/connections/metadata", json=body | {"metadata": {"a": {"y": 2}}}).json()["metadata"] == {
            "a": {"y": 2}
        }
        assert fetch(sandbox, "meta", "apikey").json()["metadata"] == {"a": {"y": 2}, "b": 1}
        refused = sandbox.post("/connections/metadata", json=body | {"connection_id": ["meta", "no"], "metadata": {}})
        assert code(refused) == (404, "unknown_connection")
        assert fetch(sandbox, "meta", "apikey").json()["metadata"] == {"a": {"y": 2}, "b": 1}

    def test_importing_checks_type_and_integration(self, sandbox):
        body = {"provider_config_key": "oauth2", "credentials": {"type": "API_KEY", "apiKey": "k"}}
        assert code(sandbox.post("/connections", json=body)) == (400, "invalid_body")
        assert code(sandbox.post("/connections", json=body | {"provider_config_key": "no"})) == (404, "not_found")
        given = {"type": "OAUTH2", "access_token": "a", "refresh_token": "r", "expires_at": "2020-01-01T00:00:00.000Z"}
        imported = sandbox.post("/connections", json=body | {"credentials": given})
        assert imported.status_code == 201
        connection_id = imported.json()["connection_id"]
        assert fetch(sandbox, connection_id, "oauth2").json()["credentials"]["access_token"] != "a"

    def test_a_refused_api_key_is_a_400_for_the_end_user(self, sandbox):
        sandbox.post("/sandbox/faults", json={"operation": "authorize", "provider_config_key": "apikey", "times": 1})
        token = open_session(sandbox)
        refused = run_flow(sandbox, "/api-auth/api-key/apikey", token, {"apiKey": "k"})
        assert code(refused) == (400, "connection_test_failed")
        assert run_flow(sandbox, "/api-auth/api-key/apikey", token, {"apiKey": "k"}).status_code == 200
        assert sandbox.get("/sandbox/faults").json() == {"faults": []}

"""Every recorded REST exchange, asked of the sandbox: status, error, headers and the body's shape have to agree.

Of an HTML page only the status and the type are compared; the sandbox's pages are its own.
"""

import json
import re
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.integration.sandbox.sandbox_server import connect, open_session, recorded, register, serve

EXCHANGES = [
    *recorded("rest.jsonl"),
    *({**exchange, "edge": True} for exchange in recorded("rest-edges.jsonl")),
]

RED_GOLD = "cb149e7f-d92f-4c59-b40d-b5623fbaae1e"
RED_SILVER = "e7a5834e-686f-4258-8e04-8f4f4faa915d"
BLUE = "1070e0eb-8884-47fe-94b8-5187dc82d6d6"
TOKYO = "180f0d60-48f6-4f7a-b3ba-2af0afbdc929"
OWNED = "ac278965-cdbf-4077-b7af-761046b608f2"
OWNER = {
    "end_user": {"id": "rest-user", "email": "rest@example.com", "display_name": "Rest User", "tags": {"Lvl": "1"}},
    "organization": {"id": "rest-org", "display_name": "Rest Org"},
}
UNSAFE = "import unsafe"
API_CONNECTIONS = [
    "582259fb-9cdf-40ca-93ee-6a9c14467a14",
    "da0fd823-b371-4e17-b3e8-9a7971377105",
    "8a8fc5d6-e42b-4658-a900-c042acea5948",
]


@pytest.fixture(scope="module")
def sandbox():
    with serve() as client:
        yield client


@pytest.fixture
def world(sandbox):
    """The connections the recordings were made with, made anew for each exchange."""
    for key, name in (("rest-a", "REST A"), ("rest-b", "REST B")):
        sandbox.delete(f"/integrations/{key}")
        body = {"provider": "private-api-bearer", "unique_key": key, "display_name": name}
        sandbox.post("/integrations", json=body).raise_for_status()
    register(sandbox, RED_GOLD, "rest-a", tags={"team": "red", "tier": "Gold"})
    register(sandbox, RED_SILVER, "rest-a", tags={"team": "red", "tier": "silver"})
    register(sandbox, BLUE, "rest-a", tags={"team": "Blue", "tier": "gold"})
    register(sandbox, TOKYO, "rest-b", tags={"uni": "東京", "team": "red"})
    register(sandbox, "59b20faa-e6f9-4b6c-b2b9-895f250277d4", "rest-b")
    register(sandbox, OWNED, "rest-b")
    sandbox.patch(f"/connections/{OWNED}?provider_config_key=rest-b", json=OWNER).raise_for_status()
    imported = {
        "provider_config_key": "rest-a",
        "connection_id": UNSAFE,
        "credentials": {"type": "API_KEY", "apiKey": "z"},
        "metadata": {"m": 1},
    }
    sandbox.post("/connections", json=imported).raise_for_status()
    return sandbox


def patch(client, body):
    client.patch(f"/connections/{RED_GOLD}?provider_config_key=rest-a", json=body).raise_for_status()


def metadata(client, method, value):
    body = {"connection_id": RED_SILVER, "provider_config_key": "rest-a", "metadata": value}
    client.request(method, "/connections/metadata", json=body).raise_for_status()


def any_session(client):
    return {"token": open_session(client, tags={"a": "b"})}


def deleted_session(client):
    token = open_session(client, tags={"a": "b"})
    assert client.delete("/connect/session", headers={"authorization": f"Bearer {token}"}).status_code == 204
    return {"token": token}


def failing_provider(client):
    rule = {"operation": "authorize", "provider_config_key": "oauth2-cc", "times": 1}
    client.post("/sandbox/faults", json=rule).raise_for_status()
    return any_session(client)


def oauth2_connection(client):
    register(client, "271a6c23-6b04-4cdf-a41e-c73ff31ba415", "oauth2", tags={"mode": "oauth2-again"})


def owned_oauth2_connection(client):
    tags = {"a": "b", "end_user_id": "eu-r", "end_user_email": "r@example.com", "organization_id": "org-r"}
    end_user = {
        "endUserId": "eu-r",
        "endUserEmail": "r@example.com",
        "organizationId": "org-r",
        "tags": {"a": "b"},
    }
    register(client, "a572d48e-f760-4e31-b014-02067f8894e5", "oauth2", tags=tags, endUser=end_user)


def at_the_provider(client):
    """A browser was sent to the provider; the `state` it will come back with."""
    query = {"connect_session_token": open_session(client, tags={"a": "b"})}
    sent = client.get("/oauth/connect/oauth2", params=query, follow_redirects=False)
    return {"state": parse_qs(urlsplit(sent.headers["location"]).query)["state"][0]}


def refused_api_key(client):
    if client.get("/integrations/apikey-verified").status_code == 404:
        body = {"provider": "private-api-bearer", "unique_key": "apikey-verified"}
        client.post("/integrations", json=body).raise_for_status()
    rule = {"operation": "authorize", "provider_config_key": "apikey-verified", "times": 1}
    client.post("/sandbox/faults", json=rule).raise_for_status()
    return any_session(client)


def other_environment(client):
    body = {"scopes": ["environment:*"], "environment": "prod"}
    return {"key": client.post("/sandbox/keys", json=body).raise_for_status().json()["key"]["api_key"]}


def imported_before(client):
    body = {
        "provider_config_key": "apikey",
        "credentials": {"type": "API_KEY", "apiKey": "y"},
        "connection_id": "imported-2",
    }
    client.post("/connections", json=body).raise_for_status()


def patched_and_cleared(client):
    patch(client, {"end_user": {"id": "patched-user", "email": "p@example.com"}})
    patch(client, {"tags": {}})


def metadata_history(client):
    metadata(client, "POST", {"a": 1, "list": [1, 2], "nested": {"x": 1}})
    metadata(client, "PATCH", {"a": None, "b": "two", "nested": {"z": 3}})


def reconnected_without_owner(client):
    connection_id = connect(client, end_user={"id": "eu-z", "email": "z@example.com"})
    connect(client, connection_id=connection_id, integration_id="apikey")
    return {"connection": connection_id}


# What has to be there before an exchange, beyond the world; returns what replaces recorded ids in the request.
ARRANGE = {
    "connect_uppercase_tags_auth": any_session,
    "connect_oauth2_auth_1_start": any_session,
    "connect_oauth2_auth_2_callback": at_the_provider,
    "oauth2_denied_auth_1_start": any_session,
    "oauth2_denied_auth_2_callback": at_the_provider,
    "api_key_verification_failed_auth": refused_api_key,
    "get_oauth2_force_refresh_bad": owned_oauth2_connection,
    "get_other_environment_key": other_environment,
    "rotate_webhook_signing_key": other_environment,
    "auth_unknown_integration": any_session,
    "auth_with_connection_id": any_session,
    "connect_end_user_auth": lambda client: {"token": open_session(client, end_user={"id": "eu-1"})},
    "import_connection_same_id_again": imported_before,
    "oauth2_cc_failed_auth": failing_provider,
    "get_connection_force_refresh_ok": oauth2_connection,
    "get_connection_refresh_recovered": oauth2_connection,
    "get_oauth2_plain": owned_oauth2_connection,
    "session_get": any_session,
    "auth_with_deleted_session": deleted_session,
    "auth_integration_not_allowed": lambda client: {
        "token": open_session(client, tags={}, allowed_integrations=["rest-a"])
    },
    "get_after_patch_replace": lambda client: patch(client, {"tags": {"team": "green", "NewKey": "v1"}}),
    "get_after_patch_clear": patched_and_cleared,
    "metadata_update": lambda client: metadata(client, "POST", {"a": 1}),
    "get_after_metadata_update_null": metadata_history,
    "delete_again": lambda client: client.delete(f"/connections/{BLUE}?provider_config_key=rest-a"),
    "list_after_delete": lambda client: client.delete(f"/connections/{BLUE}?provider_config_key=rest-a"),
    "get_after_reconnect_of_end_user_connection_without_tags": reconnected_without_owner,
}


def send(client, request, replaced):
    # Servers never see a trailing space of a header value, and httpx refuses to send one.
    path, headers = request["path"], {name: value.strip() for name, value in request["headers"]}
    if token := replaced.get("token"):
        path = re.sub(r"connect_session_token=\w+", f"connect_session_token={token}", path)
        if "nango_connect_session" in headers.get("Authorization", ""):
            headers["Authorization"] = f"Bearer {token}"
    if key := replaced.get("key"):
        headers["Authorization"] = f"Bearer {key}"
    if state := replaced.get("state"):
        path = re.sub(r"state=[\w-]+", f"state={state}", path)
    if connection_id := replaced.get("connection"):
        path = re.sub(r"/connections/[^?]+", f"/connections/{connection_id}", path)
    content = request["body"].encode() if request["body"] is not None else None
    built = client.build_request(request["method"], path, content=content, headers=headers)
    if "Authorization" not in headers:
        del built.headers["authorization"]
    return client.send(built, follow_redirects=False)


def shape(value):
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [shape(inner) for inner in value]
    return "number" if type(value) in {int, float} else type(value).__name__


def notable(headers, *, edge):
    """The headers a client acts on. Redirects and cookies are recorded in the second file only."""
    acted_on = ("x-ratelimit", "retry-after", "content-type", *(("location", "set-cookie") if edge else ()))
    return {name.lower() for name in headers if name.lower().startswith(acted_on)}


def crossing(headers):
    """The headers for browsers about other origins (`access-control-*`)."""
    return {name.lower(): value for name, value in headers.items() if name.lower().startswith("access-control")}


def redirect(headers):
    """The names of the query that the provider gets, without PKCE's, which the sandbox's provider does not check."""
    query = parse_qs(urlsplit(dict(headers)["location"]).query, keep_blank_values=True)
    return set(query) - {"code_challenge", "code_challenge_method"}


@pytest.mark.parametrize("exchange", EXCHANGES, ids=lambda exchange: exchange["name"])
def test_the_sandbox_answers_as_nango_did(world, exchange):
    for connection_id in API_CONNECTIONS:
        register(world, connection_id, "apikey")
    arranged = ARRANGE.get(exchange["name"], lambda _: None)(world)
    limited = exchange["name"] == "rate_limit_5"
    if limited:
        world.patch("/sandbox/settings", json={"rate_limit_per_minute": 5}).raise_for_status()
    response = send(world, exchange["request"], arranged if isinstance(arranged, dict) else {})
    if limited:
        world.patch("/sandbox/settings", json={"rate_limit_per_minute": 100_000}).raise_for_status()

    expected, headers = exchange["response"], dict(exchange["response"]["headers"])
    assert response.status_code == expected["status"], response.text
    edge = exchange.get("edge", False)
    assert notable(response.headers, edge=edge) == notable(headers, edge=edge)
    if edge:
        assert crossing(response.headers) == crossing(headers)
    if edge and expected["status"] == 302:
        assert redirect(response.headers) == redirect({name.lower(): value for name, value in headers.items()})
    if not headers.get("Content-Type", headers.get("content-type", "")).startswith("application/json"):
        assert response.headers.get("content-type") == headers.get("Content-Type")
        return
    body = json.loads(expected["body"])
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    assert shape(response.json()) == shape(body)
    if "error" in body and exchange["name"] != "session_bad_json":  # whose message is JavaScript's own
        assert response.json() == body


def test_the_lists_hold_the_recorded_connections_in_the_recorded_order(world):
    for exchange in EXCHANGES:
        if exchange["name"].startswith("list_") and exchange["response"]["status"] == 200:
            answered = send(world, exchange["request"], {}).json()["connections"]
            known = json.loads(exchange["response"]["body"])["connections"]
            if exchange["name"] != "list_after_delete":
                picked = ("connection_id", "provider_config_key", "provider", "errors", "tags", "end_user", "metadata")
                assert [{name: row[name] for name in picked} for row in answered] == [
                    {name: row[name] for name in picked} for row in known
                ], exchange["name"]

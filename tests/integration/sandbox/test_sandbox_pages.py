"""The connect link in a browser: its page, its forms, and the round trip through the stand-in provider."""

import re
from html import unescape

import httpx
import pytest

from app.domain.signature import matching_key
from tests.integration.sandbox.sandbox_server import connect, fetch, receive, serve
from tests.waiting import PATIENCE

FORMS = {
    "apikey": {"apiKey": "k"},
    "basic": {"username": "u", "password": "p"},
    "unauth": {},
    "oauth2-cc": {"client_id": "i", "client_secret": "s"},
}


@pytest.fixture(scope="module")
def receiver():
    with receive() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def sandbox(receiver):
    with serve(webhook_url=receiver.url) as client:
        yield client


@pytest.fixture
def browser(sandbox):
    """A client without an API key."""
    with httpx.Client(base_url=sandbox.base_url, follow_redirects=True, timeout=PATIENCE, trust_env=False) as client:
        yield client


def session(sandbox, **body):
    path = "/connect/sessions/reconnect" if "connection_id" in body else "/connect/sessions"
    return sandbox.post(path, json=body).raise_for_status().json()["data"]


def action(page, integration):
    return unescape(re.search(rf'action="(sandbox/connect/{integration}[^"]*)"', page.text).group(1))


def links(page):
    return [unescape(link) for link in re.findall(r'href="([^"]+)"', page.text)]


def connected_id(page):
    return re.search(r"<code>([^<]+)</code>", page.text).group(1)


@pytest.mark.parametrize("integration", FORMS)
def test_the_page_of_a_connect_link_connects(sandbox, browser, receiver, integration):
    opened = session(sandbox, tags={"who": "ada"}, allowed_integrations=[integration])
    page = browser.get(opened["connect_link"])
    assert page.status_code == 200
    assert len(re.findall("<section>", page.text)) == 1
    done = browser.post(f"/{action(page, integration)}", data=FORMS[integration])
    assert (done.status_code, done.headers["content-type"]) == (200, "text/html; charset=utf-8")
    found = fetch(sandbox, connected_id(done), integration).raise_for_status().json()
    assert found["tags"] == {"who": "ada"}
    told = receiver.body()
    assert (told["operation"], told["success"], told["connectionId"]) == ("creation", True, connected_id(done))


def test_allowing_at_the_provider_connects_and_reconnecting_keeps_the_connection(sandbox, browser, receiver):
    first = None
    for operation in ("creation", "override"):
        wanted = {"connection_id": first, "integration_id": "oauth2"} if first else {"allowed_integrations": ["oauth2"]}
        page = browser.get(session(sandbox, tags={"a": "b"}, **wanted)["connect_link"])
        question = browser.get(f"/{links(page)[0]}")
        allow = links(question)[0]
        done = browser.get(allow)
        assert done.status_code == 200
        assert first in {None, connected_id(done)}
        first = connected_id(done)
        assert receiver.body()["operation"] == operation
        assert browser.get(allow).status_code == 400  # an answer counts once


def test_denying_at_the_provider_sends_a_failed_creation(sandbox, browser, receiver):
    page = browser.get(session(sandbox, tags={}, allowed_integrations=["oauth2"])["connect_link"])
    denied = browser.get(links(browser.get(f"/{links(page)[0]}"))[1])
    assert denied.status_code == 400
    told = receiver.body()
    assert (told["operation"], told["success"], told["error"]["type"]) == ("creation", False, "invalid_callback")
    assert "access_denied" in told["error"]["description"]


def test_a_refused_form_says_what_is_wrong_and_sends_nothing(sandbox, browser):
    before = sandbox.get("/sandbox/deliveries").json()
    page = browser.get(session(sandbox, tags={}, allowed_integrations=["apikey"])["connect_link"])
    refused = browser.post(f"/{action(page, 'apikey')}", data={"apiKey": ""})
    assert (refused.status_code, "apiKey: Too small" in refused.text) == (400, True)
    assert sandbox.get("/sandbox/deliveries").json() == before


@pytest.mark.parametrize("path", ["/", "/?session_token=", "/?session_token=nope<b>", "/?other=1"])
def test_an_unknown_link_says_so_in_words(browser, path):
    page = browser.get(path)
    assert page.status_code in {401, 404}
    assert "expired" in page.text
    assert "<b>" not in page.text


def test_the_provider_redirects_no_browser_elsewhere(browser):
    query = {"redirect_uri": "https://evil.example/", "state": "s", "client_id": "c"}
    page = browser.get("/sandbox/provider", params=query)
    assert (page.status_code, "evil" in page.text) == (400, False)


def test_names_are_shown_as_text(sandbox, browser):
    body = {"provider": "private-api-bearer", "unique_key": "a b:c@d", "display_name": "<i>x</i>"}
    sandbox.post("/integrations", json=body).raise_for_status()
    page = browser.get(session(sandbox, tags={}, allowed_integrations=["a b:c@d"])["connect_link"])
    assert "<i>" not in page.text
    done = browser.post(f"/{action(page, 'a%20b%3Ac%40d')}", data={"apiKey": "k"})
    assert fetch(sandbox, connected_id(done), "a b:c@d").status_code == 200


class TestOtherEnvironments:
    def test_a_key_of_another_environment_sees_nothing_of_this_one(self, sandbox):
        connection_id = connect(sandbox, integration="apikey")
        body = {"scopes": ["environment:*"], "environment": "staging"}
        key = sandbox.post("/sandbox/keys", json=body).raise_for_status().json()["key"]["api_key"]
        headers = {"authorization": f"Bearer {key}"}
        query = {"provider_config_key": "apikey"}
        found = sandbox.get(f"/connections/{connection_id}", params=query, headers=headers)
        assert (found.status_code, found.json()["error"]["code"]) == (400, "unknown_provider_config")
        assert sandbox.get("/connections", headers=headers).json() == {"connections": []}

    def test_a_rotated_signing_key_signs_what_comes_after_also_over_a_restart(self, tmp_path):
        with receive() as receiver:
            facts = {"webhook_url": receiver.url, "state_file": tmp_path / "state.json"}
            with serve(**facts) as client:
                answered = client.post("/environment/webhook-signing-key/rotate").raise_for_status().json()
                key = answered["data"]["webhook_signing_key"]
                connect(client)
                assert signed_with(receiver.take(), key)
            with serve(**facts) as client:
                connect(client)
                assert signed_with(receiver.take(), key)

    def test_rotating_needs_its_scope(self, sandbox):
        body = {"scopes": ["environment:connections:*"]}
        key = sandbox.post("/sandbox/keys", json=body).raise_for_status().json()["key"]["api_key"]
        headers = {"authorization": f"Bearer {key}"}
        assert sandbox.post("/environment/webhook-signing-key/rotate", headers=headers).status_code == 403


def signed_with(received, key):
    return matching_key(received.content, received.header("x-nango-hmac-sha256"), [key]) is not None

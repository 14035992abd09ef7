"""Calls to Nango go through the proxy that the operator or the environment names, and nothing else does."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from app.config.loading import load
from app.domain.budget import Priority
from app.errors import ConfigurationError, NangoUnavailable
from app.services.nango_clients import NangoClients
from tests.integration.cli.test_cli import Command
from tests.integration.sandbox.sandbox_server import API_KEY, serve
from tests.waiting import PATIENCE

NANGO = "http://nango.invalid"  # a name that no resolver knows
VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def _no_proxies_of_the_shell(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def proxy():
    """A forward proxy that answers for every origin; the URLs it was asked for, with the credentials used."""
    with proxying() as found:
        yield found


@contextmanager
def proxying():
    asked = []

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers["proxy-authorization"]))
            body = json.dumps({"connections": []}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        found = SimpleNamespace(url=f"http://127.0.0.1:{server.server_port}", asked=asked)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield found
        server.shutdown()


@pytest.fixture
def configured(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def read(*, base_url=NANGO, **variables):
        defaults = {"WAYLINK_NANGO_API_KEY": API_KEY, "WAYLINK_NANGO_SIGNING_KEYS": "k"}
        for name, value in {**defaults, "WAYLINK_NANGO_BASE_URL": base_url, **variables}.items():
            monkeypatch.setenv(name, value)
        return load()

    return read


def ask(settings):
    clients = NangoClients(settings.environments)
    try:
        return clients.of("default", Priority.PEOPLE).list_connections(limit=1, timeout=PATIENCE)
    finally:
        clients.close()


@pytest.mark.parametrize("variable", ["WAYLINK_NANGO_PROXY", "HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_calls_go_through_the_proxy_that_is_named(configured, proxy, variable):
    assert ask(configured(**{variable: proxy.url})).connections == ()
    [(asked, _)] = proxy.asked
    assert asked.startswith(f"{NANGO}/connections")


def test_a_user_and_password_of_the_proxy_are_sent_to_it(configured, proxy):
    ask(configured(WAYLINK_NANGO_PROXY=proxy.url.replace("://", "://user:pass@")))
    assert proxy.asked[0][1] == "Basic dXNlcjpwYXNz"


def test_our_own_setting_goes_before_the_environments(configured, proxy):
    ask(configured(WAYLINK_NANGO_PROXY=proxy.url, HTTP_PROXY="http://127.0.0.1:1", NO_PROXY="*"))
    assert len(proxy.asked) == 1


@pytest.mark.parametrize(
    "variables", [{"NO_PROXY": "nango.invalid"}, {"NO_PROXY": "*"}, {"WAYLINK_NANGO_PROXY": "none"}]
)
def test_calls_go_directly_where_that_is_said(configured, proxy, variables):
    with pytest.raises(NangoUnavailable):
        ask(configured(HTTP_PROXY=proxy.url, **variables))
    assert proxy.asked == []


def test_a_nango_on_this_machine_is_reached_directly(configured, proxy):
    with serve() as sandbox:
        settings = configured(
            base_url=str(sandbox.base_url).rstrip("/"), HTTP_PROXY=proxy.url, WAYLINK_NANGO_PROXY=proxy.url
        )
        assert ask(settings).connections == ()
    assert proxy.asked == []


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"WAYLINK_NANGO_PROXY": "socks5://h:1"}, "has to start with http://"),
        ({"WAYLINK_NANGO_PROXY": "http://p\u201dw@h:1"}, "RIGHT DOUBLE QUOTATION MARK"),
        ({"ALL_PROXY": "socks5://user:hunter2@h:1"}, "neither http:// nor https://"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_refused_by_name(configured, variables, says):
    with pytest.raises(ConfigurationError) as refused:
        configured(**variables)
    [problem] = refused.value.problems
    assert (problem.where, says in str(problem)) == ("WAYLINK_NANGO_PROXY", True)
    assert "hunter2" not in str(problem)


def test_check_names_the_proxy_without_its_password(configured, proxy, tmp_path, broker_url):
    url = proxy.url.replace("://", "://user:hunter2@")
    variables = {"WAYLINK_NANGO_API_KEY": API_KEY, "WAYLINK_NANGO_SIGNING_KEYS": "k", "WAYLINK_BROKER_URL": broker_url}
    command = Command(tmp_path, variables | {"WAYLINK_NANGO_BASE_URL": NANGO, "WAYLINK_NANGO_PROXY": url})
    done = command.inside("check", "--json")
    [found] = [row for row in json.loads(done.stdout) if row["what"] == "environment default"]
    assert (found["result"], f"through the proxy {proxy.url}" in found["detail"]) == ("ok", True)
    assert "hunter2" not in done.stdout + done.stderr

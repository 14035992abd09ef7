"""A sandbox on a real port, and a receiver for its webhooks, for the tests of both."""

import base64
import json
import queue
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest import mock

import httpx
import uvicorn

from app.sandbox import guard
from app.sandbox.app import create_sandbox
from app.sandbox.config import SandboxConfig
from tests.waiting import PATIENCE, until

RECORDED = Path(__file__).parents[2] / "data" / "nango" / "recorded"
API_KEY = "4d70f328-6b39-451e-b92f-21969323b448"  # the one of the recordings
SIGNING_KEY = "404a7bbb-deae-4a85-b048-09d6d4ad9e72"


def recorded(name):
    """The lines of one recording. Not by splitlines(): bodies hold U+2028."""
    return [json.loads(line) for line in (RECORDED / name).read_text().split("\n") if line]


def recorded_body(webhook):
    return base64.b64decode(webhook["body_b64"])


@contextmanager
def serve(*, clock=None, **config) -> Iterator[httpx.Client]:
    """A running sandbox, as a client that sends its API key. `clock`: the time of all sandboxes meanwhile."""
    with (
        mock.patch.object(guard, "utc_now", clock or guard.utc_now),
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        facts = {"api_key": API_KEY, "signing_key": SIGNING_KEY, "public_url": base_url, **config}
        application = create_sandbox(SandboxConfig(**facts))
        server = uvicorn.Server(uvicorn.Config(application, access_log=False, log_level="warning", lifespan="on"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            until("it has started or failed", lambda: server.started or not thread.is_alive())
            assert thread.is_alive(), "the sandbox did not start"
            headers = {"authorization": f"Bearer {API_KEY}"}
            with httpx.Client(base_url=base_url, headers=headers, timeout=PATIENCE, trust_env=False) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join(PATIENCE)


@dataclass
class Received:
    method: str
    path: str
    headers: list[tuple[str, str]]
    content: bytes
    at: float = field(default_factory=time.monotonic)

    @property
    def body(self):
        return json.loads(self.content)

    def header(self, name):
        return {key.lower(): value for key, value in self.headers}[name.lower()]


class Receiver:
    """Takes webhooks and answers as the tag `receiver` says: a status, `hang`, `slow` or `reset`; 200 without it.

    `hang` is not answered before `free` is set.
    """

    def __init__(self):
        self.received: queue.Queue[Received] = queue.Queue()
        self.free = threading.Event()
        self.url = ""

    def take(self, timeout=PATIENCE) -> Received:
        return self.received.get(timeout=timeout)

    def body(self):
        return self.take().body


@contextmanager
def receive() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            content = self.rfile.read(int(self.headers["content-length"]))
            receiver.received.put(Received("POST", self.path, list(self.headers.items()), content))
            behaviour = json.loads(content).get("tags", {}).get("receiver", "200")
            if behaviour == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                self.close_connection = True
                return
            if behaviour == "hang":
                receiver.free.wait(2 * PATIENCE)
            elif behaviour == "slow":
                time.sleep(0.1)
            status = int(behaviour) if behaviour.isdigit() else 200
            self.send_response(status)
            if status == 302:
                self.send_header("location", "/elsewhere")
            self.send_header("content-length", "0")
            self.end_headers()

        def do_GET(self):
            receiver.received.put(Received("GET", self.path, list(self.headers.items()), b""))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_):
            """Ignore clients that hang up during `hang` or after `reset`."""

    with Server(("127.0.0.1", 0), Handler) as server:
        receiver.url = f"http://127.0.0.1:{server.server_port}/hook"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            receiver.free.set()
            server.shutdown()
            thread.join(PATIENCE)


def open_session(client, **body):
    body = body or {"tags": {}}
    path = "/connect/sessions/reconnect" if "connection_id" in body else "/connect/sessions"
    return client.post(path, json=body).raise_for_status().json()["data"]["token"]


def run_flow(client, path, token, body=None):
    return client.post(path, params={"connect_session_token": token}, json=body or {})


def connect(client, *, integration="apikey", **session):
    """One whole flow; the new connection's id."""
    flows = {
        "apikey": ("/api-auth/api-key/apikey", {"apiKey": "k1"}),
        "basic": ("/api-auth/basic/basic", {"username": "u", "password": "p"}),
        "unauth": ("/auth/unauthenticated/unauth", {}),
        "oauth2": ("/sandbox/oauth/oauth2", {}),
        "oauth2-cc": ("/oauth2/auth/oauth2-cc", {"client_id": "i", "client_secret": "s"}),
    }
    path, body = flows[integration]
    response = run_flow(client, path, open_session(client, **session), body).raise_for_status()
    return response.json()["connectionId"]


def register(client, connection_id, integration, **facts):
    body = {"connectionId": connection_id, "providerConfigKey": integration, "tags": {}, **facts}
    return client.post("/sandbox/connections", json=body).raise_for_status().json()


def fetch(client, connection_id, integration, **query):
    return client.get(f"/connections/{connection_id}", params={"provider_config_key": integration, **query})


def control(client, connection_id, integration, **body):
    path = f"/sandbox/connections/{connection_id}"
    return client.patch(path, params={"provider_config_key": integration}, json=body).raise_for_status().json()

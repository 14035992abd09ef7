"""The real web application on a real port, in a thread of the test process."""

import json
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import httpx
from sqlalchemy import text

from app.config.loading import load
from app.config.settings import Settings
from app.db.engine import Database, connect
from app.db.migrate import upgrade
from app.domain.signature import HEADER, sign
from app.main import Waylink, create_app
from app.web.group_commit import GroupCommit
from app.web.server import Server
from app.web.webhooks import WebhookEndpoint
from tests.waiting import PATIENCE, until

KEY = "3f0c7f0e-new-key"
OLD_KEY = "9a1b2c3d-old-key"
WEBHOOK = "/webhooks/nango"


def settings_of(variables: Mapping[str, str], *, config: str = "", folder: Path) -> Settings:
    """Settings from these variables and this `waylink.toml` alone."""
    file = folder / "waylink.toml"
    file.write_text(config)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WAYLINK_")}
    given = {"WAYLINK_CONFIG": str(file), "WAYLINK_DATA_DIR": str(folder / "data"), **variables}
    with mock.patch.dict(os.environ, {**kept, **given}, clear=True):
        return load()


@dataclass
class WebServer:
    """A running web side. `webhooks` and `store` are its own, for shorter patience."""

    settings: Settings
    app: Waylink
    client: httpx.Client
    port: int
    database: Database
    server: Server
    thread: threading.Thread

    @property
    def webhooks(self) -> WebhookEndpoint:
        return self.app.webhooks

    @property
    def store(self) -> GroupCommit:
        return self.webhooks.store

    def post(self, body: bytes, *, path: str = WEBHOOK, key: str = KEY, **headers: str) -> httpx.Response:
        """A signed webhook."""
        content_type = {"content-type": "application/json", HEADER: sign(body, key)}
        return self.client.post(path, content=body, headers=content_type | headers)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def exchange(self, request: bytes) -> tuple[int, bytes]:
        """Send raw bytes and read one answer to its end: status and body."""
        with self.connect() as raw:
            raw.sendall(request)
            return read_answer(raw)

    def events(self) -> dict[bytes, int]:
        """Stored events: body to duplicate counter."""
        with self.database.read() as session:
            return {bytes(body): count for body, count in session.execute(text("SELECT body, duplicates FROM events"))}

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive(), "the web server did not end"


def read_answer(raw: socket.socket) -> tuple[int, bytes]:
    """Status and body of the next answer on a socket; (0, b"") when the peer hangs up without one."""
    with raw.makefile("rb") as stream:
        status = stream.readline()
        if not status:
            return 0, b""
        length = 0
        while (line := stream.readline()) not in {b"\r\n", b""}:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        return int(status.split()[1]), stream.read(length)


def raw_request(body: bytes = b"", *headers: str, method: str = "POST", path: str = WEBHOOK) -> bytes:
    """A request's bytes, with exactly these header lines and `host`."""
    lines = [f"{method} {path} HTTP/1.1", "host: waylink.test", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def body_of(number: int, **changes: object) -> bytes:
    """An auth webhook, one per number."""
    facts: dict[str, object] = {
        "from": "nango",
        "type": "auth",
        "connectionId": f"c-{number}",
        "providerConfigKey": "github",
        "authMode": "OAUTH2",
        "provider": "github",
        "environment": "dev",
        "operation": "creation",
        "success": True,
        "tags": {"end_user_id": f"u-{number}"},
    }
    return json.dumps(facts | changes, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()


@contextmanager
def serve(
    *,
    database_url: str,
    broker_url: str,
    folder: Path,
    config: str = "",
    migrate: bool = True,
    metrics_on: socket.socket | None = None,
    **variables: str,
) -> Iterator[WebServer]:
    """A running web server, migrated first; `variables` are further settings, such as WAYLINK_BODY_LIMIT_BYTES."""
    given = {
        "WAYLINK_DATABASE_URL": database_url,
        "WAYLINK_BROKER_URL": broker_url,
        "WAYLINK_NANGO_SIGNING_KEYS": f"{KEY},{OLD_KEY}",
        "WAYLINK_CANARY_EVERY": "0",  # tests count all rows
        **variables,
    }
    settings = settings_of(given, config=config, folder=folder)
    with closing(connect(settings.database)) as database:
        if migrate:
            upgrade(database)
        app = create_app(settings, metrics_on=metrics_on)
        with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
            port = listener.getsockname()[1]
            server = Server(app)
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
            thread.start()
            limits = httpx.Limits(max_connections=200)
            with httpx.Client(
                base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE, trust_env=False, limits=limits
            ) as client:
                running = WebServer(settings, app, client, port, database, server, thread)
                try:
                    until("it has started or failed", lambda: server.started or not thread.is_alive())
                    assert thread.is_alive(), "the web server did not start"
                    running.store.hold_seconds = PATIENCE  # a slow disk is no database that is away
                    yield running
                finally:
                    client.close()
                    running.stop()

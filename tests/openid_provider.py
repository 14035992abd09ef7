"""A small OpenID Connect provider over real HTTP, with real keys: it signs in the person it is told to, and can err.

Its own checks are strict: client, redirect URI, PKCE, and that a code is used once.
"""

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey

CLIENT_ID, CLIENT_SECRET = "waylink", "client-secret+with/signs"
Change = Callable[[dict[str, Any]], Any]


def rsa_key(name: str) -> RSAKey:
    return RSAKey.generate_key(2048, {"kid": name, "use": "sig", "alg": "RS256"})


def ec_key(name: str) -> ECKey:
    return ECKey.generate_key("P-256", {"kid": name, "use": "sig", "alg": "ES256"})


@dataclass
class Provider:
    """The provider's state. Tests change it, and read what it was asked."""

    origin: str = ""
    person: dict[str, Any] = field(default_factory=lambda: {"sub": "s-ada", "preferred_username": "Ada", "groups": []})
    key: Any = field(default_factory=lambda: rsa_key("k-1"))  # signs
    published: list[Any] = field(default_factory=list)  # besides `key`
    change: Change = dict  # of the claims, before they are signed
    change_token: Callable[[str], str] = lambda token: token
    algorithm: str = "RS256"
    hides_key: bool = False
    logout: bool = True
    userinfo: dict[str, Any] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    answers: dict[str, tuple[int, bytes]] = field(default_factory=dict)  # by path, instead of the right ones
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)  # paths
    seen: list[str] = field(default_factory=list)  # codes and tokens, which may rest nowhere

    def described(self) -> dict[str, Any]:
        found = {
            "issuer": self.origin,
            "authorization_endpoint": f"{self.origin}/authorize",
            "token_endpoint": f"{self.origin}/token",
            "jwks_uri": f"{self.origin}/keys",
            "userinfo_endpoint": f"{self.origin}/userinfo" if self.userinfo is not None else None,
            "end_session_endpoint": f"{self.origin}/logout" if self.logout else None,
        }
        return {name: value for name, value in (found | self.metadata).items() if value is not None}

    def authorized(self, query: dict[str, str]) -> str:
        """The URL that the browser is sent back to, signed in at once."""
        assert query["client_id"] == CLIENT_ID
        assert query["response_type"] == "code"
        assert query["code_challenge_method"] == "S256"
        assert "openid" in query["scope"].split()
        code = secrets.token_urlsafe(24)
        self.codes[code] = query
        self.seen.append(code)
        return f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}"

    def exchanged(self, form: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        kind, _, given = authorization.partition(" ")
        assert kind == "Basic"
        client, _, secret = base64.b64decode(given).decode().partition(":")
        if (unquote(client), unquote(secret)) != (CLIENT_ID, CLIENT_SECRET):
            return 401, {"error": "invalid_client"}
        query = self.codes.pop(form["code"], None)
        if query is None or query["redirect_uri"] != form["redirect_uri"]:
            return 400, {"error": "invalid_grant"}
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).rstrip(b"=")
        if challenge.decode() != query["code_challenge"]:
            return 400, {"error": "invalid_grant"}
        access_token = secrets.token_urlsafe(24)
        token = self.id_token(query["nonce"])
        self.seen += [access_token, token]
        return 200, {"access_token": access_token, "token_type": "Bearer", "id_token": token}

    def id_token(self, nonce: str) -> str:
        now = int(time.time())
        claims = {"iss": self.origin, "aud": CLIENT_ID, "nonce": nonce, "iat": now, "exp": now + 300, **self.person}
        self.change(claims)
        header = {"alg": self.algorithm, "kid": self.key.kid}
        if self.algorithm == "none":
            parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims)]
            return b".".join([*parts, b""]).decode()
        return self.change_token(jwt.encode(header, claims, self.key, algorithms=[self.algorithm]))

    def keys(self) -> dict[str, Any]:
        listed = [*self.published, *([] if self.hides_key or isinstance(self.key, OctKey) else [self.key])]
        return {"keys": [key.as_dict(private=False) for key in listed]}


class Handler(BaseHTTPRequestHandler):
    """Serves `provider`, which a subclass has."""

    provider: Provider

    def do_GET(self) -> None:
        provider, path = self.provider, self._path()
        pages = {
            "/.well-known/openid-configuration": provider.described,
            "/keys": provider.keys,
            "/userinfo": lambda: provider.userinfo or {},
            "/favicon.ico": dict,
            "/logout": lambda: {"signed_out": True},
        }
        if path == "/authorize":
            self.send_response(302)
            self.send_header("location", provider.authorized(dict(parse_qsl(urlsplit(self.path).query))))
            self.end_headers()
        elif not self._instead(path):
            self._json(*((200, pages[path]()) if path in pages else (404, {})))

    def do_POST(self) -> None:
        path = self._path()
        form = dict(parse_qsl(self.rfile.read(int(self.headers["content-length"])).decode()))
        if not self._instead(path):
            self._json(*self.provider.exchanged(form, self.headers.get("authorization", "")))

    def log_message(self, *_: object) -> None:
        """Stay silent."""

    def _path(self) -> str:
        path = urlsplit(self.path).path
        self.provider.asked.append(path)
        return path

    def _instead(self, path: str) -> bool:
        if path not in self.provider.answers:
            return False
        self._send(*self.provider.answers[path])
        return True

    def _json(self, status: int, body: dict[str, Any]) -> None:
        self._send(status, json.dumps(body).encode())

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        with suppress(BrokenPipeError, ConnectionResetError):  # the client does not read what is too long
            self.wfile.write(body)


@contextmanager
def serve() -> Iterator[Provider]:
    """A running provider."""
    provider = Provider()
    handler = type("ProvidersHandler", (Handler,), {"provider": provider})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        provider.origin = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield provider
        finally:
            server.shutdown()
            thread.join()

"""Calls to the provider: a bounded time and size, no redirect, JSON objects only."""

import ssl
import time
from collections.abc import Mapping
from typing import Any, Final

import httpx
import msgspec

from app.errors import ProviderUnavailable
from app.outage_causes import of_connection

MAX_BYTES: Final = 512 * 1024
STEP_SECONDS: Final = 5.0  # for a connection, and for each piece of an answer
WHOLE_SECONDS: Final = 10.0


class Fetcher:
    """A pool of connections to the provider."""

    def __init__(self, *, proxy: str | None = None, tls: ssl.SSLContext | None = None) -> None:
        # The environment is not read: a .netrc could hold credentials for the host.
        self._client = httpx.Client(
            timeout=STEP_SECONDS, proxy=proxy, verify=True if tls is None else tls, trust_env=False
        )

    def close(self) -> None:
        self._client.close()

    def get(self, url: str, *, bearer: str | None = None) -> dict[str, Any]:
        """The JSON object at this URL. Raises ProviderUnavailable."""
        headers = {"authorization": f"Bearer {bearer}"} if bearer else {}
        status, body = self._send("GET", url, headers=headers)
        if status != 200:
            raise ProviderUnavailable(f"{_place(url)} answered {status}")
        return _object(body, url)

    def post(
        self, url: str, form: Mapping[str, str], *, basic: tuple[str, str] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Status and JSON object of the answer to a form. Raises ProviderUnavailable, also for a status from 500 on."""
        auth = httpx.BasicAuth(*basic) if basic else None
        status, body = self._send("POST", url, data=dict(form), auth=auth)
        if status >= 500:
            raise ProviderUnavailable(f"{_place(url)} answered {status}")
        return status, _object(body, url)

    def _send(self, method: str, url: str, **options: Any) -> tuple[int, bytes]:
        ends_at = time.monotonic() + WHOLE_SECONDS
        options["headers"] = {"accept": "application/json", **options.get("headers", {})}
        auth = options.pop("auth", None)
        try:
            with self._client.stream(
                method, url, auth=auth if auth else httpx.USE_CLIENT_DEFAULT, follow_redirects=False, **options
            ) as answer:
                body = bytearray()
                for piece in answer.iter_bytes(64 * 1024):
                    body += piece
                    if len(body) > MAX_BYTES:
                        raise ProviderUnavailable(f"{_place(url)} answered more than {MAX_BYTES} bytes")
                    if time.monotonic() > ends_at:
                        raise ProviderUnavailable(f"{_place(url)} took more than {WHOLE_SECONDS:.0f} s")
                return answer.status_code, bytes(body)
        except (httpx.HTTPError, httpx.InvalidURL) as failed:
            raise ProviderUnavailable(f"{_place(url)} does not answer: {of_connection(failed)}") from None


def _object(body: bytes, url: str) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ProviderUnavailable(f"{_place(url)} did not answer with a JSON object")
    return found


def _place(url: str) -> str:
    """A URL without its query, which may hold what is secret."""
    return url.partition("?")[0]

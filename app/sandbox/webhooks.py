"""Webhooks in Nango's form: body, headers, serialisation and retries.

(Nango contract: Auth webhook; Signatures; Delivery and retries)

Delivery is in process and not persisted, as in Nango: a restart loses the webhooks in flight.
"""

import asyncio
import hashlib
import json
import socket
import ssl
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import httpx

from app.domain.signature import sign
from app.outage_causes import of_connection

USER_AGENT: Final = "nango/0.71.4 (linux/waylink-sandbox; node.js/22.22.2)"
MAX_AT_ONCE: Final = 500
KEPT_DELIVERIES: Final = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthWebhook:
    """One webhook, sent to each URL in turn (Nango contract: Webhook settings)."""

    urls: tuple[str, ...]
    body: Mapping[str, Any]


@dataclass(slots=True, kw_only=True)
class WebhookDelivery:
    """State of one webhook's delivery. `state`: pending, delivered (2xx), refused (not retried) or given_up."""

    id: int
    url: str
    body: Mapping[str, Any]
    state: str = "pending"
    attempts: int = 0
    last_status: int | None = None
    last_error: str | None = None
    attempted_at: list[datetime] = field(default_factory=list)


class WebhookSender:
    """Sends webhooks in the background. Open it before the first `post`."""

    def __init__(self, *, signing_key: str, retry_waits: Iterable[float], timeout: float) -> None:
        self.deliveries: deque[WebhookDelivery] = deque(maxlen=KEPT_DELIVERIES)
        self.signing_key, self._timeout = signing_key, timeout
        # None ends the attempts.
        self._waits: tuple[float | None, ...] = (*retry_waits, None)
        self._slots = asyncio.Semaphore(MAX_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._last_id = 0
        self._client: httpx.AsyncClient | None = None

    async def __aenter__(self) -> "WebhookSender":
        # trust_env=False: a proxy of the developer's shell must not come between two local processes.
        limits = httpx.Limits(max_connections=MAX_AT_ONCE, max_keepalive_connections=50, keepalive_expiry=2.0)
        self._client = httpx.AsyncClient(limits=limits, timeout=None, trust_env=False)  # noqa: S113  # see _attempt
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()

    async def post(self, events: Iterable[AuthWebhook]) -> None:
        """Start sending and return at once. A coroutine, so that a response can run it after its last byte."""
        for event in events:
            deliveries = [self._noted(url, event.body) for url in event.urls]
            task = asyncio.create_task(self._deliver_all(deliveries))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _noted(self, url: str, body: Mapping[str, Any]) -> WebhookDelivery:
        self._last_id += 1
        delivery = WebhookDelivery(id=self._last_id, url=url, body=body)
        self.deliveries.append(delivery)
        return delivery

    async def _deliver_all(self, deliveries: Iterable[WebhookDelivery]) -> None:
        for delivery in deliveries:
            await self._deliver(delivery)

    async def _deliver(self, delivery: WebhookDelivery) -> None:
        content = serialize(delivery.body)
        headers = _headers(content, self.signing_key)
        for wait in self._waits:
            async with self._slots:
                again = await self._attempt(delivery, content, headers)
            if not again:
                return
            if wait is not None:
                await asyncio.sleep(wait)
        delivery.state = "given_up"

    async def _attempt(self, delivery: WebhookDelivery, content: bytes, headers: Mapping[str, str]) -> bool:
        """One attempt. Returns whether Nango would retry: after 5xx and network errors, never after 3xx or 4xx.

        (Nango contract: Delivery and retries)
        """
        if self._client is None:
            raise RuntimeError("the courier is not open")
        delivery.attempts += 1
        delivery.attempted_at.append(datetime.now(UTC))
        try:
            async with asyncio.timeout(self._timeout):
                response = await self._client.post(delivery.url, content=content, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            delivery.last_status, delivery.last_error = None, of_connection(error)
            if is_final(error):
                delivery.state = "refused"
                return False
            return True
        delivery.last_status, delivery.last_error = response.status_code, None
        if response.status_code < 500:
            delivery.state = "delivered" if response.is_success else "refused"
        return response.status_code >= 500


def auth_body(
    *,
    environment: str,
    connection_id: str,
    integration: str,
    provider: str,
    auth_mode: str,
    operation: str,
    tags: Mapping[str, str] | None = None,
    end_user: Mapping[str, Any] | None = None,
    error: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The body of an auth webhook; a success has no error. None: the member is left out."""
    body: dict[str, Any] = {
        "from": "nango",
        "type": "auth",
        "connectionId": connection_id,
        "providerConfigKey": integration,
        "authMode": auth_mode,
        "provider": provider,
        "environment": environment,
        "operation": operation,
        "success": error is None,
    }
    optional = {"tags": tags, "endUser": end_user, "error": error}
    return body | {name: value for name, value in optional.items() if value is not None}


def serialize(body: object) -> bytes:
    """The bytes that Nango signs: keys sorted at every depth, no spaces, non-ASCII unescaped.

    (Nango contract: Signatures)
    """
    return json.dumps(_in_order(body), separators=(",", ":"), ensure_ascii=False).encode()


def is_final(error: BaseException) -> bool:
    """Whether Nango does not retry after this error: an unknown host name, TLS, a malformed URL.

    (Nango contract: Delivery and retries)
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError | httpx.InvalidURL | httpx.UnsupportedProtocol):
            return True
        if isinstance(cause, socket.gaierror):
            return cause.errno != socket.EAI_AGAIN
        cause = cause.__cause__ or cause.__context__
    return False


def _headers(content: bytes, signing_key: str) -> dict[str, str]:
    return {
        "Accept": "application/json, text/plain, */*",
        "Content-Type": "application/json",
        "X-Nango-Signature": hashlib.sha256(signing_key.encode() + content).hexdigest(),
        "X-Nango-Hmac-Sha256": sign(content, signing_key),
        "User-Agent": USER_AGENT,
    }


def _in_order(value: object) -> object:
    if isinstance(value, Mapping):
        return {name: _in_order(value[name]) for name in sorted(value, key=_javascript_order)}
    return [_in_order(inner) for inner in value] if isinstance(value, list) else value


def _javascript_order(name: str) -> tuple[bool, int, bytes]:
    """JavaScript's order of keys: array indexes first, by number; other names by UTF-16 code units."""
    if name.isascii() and name.isdigit() and (name == "0" or name[0] != "0") and int(name) < 2**32 - 1:
        return False, int(name), b""
    return True, 0, name.encode("utf-16-be", "surrogatepass")

"""`POST /webhooks/nango[/{environment}]`: size, signature, fingerprint, store, 202 (promise 2).

A raw ASGI endpoint: Starlette's Request was measured to cost a third of the throughput. The body is not parsed here;
whatever is signed is stored, and judged by a worker.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from starlette.types import Message, Receive, Scope, Send

from app.db.storing import NewDelivery
from app.domain.signature import HEADER, fingerprint, matching_key
from app.environments import Environment, Environments
from app.ids import EVENT, new_id, show
from app.telemetry import WEBHOOKS, get_logger
from app.web.group_commit import GroupCommit, StoreUnavailable
from app.web.problems import problem

READ_SECONDS: Final = 12.0  # for the whole body; Nango gives up after 20 s
MAX_UNVERIFIED_BYTES: Final = 64 * 1024 * 1024  # of all requests whose signature is not known yet
SLOW_REFUSAL_SECONDS: Final = 6.0  # fast 503s would open Nango's breaker: six failures in 10 s (CONTRACT 1.6)
_SIGNATURE: Final = HEADER.encode()

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Refusal:
    """An answer other than 202; `cause` is its label in metrics and logs."""

    status: int
    cause: str
    title: str
    detail: str


class _Refused(Exception):
    def __init__(self, status: int, cause: str, title: str, detail: str) -> None:
        super().__init__(cause)
        self.refusal = _Refusal(status, cause, title, detail)


@dataclass(slots=True)
class WebhookEndpoint:
    """The ASGI endpoint of all environments."""

    environments: Environments
    store: GroupCommit
    body_limit: int
    clock: Callable[[], datetime]
    slow_refusal_seconds: float = SLOW_REFUSAL_SECONDS
    _unverified: int = field(default=0, init=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = scope["path_params"].get("environment", "default")
        arrived = asyncio.get_running_loop().time()
        try:
            receipt = await self._take(name, scope, receive, arrived)
        except _Refused as refused:
            refusal = refused.refusal
        except _ClientGone:
            WEBHOOKS.labels(name, "client_gone").inc()
            return
        else:
            await self._accept(name, receipt, send)
            return
        # Out of the `except`: its traceback would keep the body in memory for as long as the refusal waits.
        if refusal.status == 503:
            held = asyncio.get_running_loop().time() - arrived
            await asyncio.sleep(max(0.0, self.slow_refusal_seconds - held))
        await self._refuse(name, refusal, scope, receive, send)

    async def _accept(self, name: str, receipt: tuple[str, bool], send: Send) -> None:
        event_id, duplicate = receipt
        WEBHOOKS.labels(name, "duplicate" if duplicate else "stored").inc()
        body = b'{"event_id":"%b","duplicate":%b}' % (event_id.encode(), b"true" if duplicate else b"false")
        await send(_start(202, len(body)))
        await send({"type": "http.response.body", "body": body})

    async def _take(self, name: str, scope: Scope, receive: Receive, arrived: float) -> tuple[str, bool]:
        """Store one request. Returns the event's shown id and whether it was there before."""
        if scope["method"] != "POST":
            raise _Refused(405, "method", "Method not allowed", "Nango's webhooks are POST requests.")
        environment = self.environments.get(name)
        if environment is None:
            detail = "No Nango environment of this name is configured here. Check the webhook URL in Nango's settings."
            raise _Refused(404, "unknown_environment", "Unknown environment", detail)
        body = await self._read(scope, receive)
        self._verify(environment, scope, body)
        delivery = NewDelivery(
            event_id=new_id(),
            environment=name,
            fingerprint=fingerprint(name, body),
            body=body,
            received_at=self.clock(),
        )
        try:
            receipt = await self.store.store(delivery, arrived=arrived)
        except StoreUnavailable:
            raise _Refused(503, "overload", "Not stored", "The webhook could not be stored. Send it again.") from None
        return show(EVENT, receipt.event_id), receipt.duplicate

    def _verify(self, environment: Environment, scope: Scope, body: bytes) -> None:
        signatures = [value for name, value in scope["headers"] if name == _SIGNATURE]
        if not signatures:
            detail = f"The header {HEADER} is missing. Waylink does not accept the legacy X-Nango-Signature."
            raise _Refused(401, "no_signature", "Not signed", detail)
        # Nango sends one; with several, what we verified might not be what somebody in front of us did.
        signature = signatures[0].decode("latin-1") if len(signatures) == 1 else None
        if matching_key(body, signature, environment.signing_keys.live()) is None:
            detail = (
                f"The signature in {HEADER} was not made with a live signing key of this environment. "
                "Compare the webhook signing key in Nango's environment settings with Waylink's."
            )
            raise _Refused(401, "bad_signature", "Wrong signature", detail)

    async def _read(self, scope: Scope, receive: Receive) -> bytes:
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        if declared.isdigit() and int(declared) > self.body_limit:
            raise self._too_large()
        taken = 0
        chunks = []
        try:
            async with asyncio.timeout(READ_SECONDS):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _ClientGone
                    chunk = message.get("body", b"")
                    taken += len(chunk)
                    self._unverified += len(chunk)
                    if taken > self.body_limit:
                        raise self._too_large()
                    if self._unverified > MAX_UNVERIFIED_BYTES:
                        raise _Refused(503, "overload", "Busy", "Too many requests are being read. Send it again.")
                    chunks.append(chunk)
                    if not message.get("more_body", False):
                        return b"".join(chunks)
        except TimeoutError:
            raise _Refused(503, "slow_body", "Too slow", "The body did not arrive in time. Send it again.") from None
        finally:
            self._unverified -= taken

    def _too_large(self) -> _Refused:
        detail = f"A webhook body may have {self.body_limit} bytes (WAYLINK_BODY_LIMIT_BYTES)."
        return _Refused(413, "too_large", "Body too large", detail)

    async def _refuse(self, name: str, refused: _Refusal, scope: Scope, receive: Receive, send: Send) -> None:
        # An unknown name is the sender's choice: as a label it would let anybody fill the metrics.
        WEBHOOKS.labels(name if name in self.environments else "", refused.cause).inc()
        client = scope.get("client") or ("", 0)
        log.warning(
            "webhook_refused", environment=name[:100], status=refused.status, cause=refused.cause, peer=client[0]
        )
        headers = {"allow": "POST"} if refused.status == 405 else {}
        if refused.status == 413:
            headers["connection"] = "close"  # the rest of the body is not read
        await problem(refused.status, refused.title, refused.detail, headers=headers)(scope, receive, send)


class _ClientGone(Exception):
    """The peer hung up before its body had arrived: nobody is there to be answered."""


def _start(status: int, length: int) -> Message:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(length).encode())]
    return {"type": "http.response.start", "status": status, "headers": headers}

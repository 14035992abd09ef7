"""`POST /webhooks/nango[/{environment}]`: size, signature, fingerprint, store, 202 (promise 2).

A raw ASGI endpoint: Starlette's Request was measured to cost a third of the throughput. The body is not parsed here;
whatever is signed is stored, and judged by a worker.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final
from uuid import UUID

from starlette.types import Message, Receive, Scope, Send

from app.db.storing import NewDelivery
from app.domain.signature import HEADER, fingerprint, matching_key
from app.environments import Environment, Environments
from app.ids import EVENT, new_id, show
from app.services.intake import Receipt
from app.telemetry import WEBHOOKS, get_logger
from app.web.bodies import BodyReader, ClientGone, Refusal, Refused
from app.web.group_commit import GroupCommit, StoreUnavailable
from app.web.problems import problem
from app.web.proxies import behind_proxies
from app.web.record import IngestRecord

PATH: Final = "/webhooks/nango"
SLOW_REFUSAL_SECONDS: Final = 6.0  # fast 503s would open Nango's breaker: six failures in 10 s (CONTRACT 1.6)
_SIGNATURE: Final = HEADER.encode()

log = get_logger(__name__)


@dataclass(slots=True)
class WebhookEndpoint:
    """The ASGI endpoint of all environments."""

    environments: Environments
    store: GroupCommit
    record: IngestRecord
    bodies: BodyReader
    clock: Callable[[], datetime]
    slow_refusal_seconds: float = SLOW_REFUSAL_SECONDS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = scope["path"][len(PATH) :].strip("/") or "default"
        arrived = asyncio.get_running_loop().time()
        try:
            receipt = await self._take(name, scope, receive, arrived)
        except Refused as refused:
            refusal = refused.refusal
        except ClientGone:
            WEBHOOKS.labels(name, "client_gone").inc()
            self.record.refused(name, "client_gone", status=0, peer=_peer(scope))
            return
        except Exception:
            # A fault of ours must not cost the webhook: Nango sends again what is answered so.
            log.exception("webhook_fault", environment=name[:100])
            refusal = Refusal(503, "fault", "A fault of ours", "It is logged. Send the webhook again.")
        else:
            start, body = _DUPLICATE if receipt.duplicate else _STORED
            await send(start)
            await send({"type": "http.response.body", "body": body % show(EVENT, receipt.event_id).encode()})
            return
        # Out of the `except`: its traceback would keep the body in memory for as long as the refusal waits.
        if refusal.status == 503:
            await _let_pass(receive, until=arrived + self.slow_refusal_seconds)
        # Whom a proxy names as its client is looked up here and not for every request.
        await behind_proxies(partial(self._refuse, name, refusal))(scope, receive, send)

    async def _take(self, name: str, scope: Scope, receive: Receive, arrived: float) -> Receipt:
        """Store one request."""
        if scope["method"] != "POST":
            raise Refused(405, "method", "Method not allowed", "Nango's webhooks are POST requests.")
        environment = self.environments.get(name)
        if environment is None:
            detail = "No Nango environment of this name is configured here. Check the webhook URL in Nango's settings."
            raise Refused(404, "unknown_environment", "Unknown environment", detail)
        declared, signatures = _told(scope)
        body = await self.bodies.read(receive, declared=declared)
        self._verify(environment, signatures, body)
        delivery = NewDelivery(new_id(), name, fingerprint(name, body), body, self.clock())
        try:
            return await self.store.store(delivery, arrived=arrived)
        except StoreUnavailable:
            raise Refused(503, "overload", "Not stored", "The webhook could not be stored. Send it again.") from None

    def _verify(self, environment: Environment, signatures: Sequence[bytes], body: bytes) -> None:
        if not signatures:
            detail = f"The header {HEADER} is missing. Waylink does not accept the legacy X-Nango-Signature."
            raise Refused(401, "no_signature", "Not signed", detail)
        # Nango sends one; with several, what we verified might not be what somebody in front of us did.
        signature = signatures[0].decode("latin-1") if len(signatures) == 1 else None
        keys = environment.signing_keys.live()
        matched = matching_key(body, signature, keys)
        if matched is None:
            detail = (
                f"The signature in {HEADER} was not made with a live signing key of this environment. "
                "Compare the webhook signing key in Nango's environment settings with Waylink's."
            )
            raise Refused(401, "bad_signature", "Wrong signature", detail)
        self.record.signed_with(environment.name, keys[matched])

    async def _refuse(self, name: str, refused: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
        # An unknown name is the sender's choice: as a label it would let anybody fill the metrics.
        WEBHOOKS.labels(name if name in self.environments else "", refused.cause).inc()
        self.record.refused(
            name, refused.cause, status=refused.status, peer=_peer(scope), detail=_asked(refused, scope)
        )
        headers = {"allow": "POST"} if refused.status == 405 else {}
        if refused.status == 413:
            headers["connection"] = "close"  # the rest of the body is not read
        await problem(refused.status, refused.title, refused.detail, headers=headers)(scope, receive, send)


async def _let_pass(receive: Receive, *, until: float) -> None:
    """Wait, or for the client to leave; what still arrives is thrown away, so that nobody keeps it in memory."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(until):
            while (await receive())["type"] != "http.disconnect":
                pass


def _told(scope: Scope) -> tuple[bytes, list[bytes]]:
    """The headers we go by: the declared length, and every signature."""
    declared, signatures = b"", []
    for name, value in scope["headers"]:
        if name == _SIGNATURE:
            signatures.append(value)
        elif name == b"content-length":
            declared = value
    return declared, signatures


def _peer(scope: Scope) -> str:
    host, _ = scope.get("client") or ("", 0)
    return str(host)


def _asked(refused: Refusal, scope: Scope) -> str:
    """What the request asked for that it was refused, where the cause alone does not tell."""
    if refused.cause == "method":
        return str(scope["method"])
    if refused.status == 413:
        declared, _ = _told(scope)
        return f"{declared.decode('latin-1') or '?'} bytes declared"
    return ""


def _answer(body: bytes) -> tuple[Message, bytes]:
    """The start and the body of a 202, made once. `%b` in the body stands for the event's id."""
    length = len(body % show(EVENT, UUID(int=0)).encode())
    headers = [(b"content-type", b"application/json"), (b"content-length", str(length).encode())]
    return {"type": "http.response.start", "status": 202, "headers": headers}, body


_STORED: Final = _answer(b'{"event_id":"%b","duplicate":false}')
_DUPLICATE: Final = _answer(b'{"event_id":"%b","duplicate":true}')

"""`POST /webhooks/nango[/{environment}]`: size, signature, fingerprint, store, 202 (promise 2).

A raw ASGI endpoint: Starlette's Request was measured to cost a third of the throughput. Every signed body is stored,
and processed by a worker. Possible credentials are scrubbed before (promise 7): a regular expression shows of most
bodies that there are none. Scrubbing that takes longer is done in a thread, for one body at a time.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Final, TypeVar
from uuid import UUID

from starlette.types import Message, Receive, Scope, Send

from app.config.nango_environment import Environment, Environments
from app.db.ingest import NewDelivery
from app.domain.signature import HEADER, fingerprint, matching_key
from app.domain.stored_bodies import stored, stored_at_once
from app.domain.traceparent import HEADER as TRACEPARENT
from app.domain.traceparent import read as read_traceparent
from app.ids import EVENT, new_id, show
from app.services.events.intake import Receipt
from app.telemetry import WEBHOOKS, get_logger
from app.web.bodies import BodyReader, ClientGone, Refusal, Refused
from app.web.group_commit import GroupCommit, OnCommit, StoreUnavailable
from app.web.ingest_counters import IngestRecord
from app.web.large_bodies import LARGE, stored_large
from app.web.problems import problem
from app.web.proxies import behind_proxies
from app.web.written_responses import Sending

PATH: Final = "/webhooks/nango"
GIVEN_UP: Final = "waylink.given_up"  # in a scope: it could not be stored; arrival time on the loop's clock
CONNECTION: Final = "waylink.connection"  # in a scope: a weak reference to the client's connection
SLOW_REFUSAL_SECONDS: Final = 6.0  # six failures in 10 s open Nango's breaker (Nango contract: Circuit breaker)
_SIGNATURE: Final = HEADER.encode()
_TRACEPARENT: Final = TRACEPARENT.encode()
_TARGET: Final = PATH.encode()
_DEFAULT: Final = "default"

Headers = Sequence[tuple[bytes, bytes]]  # names in lower case
_Result = TypeVar("_Result")

log = get_logger(__name__)


_BODIES: Final = b'{"event_id":"%b","duplicate":false}', b'{"event_id":"%b","duplicate":true}'
_LENGTHS: Final = [len(body % show(EVENT, UUID(int=0)).encode()) for body in _BODIES]
_STARTS: Final[list[Message]] = [
    {
        "type": "http.response.start",
        "status": 202,
        "headers": [(b"content-type", b"application/json"), (b"content-length", str(length).encode())],
    }
    for length in _LENGTHS
]


class Answers:
    """A 202 in wire format. Its head is made once a second, when the server's `date` changes."""

    __slots__ = ("_defaults", "_heads")

    def __init__(self) -> None:
        self._defaults: Headers | None = None
        self._heads: list[bytes] = []

    def of(self, receipt: Receipt, defaults: Headers, *, keep_alive: bool) -> bytes:
        """The answer's bytes. defaults: the server's own headers."""
        if defaults is not self._defaults:
            self._defaults = defaults
            start = b"".join([b"HTTP/1.1 202 Accepted\r\n", *(b"%b: %b\r\n" % header for header in defaults)])
            self._heads = [
                b"%bcontent-type: application/json\r\ncontent-length: %d\r\n" % (start, length) for length in _LENGTHS
            ]
        event_id, duplicate = receipt
        shown = show(EVENT, event_id).encode()
        end = b"\r\n" if keep_alive else b"connection: close\r\n\r\n"
        return b"".join((self._heads[duplicate], end, _BODIES[duplicate] % shown))


@dataclass(slots=True)
class WebhookEndpoint:
    """The ASGI endpoint of all environments."""

    environments: Environments
    store: GroupCommit
    record: IngestRecord
    bodies: BodyReader
    clock: Callable[[], datetime]
    slow_refusal_seconds: float = SLOW_REFUSAL_SECONDS
    answers: Answers = field(default_factory=Answers)
    _aside: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "bodies"), init=False)

    def close(self) -> None:
        self._aside.shutdown(wait=False, cancel_futures=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection = scope[CONNECTION]() if CONNECTION in scope else None
        with Sending(connection) as sending:
            await self._serve(scope, receive, send, sending)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, sending: Sending) -> None:
        name = scope["path"][len(PATH) :].strip("/") or _DEFAULT
        arrived = scope.get(GIVEN_UP) or asyncio.get_running_loop().time()
        try:
            if GIVEN_UP in scope:
                raise _not_stored(storing=self.store.storing)
            receipt = await self._take(name, scope, receive, arrived, sending)
        except Refused as refused:
            refusal = refused.refusal
        except ClientGone:
            WEBHOOKS.labels(name, "client_gone").inc()
            self.record.refused(name, "client_gone", status=0, peer=_peer(scope))
            return
        except Exception:
            # An internal error must not lose the webhook: Nango retries after a 503.
            log.exception("webhook_fault", environment=name[:100])
            refusal = Refusal(503, "fault", "A fault of ours", "It is logged. Send the webhook again.")
        else:
            sending.begin()
            await send(_STARTS[receipt.duplicate])
            body = _BODIES[receipt.duplicate] % show(EVENT, receipt.event_id).encode()
            await send({"type": "http.response.body", "body": body})
            sending.sent()
            return
        # Outside of the `except`: its traceback would keep the body in memory while the refusal waits.
        if refusal.status == 503:
            await _let_pass(receive, until=arrived + self.slow_refusal_seconds)
        # The client's address behind a proxy is determined here, not for every request.
        await behind_proxies(partial(self._refuse, name, refusal))(scope, receive, send)

    def take(self, target: bytes, headers: Headers, body: bytes, on_commit: OnCommit, *, now: float) -> UUID | None:
        """Take a complete POST if it will be stored; `on_commit` is called when it was. Returns the delivery's id.

        None: nothing was done, and it has to be served as a request: to be refused, read in its unusual form, or
        scrubbed for longer than the event loop may be held up.
        """
        name = _plain_name(target)
        environment = self.environments.get(name)
        if environment is None or len(body) > min(self.bodies.limit, LARGE):
            return None
        try:
            keys = environment.signing_keys.live()
            _, signatures, trace = _used(headers)
            matched = _matched(body, signatures, keys)
            kept = None if matched is None else stored_at_once(body, environment.payloads)
            if matched is None or kept is None:
                return None
            delivery = self._delivery(environment, fingerprint(name, body), kept, trace, matched)
            self.store.take(delivery, on_commit, now=now, arrived=now)
        except StoreUnavailable:
            return None
        except Exception:
            log.exception("webhook_fault", environment=name[:100])
            return None
        self.record.signed_with(name, keys[matched])
        return delivery.event_id

    async def _take(self, name: str, scope: Scope, receive: Receive, arrived: float, sending: Sending) -> Receipt:
        """Store one request."""
        if scope["method"] != "POST":
            raise Refused(405, "method", "Method not allowed", "Nango's webhooks are POST requests.")
        environment = self.environments.get(name)
        if environment is None:
            detail = "No Nango environment of this name is configured here. Check the webhook URL in Nango's settings."
            raise Refused(404, "unknown_environment", "Unknown environment", detail)
        declared, signatures, trace = _used(scope["headers"])
        body = await self.bodies.read(receive, declared=declared)
        delivery = await self._verified(environment, signatures, body, trace)
        try:
            return await self.store.store(delivery, arrived=arrived, written=sending.written)
        except StoreUnavailable:
            raise _not_stored(storing=self.store.storing) from None

    async def _verified(
        self, environment: Environment, signatures: Sequence[bytes], body: bytes, trace: bytes | None
    ) -> NewDelivery:
        """The delivery of a signed body. Raises Refused."""
        keys = environment.signing_keys.live()
        at_once = len(body) <= LARGE
        if at_once:
            matched = self._signed_by(environment, signatures, keys, _matched(body, signatures, keys))
            kept = stored_at_once(body, environment.payloads)
            if kept is not None:
                return self._delivery(environment, fingerprint(environment.name, body), kept, trace, matched)
        with self.bodies.held(len(body)):
            if not at_once:
                found = await self._in_thread(_matched, body, signatures, keys)
                matched = self._signed_by(environment, signatures, keys, found)
            return self._delivery(environment, *await self._in_thread(_scrubbed, environment, body), trace, matched)

    async def _in_thread(self, work: Callable[..., _Result], *arguments: object) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._aside, work, *arguments)

    def _delivery(
        self, environment: Environment, identity: bytes, kept: bytes, trace: bytes | None, key: int
    ) -> NewDelivery:
        """key: the index of the live key that verified it."""
        taken_by, traceparent = self.store.answers.process, read_traceparent(trace) if trace else None
        return NewDelivery(new_id(), environment.name, identity, kept, self.clock(), taken_by, traceparent, key + 1)

    def _signed_by(
        self, environment: Environment, signatures: Sequence[bytes], keys: Sequence[str], matched: int | None
    ) -> int:
        """Count the key that matched, and return its index. Raises Refused."""
        if not signatures:
            detail = f"The header {HEADER} is missing. Waylink does not accept the legacy X-Nango-Signature."
            raise Refused(401, "no_signature", "Not signed", detail)
        if matched is None:
            detail = (
                f"The signature in {HEADER} was not made with a live signing key of this environment. "
                "Compare the webhook signing key in Nango's environment settings with Waylink's."
            )
            raise Refused(401, "bad_signature", "Wrong signature", detail)
        self.record.signed_with(environment.name, keys[matched])
        return matched

    async def _refuse(self, name: str, refused: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
        # Clients choose unknown names: as labels these would let them fill the metrics.
        WEBHOOKS.labels(name if name in self.environments else "", refused.cause).inc()
        self.record.refused(
            name, refused.cause, status=refused.status, peer=_peer(scope), detail=_detail(refused, scope)
        )
        headers = {"allow": "POST"} if refused.status == 405 else {}
        if refused.status == 413:
            headers["connection"] = "close"  # the rest of the body is not read
        await problem(refused.status, refused.title, refused.detail, headers=headers)(scope, receive, send)


def _not_stored(*, storing: bool) -> Refused:
    """The refusal: too many requests wait or the row was refused, or else the database is away or slow."""
    if storing:
        return Refused(503, "overload", "Not stored", "The webhook could not be stored. Send it again.")
    return Refused(503, "database_away", "Not stored", "The database does not store webhooks now. Send it again.")


def _plain_name(target: bytes) -> str:
    """The environment in an ordinary request target; an empty text for a target that has to be parsed first."""
    if target == _TARGET:
        return _DEFAULT
    return target[len(_TARGET) + 1 :].decode("latin-1") if target.startswith(_TARGET + b"/") else ""


def _matched(body: bytes, signatures: Sequence[bytes], keys: Sequence[str]) -> int | None:
    """Index of the key that signed. Nango sends one signature; of several, a proxy in front may have verified
    another.
    """
    return matching_key(body, signatures[0].decode("latin-1"), keys) if len(signatures) == 1 else None


def _scrubbed(environment: Environment, body: bytes) -> tuple[bytes, bytes]:
    """The fingerprint of a body, and its stored form."""
    kept = stored_large(body, environment.payloads) if len(body) > LARGE else stored(body, environment.payloads)
    return fingerprint(environment.name, body), kept


async def _let_pass(receive: Receive, *, until: float) -> None:
    """Wait until the time or the client's end, discarding received data so that it takes no memory."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(until):
            while (await receive())["type"] != "http.disconnect":
                pass


def _used(headers: Headers) -> tuple[bytes, list[bytes], bytes | None]:
    """The headers in use: the declared length, every signature, and the trace. Of several traces none is known."""
    declared, signatures, trace = b"", [], None
    for name, value in headers:
        if name == _SIGNATURE:
            signatures.append(value)
        elif name == b"content-length":
            declared = value
        elif name == _TRACEPARENT:
            trace = value if trace is None else b""
    return declared, signatures, trace


def _peer(scope: Scope) -> str:
    host, _ = scope.get("client") or ("", 0)
    return str(host)


def _detail(refused: Refusal, scope: Scope) -> str:
    """Details of the request, where the cause alone does not explain the refusal."""
    if refused.cause == "method":
        return str(scope["method"])
    if refused.status == 413:
        declared = _used(scope["headers"])[0]
        return f"{declared.decode('latin-1') or '?'} bytes declared"
    return ""

"""The fast path of a complete webhook: taken straight from its connection, and answered by the commit itself.

uvicorn makes a task and two events for each request, and an answer passes through three coroutines: that was measured
to cost more than verification and storing. Only webhooks that will be answered 202 take this path. Refused, partial or
unusually formed requests are passed to uvicorn unchanged, and the ASGI endpoint decides.
"""

import asyncio
import weakref
from typing import Any, Final, cast
from uuid import UUID

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from app.services.events.intake import Receipt
from app.web.client_connection import ClientConnection
from app.web.webhooks import CONNECTION, GIVEN_UP, PATH, WebhookEndpoint

_TARGET: Final = PATH.encode()


class _NoEvent:
    """A stand-in for uvicorn's event, which is not awaited here."""

    def set(self) -> None: ...


class WebhookCycle:
    """A webhook that waits for its commit. To uvicorn it is a request cycle like others, so later requests queue behind
    it.
    """

    __slots__ = (
        "_arrived", "_connection", "_scope", "_webhooks", "delivery", "disconnected", "keep_alive", "response_complete"
    )  # fmt: skip
    more_body: Final = False
    message_event: Final = _NoEvent()

    def __init__(self, connection: "WebhookConnection", webhooks: WebhookEndpoint, scope: Any, arrived: float) -> None:
        self._connection, self._webhooks, self._scope, self._arrived = connection, webhooks, scope, arrived
        self.keep_alive, self.response_complete, self.disconnected = True, False, False
        self.delivery: UUID | None = None  # set once it is submitted

    def complete(self, receipt: Receipt | None) -> None:
        """Answer by the commit's receipt; None where it could not be stored within the time a request may be held."""
        connection = self._connection
        if receipt is None and not connection.transport.is_closing():
            connection.refuse(self, {**self._scope, GIVEN_UP: self._arrived})
            return
        self.response_complete = True
        if receipt is None:
            return
        log, delivery = self._webhooks.store.answers, self.delivery or receipt.event_id
        if not connection.is_open:
            log.lost(delivery)
            return
        defaults = connection.server_state.default_headers
        answer = self._webhooks.answers.of(receipt, defaults, keep_alive=self.keep_alive)
        cast("Any", connection.transport).write_at_once(answer)
        if not connection.written():
            log.watch(delivery, connection.written)
        connection.answered(self)


class WebhookConnection(ClientConnection):
    """Passes complete webhooks to the application's endpoint, if it has one."""

    __slots__ = ("_parts", "_webhooks")

    def connection_made(self, transport: object) -> None:
        self._webhooks: WebhookEndpoint | None = getattr(self.app, "webhooks", None)
        self._parts: list[bytes] | None = None  # the body of a request that may take the fast path
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        ClientConnection.data_received(self, data)
        if self._parts is not None:
            self._pass_to_uvicorn()  # incomplete

    def on_headers_complete(self) -> None:
        if self._webhooks is not None and self._may_be_taken():
            self._parts = []
        else:
            self._on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self._parts is None:
            ClientConnection.on_body(self, body)
        else:
            self._overhead -= len(body)
            self._parts.append(body)

    def on_message_complete(self) -> None:
        if self._parts is not None:
            if self._take(self._parts):
                self._overhead, self._parts = 0, None
                return
            self._pass_to_uvicorn()
        ClientConnection.on_message_complete(self)

    def _may_be_taken(self) -> bool:
        parser = self.parser
        return (
            self.url.startswith(_TARGET)
            and parser.get_method() == b"POST"
            and parser.get_http_version() == "1.1"
            and parser.should_keep_alive()
            and not parser.should_upgrade()
            and not self.expect_100_continue
            and (self.cycle is None or self.cycle.response_complete)
        )

    def _take(self, parts: list[bytes]) -> bool:
        assert self._webhooks is not None  # noqa: S101 - _parts is set only with an endpoint
        now = self.loop.time()
        cycle = WebhookCycle(self, self._webhooks, self.scope, now)
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        cycle.delivery = self._webhooks.take(self.url, self.headers, body, cycle.complete, now=now)
        if cycle.delivery is None:
            return False
        scope: dict[str, Any] = cast("Any", self.scope)
        scope.update(method="POST", path=self.url.decode(), raw_path=self.url, query_string=b"")  # for a late refusal
        self.cycle = cast("RequestResponseCycle", cycle)
        return True

    def _pass_to_uvicorn(self) -> None:
        """Pass the parsed parts of this request to uvicorn."""
        parts, self._parts = self._parts, None
        if self.transport.is_closing():
            return
        self._on_headers_complete()
        for part in parts or ():
            HttpToolsProtocol.on_body(self, part)

    def _on_headers_complete(self) -> None:
        """The ordinary path through uvicorn.

        The endpoint needs the connection that it answers on; a weak reference, since the scope would be part of a
        cycle.
        """
        cast("Any", self.scope)[CONNECTION] = weakref.ref(self)
        ClientConnection.on_headers_complete(self)

    def answered(self, cycle: WebhookCycle) -> None:
        """uvicorn's steps after an answer, without its timer: the sweep closes idle connections."""
        if not cycle.keep_alive:
            self.transport.close()
        if self.pipeline:
            self.on_response_complete()
        else:
            self.server_state.total_requests += 1

    def refuse(self, cycle: WebhookCycle, scope: Any) -> None:
        """Have the endpoint refuse a webhook that could not be stored; the connection ends with that answer."""
        refusal = RequestResponseCycle(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=False,
            on_response=self.on_response_complete,
        )
        refusal.more_body = False
        if cast("Any", self.cycle) is cycle:
            self.cycle = refusal
        self._start_asgi_task(refusal, self.app)

"""Connections to judged addresses: what a name resolved to is judged, and exactly that is connected to (DESIGN 6).

The name is resolved once for a connection, so an owner who lets it point elsewhere a moment later (DNS rebinding)
changes nothing. TLS still goes by the name.
"""

import asyncio
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, cast

import httpcore
import httpx

from app.domain.addresses import Address, Network, Place, judge
from app.errors import Unreachable

CONNECT_SECONDS: Final = 5.0  # resolving, TCP and TLS together
MOST_TRIED: Final = 3  # addresses of one name; more would only divide the time further
RESOLVERS: Final = 16  # threads; a name server that hangs holds one for each name
READ_AHEAD: Final = 64 * 1024


class Failure(StrEnum):
    """Why there is no answer, not even a bad one."""

    REFUSED = "refused"  # we do not connect there: the address or the URL is not allowed
    UNRESOLVED = "unresolved"  # the name has no address
    UNREACHABLE = "unreachable"  # nobody takes connections there
    TLS = "tls"  # no trusted connection: the certificate is not the name's, or not signed by anybody we trust
    TIMED_OUT = "timed_out"
    BROKEN = "broken"  # the connection ended before an answer
    INVALID = "invalid"  # what came is no HTTP answer, or its head has no end


Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class Resolver:
    """The system's resolver, in threads of its own, asked once for all who want the same name at the same time.

    A name whose server does not answer holds one thread, however many wait for it: others are not delayed.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(RESOLVERS, thread_name_prefix="resolve")
        self._asked: dict[tuple[str, int], asyncio.Task[Sequence[str]]] = {}

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """The addresses of a name, in the resolver's order. Raises OSError."""
        key = (host, port)
        if key not in self._asked:
            task = asyncio.create_task(self._ask(host, port))
            self._asked[key] = task
            task.add_done_callback(partial(self._forget, key))
        return await asyncio.shield(self._asked[key])

    async def _ask(self, host: str, port: int) -> Sequence[str]:
        ask = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        return [str(address[0]) for *_, address in found]

    def _forget(self, key: tuple[str, int], task: asyncio.Task[Sequence[str]]) -> None:
        self._asked.pop(key, None)
        if not task.cancelled():
            task.exception()  # whoever waited may be gone: then nobody else looks at it

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


class Stream(asyncio.Protocol, httpcore.AsyncNetworkStream):
    """One connection, as httpcore reads and writes it. What is written leaves with the next read, in one piece."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._unsent: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None
        self._ended = False
        self._problem: Exception | None = None

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclass of it

    def data_received(self, data: bytes) -> None:
        self._received += data
        if len(self._received) > READ_AHEAD and self._transport is not None:
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        self._ended = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended, self._problem = True, exc
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # httpcore's side. Its time-outs are not used: the sender bounds the whole exchange

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self._flush()
        while not self._received and not self._ended:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if not self._received:
            if self._problem is not None:
                raise httpcore.ReadError(type(self._problem).__name__)
            return b""
        data = bytes(self._received[:max_bytes])
        del self._received[:max_bytes]
        if len(self._received) <= READ_AHEAD and self._transport is not None and not self._ended:
            self._transport.resume_reading()
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if buffer:
            self._unsent.append(buffer)

    def _flush(self) -> None:
        if self._unsent and self._transport is not None:
            self._transport.write(b"".join(self._unsent))
        self._unsent.clear()

    async def aclose(self) -> None:
        self.abort()

    def abort(self) -> None:
        """At once: a peer who does not say goodbye in TLS must not hold us."""
        if self._transport is not None:
            self._transport.abort()

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":  # while nothing is asked: the peer hung up, or speaks out of turn
            return self._ended or bool(self._received)
        return self._transport.get_extra_info(info) if self._transport is not None else None


@dataclass(frozen=True, slots=True)
class Connector:
    """Opens connections to places. `allowed`: the networks that the operator opened."""

    resolve: Resolve
    tls: ssl.SSLContext
    allowed: Sequence[Network] = ()

    async def connect(self, place: Place, *, seconds: float = CONNECT_SECONDS) -> Stream:
        """A connection, TLS included, to an address that was judged. Raises Unreachable."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + seconds
        try:
            async with asyncio.timeout_at(ends_at):
                addresses = await self.addresses(place)
        except TimeoutError:
            raise Unreachable(Failure.TIMED_OUT, f"the name was not resolved within {seconds:g} s") from None
        for left in range(len(addresses), 0, -1):
            # The last one gets all the time that is left; none before it may use up that of the others.
            share = (ends_at - loop.time()) / left
            try:
                async with asyncio.timeout(share):
                    return await self._open(place, addresses[-left])
            except (OSError, TimeoutError) as failed:
                problem = _explain(failed, seconds)
        raise problem

    async def addresses(self, place: Place) -> Sequence[Address]:
        """Where one may connect to for a place, at most a few. Raises Unreachable."""
        try:
            found = [place.host] if _is_literal(place.host) else await self.resolve(place.host, place.port)
        except (OSError, UnicodeError) as unknown:
            reason = unknown.strerror if isinstance(unknown, OSError) and unknown.strerror else "not a name"
            raise Unreachable(Failure.UNRESOLVED, f"the name does not resolve: {reason}") from None
        judged = judge(found, self.allowed)
        if not judged.allowed:
            raise Unreachable(Failure.REFUSED if judged.refused else Failure.UNRESOLVED, judged.why)
        return judged.allowed[:MOST_TRIED]

    async def _open(self, place: Place, address: Address) -> Stream:
        tls, name = (self.tls, place.host) if place.scheme == "https" else (None, None)
        loop = asyncio.get_running_loop()
        # The address itself: nothing is resolved again between the judgement and this.
        _, stream = await loop.create_connection(Stream, str(address), place.port, ssl=tls, server_hostname=name)
        return stream


def trusting(authorities: Path | None = None) -> ssl.SSLContext:
    """TLS that is verified as in calls to Nango; `authorities` is a PEM file of the operator's own ones beside."""
    context = httpx.create_ssl_context(trust_env=False)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if authorities is not None:
        context.load_verify_locations(cafile=authorities)
    return context


def _is_literal(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _explain(failed: OSError | TimeoutError, seconds: float) -> Unreachable:
    """Errors of the operating system and of TLS name no address of ours, but their full text may."""
    if isinstance(failed, ssl.SSLCertVerificationError):
        return Unreachable(Failure.TLS, f"its certificate is not trusted: {failed.verify_message.rstrip('.')}")
    if isinstance(failed, ssl.SSLError):
        return Unreachable(Failure.TLS, f"TLS failed: {failed.reason or type(failed).__name__}")
    if isinstance(failed, TimeoutError) and failed.errno is None:
        return Unreachable(Failure.TIMED_OUT, f"no connection within {seconds:g} s")
    return Unreachable(Failure.UNREACHABLE, f"no connection: {os.strerror(failed.errno) if failed.errno else 'failed'}")

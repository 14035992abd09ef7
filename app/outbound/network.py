"""Connections to checked addresses: a name's addresses are checked, and exactly these are connected to.

The name is resolved once per connection, so an owner that changes it a moment later (DNS rebinding) gains nothing. TLS
verifies the name.
"""

import asyncio
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import httpx

from app.domain.addresses import Address, HttpUrl, Network, check_addresses
from app.errors import Unreachable
from app.outbound.failure import Failure
from app.outbound.http_connection import HttpConnection

CONNECT_SECONDS: Final = 5.0  # resolving, TCP and TLS together
MOST_TRIED: Final = 3  # addresses of one name; more would leave each too little of the time
RESOLVERS: Final = 16  # threads; a name server that hangs holds one per name


Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class Resolver:
    """The system's resolver in threads of its own. Concurrent queries for one name share one thread.

    So a name whose server does not answer holds one thread, and delays no other name while threads are left.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(RESOLVERS, thread_name_prefix="resolve")
        self._asked: dict[tuple[str, int], asyncio.Task[Sequence[str]]] = {}

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """The name's addresses, in the resolver's order. Raises OSError."""
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
            task.exception()  # retrieved, as all callers may have been cancelled

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class Connector:
    """Opens connections. `allowed`: networks that the operator opened."""

    resolve: Resolve
    tls: ssl.SSLContext
    allowed: Sequence[Network] = ()

    async def connect(self, url: HttpUrl) -> HttpConnection:
        """A connection, TLS included, to a checked address. Raises Unreachable."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + CONNECT_SECONDS
        try:
            async with asyncio.timeout_at(ends_at):
                addresses = await self.addresses(url)
        except TimeoutError:
            raise Unreachable(Failure.TIMED_OUT, f"the name was not resolved within {CONNECT_SECONDS:g} s") from None
        for left in range(len(addresses), 0, -1):
            # An equal share of the time left, so that no address uses up that of the next.
            share = (ends_at - loop.time()) / left
            try:
                async with asyncio.timeout(share):
                    return await self._open(url, addresses[-left])
            except (OSError, TimeoutError) as failed:
                problem = _explain(failed)
        raise problem

    async def addresses(self, url: HttpUrl) -> Sequence[Address]:
        """The addresses to try, at most MOST_TRIED, in the resolver's order. Raises Unreachable."""
        try:
            found = [url.host] if _is_literal(url.host) else await self.resolve(url.host, url.port)
        except (OSError, UnicodeError) as unknown:
            reason = unknown.strerror if isinstance(unknown, OSError) and unknown.strerror else "not a name"
            raise Unreachable(Failure.UNRESOLVED, f"the name does not resolve: {reason}") from None
        checked = check_addresses(found, self.allowed)
        if not checked.allowed:
            raise Unreachable(Failure.REFUSED if checked.refused else Failure.UNRESOLVED, checked.why)
        return checked.allowed[:MOST_TRIED]

    async def _open(self, url: HttpUrl, address: Address) -> HttpConnection:
        tls, name = (self.tls, url.host) if url.scheme == "https" else (None, None)
        loop = asyncio.get_running_loop()
        # The address, not the name: nothing is resolved again after the check.
        _, connection = await loop.create_connection(
            HttpConnection, str(address), url.port, ssl=tls, server_hostname=name
        )
        return connection


def trusting(authorities: Path | None = None) -> ssl.SSLContext:
    """A TLS context that verifies as calls to Nango do. `authorities`: a PEM file of further authorities."""
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


def _explain(failed: OSError | TimeoutError) -> Unreachable:
    """The error, in words. Only the system's and TLS's own texts are used: a full one may name an internal address."""
    if isinstance(failed, ssl.SSLCertVerificationError):
        return Unreachable(Failure.TLS, f"its certificate is not trusted: {failed.verify_message.rstrip('.')}")
    if isinstance(failed, ssl.SSLError):
        return Unreachable(Failure.TLS, f"TLS failed: {failed.reason or type(failed).__name__}")
    if isinstance(failed, TimeoutError) and failed.errno is None:
        return Unreachable(Failure.TIMED_OUT, f"no connection within {CONNECT_SECONDS:g} s")
    return Unreachable(Failure.UNREACHABLE, f"no connection: {os.strerror(failed.errno) if failed.errno else 'failed'}")

"""Connections to judged addresses: what a name resolved to is judged, and exactly that is connected to.

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
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import httpx

from app.domain.addresses import Address, Network, Place, judge
from app.errors import Unreachable
from app.outbound.failure import Failure
from app.outbound.http import Connection

CONNECT_SECONDS: Final = 5.0  # resolving, TCP and TLS together
MOST_TRIED: Final = 3  # addresses of one name; more would only divide the time further
RESOLVERS: Final = 16  # threads; a name server that hangs holds one for each name


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


@dataclass(frozen=True, slots=True)
class Connector:
    """Opens connections to places. `allowed`: the networks that the operator opened."""

    resolve: Resolve
    tls: ssl.SSLContext
    allowed: Sequence[Network] = ()

    async def connect(self, place: Place) -> Connection:
        """A connection, TLS included, to an address that was judged. Raises Unreachable."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + CONNECT_SECONDS
        try:
            async with asyncio.timeout_at(ends_at):
                addresses = await self.addresses(place)
        except TimeoutError:
            raise Unreachable(Failure.TIMED_OUT, f"the name was not resolved within {CONNECT_SECONDS:g} s") from None
        for left in range(len(addresses), 0, -1):
            # The last one gets all the time that is left; none before it may use up that of the others.
            share = (ends_at - loop.time()) / left
            try:
                async with asyncio.timeout(share):
                    return await self._open(place, addresses[-left])
            except (OSError, TimeoutError) as failed:
                problem = _explain(failed)
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

    async def _open(self, place: Place, address: Address) -> Connection:
        tls, name = (self.tls, place.host) if place.scheme == "https" else (None, None)
        loop = asyncio.get_running_loop()
        # The address itself: nothing is resolved again between the judgement and this.
        _, connection = await loop.create_connection(
            Connection, str(address), place.port, ssl=tls, server_hostname=name
        )
        return connection


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


def _explain(failed: OSError | TimeoutError) -> Unreachable:
    """Errors of the operating system and of TLS name no address of ours, but their full text may."""
    if isinstance(failed, ssl.SSLCertVerificationError):
        return Unreachable(Failure.TLS, f"its certificate is not trusted: {failed.verify_message.rstrip('.')}")
    if isinstance(failed, ssl.SSLError):
        return Unreachable(Failure.TLS, f"TLS failed: {failed.reason or type(failed).__name__}")
    if isinstance(failed, TimeoutError) and failed.errno is None:
        return Unreachable(Failure.TIMED_OUT, f"no connection within {CONNECT_SECONDS:g} s")
    return Unreachable(Failure.UNREACHABLE, f"no connection: {os.strerror(failed.errno) if failed.errno else 'failed'}")

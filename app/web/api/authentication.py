"""Authentication of API calls by bearer tokens.

A token that was live at its last lookup is looked up in a pool of its own, so that made-up tokens do not slow down real
ones. Each address may have MAX_UNKNOWN unknown tokens looked up at the same time.
"""

import asyncio
import ipaddress
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Final

from starlette.requests import Request

from app.db.engine import Database
from app.domain.access import Access
from app.services import tokens
from app.web.api.pool import CallPool
from app.web.api.problems import TOO_MANY_UNKNOWN_TOKENS, UNAUTHENTICATED, ApiRefusal

MAX_UNKNOWN: Final = 4  # concurrent lookups of unknown tokens per address
MAX_REMEMBERED: Final = 10_000  # tokens that were live at their last lookup


@dataclass(slots=True)
class Authenticator:
    """Looks tokens up for each call, so that a revoked one ends at once. Concurrent calls with one token share a
    lookup.
    """

    database: Database
    clock: Callable[[], datetime]
    _known_pool: CallPool = field(default_factory=lambda: CallPool(1, "api-token"), init=False)
    _unknown_pool: CallPool = field(default_factory=lambda: CallPool(1, "api-unknown-token"), init=False)
    _known: dict[bytes, None] = field(default_factory=dict, init=False)  # hashes, least recently used first
    _lookups: dict[bytes, asyncio.Task[Access | None]] = field(default_factory=dict, init=False)
    _unknown_of: Counter[str] = field(default_factory=Counter, init=False)  # in flight, by address

    async def access(self, request: Request) -> Access:
        """The caller's rights. Raises Refusal."""
        kind, _, secret = request.headers.get("authorization", "").partition(" ")
        secret = secret.strip()
        if kind.lower() != "bearer" or not secret:
            detail = "Send an API token as `Authorization: Bearer wl_…`; `waylink token create` makes one."
            raise ApiRefusal(UNAUTHENTICATED, detail, headers={"www-authenticate": "Bearer"})
        access = await self._shared_lookup(secret, _address(request)) if tokens.is_token(secret) else None
        if access is None:
            detail = "The token is unknown, revoked or expired. `waylink token list` shows which there are."
            headers = {"www-authenticate": 'Bearer error="invalid_token"'}
            raise ApiRefusal(UNAUTHENTICATED, detail, headers=headers)
        return access

    def close(self) -> None:
        self._known_pool.close()
        self._unknown_pool.close()

    async def _shared_lookup(self, secret: str, address: str) -> Access | None:
        digest = tokens.digest(secret)
        lookup = self._lookups.get(digest)
        if lookup is None:
            if digest not in self._known and self._unknown_of[address] >= MAX_UNKNOWN:
                detail = "Several unknown tokens of this address are being looked up. Wait for their answers."
                raise ApiRefusal(TOO_MANY_UNKNOWN_TOKENS, detail, headers={"retry-after": "1"})
            self._unknown_of[address] += digest not in self._known
            lookup = asyncio.create_task(self._look_up(secret, digest, address, known=digest in self._known))
            self._lookups[digest] = lookup
        return await asyncio.shield(lookup)  # a caller that disconnects does not end it for the others

    async def _look_up(self, secret: str, digest: bytes, address: str, *, known: bool) -> Access | None:
        authenticate = partial(tokens.authenticate, self.database, secret, now=self.clock())
        try:
            access: Access | None = await (self._known_pool if known else self._unknown_pool).run(authenticate)
        finally:
            del self._lookups[digest]
            self._unknown_of[address] -= not known
            if not self._unknown_of[address]:
                del self._unknown_of[address]
        self._known.pop(digest, None)
        if access is not None:
            self._known[digest] = None
            if len(self._known) > MAX_REMEMBERED:
                del self._known[next(iter(self._known))]
        return access


def _address(request: Request) -> str:
    """The client's address; for IPv6 its /64 network, which one site has."""
    host = request.client.host if request.client else ""
    try:
        parsed = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    return str(ipaddress.ip_network((parsed, 64), strict=False)) if parsed.version == 6 else host

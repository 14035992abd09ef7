"""From a request's bearer token to what its caller may do.

A token that was live at its last look-up is looked up apart from those that were never seen: made-up tokens take no
place from real ones. Of unknown tokens an address may have a few looked up at the same time.
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
from app.web.api.pool import Pool
from app.web.api.problems import TOO_MANY_UNKNOWN_TOKENS, UNAUTHENTICATED, Refusal

MAX_UNKNOWN: Final = 4  # unknown tokens of one address that are being looked up
MAX_REMEMBERED: Final = 10_000  # tokens that were live at their last look-up


@dataclass(slots=True)
class Door:
    """Looks tokens up, each time anew, so that a revoked one ends at once. Calls with one token share a look-up."""

    database: Database
    clock: Callable[[], datetime]
    _known_pool: Pool = field(default_factory=lambda: Pool(1, "api-token"), init=False)
    _unknown_pool: Pool = field(default_factory=lambda: Pool(1, "api-unknown-token"), init=False)
    _known: dict[bytes, None] = field(default_factory=dict, init=False)  # hashes, the longest unused first
    _looking: dict[bytes, asyncio.Task[Access | None]] = field(default_factory=dict, init=False)
    _unknown_of: Counter[str] = field(default_factory=Counter, init=False)  # in flight, by address

    async def access(self, request: Request) -> Access:
        """What the caller may do. Raises Refusal."""
        kind, _, secret = request.headers.get("authorization", "").partition(" ")
        secret = secret.strip()
        if kind.lower() != "bearer" or not secret:
            detail = "Send an API token as `Authorization: Bearer wl_…`; `waylink token create` makes one."
            raise Refusal(UNAUTHENTICATED, detail, headers={"www-authenticate": "Bearer"})
        access = await self._looked_up(secret, _address(request)) if tokens.is_token(secret) else None
        if access is None:
            detail = "The token is unknown, revoked or expired. `waylink token list` shows which there are."
            headers = {"www-authenticate": 'Bearer error="invalid_token"'}
            raise Refusal(UNAUTHENTICATED, detail, headers=headers)
        return access

    def close(self) -> None:
        self._known_pool.close()
        self._unknown_pool.close()

    async def _looked_up(self, secret: str, address: str) -> Access | None:
        digest = tokens.digest(secret)
        looking = self._looking.get(digest)
        if looking is None:
            if digest not in self._known and self._unknown_of[address] >= MAX_UNKNOWN:
                detail = "Several unknown tokens of this address are being looked up. Wait for their answers."
                raise Refusal(TOO_MANY_UNKNOWN_TOKENS, detail, headers={"retry-after": "1"})
            self._unknown_of[address] += digest not in self._known
            looking = asyncio.create_task(self._look_up(secret, digest, address, known=digest in self._known))
            self._looking[digest] = looking
        return await asyncio.shield(looking)  # a caller that leaves does not end it for the others

    async def _look_up(self, secret: str, digest: bytes, address: str, *, known: bool) -> Access | None:
        look = partial(tokens.authenticate, self.database, secret, now=self.clock())
        try:
            access: Access | None = await (self._known_pool if known else self._unknown_pool).run(look)
        finally:
            del self._looking[digest]
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
    """Where a call comes from; of IPv6 the network that one site has."""
    host = request.client.host if request.client else ""
    try:
        parsed = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    return str(ipaddress.ip_network((parsed, 64), strict=False)) if parsed.version == 6 else host

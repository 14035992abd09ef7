"""Authentication of calls: by a bearer token, or by the session of an operator who has signed in.

A secret that was live at its last lookup is looked up in a pool of its own, so that made-up ones do not slow down real
ones. Each address may have MAX_UNKNOWN unknown secrets looked up at the same time.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Final

from starlette.requests import Request

from app.db.engine import Database
from app.domain.access import Access
from app.services import tokens
from app.services.operators import sessions, team_portals
from app.services.operators.secrets import SESSION as SESSION_PREFIX
from app.services.operators.secrets import TEAM_SESSION, has_form
from app.services.operators.sessions import Lives, SignedIn
from app.web.api.pool import CallPool
from app.web.api.problems import CROSS_SITE, TOO_MANY_UNKNOWN_TOKENS, UNAUTHENTICATED, ApiRefusal
from app.web.browser_sessions import SAFE_METHODS, Browsers
from app.web.client_address import client_address

MAX_UNKNOWN: Final = 4  # concurrent lookups of unknown secrets per address
MAX_REMEMBERED: Final = 10_000  # secrets that were live at their last lookup


@dataclass(slots=True)
class Authenticator:
    """Looks secrets up for each call, so that a revoked one ends at once. Concurrent calls with one share a lookup."""

    database: Database
    clock: Callable[[], datetime]
    browsers: Browsers = field(default_factory=Browsers)
    lives: Lives = field(default_factory=Lives)
    _known_pool: CallPool = field(default_factory=lambda: CallPool(1, "api-token"), init=False)
    _unknown_pool: CallPool = field(default_factory=lambda: CallPool(1, "api-unknown-token"), init=False)
    _known: dict[bytes, None] = field(default_factory=dict, init=False)  # hashes, least recently used first
    _lookups: dict[bytes, asyncio.Task[Any]] = field(default_factory=dict, init=False)
    _unknown_of: Counter[str] = field(default_factory=Counter, init=False)  # in flight, by address

    async def access(self, request: Request) -> Access:
        """The caller's rights. Raises Refusal."""
        header = request.headers.get("authorization")
        if header is None and self.browsers.session(request) is not None:
            return await self._of_session(request)
        kind, _, secret = (header or "").partition(" ")
        secret = secret.strip()
        if kind.lower() != "bearer" or not secret:
            detail = "Send an API token as `Authorization: Bearer wl_…`; `waylink token create` makes one."
            raise ApiRefusal(UNAUTHENTICATED, detail, headers={"www-authenticate": "Bearer"})
        access: Access | None = None
        if tokens.is_token(secret):
            find = partial(tokens.authenticate, self.database, secret, now=self.clock())
            access = await self._shared_lookup(secret, client_address(request), find)
        if access is None:
            detail = "The token is unknown, revoked or expired. `waylink token list` shows which there are."
            headers = {"www-authenticate": 'Bearer error="invalid_token"'}
            raise ApiRefusal(UNAUTHENTICATED, detail, headers=headers)
        return access

    async def signed_in(self, request: Request, *, is_use: bool = True) -> SignedIn | None:
        """The live session of the request's cookie; None without one. Raises Refusal.

        is_use: a person asks, so that the session is used, and lives on.
        """
        _, secret = self.browsers.session(request) or ("", "")
        of_portal = has_form(secret, TEAM_SESSION)
        if not of_portal and not has_form(secret, SESSION_PREFIX):
            return None
        authenticate = team_portals.authenticate if of_portal else sessions.authenticate
        find = partial(authenticate, self.database, secret, lives=self.lives, now=self.clock(), is_use=is_use)
        found: SignedIn | None = await self._shared_lookup(secret, client_address(request), find)
        return found

    def close(self) -> None:
        self._known_pool.close()
        self._unknown_pool.close()

    async def _of_session(self, request: Request) -> Access:
        if request.method not in SAFE_METHODS and not self.browsers.is_own(request):
            detail = "A change by a session has to come from a page of Waylink's own; programs send an API token."
            raise ApiRefusal(CROSS_SITE, detail)
        found = await self.signed_in(request)
        if found is None:
            detail = "The session has ended: sign in again at /console/sign-in."
            raise ApiRefusal(UNAUTHENTICATED, detail, headers={"www-authenticate": "Bearer"})
        return found.access

    async def _shared_lookup(self, secret: str, address: str, find: Callable[[], Any]) -> Any:
        digest = tokens.digest(secret)
        lookup = self._lookups.get(digest)
        if lookup is None:
            if digest not in self._known and self._unknown_of[address] >= MAX_UNKNOWN:
                detail = "Several unknown tokens of this address are being looked up. Wait for their answers."
                raise ApiRefusal(TOO_MANY_UNKNOWN_TOKENS, detail, headers={"retry-after": "1"})
            self._unknown_of[address] += digest not in self._known
            lookup = asyncio.create_task(self._look_up(find, digest, address, known=digest in self._known))
            self._lookups[digest] = lookup
        return await asyncio.shield(lookup)  # a caller that disconnects does not end it for the others

    async def _look_up(self, find: Callable[[], Any], digest: bytes, address: str, *, known: bool) -> Any:
        try:
            found = await (self._known_pool if known else self._unknown_pool).run(find)
        finally:
            del self._lookups[digest]
            self._unknown_of[address] -= not known
            if not self._unknown_of[address]:
                del self._unknown_of[address]
        self._known.pop(digest, None)
        if found is not None:
            self._known[digest] = None
            if len(self._known) > MAX_REMEMBERED:
                del self._known[next(iter(self._known))]
        return found

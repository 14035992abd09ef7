"""GET /connections (Nango contract: List connections; Tag filters): filters, paging, and the replica's lag."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from starlette.responses import Response

from app.sandbox.checks import Checks
from app.sandbox.context import SandboxCall
from app.sandbox.entities import SandboxConnection
from app.sandbox.serialization import listed

WITHOUT_LIMIT: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    connection_id: str | None
    search: str | None
    integrations: frozenset[str] | None
    tags: dict[str, str]
    end_user_id: str | None
    organization_id: str | None

    def tests(self) -> Iterator[Callable[[SandboxConnection], bool]]:
        """The tests for the given filters only: most calls have one filter."""
        if (integrations := self.integrations) is not None:
            yield lambda connection: connection.integration in integrations
        if self.tags:
            yield lambda connection: self.tags.items() <= connection.tags.items()
        if self.search:
            needle = self.search.lower()
            yield lambda connection: any(needle in text.lower() for text in _searched(connection))
        if self.end_user_id is not None:
            yield lambda connection: connection.end_user is not None and connection.end_user.id == self.end_user_id
        if self.organization_id is not None:
            yield lambda connection: self.organization_id == _organization_id(connection)


def list_connections(call: SandboxCall) -> Response:
    checks = Checks(call.query, code="invalid_query_params")
    integrations = checks.optional_text("integrationId", maximum=10_000)
    wanted = Filter(
        connection_id=checks.optional_text("connectionId"),
        search=checks.optional_text("search"),
        integrations=frozenset(integrations.split(",")) if integrations else None,
        tags=checks.tags() or {},
        end_user_id=checks.optional_text("endUserId"),
        organization_id=checks.optional_text("endUserOrganizationId"),
    )
    limit = int(checks.number("limit", minimum=1, maximum=2000) or WITHOUT_LIMIT)
    page = int(checks.number("page", default=0, minimum=0, maximum=2**31) or 0)
    checks.done()
    found = islice(_matching(call, wanted), page * limit, (page + 1) * limit)
    return call.answer({"connections": [listed(connection) for connection in found]})


def _matching(call: SandboxCall, wanted: Filter) -> Iterator[SandboxConnection]:
    replica = call.sandbox.store.replica
    if wanted.connection_id is not None:
        rows = replica.with_connection_id(wanted.connection_id, now=call.now)
    else:
        rows = replica.newest_first(now=call.now)
    for test in wanted.tests():
        rows = filter(test, rows)
    return rows


def _searched(connection: SandboxConnection) -> Iterator[str]:
    """The id and the legacy end user's name and e-mail; never tags."""
    yield connection.connection_id
    if owner := connection.end_user:
        yield from (text for text in (owner.display_name, owner.email) if text)


def _organization_id(connection: SandboxConnection) -> str | None:
    owner = connection.end_user
    return owner.organization.id if owner and owner.organization else None

"""Declaration of endpoints: `@endpoint` reads a function's types, which also make the OpenAPI document."""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Final, Generic, Literal, TypeVar, get_type_hints

import msgspec
from msgspec import Meta, Struct

from app.brokers.hints import Hints
from app.db.engine import Database
from app.db.read import searching
from app.domain.access import Access, Scope
from app.services.connections.operations import Operations
from app.services.definitions.destination_alerts import Alerts
from app.services.definitions.destinations import DefinitionContext
from app.services.nango_clients import NangoClients
from app.services.notifying.testing import ChannelTester
from app.services.policy import Policy
from app.services.routing.cache import RouteCache
from app.services.status.installation import Installation
from app.web.api.problems import CONFLICT, ProblemKind

BODY_LIMIT: Final = 1024 * 1024
MAX_LIMIT: Final = 500

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
Row = TypeVar("Row")
_PARAMETER: Final = re.compile(r"{(\w+)(?::\w+)?}")


@dataclass(frozen=True, slots=True)
class Context:
    """Dependencies of endpoints; made once per process."""

    database: Database
    policy: Policy
    clients: NangoClients
    clock: Callable[[], datetime]
    hints: Hints
    means: DefinitionContext  # for secrets and addresses of destinations
    routes: RouteCache = field(default_factory=RouteCache)
    alerts: Alerts = field(default_factory=Alerts)  # for manual changes to a destination
    installation: Callable[[], Installation] | None = None  # the configuration as it is now, for the status
    status_database: Database | None = None  # with short limits, for the status; None: `database`
    settings: Sequence[Mapping[str, Any]] = ()  # in force, without secrets
    tester: ChannelTester | None = None  # of the channels of notifications


@dataclass(frozen=True, slots=True)
class Call:
    """One call: the caller's rights and the dependencies."""

    access: Access
    context: Context

    @property
    def actor(self) -> str:
        """The caller's name in the audit."""
        return self.access.actor

    @contextmanager
    def operations(self) -> Iterator[Operations]:
        """Operations on connections; at the end of the block the events that they stored are hinted."""
        context = self.context
        operations = Operations(context.database, context.policy, context.clients, context.clock)
        try:
            yield operations
        finally:
            context.hints.of_events(operations.stored)

    @property
    def team(self) -> str | None:
        """The team that the caller is limited to; None for all."""
        return self.access.team


class PageQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters of every list."""

    limit: Annotated[int, Meta(ge=1, le=MAX_LIMIT, description="Rows at most.")] = 50
    cursor: Annotated[str, Meta(description="`next_cursor` of the page before.", min_length=1)] | None = None


class Page(Struct, Generic[Row], frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Some rows, newest first. `next_cursor` leads to those after them; null on the last page."""

    data: list[Row]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Method, path and types of one operation, and its function, which runs in a thread."""

    method: Method
    path: str
    name: str
    summary: str
    description: str
    scope: Scope
    teams: bool
    asks_nango: bool
    matches_patterns: bool
    holds_secret: bool
    status: int
    body_limit: int
    problems: tuple[ProblemKind, ...]
    query: type[Struct] | None
    body: type[Struct] | None
    lines: bool  # JSON lines as bytes, instead of a body
    answer: Any
    run: Callable[..., Any]

    @property
    def template(self) -> str:
        """The path in OpenAPI's form."""
        return _PARAMETER.sub(r"{\1}", self.path)

    @property
    def writes(self) -> bool:
        return self.method != "GET"

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names in the path, in order."""
        return tuple(_PARAMETER.findall(self.path))


def endpoint(
    operation: str,
    *,
    scope: Scope,
    teams: bool = False,
    asks_nango: bool = False,
    matches_patterns: bool = False,
    holds_secret: bool = False,
    status: int | None = None,
    body_limit: int = BODY_LIMIT,
    problems: tuple[ProblemKind, ...] = (),
) -> Callable[[Callable[..., Any]], Endpoint]:
    """Make an endpoint of a function.

    operation: such as `GET /connections/{con_id}`; parts in braces are passed by name, as text. The function takes
    `call`, optionally `query` and `body`, msgspec Structs, or instead of a body `lines`, the bytes of JSON lines; its
    result is the answer (None: 204). Its docstring's first line is the summary. scope: the scope that a token needs.
    teams: tokens of one team may call, too (to change something with the scope operator), and the function respects
    `call.team`. asks_nango: it waits for Nango, in a pool of its own. matches_patterns: it may compute for seconds, in
    a pool of its own, one call of a team or token at a time. holds_secret: its body or its answer does; neither
    is kept in any form for repetitions with an idempotency key. problems: in addition to those of every such endpoint.
    """
    method, _, path = operation.partition(" ")

    def declare(run: Callable[..., Any]) -> Endpoint:
        hints = get_type_hints(run, include_extras=True)
        summary, _, rest = inspect.cleandoc(run.__doc__ or "").partition("\n")
        answer = hints["return"]
        default = 204 if answer is type(None) else 200
        conflicts: tuple[ProblemKind, ...] = () if method == "GET" else (CONFLICT,)
        return Endpoint(
            method=method,  # type: ignore[arg-type]  # a word of `operation`
            path=path,
            name=run.__name__,
            summary=summary.rstrip("."),
            description=rest.strip(),
            scope=scope,
            teams=teams,
            asks_nango=asks_nango,
            matches_patterns=matches_patterns,
            holds_secret=holds_secret,
            status=status or default,
            body_limit=body_limit,
            problems=(*conflicts, *problems),
            query=hints.get("query"),
            body=hints.get("body"),
            lines="lines" in hints,
            answer=answer,
            run=run,
        )

    return declare


def record(row: Mapping[str, Any], shape: type[Row]) -> Row:
    """One row in its shape."""
    return msgspec.convert(row, shape)


def page(rows: Sequence[Mapping[str, Any]], limit: int, shape: type[Row]) -> Page[Row]:
    """A page of rows that were queried with `limit` + 1: the additional one shows whether there are more.

    Where the search for them ended before the page was full, the next page begins there.
    """
    shown = [record(row, shape) for row in rows[:limit]]
    searched_to = rows.searched_to if isinstance(rows, searching.Page) else None
    return Page(data=shown, next_cursor=rows[limit - 1]["id"] if len(rows) > limit else searched_to)

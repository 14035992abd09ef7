"""An endpoint, declared once: `@endpoint` reads its types off a function, and the OpenAPI document is made of that."""

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
from app.domain.access import Access, Scope
from app.services.connections.operations import Operations
from app.services.definitions.alerts import Alerts
from app.services.definitions.destinations import Means
from app.services.nango_clients import NangoClients
from app.services.policy import Policy
from app.services.routing.cache import RouteCache
from app.web.api.problems import CONFLICT, Kind

BODY_LIMIT: Final = 1024 * 1024
MAX_LIMIT: Final = 500

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
Row = TypeVar("Row")
_PARAMETER: Final = re.compile(r"{(\w+)(?::\w+)?}")


@dataclass(frozen=True, slots=True)
class Context:
    """What endpoints work with; made once per process."""

    database: Database
    policy: Policy
    clients: NangoClients
    clock: Callable[[], datetime]
    hints: Hints
    means: Means  # of keeping secrets, and where destinations may be
    routes: RouteCache = field(default_factory=RouteCache)
    alerts: Alerts = field(default_factory=Alerts)  # of changes that somebody made to a destination


@dataclass(frozen=True, slots=True)
class Call:
    """One call: who makes it, and what to work with."""

    access: Access
    context: Context

    @property
    def actor(self) -> str:
        """What the audit calls the caller."""
        return self.access.actor

    @contextmanager
    def operations(self) -> Iterator[Operations]:
        """What operations on connections need. When they are over, the events that they stored are hinted."""
        context = self.context
        operations = Operations(context.database, context.policy, context.clients, context.clock)
        try:
            yield operations
        finally:
            context.hints.of_events(operations.stored)

    @property
    def team(self) -> str | None:
        """The only team whose rows the caller may see; None for all."""
        return self.access.team


class PageQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The part of a query that every listing has."""

    limit: Annotated[int, Meta(ge=1, le=MAX_LIMIT, description="Rows at most.")] = 50
    cursor: Annotated[str, Meta(description="`next_cursor` of the page before.", min_length=1)] | None = None


class Page(Struct, Generic[Row], frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Some rows, newest first. `next_cursor` leads to those after them; null on the last page."""

    data: list[Row]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Method, path and types of one operation, and the function behind it, which runs in a thread."""

    method: Method
    path: str
    name: str
    summary: str
    description: str
    scope: Scope
    teams: bool
    asks_nango: bool
    judges: bool
    status: int
    body_limit: int
    problems: tuple[Kind, ...]
    query: type[Struct] | None
    body: type[Struct] | None
    lines: bool  # instead of a body: JSON lines, as they come
    answer: Any
    run: Callable[..., Any]

    @property
    def template(self) -> str:
        """The path as OpenAPI has it."""
        return _PARAMETER.sub(r"{\1}", self.path)

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
    judges: bool = False,
    status: int | None = None,
    body_limit: int = BODY_LIMIT,
    problems: tuple[Kind, ...] = (),
) -> Callable[[Callable[..., Any]], Endpoint]:
    """Make an endpoint of a function.

    operation: such as `GET /connections/{con_id}`; what stands in braces is passed by name, as text. The function
    takes `call`, and where it has them `query` and `body`, msgspec Structs, or instead of a body `lines`, the bytes of
    JSON lines; what it returns is the answer (None: 204).
    Its docstring's first line is the summary. scope: what a token needs. teams: tokens of one team may call, too (to
    change something those with the scope operator), and the function minds `call.team`. asks_nango: it waits for Nango,
    in a pool of its own. judges: it matches patterns, which may take seconds, in a pool of its own, one call of a team
    or token at a time. problems: beside those that every such endpoint can have.
    """
    method, _, path = operation.partition(" ")

    def declare(run: Callable[..., Any]) -> Endpoint:
        hints = get_type_hints(run, include_extras=True)
        summary, _, rest = inspect.cleandoc(run.__doc__ or "").partition("\n")
        answer = hints["return"]
        default = 204 if answer is type(None) else 200
        changes: tuple[Kind, ...] = () if method == "GET" else (CONFLICT,)
        return Endpoint(
            method=method,  # type: ignore[arg-type]  # a word of `operation`
            path=path,
            name=run.__name__,
            summary=summary.rstrip("."),
            description=rest.strip(),
            scope=scope,
            teams=teams,
            asks_nango=asks_nango,
            judges=judges,
            status=status or default,
            body_limit=body_limit,
            problems=(*changes, *problems),
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
    """A page of rows that were asked for with one more than `limit`: that one tells whether there are others."""
    shown = [record(row, shape) for row in rows[:limit]]
    return Page(data=shown, next_cursor=rows[limit - 1]["id"] if len(rows) > limit else None)

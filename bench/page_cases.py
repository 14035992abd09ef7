"""Every way to ask for each page of the console and each list of the API, on the rows of `bench.large_tables`.

They come from the registries of both: a page or a filter that is added is asked for without a change here, a filter of
any text by what no row has, and one by a time by the last day, unless SOME has its values.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Final
from urllib.parse import quote, urlencode
from uuid import UUID

from msgspec import Struct
from sqlalchemy import text

from app import ids
from app.db.engine import Database
from app.ids import show
from app.web.access_table import PAGES
from app.web.api.endpoint import Endpoint
from app.web.api.registry import ENDPOINTS
from app.web.console.fields import Fields, Filter
from app.web.console.figure_kinds import KINDS

API: Final = "/api/v1"
CONSOLE: Final = "/console"
PAGING: Final = frozenset({"limit", "cursor"})
# Of signing in, or asking systems that are not there.
LEFT_OUT: Final = frozenset(
    f"GET {CONSOLE}{rest}"
    for rest in (
        "/portal/{secret}",
        "/sign-in",
        "/sign-in/oidc",
        "/sign-in/oidc/callback",
        "/welcome/{secret}",
        "/connections/{con_id}/metadata",
    )
) | {"GET /"}
# Queries without which a page or an endpoint refuses to answer, or that make it read more.
NEEDED: Final[Mapping[str, Sequence[str]]] = {
    f"{CONSOLE}": ("", "span=1h", "span=7d", "span=30d"),
    f"{CONSOLE}/connections/act": ("act=refresh", "act=unlink&integration=integration7"),
    f"{CONSOLE}/figures/{{figure}}": ("since=1h", "since=24h", "since=7d", "since=30d"),
    f"{CONSOLE}/jobs/act": tuple(
        f"act={act}&state={state}"
        for act, state in (("retry", "discarded"), ("cancel", "available"), ("redeliver", "completed"))
    ),
    f"{API}/figures": tuple(
        f"name={name}&step={step}&since={since}"
        for name in ("webhooks", "backlog", "webhook_to_job_seconds")
        for step, since in (("minute", "1h"), ("hour", "24h"), ("day", "30d"))
    ),
}
# Values of filters that take any text: what most rows have, what only the oldest have, and what none has.
SOME: Final[Mapping[str, Sequence[str]]] = {
    "action": ("connection.tags_set", "rare.done", "none"),
    "actor": ("token:app", "cli:rare", "none"),
    "cause": ("bad_signature", "none"),
    "days": ("7", "90"),
    "deadline_before": ("0s", "1d"),
    "destination": ("team0/jobs", "team0/none"),
    "due_after": ("0s", "1d"),
    "due_before": ("0s", "1d"),
    "email": ("u77@people.example", "none"),
    "environment": ("default", "rare", "none"),
    "expires_after": ("0s", "1d"),
    "expires_before": ("0s", "1d"),
    "external_id": ("u77", "o77", "none"),
    "grant_after": ("1d",),
    "grant_before": ("7d",),
    "integration": ("integration7", "rare", "none"),
    "name": ("crm.import", "rare", "none"),
    "organization": ("o77", "none"),
    "provider": ("provider1", "rare", "none"),
    "route": ("team1/route1", "team1/rare", "team1/none"),
    "since": ("31d", "1h"),
    "subject": ("con_5", "none"),
    "tags[plan]": ("pro", "none"),
    "tags[end_user_id]": ("u5",),
    "team": ("team0", "none"),
    "user": ("u77777", "none"),
}
OF_TIMES: Final = frozenset({"since", "until", "before", "after"})  # how filters by a time end
SEARCHES: Final = (
    "type:connection.created", "type:connection.deleted", "type:token.expiring", "type:waylink", "type:nango.forward",
    "state:processed", "state:failed", "origin:operator", "environment:rare", "environment:none",
    "integration:integration7", "integration:rare", "integration:none",
    "provider:provider1", "provider:rare", "provider:none", "connection:none",
    "user:u77777", "user:u77777@people.example", "user:none", "organization:o77", "organization:none",
    "tag.plan:pro", "tag.plan:none", "tag.end_user_id:u5", "tag.end_user_id:u1000000000",
    "u77777@people.example", "u77777", "o77", "confirmed", "nothing-says-this",
    "since:40d", "until:29d", "tag.plan:pro type:connection.deleted", "organization:o77 type:nango.sync",
    "organization:o77 type:token.expiring",
    "provider:rare tag.plan:pro", "integration:rare nothing-says-this", "tag.plan:pro nothing-says-this",
)  # fmt: skip
CONNECTION_SEARCHES: Final = (
    "environment:rare", "integration:integration7", "integration:rare", "provider:provider1", "provider:rare",
    "provider:none", "connection:none", "user:u77777", "user:u77777@people.example", "user:none", "organization:o77",
    "organization:none", "tag.plan:pro", "tag.plan:none", "tag.end_user_id:u5", "name:o77", "name:none",
    "containing:people", "nothing-says-this", "u77777@people.example", "u77777", "o77", "o77 tag.plan:pro",
    "tag.plan:pro nothing-says-this", "provider:rare tag.plan:pro",
)  # fmt: skip
# Tables of rows that have a page, or whose lists have pages in the order of their ids, and the prefix of these.
TABLES: Final[Mapping[str, tuple[str, str]]] = {
    "audit": ("audit", ids.AUDIT),
    "bulk-runs": ("bulk_runs", ids.BULK_RUN),
    "connections": ("connections", ids.CONNECTION),
    "events": ("events", ids.EVENT),
    "jobs": ("jobs", ids.JOB),
    "organizations": ("organizations", ids.ORGANIZATION),
    "reconciliations": ("reconciliations", ids.RECONCILIATION),
    "refreshes": ("refreshes", ids.REFRESH),
    "users": ("users", ids.USER),
}
_OF_ROWS: Final = {
    "blk_id": "bulk-runs", "con_id": "connections", "job_id": "jobs", "rec_id": "reconciliations",
    "organization_id": "organizations", "ref_id": "refreshes", "user_id": "users",
}  # fmt: skip
MIDDLE, LAST, NEWEST = 0.5, 0.00005, 0.97  # shares of a table, oldest first; the newest events still wait


@dataclass(frozen=True, slots=True)
class Case:
    """A request. operation: the page or endpoint that answers it, such as `GET /console/events`."""

    operation: str
    path: str
    how: str  # what it asks for, without ids of this run's rows


@dataclass(slots=True)
class Rows:
    """Rows of a filled database, by which pages are asked for."""

    database: Database
    _found: dict[tuple[str, float], str] = field(default_factory=dict)

    def id_of(self, kind: str, share: float) -> str:
        """The public id of the row after this share of its table, oldest first."""
        if (kind, share) not in self._found:
            table, prefix = TABLES[kind]
            found = (
                f"SELECT id FROM {table} ORDER BY id LIMIT 1 "
                f"OFFSET (SELECT floor((count(*) - 1) * :share)::bigint FROM {table})"
            )
            with self.database.read() as session:
                self._found[kind, share] = show(prefix, session.execute(text(found), {"share": share}).scalar_one())
        return self._found[kind, share]

    def connection_id(self, share: float) -> str:
        """Nango's id of such a connection."""
        found = text("SELECT connection_id FROM connections WHERE id = :id")
        with self.database.read() as session:
            key = ids.parse(ids.CONNECTION, self.id_of("connections", share))
            return str(session.execute(found, {"id": key}).scalar_one())

    def one(self, query: str) -> str:
        """The first value of a query."""
        with self.database.read() as session:
            return str(session.execute(text(query)).scalars().first())


def cases(rows: Rows) -> Iterator[Case]:
    """All of them."""
    known = _names(rows)
    lists = {endpoint.path: endpoint for endpoint in ENDPOINTS if endpoint.method == "GET" and not endpoint.asks_nango}
    for endpoint in lists.values():
        yield from _of_path(f"GET {endpoint.path}", API + endpoint.path, known, endpoint, rows)
    for operation in PAGES:
        method, _, path = operation.partition(" ")
        if method == "GET" and operation not in LEFT_OUT:
            yield from _of_path(operation, path, known, lists.get(path.removeprefix(CONSOLE)), rows)


def _of_path(
    operation: str, path: str, known: Mapping[str, Sequence[str]], endpoint: Endpoint | None, rows: Rows
) -> Iterator[Case]:
    """The page of each known row, as it is, by each filter, and in the middle and at the end of its list."""
    names = [part[1:-1].partition(":")[0] for part in path.replace(".", "/").split("/") if part.startswith("{")]
    query = endpoint.query if endpoint is not None else None
    for number, values in enumerate(product(*(known[name] for name in names))):
        filled = path
        for name, value in zip(names, values, strict=True):
            filled = filled.replace(f"{{{name}}}", quote(value)).replace(f"{{{name}:path}}", quote(value))
        for needed in NEEDED.get(path, ("",)):
            yield Case(operation, f"{filled}?{needed}".rstrip("?"), needed or f"row {number + 1}" if names else needed)
        if names or query is None or path in NEEDED:
            continue
        for name, value in _filters(path, query, rows):
            yield Case(operation, f"{filled}?{urlencode({name: value})}", _told(name, value))
        kind = path.rpartition("/")[2]
        if "cursor" in query.__struct_fields__ and kind in TABLES:
            for where, share in (("the middle", MIDDLE), ("the end", LAST)):
                yield Case(operation, f"{filled}?cursor={rows.id_of(kind, share)}", f"a page at {where}")


def _told(name: str, value: str) -> str:
    return f"{name}={value}" if name not in {"connection_id", "event"} else f"{name}=…"


def _filters(path: str, query: type[Struct], rows: Rows) -> Iterator[tuple[str, str]]:
    """Each filter of a list with each value that it is asked for by."""
    for each in query.__struct_fields__:
        names = [name for name in SOME if name.startswith("tags[")] if each == "tags" else [each]
        for name in names if each not in PAGING else ():
            [shown] = Fields(query, [Filter(each)]).shown({}, {})
            for value in shown.choices or _texts(path, name, rows):
                yield name, value


def _texts(path: str, name: str, rows: Rows) -> Sequence[str]:
    """Values of a filter that takes any text."""
    if name == "q" and path.endswith("/suggestions"):
        return ("", "type:", "tag.")
    if name == "q" and "/connections" in path:
        return (*CONNECTION_SEARCHES, rows.connection_id(MIDDLE), rows.id_of("connections", LAST))
    if name == "q":
        connection, old = rows.connection_id(MIDDLE), rows.id_of("events", LAST)
        return (*SEARCHES, f"connection:{connection}", connection, f"id:{old}", old)
    if name == "connection_id":
        return (rows.connection_id(MIDDLE), rows.connection_id(LAST), "none")
    if name == "event":
        return (rows.id_of("events", MIDDLE),)
    if name == "destination" and path.endswith("/routes"):
        return ("jobs", "none")
    if name == "environment" and path.endswith("/forecast"):
        return ("default",)  # it refuses one that is not configured
    return SOME.get(name, ("1d",) if name.rpartition("_")[2] in OF_TIMES else ("none",))


def _names(rows: Rows) -> dict[str, Sequence[str]]:
    """Values of the parameters of paths."""
    view, token = rows.one("SELECT id FROM saved_views WHERE shared LIMIT 1"), "token1"
    link = rows.one("SELECT id FROM team_links WHERE team = 'team1' LIMIT 1")
    session = rows.one("SELECT id FROM team_sessions WHERE link_id IN (SELECT id FROM team_links WHERE team = 'team1')")
    found: dict[str, Sequence[str]] = {
        name: [rows.id_of(kind, share) for share in (NEWEST, MIDDLE, LAST)] for name, kind in _OF_ROWS.items()
    }
    jobs = (ids.parse(ids.JOB, each) for each in found["job_id"])
    events = [UUID(rows.one(f"SELECT event_id FROM jobs WHERE id = '{job}'")) for job in jobs]
    return found | {
        "event_id": [show(ids.EVENT, event) for event in events],  # routed ones
        "destination": ["jobs", "http1"],
        "environment": ["default"],
        "figure": sorted(KINDS),
        "group": ["events"],
        "integration": ["integration1"],
        "link_id": [show(ids.TEAM_LINK, UUID(link))],
        "name": ["operator1"],
        "route": ["route1"],
        "session_id": [show(ids.SESSION, UUID(session))],
        "team": ["team1"],
        "token": [token],
        "view_id": [show(ids.VIEW, UUID(view))],
    }

"""Endpoints that act on many connections, by bulk runs."""

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct, field

from app.db.read import chosen_connections, connection_search
from app.db.read.chosen_connections import ConnectionFilters
from app.domain import tags as tag_rules
from app.domain.access import Scope
from app.domain.bulk_runs import BulkAct
from app.domain.states import ConnectionStatus
from app.errors import InvalidInput
from app.ids import CONNECTION, show
from app.services.bulk_runs.connection_acts import ConnectionsWanted
from app.services.bulk_runs.row_acts import written
from app.services.bulk_runs.run_requests import RunWanted
from app.timestamp_input import moment_ahead
from app.web.api.bulk_runs import BulkRun, carry_out
from app.web.api.connections import BOUNDS, Ahead
from app.web.api.endpoint import Call, Endpoint, endpoint
from app.web.api.expected import require_expected
from app.web.api.problems import INVALID_INPUT, INVALID_TAGS, NOT_FOUND
from app.web.api.reading import identity

SAMPLES: Final = 5
Text = Annotated[str, Meta(max_length=255)]


class ConnectionFilter(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Conditions on connections, all of which have to hold, as in their list."""

    q: Annotated[str, Meta(max_length=1000, description="That meet this search, as in their list.")] | None = None
    environment: Text | None = None
    integration: Text | None = None
    connection_id: Text | None = None
    status: ConnectionStatus | None = None
    user: Annotated[Text, Meta(description="Of the user with this id of the application's.")] | None = None
    organization: Text | None = None
    unlinked: bool = False
    needs_reconnect: bool = False
    drift: bool = False
    duplicates: bool = False
    kept_alive: bool = False
    failing: bool = False
    expires_before: Annotated[Ahead, Meta(description="Whose token lapses before then, such as `7d`.")] | None = None
    expires_after: Ahead | None = None
    grant_before: Annotated[Ahead, Meta(description="Whose grant lapses before then.")] | None = None
    grant_after: Ahead | None = None
    tags: dict[str, str] = field(default_factory=dict)


class ConnectionsToActOn(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Either `ids` or `filter`. They are counted with `dry_run` first; the call that follows repeats the count in
    `expected`, which `ids` do not need.
    """

    ids: Annotated[list[Text], Meta(min_length=1, max_length=1000)] | None = None
    filter: ConnectionFilter | None = None
    dry_run: Annotated[bool, Meta(description="Count, show samples, and change nothing.")] = False
    expected: (
        Annotated[int, Meta(ge=0, description="The `count` of the dry run: where more are meant by now, a 409.")] | None
    ) = None
    reason: Annotated[str, Meta(max_length=500, description="Recorded in the audit.")] | None = None


class ConnectionsToTag(ConnectionsToActOn, frozen=True, kw_only=True, forbid_unknown_fields=True):
    tags: Annotated[dict[str, str], Meta(description="Tags to add or change; the others stay.", min_length=1)]


class ConnectionsToUntag(ConnectionsToActOn, frozen=True, kw_only=True, forbid_unknown_fields=True):
    keys: Annotated[list[Text], Meta(description="Keys of the tags to remove.", min_length=1, max_length=10)]


class ConnectionGroup(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    environment: str
    integration: str
    status: str
    count: int


class ConnectionSample(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: str
    integration: str
    connection_id: str


class ConnectionsActedOn(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`count` connections are selected: their numbers in `groups`, some as samples. `run` is the bulk run that carries
    it out: it may go on after the answer.
    """

    act: str
    dry_run: bool
    count: int
    groups: list[ConnectionGroup]
    samples: list[ConnectionSample]
    run: BulkRun | None


_REFUSALS: Final = (INVALID_INPUT, INVALID_TAGS, NOT_FOUND)


@endpoint("POST /connections/refresh", scope=Scope.OPERATOR, problems=_REFUSALS)
def refresh_connections(call: Call, body: ConnectionsToActOn) -> ConnectionsActedOn:
    """Have Nango renew the credentials of connections now, whatever their expiry.

    One that is renewed by other means meanwhile is not renewed again. Those of integrations whose renewals are paused
    are left alone.
    """
    return _act(call, BulkAct.REFRESH_CONNECTIONS, body)


@endpoint("POST /connections/add-tags", scope=Scope.OPERATOR, problems=_REFUSALS)
def add_tags_of_connections(call: Call, body: ConnectionsToTag) -> ConnectionsActedOn:
    """Add or change tags of connections, at Nango and then here; their other tags stay."""
    return _act(call, BulkAct.ADD_TAGS, body, tags=tag_rules.normalize(body.tags))


@endpoint("POST /connections/remove-tags", scope=Scope.OPERATOR, problems=_REFUSALS)
def remove_tags_of_connections(call: Call, body: ConnectionsToUntag) -> ConnectionsActedOn:
    """Remove tags of connections, at Nango and then here; their other tags stay."""
    tag_rules.normalize(dict.fromkeys(body.keys, "a@b.example"))  # checks the keys; the value is a dummy
    return _act(call, BulkAct.REMOVE_TAGS, body, keys=body.keys)


@endpoint("POST /connections/unlink", scope=Scope.OPERATOR, problems=_REFUSALS)
def unlink_connections(call: Call, body: ConnectionsToActOn) -> ConnectionsActedOn:
    """Close the links of connections, which stay unlinked until their tags name another owner.

    Nothing changes at Nango, and no event is routed.
    """
    return _act(call, BulkAct.UNLINK_CONNECTIONS, body)


@endpoint("POST /connections/delete", scope=Scope.OPERATOR, problems=_REFUSALS)
def delete_connections(call: Call, body: ConnectionsToActOn) -> ConnectionsActedOn:
    """Delete connections at Nango and here. Nothing is revoked at the providers.

    One that Nango no longer has counts as deleted.
    """
    return _act(call, BulkAct.DELETE_CONNECTIONS, body)


def _act(
    call: Call,
    act: BulkAct,
    body: ConnectionsToActOn,
    *,
    tags: dict[str, str] | None = None,
    keys: list[str] | None = None,
) -> ConnectionsActedOn:
    if (body.ids is None) is (body.filter is None):
        raise InvalidInput("give either `ids` or a `filter`")
    now = call.context.clock()
    filters = _by_ids(body.ids) if body.ids is not None else _filters(call, body.filter or ConnectionFilter())
    with call.context.database.read() as session:
        groups = chosen_connections.count(session, filters)
        samples = chosen_connections.samples(session, filters, limit=SAMPLES)
    count = sum(group.count for group in groups)
    if not body.dry_run and (body.ids is None or body.expected is not None):
        require_expected(count, body.expected, noun="connection")
    run = None
    if count and not body.dry_run:
        chosen = ConnectionsWanted(filters=filters, add_tags=tags or {}, remove_tags=keys or [])
        wanted = RunWanted(
            act=act,
            chosen=written(chosen),
            shown=chosen.audited,
            counted=count,
            reason=body.reason,
            actor=call.actor,
        )
        run = carry_out(call, wanted, now=now)
    return ConnectionsActedOn(
        act=act,
        dry_run=body.dry_run,
        count=count,
        groups=[msgspec.convert(each, ConnectionGroup, from_attributes=True) for each in groups],
        samples=[
            ConnectionSample(
                id=show(CONNECTION, each.id), integration=each.integration, connection_id=each.connection_id
            )
            for each in samples
        ],
        run=run,
    )


def _by_ids(ids: list[str]) -> ConnectionFilters:
    """The filter of a selection; an id that there is not is no connection of it."""
    return ConnectionFilters(ids=tuple(dict.fromkeys(identity(CONNECTION, shown) for shown in ids)))


def _filters(call: Call, given: ConnectionFilter) -> ConnectionFilters:
    """The filter with what it says resolved.

    Raises InvalidInput for a time or search that cannot be read, and for a status that contradicts `needs_reconnect`.
    """
    if given.needs_reconnect and given.status not in {None, ConnectionStatus.NEEDS_RECONNECT}:
        raise InvalidInput(f"`needs_reconnect` and the status {given.status} leave nothing: give one of them")
    now = call.context.clock()
    members = msgspec.structs.asdict(given)
    wanted = members.pop("needs_reconnect")
    members["status"] = ConnectionStatus.NEEDS_RECONNECT if wanted else given.status
    members["tags"] = tag_rules.normalize(given.tags)
    if given.q is not None:
        with call.context.database.read() as session:
            members["q"] = str(connection_search.read(session, given.q)) or None
    bounds: dict[str, Any] = {
        name: moment_ahead(members[name], now=now) for name in BOUNDS if members[name] is not None
    }
    return ConnectionFilters(**{**members, **bounds})


ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    refresh_connections,
    add_tags_of_connections,
    remove_tags_of_connections,
    unlink_connections,
    delete_connections,
)

"""Endpoints for connections: lists, records, credentials, refresh and deletion."""

from dataclasses import replace
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct, field

from app.db.read import connection_listing, connection_search, searching
from app.db.read.listing import ListFilters
from app.domain import tags as tag_rules
from app.domain.access import Scope
from app.domain.states import ConnectionStatus
from app.ids import CONNECTION, show
from app.services.connections import credentials, deletion
from app.timestamp_input import moment_ahead
from app.web.api.endpoint import Call, Endpoint, Page, PageQuery, endpoint, page, record
from app.web.api.problems import INVALID_INPUT, INVALID_TAGS
from app.web.api.reading import after, identity
from app.web.api.shapes import ConnectionRecord, ConnectionRow

Ahead = Annotated[str, Meta(max_length=64)]  # a time with its zone, or in how long
BOUNDS: Final = ("expires_before", "expires_after", "grant_before", "grant_after")


class ConnectionQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    q: Annotated[
        str | None, Meta(description="That meet this search, such as `ada@example.com` or `user:u_1 tag.plan:pro`.")
    ] = None
    environment: Annotated[str | None, Meta(description="Of this environment.")] = None
    integration: Annotated[str | None, Meta(description="Of this integration.")] = None
    connection_id: Annotated[str | None, Meta(description="With this id of Nango's.")] = None
    status: Annotated[ConnectionStatus | None, Meta(description="In this status.")] = None
    user: Annotated[str | None, Meta(description="Of the user with this id of the application's.")] = None
    organization: Annotated[str | None, Meta(description="Of the organization with this id of the application's.")] = (
        None
    )
    unlinked: Annotated[bool, Meta(description="Only those without an owner.")] = False
    needs_reconnect: Annotated[bool, Meta(description="Only those whose end user has to reconnect.")] = False
    drift: Annotated[bool, Meta(description="Only those whose tags no longer carry their link.")] = False
    duplicates: Annotated[
        bool, Meta(description="Only those whose owner has several live connections to the integration.")
    ] = False
    kept_alive: Annotated[
        bool, Meta(description="Only those whose grant is kept alive and whose token is not fresh.")
    ] = False
    failing: Annotated[bool, Meta(description="Only those with an error of their renewal that nothing has ended.")] = (
        False
    )
    expires_before: Annotated[Ahead, Meta(description="Whose token lapses before then.")] | None = None
    expires_after: Annotated[Ahead, Meta(description="Whose token lapses then or later.")] | None = None
    grant_before: Annotated[Ahead, Meta(description="Whose grant lapses before then.")] | None = None
    grant_after: Annotated[Ahead, Meta(description="Whose grant lapses then or later.")] | None = None
    tags: Annotated[dict[str, str], Meta(description="With each of these tags, `tags[plan]=pro`.")] = field(
        default_factory=dict
    )


class CredentialsQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    force_refresh: Annotated[bool, Meta(description="Renew them first, however long they last.")] = False
    refresh_token: Annotated[bool, Meta(description="With refresh tokens, which Nango leaves out else.")] = False


class LiveCredentials(Struct, frozen=True, kw_only=True):
    """The credentials as Nango has them now. The members of `credentials` depend on its `type`; docs/client.md has
    them.
    """

    id: str
    integration: str
    connection_id: str
    credentials: dict[str, Any]

    def __repr__(self) -> str:
        return f"LiveCredentials({self.id!r}, secrets hidden)"


class RefreshNow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    force: Annotated[bool, Meta(description="Renew them whatever their expiry.")] = True


class RefreshAnswer(Struct, frozen=True, kw_only=True):
    """`outcome`: `renewed`; `first_seen`, where no expiry was known; `not_refreshable`, where nothing can be renewed;
    `no_expiry`.
    """

    outcome: str
    expires_at: str | None


class DeletionQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    reason: Annotated[str, Meta(min_length=1, max_length=500, description="Why, for the audit.")] | None = None


class Deletion(Struct, frozen=True, kw_only=True):
    """`was_gone`: Nango no longer had the connection."""

    id: str
    deleted: bool
    was_gone: bool


@endpoint("GET /connections", scope=Scope.VIEWER, problems=(INVALID_TAGS, INVALID_INPUT))
def list_connections(call: Call, query: ConnectionQuery) -> Page[ConnectionRow]:
    """List connections as Waylink knows them, newest first.

    `integration` and `connection_id` together name one: Nango's ids are unique within an integration only. When a token
    or a grant lapses is asked for by a time with its zone, or in how long, such as `7d`. `q` is a search, and the other
    parameters hold beside it.
    """
    now = call.context.clock()
    bounds: dict[str, Any] = {
        name: moment_ahead(text, now=now) for name in BOUNDS if (text := getattr(query, name)) is not None
    }
    status = ConnectionStatus.NEEDS_RECONNECT if query.needs_reconnect else query.status
    if query.needs_reconnect and query.status not in {None, ConnectionStatus.NEEDS_RECONNECT}:
        return page([], query.limit, ConnectionRow)
    filters = ListFilters(
        limit=query.limit + 1,
        before=after(CONNECTION, query.cursor),
        environment=query.environment,
        integration=query.integration,
        connection_id=query.connection_id,
        status=status,
        user=query.user,
        organization=query.organization,
        unlinked=query.unlinked,
        drift=query.drift,
        duplicates=query.duplicates,
        kept_alive=query.kept_alive,
        failing=query.failing,
        tags=tag_rules.normalize(query.tags),
        search=searching.AT_MOST,
        **bounds,
    )
    with call.context.database.read() as session:
        if query.q is not None:
            filters = replace(filters, query=connection_search.read(session, query.q))
        return page(connection_listing.connections(session, filters), query.limit, ConnectionRow)


@endpoint("GET /connections/{con_id}", scope=Scope.VIEWER)
def get_connection(call: Call, con_id: str) -> ConnectionRecord:
    """Show all that Waylink knows of one connection.

    The record is local; Nango is not asked. It has the connection's links and last twenty refreshes, newest first.
    """
    with call.context.database.read() as session:
        return record(connection_listing.connection(session, identity(CONNECTION, con_id)), ConnectionRecord)


@endpoint("GET /connections/{con_id}/credentials", scope=Scope.CREDENTIALS, asks_nango=True)
def get_credentials(call: Call, con_id: str, query: CredentialsQuery) -> LiveCredentials:
    """Get the live credentials of a connection from Nango.

    Nango renews them first where they are due. They pass through Waylink's memory only; the audit has the caller, the
    time and the connection.
    """
    flags = {"force_refresh": query.force_refresh, "refresh_token": query.refresh_token}
    with call.operations() as operations:
        live = credentials.get_credentials(operations, identity(CONNECTION, con_id), actor=call.actor, **flags)
    return LiveCredentials(
        id=live.connection.shown,
        integration=live.connection.integration,
        connection_id=live.connection.connection_id,
        credentials=msgspec.to_builtins(live.credentials, builtin_types=()),
    )


@endpoint("POST /connections/{con_id}/refresh", scope=Scope.OPERATOR, asks_nango=True)
def refresh_connection(call: Call, con_id: str, query: RefreshNow) -> RefreshAnswer:
    """Have Nango renew the credentials now, whatever their expiry.

    With `force=false` they are renewed where they are due only. One call at a time for a connection. The credentials
    themselves are not in the answer.
    """
    with call.operations() as operations:
        done = credentials.refresh(operations, identity(CONNECTION, con_id), actor=call.actor, forced=query.force)
    return RefreshAnswer(outcome=done.outcome, expires_at=done.expires_at.isoformat() if done.expires_at else None)


@endpoint("DELETE /connections/{con_id}", scope=Scope.OPERATOR, asks_nango=True)
def delete_connection(call: Call, con_id: str, query: DeletionQuery) -> Deletion:
    """Delete a connection in Nango and here.

    Nothing is revoked at the provider. The connection's link is closed and `connection.deleted` routed within about a
    second.
    """
    ref = identity(CONNECTION, con_id)
    with call.operations() as operations:
        done = deletion.delete(operations, ref, actor=call.actor, reason=query.reason)
    return Deletion(id=show(CONNECTION, ref), deleted=True, was_gone=done.was_gone)


ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    list_connections,
    get_connection,
    get_credentials,
    refresh_connection,
    delete_connection,
)

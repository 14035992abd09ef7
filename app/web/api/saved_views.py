"""Endpoints for saved views: lists with their filters, by name."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal
from urllib.parse import parse_qsl, urlencode

from msgspec import UNSET, Meta, Struct, UnsetType
from sqlalchemy.orm import Session

from app.db import saved_views as rows
from app.db.models import SavedView
from app.domain.access import Scope
from app.errors import FieldFault, InvalidFields, InvalidInput
from app.ids import VIEW
from app.search_input import read_search
from app.services.operators import saved_views
from app.services.operators.saved_views import MAX_NAME, MAX_QUERY
from app.timestamp_input import moment
from app.web.api.endpoint import Call, Endpoint, endpoint, record
from app.web.api.problems import FORBIDDEN, INVALID_INPUT, ApiRefusal
from app.web.api.reading import identity, read_query
from app.web.api.records import EventQuery, JobQuery

PageName = Literal["events", "jobs"]
_SHAPES: Final[Mapping[str, type[Struct]]] = {"events": EventQuery, "jobs": JobQuery}
_OF_PAGES: Final = frozenset({"cursor", "limit"})  # places in a list, which no view has
_NAME: Final = "Its name, among the views of its list."
_QUERY: Final = "The list's parameters as in its URL: `type=connection.created&since=7d`."
_SHARED: Final = "Whether all see it who are not limited to a team; for this the right `operator` is needed."

Name = Annotated[str, Meta(description=_NAME, min_length=1, max_length=MAX_NAME)]
Query = Annotated[str, Meta(description=_QUERY, min_length=1, max_length=MAX_QUERY)]
Shared = Annotated[bool, Meta(description=_SHARED)]


class ViewQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    page: Annotated[PageName | None, Meta(description="Of this list.")] = None


class NewView(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    page: Annotated[PageName, Meta(description="The list.")]
    name: Name
    query: Query
    shared: Shared = False


class ViewChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Members that are left out stay as they are."""

    name: Name | UnsetType = UNSET
    query: Query | UnsetType = UNSET
    shared: Shared | UnsetType = UNSET


class ViewRecord(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`own`: whether the caller saved it."""

    id: str
    name: str
    page: str
    query: str
    shared: bool
    saved_by: str
    own: bool
    created_at: str
    changed_at: str | None


class Views(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The caller's own ones first, then those that others share, each by name."""

    data: list[ViewRecord]


@endpoint("GET /views", scope=Scope.VIEWER, teams=True)
def list_views(call: Call, query: ViewQuery) -> Views:
    """List saved views: the caller's own, and for callers who are not limited to a team those that are shared."""
    with call.context.database.read() as session:
        found = saved_views.visible(session, call.access, page=query.page)
        return Views(data=[_record(call, row) for row in found])


@endpoint("POST /views", scope=Scope.VIEWER, teams=True, status=201, problems=(INVALID_INPUT,))
def add_view(call: Call, body: NewView) -> ViewRecord:
    """Save a view of a list."""
    _require_sharing(call, shared=body.shared)
    query, now = _checked(call, body.page, body.query), call.context.clock()
    with call.context.database.write() as session:
        row = saved_views.add(
            session, call.access, page=body.page, name=body.name, query=query, shared=body.shared, now=now
        )
        return _record(call, row)


@endpoint("GET /views/{view_id}", scope=Scope.VIEWER, teams=True)
def get_view(call: Call, view_id: str) -> ViewRecord:
    """One view."""
    with call.context.database.read() as session:
        return _record(call, saved_views.find(session, call.access, identity(VIEW, view_id)))


@endpoint("PATCH /views/{view_id}", scope=Scope.VIEWER, teams=True, problems=(INVALID_INPUT,))
def change_view(call: Call, view_id: str, body: ViewChange) -> ViewRecord:
    """Rename a view, or change its query, or who sees it."""
    with call.context.database.write() as session:
        row = _changeable(call, session, view_id)
        shared = row.shared if body.shared is UNSET else body.shared
        _require_sharing(call, shared=shared)
        saved_views.change(
            session,
            call.access,
            row,
            name=row.name if body.name is UNSET else body.name,
            query=row.query if body.query is UNSET else _checked(call, row.page, body.query),
            shared=shared,
            now=call.context.clock(),
        )
        return _record(call, row)


@endpoint("DELETE /views/{view_id}", scope=Scope.VIEWER, teams=True)
def remove_view(call: Call, view_id: str) -> None:
    """Remove a view."""
    with call.context.database.write() as session:
        row = _changeable(call, session, view_id)
        saved_views.remove(session, call.access, row, now=call.context.clock())


def _changeable(call: Call, session: Session, view_id: str) -> SavedView:
    row = saved_views.find(session, call.access, identity(VIEW, view_id))
    if not saved_views.may_change(call.access, row):
        raise ApiRefusal(FORBIDDEN, "The view is shared: only callers with the right `operator` can change it.")
    return row


def _require_sharing(call: Call, *, shared: bool) -> None:
    if shared and not saved_views.may_share(call.access):
        raise ApiRefusal(FORBIDDEN, "Only callers with the right `operator`, of no team, can share a view.")


def _checked(call: Call, page: str, query: str) -> str:
    """The query as it is stored. Raises InvalidFields for one that the list would refuse."""
    text = query.strip().removeprefix("?")
    try:
        pairs = [(name, value) for name, value in parse_qsl(text, max_num_fields=100) if name not in _OF_PAGES]
        found: Any = read_query(urlencode(pairs).encode(), _SHAPES[page])
        if isinstance(found, EventQuery):
            read_search(found.q, now=call.context.clock())
        if found.since is not None:
            moment(found.since, now=call.context.clock())
    except ApiRefusal as refused:
        raise _wrong(refused.detail) from None
    except InvalidFields as refused:
        raise _wrong("; ".join(f"{fault.field}: {fault.message}" for fault in refused.faults)) from None
    except InvalidInput as refused:
        raise _wrong(f"since: {refused}") from None
    except ValueError:
        raise _wrong("it has more than 100 parameters") from None
    if not pairs:
        raise _wrong("it has no parameter of the list, such as `state=failed`")
    return urlencode(pairs)


def _wrong(told: str) -> InvalidFields:
    return InvalidFields([FieldFault("query", "invalid", f"the list would refuse this query: {told}")])


def _record(call: Call, row: SavedView) -> ViewRecord:
    return record(rows.shown(row, actor=call.actor), ViewRecord)


ENDPOINTS: Final[tuple[Endpoint, ...]] = (list_views, add_view, get_view, change_view, remove_view)

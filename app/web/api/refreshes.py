"""Endpoints for planned and past refreshes, and for the renewal window of a connection."""

from typing import Annotated, Any, Final

from msgspec import Meta, Struct

from app.db.read import refresh_listing, searching
from app.db.read.refresh_listing import RefreshFilters
from app.domain.access import Scope
from app.domain.states import RefreshOutcome, RefreshState
from app.errors import InvalidInput
from app.ids import CONNECTION, REFRESH
from app.services.refreshing.renewals import renewal
from app.timestamp_input import moment, moment_ahead
from app.web.api.endpoint import Call, Endpoint, Page, PageQuery, endpoint, page, record
from app.web.api.problems import INVALID_INPUT, NOT_FOUND
from app.web.api.reading import after, identity

Ahead = Annotated[str, Meta(description="A time with its zone, or in how long: `2h`.", max_length=64)]


class RefreshQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    state: Annotated[RefreshState | None, Meta(description="In this state; `open` has all that are planned.")] = None
    outcome: Annotated[RefreshOutcome | None, Meta(description="With this outcome, or held back by it.")] = None
    due_before: Annotated[Ahead, Meta(description="Planned, and due before then.")] | None = None
    due_after: Annotated[Ahead, Meta(description="Planned, and due then or later.")] | None = None
    deadline_before: (
        Annotated[Ahead, Meta(description="Planned, and the token or the grant lapses before then.")] | None
    ) = None
    finished_since: Annotated[str | None, Meta(description="Finished since then: a time, or how long ago: `7d`.")] = (
        None
    )
    finished_until: Annotated[str | None, Meta(description="Finished before then.")] = None
    environment: Annotated[str | None, Meta(description="Of this environment.")] = None
    integration: Annotated[str | None, Meta(description="Of this integration.")] = None
    connection_id: Annotated[str | None, Meta(description="Of the connection with this id of Nango's.")] = None
    provider: Annotated[str | None, Meta(description="Of this provider, by its name at Nango.")] = None
    user: Annotated[str | None, Meta(description="Of the user with this id of the application's.")] = None
    organization: Annotated[str | None, Meta(description="Of the organization with this id of the application's.")] = (
        None
    )


class RefreshRow(Struct, frozen=True, kw_only=True):
    """A planned renewal, open while `finished_at` is null, or a manual one with `requested_by`. `connection` is our
    `con_…` id. `next_at`: when it is due, or when its worker's lease ends. `deadline_at`: when the token or the grant
    lapses. Both are as they were known before and after, the expiry and the grant's deadline. `asked_at` and
    `answered_at`: of the call to Nango. `failures`: those in a row before it.
    """

    id: str
    connection: str
    environment: str
    integration: str
    connection_id: str
    provider: str | None
    user: str | None
    organization: str | None
    state: str
    refresh_at: str
    next_at: str | None
    deadline_at: str | None
    forced: bool
    reason: str
    requested_by: str | None
    attempts: int
    asked_at: str | None
    answered_at: str | None
    finished_at: str | None
    outcome: str | None
    error: str | None
    failures: int
    previous_expires_at: str | None
    expires_at: str | None
    previous_grant_expires_at: str | None
    grant_expires_at: str | None


class NextLook(Struct, frozen=True, kw_only=True):
    """The next request for the connection, and its reason; without a plan all but `why` are null."""

    id: str | None
    at: str | None
    state: str | None
    forced: bool | None
    why: str


class RefreshRecord(RefreshRow, frozen=True, kw_only=True):
    """A refresh, and what comes next for its connection. `keeps`: `token` or `grant`, which lapses at `keeps_until`
    where no refresh comes before.
    """

    keeps: str | None
    keeps_until: str | None
    next: NextLook


class RenewalWindow(Struct, frozen=True, kw_only=True):
    """The time in which the renewal may come. `planned_at` lies in it."""

    begins_at: str
    ends_at: str


class Renewal(Struct, frozen=True, kw_only=True):
    """The renewal of a connection: `window` is null where none is planned, and `reason` says why it comes, or why not.
    `paused`: why its integration is paused; null where it is not. `retry_after`: seconds until the answer may be
    another one.
    """

    connection: str
    status: str
    window: RenewalWindow | None
    planned_at: str | None
    next_look: NextLook
    forced: bool | None
    reason: str
    expires_at: str | None
    expires_source: str
    expires_reason: str | None
    grant_expires_at: str | None
    grant_source: str
    grant_reason: str | None
    renewed_at: str | None
    not_refreshable: str | None
    alive_by: str | None
    paused: str | None
    retry_after: int


@endpoint("GET /refreshes", scope=Scope.VIEWER, problems=(INVALID_INPUT, NOT_FOUND))
def list_refreshes(call: Call, query: RefreshQuery) -> Page[RefreshRow]:
    """List planned and past renewals of credentials.

    Planned ones come with the first due first, where a state of theirs or a bound is asked for; all others newest
    first.
    """
    now = call.context.clock()
    bounds: dict[str, Any] = {
        name: moment_ahead(text, now=now)
        for name in ("due_before", "due_after", "deadline_before")
        if (text := getattr(query, name)) is not None
    }
    bounds |= {
        name: moment(text, now=now)
        for name in ("finished_since", "finished_until")
        if (text := getattr(query, name)) is not None
    }
    filters = RefreshFilters(
        now=now,
        limit=query.limit + 1,
        after=after(REFRESH, query.cursor),
        state=query.state,
        outcome=query.outcome,
        environment=query.environment,
        integration=query.integration,
        connection_id=query.connection_id,
        provider=query.provider,
        user=query.user,
        organization=query.organization,
        search=searching.AT_MOST_PLANS,
        **bounds,
    )
    if filters.is_contradictory:
        raise InvalidInput(
            "a plan is not finished: give parameters about plans, or `state=finished` and when, and not both"
        )
    with call.context.database.read() as session:
        return page(refresh_listing.refreshes(session, filters), query.limit, RefreshRow)


@endpoint("GET /refreshes/{ref_id}", scope=Scope.VIEWER)
def get_refresh(call: Call, ref_id: str) -> RefreshRecord:
    """Show one renewal, and what comes next for its connection."""
    with call.context.database.read() as session:
        found = refresh_listing.refresh(session, identity(REFRESH, ref_id), now=call.context.clock())
    return record(found, RefreshRecord)


@endpoint("GET /connections/{con_id}/renewal", scope=Scope.VIEWER)
def get_renewal(call: Call, con_id: str) -> Renewal:
    """Show when a connection is renewed: the window, the planned moment, the reason, and the sources of its deadlines.

    As ACME's renewal information (RFC 9773) says it of certificates. Nango is not asked.
    """
    context = call.context
    with context.database.read() as session:
        found = renewal(session, identity(CONNECTION, con_id), context.policy, now=context.clock())
    return record(found, Renewal)


ENDPOINTS: Final[tuple[Endpoint, ...]] = (list_refreshes, get_refresh, get_renewal)

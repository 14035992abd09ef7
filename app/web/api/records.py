"""Endpoints for read-only lists: audit, events, jobs and rejections."""

from datetime import UTC, datetime
from typing import Annotated, Final

from msgspec import Meta

from app.db import audit, rejections
from app.db.audit import AuditFilters
from app.db.read import listing, searching
from app.db.read.listing import ListFilters
from app.db.rejections import RejectionKey
from app.domain.access import Scope
from app.domain.event import EventType
from app.domain.states import AuditOutcome, EventState, Fault, JobState, Origin
from app.ids import AUDIT, EVENT, JOB
from app.qualified_names import within
from app.search_input import read_search
from app.services.maintenance.upkeep import RECORD_KEPT
from app.timestamp_input import moment
from app.web.api.endpoint import Call, Endpoint, Page, PageQuery, endpoint, page, record
from app.web.api.problems import INVALID_INPUT
from app.web.api.reading import after, identity, not_a_cursor
from app.web.api.shapes import AuditEntry, EventRecord, EventRow, JobRecord, JobRow, RejectionRow

Environment = Annotated[str | None, Meta(description="Of this environment.")]
Integration = Annotated[str | None, Meta(description="Of this integration.")]
Since = Annotated[str | None, Meta(description="Made since then: a time with its zone, or how long ago: `7d`.")]
Until = Annotated[str | None, Meta(description="Made before then.")]
ConnectionId = Annotated[str | None, Meta(description="Of the connection with this id of Nango's.")]


class AuditQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    actor: Annotated[str | None, Meta(description="By this one, such as `token:deploy` or `cli:root`.")] = None
    action: Annotated[str | None, Meta(description="Of this kind, such as `token.created`.")] = None
    subject: Annotated[str | None, Meta(description="On what has this id.")] = None
    outcome: Annotated[AuditOutcome | None, Meta(description="With this outcome.")] = None


class EventQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    q: Annotated[
        str | None, Meta(description="That meet this search, such as `type:connection.created tag.plan:pro`.")
    ] = None
    state: Annotated[EventState | None, Meta(description="In this state.")] = None
    type: Annotated[EventType | None, Meta(description="Of this type.")] = None
    origin: Annotated[Origin | None, Meta(description="From here.")] = None
    environment: Environment = None
    integration: Integration = None
    connection_id: ConnectionId = None
    since: Since = None
    until: Until = None
    processed_since: Annotated[str | None, Meta(description="Processed or failed since then.")] = None
    processed_until: Annotated[str | None, Meta(description="Processed or failed before then.")] = None


class JobQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    state: Annotated[JobState | None, Meta(description="In this state.")] = None
    team: Annotated[str | None, Meta(description="Of this team; a team's token sees its own only.")] = None
    destination: Annotated[str | None, Meta(description="For this destination, `TEAM/NAME`.")] = None
    route: Annotated[str | None, Meta(description="Of this route, `TEAM/NAME`.")] = None
    name: Annotated[str | None, Meta(description="Of this name, such as `crm.import_contacts`.")] = None
    fault: Annotated[Fault | None, Meta(description="Discarded, and whose fault it is.")] = None
    event: Annotated[str | None, Meta(description="Of the event with this `evt_…` id.")] = None
    parked: Annotated[
        bool | None, Meta(description="Unfinished, and parked because of their destination; `false`: not parked.")
    ] = None
    since: Since = None
    until: Until = None
    ended_since: Annotated[str | None, Meta(description="Completed, discarded or cancelled since then.")] = None
    ended_until: Annotated[str | None, Meta(description="Completed, discarded or cancelled before then.")] = None


class RejectionQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    environment: Annotated[str | None, Meta(description="Of this environment; empty for unknown ones.")] = None
    cause: Annotated[str | None, Meta(description="For this cause, such as `bad_signature`.")] = None
    since: Annotated[str | None, Meta(description="Of minutes since then: a time, or how long ago: `1h`.")] = None
    until: Annotated[str | None, Meta(description="Of minutes before then.")] = None


@endpoint("GET /audit", scope=Scope.OPERATOR)
def list_audit(call: Call, query: AuditQuery) -> Page[AuditEntry]:
    """List actions of operators and applications, newest first."""
    filters = AuditFilters(
        limit=query.limit + 1,
        before=after(AUDIT, query.cursor),
        actor=query.actor,
        action=query.action,
        subject=query.subject,
        outcome=query.outcome,
        search=searching.AT_MOST,
    )
    with call.context.database.read() as session:
        return page(audit.listed(session, filters), query.limit, AuditEntry)


@endpoint("GET /events", scope=Scope.VIEWER, teams=True, problems=(INVALID_INPUT,))
def list_events(call: Call, query: EventQuery) -> Page[EventRow]:
    """List events, newest first.

    `q` is a search such as `type:connection.created tag.plan:pro`, and the other parameters hold beside it. A team's
    token sees the events that became jobs of that team, and its searches go by what these say themselves.
    """
    asked = read_search(query.q, now=call.context.clock())
    filters = ListFilters(
        limit=query.limit + 1,
        before=after(EVENT, query.cursor),
        state=query.state,
        type=query.type,
        origin=query.origin,
        environment=query.environment,
        integration=query.integration,
        connection_id=query.connection_id,
        since=asked.since_also(_time(call, query.since)),
        until=asked.until_also(_time(call, query.until)),
        processed_since=_time(call, query.processed_since),
        processed_until=_time(call, query.processed_until),
        event_id=asked.event_id,
        query=asked.query,
        team=call.team,
        search=searching.AT_MOST,
    )
    with call.context.database.read() as session:
        return page(listing.events(session, filters), query.limit, EventRow)


@endpoint("GET /events/{event_id}", scope=Scope.VIEWER, teams=True)
def get_event(call: Call, event_id: str) -> EventRecord:
    """Show all about one event: body, document, decisions, jobs."""
    with call.context.database.read() as session:
        return record(listing.event(session, identity(EVENT, event_id), team=call.team), EventRecord)


@endpoint("GET /jobs", scope=Scope.VIEWER, teams=True, problems=(INVALID_INPUT,))
def list_jobs(call: Call, query: JobQuery) -> Page[JobRow]:
    """List jobs, newest first."""
    team, destination = within(query.team, "destination", query.destination)
    team, route = within(team, "route", query.route)
    if call.team is not None and team not in {None, call.team}:
        return page([], query.limit, JobRow)
    filters = ListFilters(
        limit=query.limit + 1,
        before=after(JOB, query.cursor),
        state=query.state,
        team=call.team or team,
        destination=destination,
        route=route,
        name=query.name,
        fault=query.fault,
        event_id=identity(EVENT, query.event) if query.event is not None else None,
        parked=query.parked,
        since=_time(call, query.since),
        until=_time(call, query.until),
        ended_since=_time(call, query.ended_since),
        ended_until=_time(call, query.ended_until),
        search=searching.AT_MOST,
    )
    with call.context.database.read() as session:
        return page(listing.jobs(session, filters), query.limit, JobRow)


@endpoint("GET /jobs/{job_id}", scope=Scope.VIEWER, teams=True)
def get_job(call: Call, job_id: str) -> JobRecord:
    """Show one job with its attempts."""
    with call.context.database.read() as session:
        return record(listing.job(session, identity(JOB, job_id), team=call.team), JobRecord)


@endpoint("GET /rejections", scope=Scope.VIEWER, problems=(INVALID_INPUT,))
def list_rejections(call: Call, query: RejectionQuery) -> Page[RejectionRow]:
    """List refused webhooks, newest first: a row per minute, environment and cause."""
    kept, since = call.context.clock() - RECORD_KEPT, _time(call, query.since)
    with call.context.database.read() as session:
        found = rejections.newest(
            session,
            since=max(kept, since) if since is not None else kept,
            until=_time(call, query.until),
            environment=query.environment,
            cause=query.cause,
            limit=query.limit + 1,
            before=_after_minute(query.cursor),
        )
    rows = [rejections.shown(rejection) for rejection in found[: query.limit]]
    last = found[query.limit - 1] if len(found) > query.limit else None
    cursor = f"{last.minute:%Y-%m-%dT%H:%MZ}~{last.environment}~{last.cause}" if last else None
    return Page(data=[record(row, RejectionRow) for row in rows], next_cursor=cursor)


def _time(call: Call, given: str | None) -> datetime | None:
    return moment(given, now=call.context.clock()) if given is not None else None


def _after_minute(cursor: str | None) -> RejectionKey | None:
    """The key that a page of rejections continues after; rejections have no ids. Raises Refusal."""
    if cursor is None:
        return None
    try:
        minute, environment, cause = cursor.split("~")
        at = datetime.fromisoformat(minute)
        return at.astimezone(UTC), environment, cause
    except (ValueError, OverflowError):
        raise not_a_cursor() from None


ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    list_audit,
    list_events,
    get_event,
    list_jobs,
    get_job,
    list_rejections,
)

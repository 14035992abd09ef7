"""Endpoints for the lengths of internal queues and destinations' queues."""

from typing import Annotated, Final

from msgspec import Meta, Struct

from app.brokers.celery_broker import EVENTS_QUEUE, IO_QUEUE
from app.domain.access import Scope
from app.errors import BrokerUnavailable, NotFound
from app.services.delivery import queues
from app.web.api.endpoint import Call, Endpoint, endpoint, record


class QueuesQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    team: Annotated[str | None, Meta(description="Of this team; a team's token sees its own only.")] = None


class InternalQueue(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hints that no worker has taken yet. `messages` is null while the internal broker does not answer."""

    queue: str
    messages: int | None


class DestinationQueue(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Unfinished jobs of a destination. `capped`: of some there are more than were counted."""

    team: str
    destination: str
    kind: str
    disabled: bool
    failing_since: str | None
    available: int
    running: int
    retryable: int
    parked: int
    discarded_by_team: int
    discarded_by_us: int
    oldest_due_at: str | None
    capped: bool


class Queues(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    internal: list[InternalQueue]
    destinations: list[DestinationQueue]


class JobsAlike(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Unfinished or discarded jobs of a destination. `oldest_at`: when the first was due, or was discarded."""

    team: str
    destination: str
    state: str
    blocked_by: str | None
    fault: str | None
    count: int
    capped: bool
    oldest_at: str


class JobSummary(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    data: list[JobsAlike]


@endpoint("GET /queues", scope=Scope.VIEWER, teams=True)
def list_queues(call: Call, query: QueuesQuery) -> Queues:
    """Count waiting jobs for each destination, and messages in the internal queues, which a team's token does
    not see.
    """
    team = _team(call, query)
    with call.context.database.read() as session:
        rows = queues.queues(session, now=call.context.clock(), team=team)
    internal = [] if call.team else [_internal(call, name) for name in (EVENTS_QUEUE, IO_QUEUE)]
    return Queues(internal=internal, destinations=[record(row, DestinationQueue) for row in rows])


@endpoint("GET /jobs/summary", scope=Scope.VIEWER, teams=True)
def summarize_jobs(call: Call, query: QueuesQuery) -> JobSummary:
    """Count unfinished and discarded jobs, by destination, state and fault."""
    with call.context.database.read() as session:
        rows = queues.summary(session, team=_team(call, query))
    return JobSummary(data=[record(row, JobsAlike) for row in rows])


def _team(call: Call, query: QueuesQuery) -> str | None:
    if call.team is not None and query.team not in {None, call.team}:
        raise NotFound("team", str(query.team))
    return call.team or query.team


def _internal(call: Call, queue: str) -> InternalQueue:
    try:
        return InternalQueue(queue=queue, messages=call.context.hints.internal.queue_length(queue))
    except BrokerUnavailable:
        return InternalQueue(queue=queue, messages=None)


ENDPOINTS: Final[tuple[Endpoint, ...]] = (list_queues, summarize_jobs)

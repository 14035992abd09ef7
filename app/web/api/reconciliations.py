"""Endpoints for comparisons of Nango's list with ours."""

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from app.db import reconciliations as rows
from app.db.reconciliations import shown
from app.domain.access import Scope
from app.errors import NotFound
from app.ids import RECONCILIATION, parse
from app.services.reconciliation.run_requests import request_run
from app.web.api.endpoint import Call, Endpoint, Page, PageQuery, endpoint, page
from app.web.api.problems import INVALID_INPUT
from app.web.api.reading import after


class Difference(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A connection that differed at the first lookup. `why` holds no tag's value."""

    integration: str
    connection_id: str
    why: str


class Reconciliation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One comparison and its result. Counts are by event type."""

    id: str
    environment: str
    trigger: str
    dry_run: bool
    accept_deletions: bool
    stage: str
    outcome: str | None
    problem: str | None
    created_at: str
    started_at: str | None
    finished_at: str | None
    next_at: str | None
    pages: int
    calls: int
    seen: int
    found: dict[str, int]
    counted: dict[str, int]
    missed_by_webhook: int
    healed: int
    unhealed: int
    heal_seconds_mean: float | None
    heal_seconds_max: float | None
    samples: dict[str, list[Difference]]


class RunsQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    environment: Annotated[str | None, Meta(description="Of this environment.")] = None


class NewRun(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The environment to compare, and how."""

    environment: Annotated[str, Meta(description="Its name in the configuration.", min_length=1)] = "default"
    dry_run: Annotated[bool, Meta(description="Count what differs at a first look, and change nothing.")] = False
    accept_deletions: Annotated[
        bool, Meta(description="Believe that connections are gone, even when most are absent from Nango's list.")
    ] = False


@endpoint("GET /reconciliations", scope=Scope.VIEWER)
def list_reconciliations(call: Call, query: RunsQuery) -> Page[Reconciliation]:
    """List comparisons of Nango's list with ours, newest first."""
    before = after(RECONCILIATION, query.cursor)
    with call.context.database.read() as session:
        runs = rows.newest(session, environment=query.environment, before=before, limit=query.limit + 1)
    return page([shown(run) for run in runs], query.limit, Reconciliation)


@endpoint("GET /reconciliations/{rec_id}", scope=Scope.VIEWER, problems=(INVALID_INPUT,))
def get_reconciliation(call: Call, rec_id: str) -> Reconciliation:
    """One comparison: its progress, the differences, and their outcomes."""
    with call.context.database.read() as session:
        run = rows.get(session, parse(RECONCILIATION, rec_id))
    if run is None:
        raise NotFound("reconciliation", rec_id)
    return _answer(shown(run))


@endpoint("POST /reconciliations", scope=Scope.OPERATOR, status=202)
def create_reconciliation(call: Call, body: NewRun) -> Reconciliation:
    """Ask for a comparison now.

    A worker begins it within seconds. One runs at a time in an environment: a conflict names the running one.
    """
    with call.context.database.write() as session:
        run = request_run(
            session,
            call.context.policy.environments,
            body.environment,
            dry_run=body.dry_run,
            accept_deletions=body.accept_deletions,
            actor=call.actor,
            now=call.context.clock(),
        )
    return _answer(shown(run))


def _answer(report: dict[str, Any]) -> Reconciliation:
    return msgspec.convert(report, Reconciliation)


ENDPOINTS: Final[tuple[Endpoint, ...]] = (list_reconciliations, get_reconciliation, create_reconciliation)

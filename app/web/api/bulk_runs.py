"""Endpoints of bulk runs: acts on all rows that match a filter, which workers carry out in the background."""

from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from app.db import bulk_runs as rows
from app.domain.access import Scope
from app.domain.bulk_runs import BulkAct, BulkState, Change
from app.ids import BULK_RUN
from app.services.bulk_runs.connection_acts import ConnectionActs
from app.services.bulk_runs.run_requests import RunWanted, change_run, get_run, open_run
from app.services.bulk_runs.runner import BulkRunner
from app.services.bulk_runs.showing import shown
from app.web.api.endpoint import Call, Endpoint, Page, PageQuery, endpoint, page
from app.web.api.reading import after, identity

AT_ONCE: Final = 1000  # rows of a run that the call itself carries out
SECONDS: Final = 10.0  # of that; workers carry on what is left


class BulkRunRow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A row that a run has not changed: `left_alone` or `failed`, and why."""

    id: str
    result: str
    why: str


class BulkRun(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An act on all rows that matched `filter` when it was made.

    `counted` rows matched then; `done` of them are changed, `failed` or `left_alone` the others that were looked at:
    up to 1,000 of these are in `rows`, in a list none. `state`: `waiting`, `running`, `paused`, `cancelled`, `done`, or
    `failed`, with its `problem`.
    """

    id: str
    act: str
    state: str
    actor: str
    team: str | None
    reason: str | None
    filter: dict[str, Any]
    counted: int
    done: int
    failed: int
    left_alone: int
    problem: str | None
    created_at: str
    started_at: str | None
    finished_at: str | None
    rows: list[BulkRunRow]


class BulkRunsQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    act: Annotated[BulkAct | None, Meta(description="Of this act.")] = None
    state: Annotated[BulkState | None, Meta(description="In this state.")] = None


@endpoint("GET /bulk-runs", scope=Scope.VIEWER, teams=True)
def list_bulk_runs(call: Call, query: BulkRunsQuery) -> Page[BulkRun]:
    """List bulk runs, newest first; a team's token those that it asked for."""
    before = after(BULK_RUN, query.cursor)
    with call.context.database.read() as session:
        found = rows.newest(
            session, team=call.team, act=query.act, state=query.state, before=before, limit=query.limit + 1
        )
    return page([shown(run) for run in found], query.limit, BulkRun)


@endpoint("GET /bulk-runs/{blk_id}", scope=Scope.VIEWER, teams=True)
def get_bulk_run(call: Call, blk_id: str) -> BulkRun:
    """One bulk run: its progress, and the rows that it has not changed."""
    with call.context.database.read() as session:
        run = get_run(session, identity(BULK_RUN, blk_id), team=call.team)
        return _answer(shown(run, rows.unchanged(session, run.id)))


@endpoint("POST /bulk-runs/{blk_id}/pause", scope=Scope.OPERATOR, teams=True)
def pause_bulk_run(call: Call, blk_id: str) -> BulkRun:
    """Pause a bulk run after the chunk of rows that is being changed. A 409 for one that is over, or paused."""
    return _changed(call, blk_id, Change.PAUSE)


@endpoint("POST /bulk-runs/{blk_id}/resume", scope=Scope.OPERATOR, teams=True)
def resume_bulk_run(call: Call, blk_id: str) -> BulkRun:
    """Let a paused bulk run go on where it was. A 409 for one that is not paused."""
    answer = _changed(call, blk_id, Change.RESUME)
    call.context.hints.of_bulk_runs()
    return answer


@endpoint("POST /bulk-runs/{blk_id}/cancel", scope=Scope.OPERATOR, teams=True)
def cancel_bulk_run(call: Call, blk_id: str) -> BulkRun:
    """End a bulk run after the chunk of rows that is being changed. What it has changed stays so."""
    return _changed(call, blk_id, Change.CANCEL)


def carry_out(call: Call, wanted: RunWanted, *, now: datetime) -> BulkRun:
    """Open a run. One of up to AT_ONCE rows is carried out here, a longer one, or one that asks Nango, by workers."""
    context = call.context
    at_once = wanted.counted <= AT_ONCE and not wanted.act.asks_nango
    with context.database.write() as session:
        run = open_run(session, wanted, now=now, claimed=at_once)
    if at_once:
        hints, routes, clock = context.hints, context.routes, context.clock
        acts = ConnectionActs(context.database, context.policy, context.clients, routes, clock)
        runner = BulkRunner(context.database, clock, routes, hints.of_jobs, hints.of_events, acts)
        runner.carry_on(run, seconds=SECONDS)
    with context.database.read() as session:
        run = get_run(session, run.id)
        answer = _answer(shown(run, rows.unchanged(session, run.id)))
    if run.finished_at is None:
        context.hints.of_bulk_runs()
    return answer


def _changed(call: Call, blk_id: str, change: Change) -> BulkRun:
    run_id, context = identity(BULK_RUN, blk_id), call.context
    with context.database.write() as session:
        run = change_run(session, run_id, change, actor=call.actor, now=context.clock(), team=call.team)
        return _answer(shown(run, rows.unchanged(session, run.id)))


def _answer(report: dict[str, Any]) -> BulkRun:
    return msgspec.convert(report, BulkRun)


ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    list_bulk_runs,
    get_bulk_run,
    pause_bulk_run,
    resume_bulk_run,
    cancel_bulk_run,
)

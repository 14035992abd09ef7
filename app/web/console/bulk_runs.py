"""The pages of bulk runs: the list, and a run with its progress, its unchanged rows, and what can be done with it."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from starlette.responses import Response

from app.domain.bulk_runs import PAST, TAKES, UNFINISHED, BulkState, Change
from app.web.api import bulk_runs
from app.web.console import notices
from app.web.console.calling import ask
from app.web.console.connections import audit_of
from app.web.console.lists import Filter, List
from app.web.console.rendering import link, see_other
from app.web.console.serving import ConsoleContext, Visit
from app.web.console.tables import Column, RowsPage, View

PATH: Final = "/console/bulk-runs"
_LIST: Final = List(bulk_runs.list_bulk_runs, (Filter("act"), Filter("state")))
_PAGE: Final = RowsPage(
    "Bulk runs",
    "run",
    (
        Column("Asked for", "created_at", href=lambda row: f"{PATH}/{row.id}"),
        Column("Act", "act"),
        Column("State", "state", "mark"),
        Column("Counted", "counted"),
        Column("Done", "done"),
        Column("Failed", "failed"),
        Column("Left alone", "left_alone"),
        Column("By", "actor"),
        Column("Reason", "reason"),
    ),
    "Nobody has acted on all rows of a filter yet. The lists of jobs, events and connections have such acts.",
    "Acts on all rows that matched a filter. Those on many rows are carried out by workers.",
    views=(View("All", {}), View("Running", {"state": "running"}), View("Paused", {"state": "paused"})),
)
_ACTS: Final = {
    Change.PAUSE: bulk_runs.pause_bulk_run,
    Change.RESUME: bulk_runs.resume_bulk_run,
    Change.CANCEL: bulk_runs.cancel_bulk_run,
}


async def show_runs(context: ConsoleContext, visit: Visit) -> Response:
    """Runs, newest first."""
    return await _PAGE.of_list(context, visit, _LIST)


async def show_run(context: ConsoleContext, visit: Visit) -> Response:
    """One run, with the buttons that its state allows."""
    run = await ask(context, visit, bulk_runs.get_bulk_run, **visit.request.path_params)
    state, kind = BulkState(run.state), run.act.partition(".")[0]
    return visit.page(
        "bulk_run.html",
        run=run,
        path=f"{PATH}/{run.id}",
        back=PATH,
        rows_path=f"/console/{kind}",
        noun=kind.removesuffix("s"),
        looked_at=run.done + run.failed + run.left_alone,
        is_open=state in UNFINISHED,
        changes=[change for change, states in TAKES.items() if state in states],
        audit=await audit_of(context, visit, run.id),
    )


async def _change(context: ConsoleContext, visit: Visit, *, change: Change) -> Response:
    run = await ask(context, visit, _ACTS[change], **visit.request.path_params)
    return see_other(link(f"{PATH}/{run.id}", done=notices.code(f"bulk_run_{PAST[change]}")))


CHANGES: Final[dict[str, Callable[[ConsoleContext, Visit], Awaitable[Response]]]] = {
    f"POST {PATH}/{{blk_id}}/{change}": partial(_change, change=change) for change in Change
}

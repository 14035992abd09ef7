"""The endpoint for processes."""

from typing import Annotated, Final

from msgspec import Meta, Struct

from app.db.read import processes as reading
from app.domain.access import Scope
from app.domain.liveness import ProcessKind
from app.web.api.endpoint import Call, Endpoint, endpoint, record


class ProcessesQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: Annotated[ProcessKind | None, Meta(description="Of this kind.")] = None


class ProcessRow(Struct, frozen=True, kw_only=True):
    """A process. `seen`: seconds since its main loop answered. `progress`: seconds since it did each kind of work.

    `state`: `running`, `standing_still` (it reports, and its loop does not answer), `silent`, `stopped`. `replaced`: it
    is silent, and another of its kind was started since. `clock_ahead`: its clock less the database's, in seconds.
    """

    kind: str
    host: str
    pid: int
    state: str
    seen: int
    task: str | None
    task_seconds: int | None
    progress: dict[str, int]
    version: str
    schema_revision: str
    clock_ahead: float
    started_at: str
    stopped_at: str | None
    replaced: bool


class Processes(Struct, frozen=True, kw_only=True):
    """The processes of the last day, the newest first."""

    data: list[ProcessRow]


@endpoint("GET /processes", scope=Scope.VIEWER)
def list_processes(call: Call, query: ProcessesQuery) -> Processes:
    """List the processes of the last day, with what they did last and do now."""
    with call.context.database.read() as session:
        found = reading.all_processes(session, now=call.context.clock())
    rows = [reading.shown(process) for process in found if query.kind in {None, process.kind}]
    return Processes(data=[record(row, ProcessRow) for row in rows])


ENDPOINTS: Final[tuple[Endpoint, ...]] = (list_processes,)

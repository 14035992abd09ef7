"""The endpoint for the times that end users take to reconnect."""

from datetime import timedelta
from typing import Annotated, Final

from msgspec import Meta, Struct

from app.db.read import repair_times
from app.domain.access import Scope
from app.web.api.endpoint import Call, Endpoint, endpoint, record


class RepairsQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    environment: Annotated[str | None, Meta(description="Of this environment.")] = None
    days: Annotated[int, Meta(ge=1, le=365, description="Cases that were opened within so many days.")] = 30


class RepairTimesRow(Struct, frozen=True, kw_only=True):
    """Cases of connections that needed their end user. `p50_seconds`, `p90_seconds`: within so long, from the first
    failure on, half and nine tenths of the `repaired` ones were.
    """

    environment: str
    integration: str
    repaired: int
    open: int
    deleted: int
    p50_seconds: int | None
    p90_seconds: int | None
    oldest_open_at: str | None


class Repairs(Struct, frozen=True, kw_only=True):
    data: list[RepairTimesRow]


@endpoint("GET /repairs", scope=Scope.VIEWER)
def list_repairs(call: Call, query: RepairsQuery) -> Repairs:
    """List how long end users take to reconnect, by environment and integration."""
    since = call.context.clock() - timedelta(days=query.days)
    with call.context.database.read() as session:
        found = repair_times.by_integration(session, since=since, environment=query.environment)
    return Repairs(data=[record(one.shown(), RepairTimesRow) for one in found])


ENDPOINTS: Final[tuple[Endpoint, ...]] = (list_repairs,)

"""The tables. Constraints of the schema hold what the promises rest on.

All due work has the same form: a row may be claimed from `next_at` on; a claim sets `next_at` to the end of its lease
and counts an attempt. A row whose lease has ended is due again. A claim of events does not change their rows: one row
of `event_leases` holds the batch.
"""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Column, ForeignKeyConstraint

from app.db.models.access import (
    ApiToken,
    Audit,
    IdempotentCall,
    Operator,
    OperatorLink,
    OperatorSession,
    SavedView,
    SignInAttempt,
    TeamLink,
    TeamPortal,
    TeamSession,
)
from app.db.models.base import SQLITE_ONLY, Base, BigInt
from app.db.models.bulk import BulkRun, BulkRunRow
from app.db.models.connections import Connection, Link, Organization, User
from app.db.models.intake import RARE_TYPES, Delivery, Event, EventLease, LostAnswer, Repeat, WebProcess
from app.db.models.jobs import UNFINISHED, Attempt, Decision, Job
from app.db.models.liveness import (
    Acknowledgement,
    Canary,
    Figure,
    FigureTotals,
    NotificationChannel,
    NotificationCheck,
    Process,
    ProcessMetrics,
    Tick,
)
from app.db.models.refreshes import (
    Refresh,
    RefreshForecast,
    RefreshPause,
    RefreshPolicyState,
    RefreshTurns,
    RefreshWindow,
    Repair,
)
from app.db.models.routing import (
    Destination,
    DestinationHealth,
    DestinationSecret,
    Discards,
    RouteSetVersion,
    RouteVersion,
    Team,
)
from app.db.models.upkeep import Difference, Lease, Reconciliation, Rejection, SigningKeyUse
from app.db.types import UNKNOWN, Readable, StoredJson, UtcDateTime

__all__ = [
    "RARE_TYPES",
    "SQLITE_FOREIGN_KEYS",
    "UNFINISHED",
    "Acknowledgement",
    "ApiToken",
    "Attempt",
    "Audit",
    "Base",
    "BigInt",
    "BulkRun",
    "BulkRunRow",
    "Canary",
    "Connection",
    "Decision",
    "Delivery",
    "Destination",
    "DestinationHealth",
    "DestinationSecret",
    "Difference",
    "Discards",
    "Event",
    "EventLease",
    "Figure",
    "FigureTotals",
    "IdempotentCall",
    "Job",
    "Lease",
    "Link",
    "LostAnswer",
    "NotificationChannel",
    "NotificationCheck",
    "Operator",
    "OperatorLink",
    "OperatorSession",
    "Organization",
    "Process",
    "ProcessMetrics",
    "Reconciliation",
    "Refresh",
    "RefreshForecast",
    "RefreshPause",
    "RefreshPolicyState",
    "RefreshTurns",
    "RefreshWindow",
    "Rejection",
    "Repair",
    "Repeat",
    "RouteSetVersion",
    "RouteVersion",
    "SavedView",
    "SignInAttempt",
    "SigningKeyUse",
    "Team",
    "TeamLink",
    "TeamPortal",
    "TeamSession",
    "Tick",
    "User",
    "WebProcess",
]

SQLITE_FOREIGN_KEYS: Final[Sequence[ForeignKeyConstraint]] = [
    constraint
    for table in Base.metadata.sorted_tables
    for constraint in sorted(table.foreign_key_constraints, key=lambda one: tuple(one.column_keys))
    if constraint.info == SQLITE_ONLY
]

# An unreadable value of these columns is read as an unknown time: an ended row stays ended.
_ENDS: Final = frozenset(
    {
        "closed_at",
        "disabled_at",
        "failing_since",
        "finished_at",
        "processed_at",
        "removed_at",
        "retired_at",
        "revoked_at",
        "destination_secrets.expires_at",
    }
)


def _stand_in(column: Column[Any]) -> Any:
    """The substitute for an unreadable value of the column."""
    if isinstance(column.type, UtcDateTime):
        ends = not _ENDS.isdisjoint({column.name, str(column)})
        return UNKNOWN if ends or not column.nullable else None
    if column.nullable:
        return None
    return column.type.kind() if isinstance(column.type, StoredJson) else 0


for _table in Base.metadata.tables.values():
    for _column in _table.columns:
        if isinstance(_column.type, Readable):
            _column.type = _column.type.of(_column, _stand_in(_column))

"""Bulk runs as commands, the API and pages show them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from app.db.bulk_runs import Run, Unchanged
from app.ids import BULK_RUN, CONNECTION, EVENT, JOB, show

_PREFIXES: Final = {"events": EVENT, "connections": CONNECTION}
SHOWN_IDS: Final = 100


def shown(run: Run, rows: Sequence[Unchanged] = ()) -> dict[str, Any]:
    """A run as a JSON object, described in docs/api.md. rows: of those that it has not changed."""
    prefix = next((prefix for kind, prefix in _PREFIXES.items() if run.act.startswith(kind)), JOB)
    return {
        "id": show(BULK_RUN, run.id),
        "act": run.act,
        "state": run.state,
        "actor": run.actor,
        "team": run.team,
        "reason": run.reason,
        "filter": shown_filter(run.chosen),
        "counted": run.counted,
        "done": run.done,
        "failed": run.failed,
        "left_alone": run.left_alone,
        "problem": run.problem,
        "created_at": run.created_at.isoformat(),
        "started_at": _time(run.started_at),
        "finished_at": _time(run.finished_at),
        "rows": [{"id": show(prefix, row.id), "result": row.result, "why": row.why} for row in rows],
    }


def shown_filter(chosen: str) -> dict[str, Any]:
    """A stored filter without what is not set; empty where it cannot be read."""
    try:
        found = msgspec.json.decode(chosen)
    except msgspec.DecodeError:
        return {}
    members = found if isinstance(found, dict) else {}
    members = {**(members.pop("filters", None) or {}), **members}
    event = members.get("event_id")
    if isinstance(event, str):
        members["event_id"] = show(EVENT, UUID(event))
    if ids := members.get("ids"):
        members["ids"] = [show(CONNECTION, UUID(ref)) for ref in ids[:SHOWN_IDS]]
    return {name: value for name, value in members.items() if value not in (None, [], {}, False)}


def _time(at: datetime | None) -> str | None:
    return at.isoformat() if at else None

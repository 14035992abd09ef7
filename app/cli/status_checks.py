"""A check of `waylink status`, and how its values are written."""

from dataclasses import dataclass
from datetime import datetime

from app.db.read import figures


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check. ok: False where an operator is needed."""

    check: str
    ok: bool
    value: str | int
    detail: str = ""


def due(oldest: datetime | None, now: datetime) -> str:
    return f"the oldest is due since {shown_time(oldest)}, {(now - oldest).total_seconds():.0f} s" if oldest else ""


def bounded(count: int) -> str | int:
    return count if count <= figures.AT_MOST else f"{figures.AT_MOST}+"


def shown_time(at: datetime) -> str:
    return at.isoformat(timespec="seconds")

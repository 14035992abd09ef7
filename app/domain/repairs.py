"""Cases of connections that need their end user, from the failure to the repair."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum


class RepairEnd(StrEnum):
    REAUTHORIZED = "reauthorized"  # the end user connected again
    RECOVERED = "recovered"  # a refresh succeeded again, or found a token that lives
    DELETED = "deleted"  # the connection was deleted
    UNSEEN = "unseen"  # a release that keeps no cases closed it; known as the next case was opened


REPAIRED = (RepairEnd.REAUTHORIZED, RepairEnd.RECOVERED)


def percentile(spans: Sequence[timedelta], share: float) -> timedelta | None:
    """The shortest span that at least this share of the spans does not exceed; None for none. spans: sorted."""
    if not spans:
        return None
    place = -(-len(spans) * share // 1)
    return spans[max(int(place), 1) - 1]


def failing_since(
    last_error_type: str | None, last_error_at: datetime | None, since: datetime | None, *, now: datetime
) -> datetime:
    """The time of the first error that nothing has ended, as another one comes now. The others: as stored before it."""
    known = since or last_error_at if last_error_type is not None else None
    return known or now

"""Claims of due rows: hinted ones first, then any others, each counted and leased."""

from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningUpdate

from app.db import bulk
from app.db.bulk import Record


def take(
    session: Session,
    claiming: Callable[..., ReturningUpdate[Any]],
    record: Callable[..., Record],
    ids: Collection[UUID],
    *,
    limit: int,
    now: datetime,
    lease: timedelta,
) -> list[Record]:
    """Claim up to `limit` rows, as records. `claiming(dialect, hinted=…)` is the statement for hinted rows or for any.

    Its parameters are `now`, `until`, `most` and, for hinted rows, `keys`.
    """
    kind = bulk.dialect(session)
    times = {"now": now, "until": now + lease}
    taken: list[Record] = []
    if ids:
        hinted = {**times, **bulk.keys(ids), "most": limit}
        taken += bulk.records(session, record, claiming(kind, hinted=True), hinted)
    if len(taken) < limit:  # rows just claimed are no longer due
        others = {**times, "most": limit - len(taken)}
        taken += bulk.records(session, record, claiming(kind, hinted=False), others)
    return taken

"""Ages of the stages that the canary passes: the one figure that says that the pipeline works."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.db import bulk
from app.db.canary import passage_of
from app.db.models import Canary
from app.db.types import UtcDateTime


@dataclass(frozen=True, slots=True)
class StageAge:
    """A stage of the canary's way. passed: seconds since a canary passed it; None: none ever has.

    waiting: seconds since the canary that has not passed it was stored; None while none waits for it.
    """

    stage: str  # `stored`, `processed`, `delivered`
    passed: float | None
    waiting: float | None


def stages(session: Session, *, now: datetime) -> list[StageAge]:
    """The stages in their order; none where canaries are off, or the first one is not due yet.

    now: by the reader's clock, which counts on SQLite only.
    """
    row = session.scalar(select(Canary))
    if row is None or row.event_id is None:
        return []
    if bulk.dialect(session) == "postgresql":
        now = session.scalars(select(func.clock_timestamp(type_=UtcDateTime()))).one()
    passage = passage_of(session, row.event_id)
    waits = _seconds(passage.stored_at, now)
    return [
        StageAge("stored", _seconds(passage.stored_at or row.stored_at, now), None),
        *(
            StageAge(stage, _seconds(here or before, now), waits if here is None else None)
            for stage, here, before in (
                ("processed", passage.processed_at, row.processed_at),
                ("delivered", passage.delivered_at, row.delivered_at),
            )
        ),
    ]


def _seconds(at: datetime | None, now: datetime) -> float | None:
    return None if at is None else max(0.0, (now - at).total_seconds())

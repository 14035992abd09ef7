"""The check of bulk runs: whether a worker carries on those that are due."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.orm import Session

from app.db import bulk_runs as rows
from app.db.bulk_runs import Standing
from app.db.read.figures import AT_MOST
from app.domain.bulk_runs import BulkAct
from app.domain.status import Check, CheckKind, Level
from app.ids import BULK_RUN, show
from app.services.status.wording import moment

STANDING: Final = timedelta(seconds=60)  # due for so long, its lease over


@dataclass(frozen=True, slots=True)
class BulkRuns:
    """Runs that are due and that no worker carries on, the longest due first; and how many wait or run."""

    standing: Sequence[Standing]
    unfinished: int


def read(session: Session, *, now: datetime) -> BulkRuns:
    """Read them by the index of due runs."""
    standing = rows.standing(session, before=now - STANDING, limit=AT_MOST)
    return BulkRuns(standing, rows.count_unfinished(session, at_most=AT_MOST))


def checks(found: BulkRuns) -> Iterator[Check]:
    """Judge them."""
    if not found.standing:
        yield Check(CheckKind.BULK_RUNS, Level.OK, found.unfinished)
        return
    first = found.standing[0]
    name, since = show(BULK_RUN, first.id), moment(first.since)
    cause, repair = f"no io worker carries on {name}, which is due since {since}", "waylink worker io"
    if first.act not in set(BulkAct):
        cause, repair = f"{name} has the act {first.act!r}, which this release does not know", "waylink processes"
    yield Check(CheckKind.BULK_RUNS, Level.RED, len(found.standing), cause, repair)

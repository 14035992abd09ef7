"""Checks of the comparison with Nango's list."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.orm import Session

from app.db import reconciliations
from app.db.reconciliations import Run
from app.domain.reconciling import RunOutcome
from app.domain.status import Check, CheckKind, Level
from app.services.status.installation import Installation
from app.services.status.wording import moment

PERIODS: Final = 3  # without a run that completed
UNCLAIMED: Final = timedelta(minutes=5)  # a run that is due and that no io worker takes


@dataclass(frozen=True, slots=True)
class Runs:
    """The newest runs of an environment: of all, and of those that completed."""

    last: Run | None
    done: Run | None


def read(session: Session, installation: Installation) -> dict[str, Runs]:
    """The newest runs of each environment that is compared, by an index."""
    return {
        name: Runs(*(reconciliations.last(session, name, completed=only) for only in (False, True)))
        for name, environment in installation.environments.items()
        if environment.has_api and installation.reconcile_every
    }


def checks(found: Mapping[str, Runs], installation: Installation, *, now: datetime) -> Iterator[Check]:
    """Judge them."""
    for name, runs in found.items():
        yield _check(name, runs, late=now - PERIODS * installation.reconcile_every, now=now)


def _check(name: str, runs: Runs, *, late: datetime, now: datetime) -> Check:
    last, done = runs.last, runs.done
    if last is None:
        cause = "the first run begins when an io worker and Beat run"
        return Check(CheckKind.RECONCILE, Level.OK, "never", cause, subject=name)
    problem = last.problem or ""
    if last.outcome == RunOutcome.FAILED:
        repair = f"waylink reconcile list --environment {name}"
        return Check(CheckKind.RECONCILE, Level.RED, "failed", problem, repair, subject=name)
    if last.outcome is None and last.next_at < now - UNCLAIMED:
        cause = f"a run is due since {moment(last.next_at)}, and no io worker takes it"
        return Check(CheckKind.RECONCILE, Level.RED, "stands still", cause, "waylink worker io", subject=name)
    since = done.created_at if done else last.created_at
    words = f"last completed run began {moment(since)}" if done else f"the first run began {moment(since)}"
    cause = f"{words}; {problem}" if problem else words
    if since >= late:
        return Check(CheckKind.RECONCILE, Level.OK, last.outcome or last.stage, cause, subject=name)
    repair = f"waylink reconcile --environment {name} --wait"
    return Check(CheckKind.RECONCILE, Level.RED, last.outcome or last.stage, cause, repair, subject=name)

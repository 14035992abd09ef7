"""Requests of reconciliation runs, on schedule or on demand, within the caller's transaction."""

from datetime import datetime

from sqlalchemy.orm import Session

from app.config.nango_environment import Environments
from app.db import audit
from app.db import reconciliations as rows
from app.db.reconciliations import Run
from app.domain.reconciling import Trigger
from app.errors import Conflict, InvalidInput
from app.ids import RECONCILIATION, show


def open_run(
    session: Session,
    environment: str,
    *,
    trigger: Trigger,
    dry_run: bool = False,
    accept_deletions: bool = False,
    now: datetime,
) -> Run | None:
    """Open a run that is due at once. Returns None while another one runs. An environment's first is its import."""
    if not dry_run and rows.last(session, environment, completed=True) is None:
        trigger = Trigger.IMPORT
    run_id = rows.request(
        session, environment, trigger=trigger, dry_run=dry_run, accept_deletions=accept_deletions, now=now
    )
    return rows.get(session, run_id) if run_id else None


def request_run(
    session: Session,
    environments: Environments,
    environment: str,
    *,
    dry_run: bool,
    accept_deletions: bool,
    actor: str,
    now: datetime,
) -> Run:
    """Open a run on demand, with an audit row. Raises InvalidInput, and Conflict while another one is running."""
    known = environments.get(environment)
    if known is None:
        there = ", ".join(environments) or "none"
        raise InvalidInput(f"no environment {environment!r} is configured; there are: {there}")
    if not known.has_api:
        raise InvalidInput(f"environment {environment!r} has no API key, so there is no list to compare with")
    trigger = Trigger.DEMAND
    run = open_run(session, environment, trigger=trigger, dry_run=dry_run, accept_deletions=accept_deletions, now=now)
    if run is None:
        running = rows.running(session, environment)
        name = show(RECONCILIATION, running.id) if running else None
        raise Conflict(f"{name or 'a run'} of environment {environment!r} is under way", found={"id": name})
    detail = {"environment": environment, "dry_run": dry_run, "accept_deletions": accept_deletions}
    subject = show(RECONCILIATION, run.id)
    audit.record(session, actor=actor, action="reconciliation.requested", subject=subject, now=now, detail=detail)
    return run

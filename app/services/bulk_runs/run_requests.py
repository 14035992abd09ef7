"""Requests of runs, and their changes by people: pause, resume and cancel. Each within the caller's transaction."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy.orm import Session

from app.db import audit
from app.db import bulk_runs as rows
from app.db.bulk_runs import Run
from app.deadlines import BULK_LEASE
from app.domain.bulk_runs import PAST, BulkAct, BulkState, Change
from app.domain.states import AuditOutcome
from app.errors import Conflict, InvalidInput, NotFound
from app.ids import BULK_RUN, new_id, show

LONGEST_REASON: Final = 500  # characters


@dataclass(frozen=True, slots=True, kw_only=True)
class RunWanted:
    """A run as it is asked for.

    chosen: the filter as it is stored. shown: the same for the audit. counted: matching rows, or fewer; it looks at no
    more. team: whose caller asks for it; None: no team's.
    """

    act: BulkAct
    chosen: str
    shown: Mapping[str, Any]
    counted: int
    actor: str
    reason: str | None = None
    team: str | None = None


def open_run(session: Session, wanted: RunWanted, *, now: datetime, claimed: bool = False) -> Run:
    """Store a run that is due at once, with its entry in the audit. Raises InvalidInput for the reason.

    claimed: by the caller, who carries it out.
    """
    if wanted.reason is not None and len(wanted.reason) > LONGEST_REASON:
        raise InvalidInput(f"the reason has {len(wanted.reason)} characters: at most {LONGEST_REASON} are kept")
    run_id = new_id()
    told = dict(wanted.shown) if wanted.reason is None else {**wanted.shown, "reason": wanted.reason}
    audit_id = audit.record(
        session,
        actor=wanted.actor,
        action=wanted.act.audited,
        subject=show(BULK_RUN, run_id),
        detail={**told, "counted": wanted.counted},
        outcome=AuditOutcome.BEGUN,
        now=now,
    )
    run = Run(
        id=run_id,
        act=wanted.act,
        team=wanted.team,
        chosen=wanted.chosen,
        reason=wanted.reason,
        actor=wanted.actor,
        state=BulkState.RUNNING if claimed else BulkState.WAITING,
        counted=wanted.counted,
        created_at=now,
        started_at=now if claimed else None,
        next_at=now + BULK_LEASE if claimed else now,
        attempts=int(claimed),
        holder=new_id() if claimed else None,
        audit_id=audit_id,
    )
    rows.add(session, run)
    return run


def get_run(session: Session, run_id: UUID, *, team: str | None = None) -> Run:
    """The run, with `team` only one that its caller asked for. Raises NotFound."""
    run = rows.get(session, run_id)
    if run is None or team not in {None, run.team}:
        raise NotFound("bulk run", show(BULK_RUN, run_id))
    return run


def change_run(
    session: Session, run_id: UUID, change: Change, *, actor: str, now: datetime, team: str | None = None
) -> Run:
    """Pause, resume or cancel a run. What it has done stays done.

    Raises NotFound, and Conflict where its state does not allow it.
    """
    before = get_run(session, run_id, team=team)
    after = rows.change(session, run_id, change, now=now)
    if after is None:
        shown = show(BULK_RUN, run_id)
        raise Conflict(f"{shown} is {before.state}: it cannot be {PAST[change]}", found={"state": before.state})
    subject, result = show(BULK_RUN, run_id), counts(after)
    audit.record(session, actor=actor, action=f"bulk_run.{PAST[change]}", subject=subject, now=now, detail=result)
    if change is Change.CANCEL:
        audit.add_result(session, after.audit_id, AuditOutcome.FAILED, {**result, "cancelled": True})
    return after


def counts(run: Run) -> dict[str, int]:
    """The run's result in numbers, as the audit has it."""
    return {"count": run.done, "failed": run.failed, "left_alone": run.left_alone}

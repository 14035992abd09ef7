"""What a refresh by hand leaves behind: the connection's expiry and error, a row of its history, and its next plan.

Such a call never changes the connection's status by itself. Where it shows that the end user has to act, a planned look
is due at once, which concludes it and tells the teams.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy.orm import Session

from app.db import connections as connection_rows
from app.db import refreshes as refresh_rows
from app.db.connections import ConnectionRow
from app.db.models import Refresh
from app.db.refreshes import ByHand
from app.domain.refresh import TOKEN_EXPIRED, Plan, has_lapsed, next_plan
from app.domain.states import ConnectionStatus, RefreshOutcome
from app.errors import NangoRefreshFailed
from app.services import internal_events
from app.services.connections.operations import Desk, Subject
from app.services.policy import Policy
from app.services.refreshing.answers import Answer
from app.telemetry import REFRESHES

_LOOKED_AT_AGAIN: Final = frozenset({RefreshOutcome.EXHAUSTED, RefreshOutcome.GONE})  # a planned look concludes them


@dataclass(frozen=True, slots=True)
class Asked:
    """A GET by hand: which connection, who asked for it, whether it forces a refresh, and what for."""

    subject: Subject
    actor: str
    forced: bool
    reason: str


def keep_success(session: Session, desk: Desk, asked: Asked, answer: Answer) -> None:
    """The expiry here; what else is new, such as that an error is over, by an event, which the teams are told of."""
    subject, now = asked.subject, desk.clock()
    # Read again: no transaction was open while Nango was asked, and what came in between is newer.
    row = connection_rows.lock_one(session, subject.ref)
    if row is None or answer.view is None or answer.asked_at is None:
        return
    news = internal_events.news_in(row, answer.view, asked_at=answer.asked_at, token_lives=answer.token_lives(now))
    if row.nango_id == subject.nango_id:
        _note(session, asked, answer, row, began_at=answer.asked_at, now=now)
        # Unless a re-authorization or a planned refresh came in between: what those saw is newer.
        if row.errors_seen_at is None or row.errors_seen_at <= answer.asked_at:
            row.expires_at, row.updated_at = answer.expires_at, now
            connection_rows.update(session, [row])
            _plan_anew(session, desk.policy, asked, answer, row, now=now)
    desk.store(session, news, environment=row.environment, connection_ref=subject.ref)


def keep_failure(session: Session, desk: Desk, asked: Asked, answer: Answer, *, asked_at: datetime) -> None:
    """Its error, where it is the connection's. An outage or a rate limit says nothing of it and is history alone."""
    now = desk.clock()
    row = connection_rows.lock_one(session, asked.subject.ref)
    if row is None or row.nango_id != asked.subject.nango_id:
        return
    _note(session, asked, answer, row, began_at=asked_at, now=now)
    refused = answer.outcome in {RefreshOutcome.FAILED, RefreshOutcome.EXHAUSTED}
    if refused and (row.errors_seen_at is None or row.errors_seen_at <= asked_at):
        row.errors_seen_at, row.last_error_type = asked_at, answer.error_type
        row.last_error_at = row.updated_at = now
        connection_rows.update(session, [row])
    given_up = row.status == ConnectionStatus.NEEDS_RECONNECT and answer.outcome is RefreshOutcome.EXHAUSTED
    if answer.outcome not in _LOOKED_AT_AGAIN or given_up:
        return
    before = refresh_rows.open_one(session, row.id, lock=True)
    if before is None or before.next_at > now:  # where one is due, one more call adds nothing
        plan = Plan(now, forced=False, reason=f"a refresh by hand was answered: {answer.outcome}")
        _replace(session, desk.policy, row, before, plan, now=now)


def _note(
    session: Session, asked: Asked, answer: Answer, row: ConnectionRow, *, began_at: datetime, now: datetime
) -> None:
    if not _is_refresh(asked, answer, row):
        return
    REFRESHES.labels(answer.outcome).inc()
    done = ByHand(
        connection_ref=asked.subject.ref,
        requested_by=asked.actor,
        forced=asked.forced,
        reason=asked.reason,
        began_at=began_at,
        outcome=answer.outcome,
        error=answer.error,
        previous_expires_at=asked.subject.expires_at,
        expires_at=answer.expires_at,
    )
    refresh_rows.add_by_hand(session, done, now=now)


def _is_refresh(asked: Asked, answer: Answer, row: ConnectionRow) -> bool:
    """Whether Nango tried to renew, as for each forced call and some reads. An application reads as often as it likes,
    also while Nango waits after a failure, and once it has given the connection up."""
    if answer.outcome is RefreshOutcome.EXHAUSTED and not asked.forced:
        return row.last_error_type != answer.error_type  # the first that was told of it
    return asked.forced or answer.outcome is RefreshOutcome.RENEWED or answer.error_type == NangoRefreshFailed.__name__


def _plan_anew(
    session: Session, policy: Policy, asked: Asked, answer: Answer, row: ConnectionRow, *, now: datetime
) -> None:
    """The plan that a planned refresh with this answer would have made. A read that changed nothing moves none: the
    application may read more often than a plan waits."""
    mode, lapsed = row.auth_mode or "", row.last_error_type == TOKEN_EXPIRED
    refresh_policy = policy.refresh_of(row.environment, row.integration)
    if refresh_policy is None:
        return
    before = refresh_rows.open_one(session, row.id, lock=True)
    looked = not asked.forced and answer.outcome is RefreshOutcome.UNCHANGED
    if looked and before is not None:
        return
    over = has_lapsed(
        now=now, outcome=answer.outcome, expires_at=answer.expires_at, auth_mode=mode, was_forced=asked.forced
    )
    if over and not lapsed:
        plan: Plan | None = Plan(now, forced=True, reason="a refresh by hand renewed nothing; once more, to be sure")
    else:
        plan = next_plan(
            now=now,
            outcome=answer.outcome,
            expires_at=answer.expires_at,
            previous_expires_at=asked.subject.expires_at,
            consecutive_failures=0,
            retry_after=None,
            auth_mode=mode,
            identity=row.id.hex,
            policy=refresh_policy,
            was_forced=asked.forced,
            lapsed=lapsed,
        )
    _replace(session, policy, row, before, plan, now=now)


def _replace(
    session: Session, policy: Policy, row: ConnectionRow, before: Refresh | None, plan: Plan | None, *, now: datetime
) -> None:
    """In place of the open plan, unless that is under way: what it learns is newer. before: the open plan, locked."""
    if before is not None and before.attempts > 0 and before.next_at > now:
        return
    if policy.refresh_of(row.environment, row.integration) is None:
        return
    refresh_rows.supersede(session, [row.id], now=now)
    if plan is not None:
        refresh_rows.plan(session, {row.id: plan}, now=now)

"""Records of a manual refresh: the connection's expiry and error, a row of its refresh history, and its next plan.

A manual refresh never changes the connection's status by itself. Where its answer shows that the end user has to
re-authorize, a planned refresh is made due at once; that one sets the status and announces it to the teams.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy.orm import Session

from app.db import connections as connection_rows
from app.db import refreshes as refresh_rows
from app.db.connections import ConnectionState
from app.db.models import Refresh
from app.db.refreshes import ManualRefreshRow
from app.domain.refreshing.answer import Answer
from app.domain.refreshing.conclusion import plan_after, with_keeping, with_times
from app.domain.refreshing.facts import IntegrationKey
from app.domain.refreshing.outcomes import REFUSALS, TOKEN_EXPIRED, has_lapsed
from app.domain.refreshing.plan import Plan
from app.domain.states import ConnectionStatus, RefreshOutcome
from app.errors import NangoProviderDown, NangoRefreshFailed
from app.services import own_events
from app.services.connections.operations import Operations, StoredConnection
from app.services.policy import Policy
from app.services.refreshing.outcome_counter import count_refresh

_NEEDS_PLANNED_REFRESH: Final = frozenset({RefreshOutcome.EXHAUSTED, RefreshOutcome.GONE})  # which sets the status

_ATTEMPTED: Final = frozenset({NangoRefreshFailed.__name__, NangoProviderDown.__name__})  # Nango asked the provider


@dataclass(frozen=True, slots=True)
class ManualRefresh:
    """A GET by an operator or application: the connection, the actor, whether it forces a refresh, the reason.

    is_renewal: it was made to renew the token, and is in the history whatever came of it.
    """

    connection: StoredConnection
    actor: str
    forced: bool
    reason: str
    is_renewal: bool = False


def record_success(session: Session, operations: Operations, manual: ManualRefresh, answer: Answer) -> None:
    """Record the new expiry; other differences, such as an error that is over, become events for the teams."""
    connection, now = manual.connection, operations.clock()
    # Read again: no transaction was open during the call to Nango, and writes in between are newer.
    row = connection_rows.lock_by_id(session, connection.ref)
    if row is None or answer.snapshot is None or answer.asked_at is None:
        return
    news = own_events.news_in(row, answer.snapshot, asked_at=answer.asked_at, token_lives=answer.token_lives(now))
    if row.nango_id == connection.nango_id:
        lives = operations.policy.refresh.lives_of(row.environment, row.integration, row.provider)
        after = with_times(row.refresh_facts, answer, lives, was_forced=manual.forced)
        if policy := operations.policy.refresh_of(row.environment, row.integration, row.provider):
            after = with_keeping(after, answer, policy)
        _note(session, manual, answer, row, grant_expires_at=after.grant_expires_at, now=now)
        # A re-authorization or a planned refresh in between has seen something newer.
        if row.errors_seen_at is None or row.errors_seen_at <= answer.asked_at:
            row.take_over(after)
            row.updated_at = now
            connection_rows.update(session, [row])
            _plan_anew(session, operations.policy, manual, answer, row, now=now)
    operations.store(session, news, environment=row.environment, connection_ref=connection.ref)


def record_failure(session: Session, operations: Operations, manual: ManualRefresh, answer: Answer) -> None:
    """Record an error of the connection. An outage or a rate limit goes into the history alone."""
    now = operations.clock()
    asked_at = answer.asked_at or now
    row = connection_rows.lock_by_id(session, manual.connection.ref)
    if row is None or row.nango_id != manual.connection.nango_id:
        return
    _note(session, manual, answer, row, grant_expires_at=None, now=now)
    refused = answer.outcome in {*REFUSALS, RefreshOutcome.EXHAUSTED}
    if refused and (row.errors_seen_at is None or row.errors_seen_at <= asked_at):
        row.note_error(answer.error_type, now)
        row.errors_seen_at, row.updated_at = asked_at, now
        connection_rows.update(session, [row])
    given_up = row.status == ConnectionStatus.NEEDS_RECONNECT and answer.outcome is RefreshOutcome.EXHAUSTED
    if answer.outcome not in _NEEDS_PLANNED_REFRESH or given_up:
        return
    before = refresh_rows.open_plan(session, row.id, lock=True)
    if before is None or before.next_at > now:  # one that is due already need not be replaced
        plan = Plan(now, forced=False, reason=f"a refresh by hand was answered: {answer.outcome}")
        _replace(session, operations.policy, row, before, plan, now=now)


def _note(
    session: Session,
    manual: ManualRefresh,
    answer: Answer,
    row: ConnectionState,
    *,
    grant_expires_at: datetime | None,
    now: datetime,
) -> None:
    """Add it to the history. row: as it was before. grant_expires_at: as an answer showed it."""
    if not _is_refresh(manual, answer, row):
        return
    count_refresh(IntegrationKey(row.environment, row.integration), answer.outcome)
    done = ManualRefreshRow(
        connection_ref=manual.connection.ref,
        requested_by=manual.actor,
        forced=manual.forced,
        reason=manual.reason,
        asked_at=answer.asked_at or now,
        answered_at=answer.answered_at,
        outcome=answer.outcome,
        error=answer.error,
        previous_expires_at=manual.connection.expires_at,
        expires_at=answer.expires_at,
        previous_grant_expires_at=row.grant_expires_at,
        grant_expires_at=grant_expires_at,
    )
    refresh_rows.add_manual(session, done, now=now)


def _is_refresh(manual: ManualRefresh, answer: Answer, row: ConnectionState) -> bool:
    """Whether Nango attempted a renewal, as for each forced call and some reads.

    Reads of an application are frequent, also while Nango backs off after a failure and after it has given up.
    """
    if manual.forced or manual.is_renewal:
        return True
    if answer.outcome is RefreshOutcome.EXHAUSTED:
        return row.last_error_type != answer.error_type  # the first read that got this error
    return answer.outcome is RefreshOutcome.RENEWED or answer.error_type in _ATTEMPTED


def _plan_anew(
    session: Session, policy: Policy, manual: ManualRefresh, answer: Answer, row: ConnectionState, *, now: datetime
) -> None:
    """Make the plan that a planned refresh with this answer would have made.

    A read that changed nothing moves no plan: reads may be more frequent than the plan's interval.
    """
    mode, lapsed = row.auth_mode or "", row.last_error_type == TOKEN_EXPIRED
    refresh_policy = policy.refresh_of(row.environment, row.integration, row.provider)
    if refresh_policy is None:
        return
    before = refresh_rows.open_plan(session, row.id, lock=True)
    looked = not manual.forced and answer.outcome is RefreshOutcome.UNCHANGED
    if looked and before is not None:
        return
    over = has_lapsed(
        now=now, outcome=answer.outcome, expires_at=answer.expires_at, auth_mode=mode, was_forced=manual.forced
    )
    if over and not lapsed:
        plan: Plan | None = Plan(now, forced=True, reason="a refresh by hand renewed nothing; once more, to be sure")
    else:
        plan = plan_after(
            row.refresh_facts,
            answer,
            refresh_policy,
            now=now,
            identity=row.id.hex,
            previous_expires_at=manual.connection.expires_at,
            failures=0,
            was_forced=manual.forced,
            lapsed=lapsed,
        )
    _replace(session, policy, row, before, plan, now=now)


def _replace(
    session: Session, policy: Policy, row: ConnectionState, before: Refresh | None, plan: Plan | None, *, now: datetime
) -> None:
    """Replace the open plan, unless it is running: its result is newer. before: the open plan, locked."""
    if before is not None and before.attempts > 0 and before.next_at > now:
        return
    if policy.refresh_of(row.environment, row.integration, row.provider) is None:
        return
    refresh_rows.supersede(session, [row.id], now=now)
    if plan is not None:
        refresh_rows.plan(session, {row.id: plan}, now=now)

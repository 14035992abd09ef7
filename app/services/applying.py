"""Apply a batch of judged events in one transaction: connections, links, routes, decisions, jobs, refresh plans.

Everything is loaded in bulk with rows locked in sorted order, decided in memory by the domain, and written in bulk.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.orm import Session

from app.db import connections as connection_rows
from app.db import events as event_rows
from app.db import refreshes as refresh_rows
from app.db.connections import Key
from app.db.models import Connection, Event
from app.domain.confirming import LINKING_TYPES, Absent, Accept, Look, LookAgain, Reject, Verdict, View, settle
from app.domain.event import EventType, Notice, settle_failure_type, without_secrets
from app.domain.linking import Claim, EndUser, Keep, Open, Unlinked, decide, read_claim
from app.domain.refresh import Plan, first_plan
from app.domain.routing import RouteSet
from app.domain.states import ConnectionStatus, EventState
from app.services.directory import Directory
from app.services.judging import Judge
from app.services.links import Links
from app.services.policy import Policy
from app.telemetry import EVENTS

TOLD_BEFORE = "the creation of this generation was routed before"


@dataclass(frozen=True, slots=True)
class Judged:
    """A claimed event with what its body says and what Nango answered. `attempts` is the claim's number."""

    event_id: UUID
    attempts: int
    duplicates: int
    environment: str
    seen_at: datetime
    notice: Notice
    look: Look

    @property
    def key(self) -> Key | None:
        return (self.environment, *self.notice.key) if self.notice.key else None

    @property
    def observed_at(self) -> datetime:
        """When what we go by was true: Nango's answer, or the receipt where Nango was not asked."""
        return self.look.observed_at if isinstance(self.look, View | Absent) else self.seen_at

    @property
    def evidence(self) -> tuple[Mapping[str, str] | None, EndUser | None]:
        """Tags and end user, of the API where it was asked, else of the body."""
        if isinstance(self.look, View):
            return self.look.tags, self.look.end_user
        return self.notice.tags, self.notice.end_user


@dataclass(frozen=True, slots=True)
class Applied:
    """What came of a batch: jobs to announce after the commit, and how many events wait or were settled."""

    job_ids: Sequence[UUID] = ()
    settled: int = 0
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class _Item:
    event: Event
    judged: Judged
    verdict: Verdict

    @property
    def links(self) -> bool:
        """It will say whom its connection belongs to."""
        return isinstance(self.verdict, Accept) and self.judged.notice.type in LINKING_TYPES


class Batch:
    """One transaction's worth of events. Use once: `Batch(…).apply()`."""

    def __init__(
        self, session: Session, policy: Policy, routes: RouteSet, judged: Sequence[Judged], *, now: datetime
    ) -> None:
        self._session, self._policy, self._now = session, policy, now
        self._settled = self._waiting = 0
        self._plans: dict[UUID, tuple[Connection, Plan | None]] = {}
        claimed = {one.event_id: one for one in judged}
        events = [
            event
            for event in event_rows.lock(session, claimed)
            # Another claim in between means that our lease ran out: that worker's result counts, not ours.
            if event.state == EventState.RECEIVED and event.attempts == claimed[event.id].attempts
        ]
        self._connections = connection_rows.lock(session, {one.key for one in judged if one.key})
        self._items = [_Item(event, claimed[event.id], self._settle(event, claimed[event.id])) for event in events]
        linking = [item.judged for item in self._items if item.links]
        missing = {one.key for one in linking if one.key} - self._connections.keys()
        self._connections.update(connection_rows.ensure(session, missing, now=now))
        self._links = Links(session, self._connections.values(), now=now)
        claims = [claim for claim in map(self._claim, linking) if claim]
        self._directory = Directory(session, claims, policy=policy.directory, now=now)
        self._directory.remember_owners(self._links.all())
        self._judge = Judge(routes, self._directory, now=now)

    def apply(self) -> Applied:
        for item in self._items:
            self._describe(item)
            match item.verdict:
                case LookAgain():
                    self._wait(item, item.verdict)
                case Reject():
                    self._give_up(item, item.verdict)
                case Accept():
                    self._accept(item, item.verdict)
        self._write()
        return Applied(self._judge.job_ids, self._settled, self._waiting)

    def _settle(self, event: Event, judged: Judged) -> Verdict:
        connection = self._connections.get(judged.key) if judged.key else None
        return settle(
            judged.notice,
            judged.look,
            looks=event.looks,
            absences=connection.absences if connection else 0,
            known=connection is not None,
            known_nango_id=connection.nango_id if connection else None,
        )

    def _claim(self, judged: Judged) -> Claim | None:
        tags, end_user = judged.evidence
        return read_claim(tags or {}, end_user, self._policy.tag_keys)

    def _describe(self, item: _Item) -> None:
        """What the body says, for lists and filters, even while the event waits."""
        event, notice = item.event, item.judged.notice
        event.type = event.type or str(notice.type)
        event.integration, event.connection_id = notice.integration, notice.connection_id
        event.tags = dict(notice.tags) if notice.tags is not None else None
        if notice.error is not None and event.body is not None:
            event.body = without_secrets(event.body)
        connection = self._connection(item)
        if connection is not None:
            event.connection_ref = connection.id
            if isinstance(item.judged.look, View):
                connection.absences = 0

    def _connection(self, item: _Item) -> Connection | None:
        return self._connections.get(item.judged.key) if item.judged.key else None

    # The three ends of a look

    def _wait(self, item: _Item, verdict: LookAgain) -> None:
        event, connection = item.event, self._connection(item)
        event.attempts = 0  # waiting is a result: it does not count as a crash
        event.next_at = self._now + timedelta(seconds=verdict.seconds)
        event.problem = verdict.why
        if verdict.counts:
            event.looks += 1
        if connection is not None and isinstance(item.judged.look, Absent):
            connection.absences += 1
        self._waiting += 1

    def _give_up(self, item: _Item, verdict: Reject) -> None:
        event = item.event
        event.state, event.failure, event.problem = EventState.FAILED, "not_confirmed", verdict.why
        event.confirmed, event.processed_at = False, self._now
        EVENTS.labels(event.type, EventState.FAILED).inc()
        self._settled += 1

    def _accept(self, item: _Item, verdict: Accept) -> None:
        event, notice, connection = item.event, item.judged.notice, self._connection(item)
        first_time = event.route_set is None
        if first_time:
            known = connection is not None and connection.status != ConnectionStatus.DELETED
            event.type = str(settle_failure_type(notice, known=known))
        announce = connection is None or self._act(item, verdict, connection)
        event.confirmed = verdict.confirmed
        event.problem = TOLD_BEFORE if first_time and not announce else None
        if first_time:
            self._judge.judge(
                event,
                notice=notice,
                connection=connection,
                owner=self._links.of(connection),
                confirmed=verdict.confirmed,
                announce=announce,
            )
        event.attempts, event.looks, event.processed_at = 0, 0, self._now
        if event.duplicates == item.judged.duplicates:
            event.state = EventState.PROCESSED
        else:
            event.next_at = self._now  # the same delivery came while this one was worked on: look once more
        EVENTS.labels(event.type, EventState.PROCESSED).inc()
        self._settled += 1

    # What an accepted event does to its connection

    def _act(self, item: _Item, verdict: Accept, connection: Connection) -> bool:
        """Change the connection as the event says. False when the teams have been told of it before."""
        kind, observed_at = item.judged.notice.type, item.judged.observed_at
        if connection.observed_at is not None and observed_at < connection.observed_at:
            pass  # an older view never overwrites a newer one
        elif kind in LINKING_TYPES:
            self._absorb(item, verdict, connection)
        elif kind is EventType.CONNECTION_DELETED:
            self._delete(connection, observed_at)
        elif connection.errors_seen_at is not None and observed_at < connection.errors_seen_at:
            pass  # nor does an older failure hide a newer recovery
        elif kind is EventType.CONNECTION_REFRESH_FAILED:
            error = item.judged.notice.error
            connection.last_error_type, connection.last_error_at = error.type if error else "unknown", self._now
            connection.errors_seen_at = observed_at
        elif kind is EventType.CONNECTION_RECOVERED:
            self._recover(connection)
            connection.errors_seen_at = observed_at
        return _is_news(kind, verdict.view, connection)

    def _absorb(self, item: _Item, verdict: Accept, connection: Connection) -> None:
        """A connection was made or re-authorized: take over what is known of it."""
        view, notice = verdict.view, item.judged.notice
        if view and connection.nango_id is not None and connection.nango_id != view.nango_id:
            self._links.close(connection, "new_generation")
        tags, end_user = item.judged.evidence
        connection.nango_id = view.nango_id if view else connection.nango_id
        connection.provider = notice.provider or (view.provider if view else None) or connection.provider
        connection.auth_mode = notice.auth_mode or connection.auth_mode
        connection.tags = dict(tags) if tags is not None else connection.tags
        connection.tags_disagree = verdict.tags_disagree
        connection.observed_at = connection.errors_seen_at = item.judged.observed_at
        connection.last_error_type = connection.last_error_at = None
        connection.updated_at = self._now
        if view is not None:
            connection.status = ConnectionStatus.ACTIVE
        elif connection.status != ConnectionStatus.ACTIVE:
            connection.status = ConnectionStatus.UNCONFIRMED
        self._link(item, connection, read_claim(connection.tags, end_user, self._policy.tag_keys))
        self._replan(connection)

    def _recover(self, connection: Connection) -> None:
        connection.last_error_type = connection.last_error_at = None
        connection.updated_at = self._now
        if connection.status == ConnectionStatus.NEEDS_RECONNECT:
            connection.status = ConnectionStatus.ACTIVE
        self._replan(connection)

    def _delete(self, connection: Connection, observed_at: datetime) -> None:
        connection.status, connection.updated_at = ConnectionStatus.DELETED, self._now
        connection.observed_at = observed_at  # an older view must not revive it
        connection.expires_at = connection.drift = connection.unlinked_reason = None
        self._links.close(connection, "deleted")
        self._plans[connection.id] = (connection, None)

    def _link(self, item: _Item, connection: Connection, claim: Claim | None) -> None:
        connection.wanted_user = claim.user_id if claim else None
        connection.wanted_email = claim.email.lower() if claim and claim.email else None
        connection.wanted_organization = claim.organization_id if claim else None
        current = self._links.of(connection)
        decision = decide(
            current=current,
            found=self._directory.resolve(claim) if claim else None,
            tags_empty=not connection.tags,
            policy=self._policy.owner_change,
        )
        connection.drift = decision.drift if isinstance(decision, Keep) else None
        connection.unlinked_reason = decision.reason if isinstance(decision, Unlinked) else None
        if isinstance(decision, Open):
            self._links.close(connection, "reassigned")
            linked_by = claim.linked_by if claim else ""
            self._links.open(connection, decision.owner, linked_by=linked_by, event_id=item.event.id)
            self._judge.conclude(
                EventType.CONNECTION_LINKED,
                connection,
                owner=decision.owner,
                previous=current,
                confirmed=connection.status == ConnectionStatus.ACTIVE,
            )

    def _replan(self, connection: Connection) -> None:
        policy = self._policy.refresh_of(connection.environment, connection.integration)
        planned = None
        if policy is not None:
            mode = connection.auth_mode or ""
            planned = first_plan(now=self._now, auth_mode=mode, identity=connection.id.hex, policy=policy)
        self._plans[connection.id] = (connection, planned)

    def _write(self) -> None:
        self._links.write()
        self._judge.write(self._session)
        refresh_rows.supersede(self._session, list(self._plans), now=self._now)
        for connection, planned in self._plans.values():
            if planned is not None:
                refresh_rows.plan(self._session, connection, planned, failures=0, now=self._now)
        self._session.flush()


def _is_news(kind: EventType, view: View | None, connection: Connection) -> bool:
    """`connection.created` goes out once per generation, whoever told of it (promise 4)."""
    if kind is not EventType.CONNECTION_CREATED or view is None:
        return True
    if connection.announced_nango_id == view.nango_id:
        return False
    connection.announced_nango_id = view.nango_id
    return True

"""Apply a batch of pending events in one transaction: connections, links, routes, decisions, jobs, refresh plans.

Everything is loaded in bulk with connections locked in sorted order, decided in memory by the domain, and written in
bulk: a few statements for any number of events.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy.orm import Session

from app.db import connections as connection_rows
from app.db import events as event_rows
from app.db import owner_locks
from app.db import refreshes as refresh_rows
from app.db import repairs as repair_rows
from app.db.bulk import Row
from app.db.jobs import JobToSend
from app.domain import canary
from app.domain.confirming import (
    Absent,
    Accept,
    LookUpAgain,
    Reject,
    Snapshot,
    Verdict,
)
from app.domain.definitions import DestinationKey
from app.domain.event import EventType
from app.domain.linking import Claim, DirectoryPolicy, Owner, read_claim
from app.domain.states import EventState
from app.services.directory import Directory
from app.services.events.batch_item import Item, will_link
from app.services.events.claiming import ClaimedBatch
from app.services.events.confirmations import Confirmations
from app.services.events.connection_transitions import Transitions
from app.services.events.current_events import CurrentEvents
from app.services.events.duplicates import Duplicates
from app.services.events.found_creations import FoundCreations
from app.services.events.ownership import Ownership
from app.services.events.pending_event import PendingEvent
from app.services.events.stage_lines import NOTHING, WrittenRows
from app.services.linking.connection_changes import ConnectionChanges
from app.services.linking.superseding import Superseding
from app.services.policy import Policy
from app.services.routing.precomputed_matches import Matches
from app.services.routing.router import Router

if TYPE_CHECKING:
    from app.traces.events import Applying


@dataclass(frozen=True, slots=True)
class Applied:
    """A batch's result: jobs to hint or to send after the commit, finished events by type and state, and how many wait.

    claimed: jobs inserted as claimed. canaries: finished ones, which are in no other number. written: of one
    transaction, for what is told of single events.
    """

    job_ids: Sequence[UUID] = ()
    claimed: Sequence[JobToSend] = ()
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    waiting: int = 0
    canaries: int = 0
    written: WrittenRows = NOTHING

    @property
    def finished(self) -> int:
        return self.outcomes.total()


class Batch:
    """The events of one transaction. Use once: `Batch.load(…).apply()`."""

    def __init__(
        self,
        session: Session,
        policy: Policy,
        matches: Matches,
        changes: ConnectionChanges,
        *,
        confirmations: Confirmations,
        duplicates: Duplicates,
        current: CurrentEvents,
        now: datetime,
        direct: Collection[DestinationKey] = (),
        spans: "Applying | None" = None,
    ) -> None:
        self._session, self._policy, self._matches, self._now = session, policy, matches, now
        self._direct, self._spans = direct, spans
        self._changes, self._confirmations, self._duplicates = changes, confirmations, duplicates
        self._outcomes: Counter[tuple[str, str]] = Counter()
        self._waiting = self._canaries = 0
        self._event_changes: list[Row] = []
        self._creations = FoundCreations()
        self._current = current
        verdicts = [confirmations.verdict(event, pending) for event, pending in current.events]
        for (_, pending), verdict in zip(current.events, verdicts, strict=True):
            if pending.key and will_link(pending, verdict):
                changes.get_or_create(pending.key)
        self._items = [
            Item(event, pending, verdict, changes.get(pending.key))
            for (event, pending), verdict in zip(current.events, verdicts, strict=True)
        ]

    @classmethod
    def load(
        cls,
        session: Session,
        policy: Policy,
        matches: Matches,
        pending: Sequence[PendingEvent],
        *,
        claimed: ClaimedBatch,
        lock: bool,
        now: datetime,
        direct: Collection[DestinationKey] = (),
        spans: "Applying | None" = None,
    ) -> "Batch":
        """Lock connections, and read what deciding about the events takes. direct: see `Router`.

        claimed: the batch that `pending` is, or is a part of. lock: lock all events, which changed when they were not.
        Raises LeaseLost.
        """
        matches.begin()
        supersedes = any(event.key and policy.supersedes(event.key.integration) for event in pending)
        owner_locks.begin_linking(session, supersedes=supersedes)
        claimed.hold(session, len(pending))
        current = CurrentEvents.load(session, pending, lock=lock)
        changes = ConnectionChanges.load(
            session, connection_rows.lock(session, {event.key for event in pending if event.key}).values(), now=now
        )
        duplicates = Duplicates.load(session, policy, [(event, item.notice) for event, item in current.events], now=now)
        batch = cls(
            session,
            policy,
            matches,
            changes,
            confirmations=Confirmations.load(session, changes, current.events),
            duplicates=duplicates,
            current=current,
            now=now,
            direct=direct,
            spans=spans,
        )
        batch._load_owners(supersedes=supersedes)
        return batch

    def _load_owners(self, *, supersedes: bool) -> None:
        linking = [item.pending for item in self._items if will_link(item.pending, item.verdict)]
        claims = [(pending, claim) for pending in linking if (claim := self._claim(pending))]
        directory = Directory.load(
            self._session,
            [claim for _, claim in claims],
            policy=self._policy.directory,
            now=self._now,
            ids=self._matches.ids,
        )
        self._superseding = (
            Superseding(self._session, self._policy, self._changes, now=self._now) if supersedes else None
        )
        if self._superseding:
            owners = [(pending.key, directory.resolve(claim)) for pending, claim in claims]
            self._superseding.load([(key, owner) for key, owner in owners if key and isinstance(owner, Owner)])
        links = self._changes.links
        directory.load_owners(links.all())
        self._router = Router(self._matches, directory, now=self._now, direct=self._direct)
        ownership = Ownership(self._policy, links, directory, self._router, self._superseding, now=self._now)
        self._transitions = Transitions(self._policy, links, ownership, self._router, now=self._now)

    def apply(self) -> Applied:
        """Raises NotMatchedYet, before anything is written, and EventsChanged."""
        waiting = []
        for item in self._items:
            if item.waits_for_connection and isinstance(self._verdict(item), LookUpAgain):
                waiting.append(item)  # a later event of this batch may create its connection
            else:
                self._apply(item)
        for item in waiting:
            self._apply(item)
        self._router.traceparent = None
        if self._superseding:
            self._superseding.restore(self._router)
        self._matches.require_all()
        self._write()
        written = WrittenRows(self._event_changes, self._router.events, self._router.jobs)
        return Applied(
            self._router.job_ids, self._router.claimed, self._outcomes, self._waiting, self._canaries, written
        )

    def _apply(self, item: Item) -> None:
        self._router.traceparent = item.pending.traceparent
        described = self._describe(item)
        # An earlier event may have created the connection that it waits for.
        verdict = self._verdict(item) if item.waits_for_connection else item.verdict
        match verdict:
            case LookUpAgain():
                outcome = self._wait(item, verdict)
            case Reject():
                outcome = self._give_up(item, verdict)
            case Accept():
                outcome = self._accept(item, verdict)
        repeated = self._duplicates.changes(item.event, finished=not isinstance(verdict, LookUpAgain))
        begun = item.pending.traceparent if item.event.traceparent is None else None
        traced = {"traceparent": begun} if begun is not None else {}
        self._event_changes.append({**described, **outcome, **repeated, **traced})

    def _verdict(self, item: Item) -> Verdict:
        return self._confirmations.verdict(item.event, item.pending)

    def _claim(self, pending: PendingEvent) -> Claim | None:
        if self._policy.directory is DirectoryPolicy.SQL:
            claim = pending.owner_answer.claim if pending.owner_answer else None
            return claim if isinstance(claim, Claim) else None
        tags, end_user = pending.evidence
        return read_claim(tags or {}, end_user, self._policy.tag_keys)

    def _describe(self, item: Item) -> Row:
        """Columns from the body, for lists and filters while the event waits."""
        notice, connection = item.pending.notice, item.connection
        is_shown = isinstance(item.pending.lookup, Snapshot)
        if connection is not None and is_shown and item.is_newest:
            connection.absences = 0
        return {
            "id": item.event.id,
            "type": item.event.type or str(notice.type),
            "integration": notice.integration,
            "connection_id": notice.connection_id,
            "connection_ref": connection.id if connection else None,
            "tags": notice.tags,
        }

    # The three results of a lookup, as changes of the event's row

    def _wait(self, item: Item, verdict: LookUpAgain) -> Row:
        connection = item.connection
        deletion = item.pending.notice.type is EventType.CONNECTION_DELETED
        if deletion and connection is not None and isinstance(item.pending.lookup, Absent):
            connection.absences += item.is_newest
        self._creations.find(item.pending, verdict.found)
        self._waiting += 1
        return {
            "attempts": 0,  # waiting is a result: it does not count as a crash
            "next_at": self._now + timedelta(seconds=verdict.seconds),
            "problem": verdict.why,
            "looks": item.event.looks + verdict.counts,
        }

    def _give_up(self, item: Item, verdict: Reject) -> Row:
        self._creations.find(item.pending, verdict.found)
        if item.event.route_set is not None:
            # A lookup for a duplicate: what was confirmed before stays confirmed, and its jobs stay.
            self._outcomes[item.event.type or str(item.pending.notice.type), EventState.PROCESSED] += 1
            return {"state": EventState.PROCESSED, "problem": verdict.why, "attempts": 0, "looks": 0}
        self._outcomes[item.event.type or str(item.pending.notice.type), EventState.FAILED] += 1
        if item.connection is not None:
            self._transitions.reject(item.connection, item.event, item.pending)
        return {
            "state": EventState.FAILED,
            "failure": "not_confirmed",
            "problem": verdict.why,
            "confirmed": False,
            "processed_at": self._now,
        }

    def _accept(self, item: Item, verdict: Accept) -> Row:
        event, connection = item.event, item.connection
        first_time = event.route_set is None
        kind = item.kind if first_time else event.type or str(item.pending.notice.type)
        suppressed = self._transitions.apply(connection, event, item.pending, verdict) if connection else None
        changes: dict[str, Any] = {
            "confirmed": verdict.confirmed,
            "problem": (suppressed or verdict.note) if first_time else None,
            "attempts": 0,
            "looks": 0,
            "processed_at": self._now,
            "state": EventState.PROCESSED,
        }
        if first_time:
            route = self._router.route if self._spans is None else self._spans.timed(event.id, self._router.route)
            document, note = route(
                event,
                kind,
                notice=item.pending.notice,
                connection=connection,
                owner=self._changes.links.owner_of(connection),
                confirmed=verdict.confirmed,
                announce=suppressed is None,
                size=item.pending.size,
            )
            changes |= {"type": kind, "document": document, "route_set": self._router.route_set, "untold": suppressed}
            if (former := self._transitions.recurrences.get(event.id)) is not None:
                changes["recurrence_of"] = former
            changes["problem"] = "; ".join(filter(None, (changes["problem"], note))) or None
        if event.environment == canary.ENVIRONMENT:
            self._canaries += 1
            return changes | {"document": None, "untold": canary.UNTOLD, "problem": None}
        if event.duplicates != item.pending.event.duplicates:
            # The same delivery came while this one was processed: look up once more.
            changes |= {"state": EventState.RECEIVED, "next_at": self._now}
        self._outcomes[kind, EventState.PROCESSED] += 1
        return changes

    def _write(self) -> None:
        self._changes.write()
        self._current.write(self._event_changes)
        bodies = {item.event.id: item.pending.scrubbed_body for item in self._items if item.pending.scrubbed_body}
        event_rows.replace_bodies(self._session, bodies)
        self._duplicates.write()
        self._creations.write(self._session, now=self._now)
        self._router.write(self._session)
        repair_rows.close(self._session, self._transitions.repaired, now=self._now)
        plans = self._transitions.plans
        refresh_rows.supersede(self._session, plans.keys() & self._changes.stored_ids(), now=self._now)
        opened = {connection_ref: plan for connection_ref, plan in plans.items() if plan is not None}
        refresh_rows.plan(self._session, opened, now=self._now)

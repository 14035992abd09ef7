"""Apply a batch of judged events in one transaction: connections, links, routes, decisions, jobs, refresh plans.

Everything is loaded in bulk with rows locked in sorted order, decided in memory by the domain, and written in bulk:
a few statements, however many events there are.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from app.db import connections as connection_rows
from app.db import events as event_rows
from app.db import refreshes as refresh_rows
from app.db.bulk import Row
from app.db.connections import ConnectionRow
from app.db.events import LockedEvent
from app.domain.confirming import (
    ABOUT_TYPES,
    LINKING_TYPES,
    Absent,
    Accept,
    Known,
    LookAgain,
    Reject,
    Verdict,
    View,
    settle,
)
from app.domain.event import EventType, settle_failure_type
from app.domain.linking import Claim, DirectoryPolicy, Owner, read_claim
from app.domain.own_event import OwnEvent
from app.domain.states import ConnectionStatus, EventState, Origin
from app.services import internal_events
from app.services.directory import Directory
from app.services.events.duplicates import Repeating
from app.services.events.ownership import Owning
from app.services.events.pending_event import Judged
from app.services.events.transitions import Effects, is_failing
from app.services.linking.links import Links
from app.services.linking.superseding import Superseding
from app.services.policy import Policy
from app.services.routing.matches import Matches
from app.services.routing.router import Judge


@dataclass(frozen=True, slots=True)
class Applied:
    """What came of a batch: jobs to announce after the commit, settled events by type and state, and how many wait."""

    job_ids: Sequence[UUID] = ()
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    waiting: int = 0

    @property
    def settled(self) -> int:
        return self.outcomes.total()


@dataclass(frozen=True, slots=True)
class _Item:
    event: LockedEvent
    judged: Judged
    verdict: Verdict
    connection: ConnectionRow | None


class Batch:
    """One transaction's worth of events. Use once: `Batch(…).apply()`."""

    def __init__(
        self, session: Session, policy: Policy, matches: Matches, judged: Sequence[Judged], *, now: datetime
    ) -> None:
        self._session, self._policy, self._now = session, policy, now
        self._matches = matches
        matches.begin()
        self._outcomes: Counter[tuple[str, str]] = Counter()
        self._waiting = 0
        self._changes: list[Row] = []
        self._found: dict[connection_rows.Key, OwnEvent] = {}
        superseding = any(one.key and policy.supersedes(one.key[1]) for one in judged)
        if superseding:
            connection_rows.wait_for_turn(session)
        ours = _still_ours(session, judged)
        self._connections = connection_rows.lock(session, {one.key for one in judged if one.key})
        self._before = {one.id: connection_rows.values(one) for one in self._connections.values()}
        self._repeating = Repeating(session, policy, [(event, one.notice) for event, one in ours], now=now)
        self._edits = internal_events.edits_before(session, self._retagging(ours))
        settled = [(event, one, self._settle(event, one)) for event, one in ours]
        linking = [one for _, one, verdict in settled if _will_link(one, verdict)]
        for one in linking:
            if one.key and one.key not in self._connections:
                self._connections[one.key] = connection_rows.new(one.key, now=now)
        self._items = [_Item(event, one, verdict, self._connection(one)) for event, one, verdict in settled]
        self._links = Links(session, self._before, now=now)
        claims = [(one, claim) for one in linking if (claim := self._claim(one))]
        directory = Directory(
            session, [claim for _, claim in claims], policy=policy.directory, now=now, ids=matches.ids
        )
        self._superseding = self._others(directory, claims) if superseding else None
        directory.remember_owners(self._links.all())
        self._judge = Judge(matches, directory, now=now)
        owning = Owning(policy, self._links, directory, self._judge, self._superseding, now=now)
        self._effects = Effects(policy, self._links, owning, self._judge, now=now)

    def apply(self) -> Applied:
        """Raises NotMatchedYet, before anything is written of what was judged."""
        waiting = []
        for item in self._items:
            if _waits_for_connection(item) and isinstance(self._settle(item.event, item.judged), LookAgain):
                waiting.append(item)  # an event after it in this batch may make its connection
            else:
                self._apply(item)
        for item in waiting:
            self._apply(item)
        if self._superseding:
            self._superseding.hand_back(self._judge)
        self._matches.require_all()
        self._write()
        return Applied(self._judge.job_ids, self._outcomes, self._waiting)

    def _apply(self, item: _Item) -> None:
        described, verdict = self._describe(item), item.verdict
        if _waits_for_connection(item):  # an event before it may have made its connection
            verdict = self._settle(item.event, item.judged)
        match verdict:
            case LookAgain():
                outcome = self._wait(item, verdict)
            case Reject():
                outcome = self._give_up(item, verdict)
            case Accept():
                outcome = self._accept(item, verdict)
        repeated = self._repeating.changes(item.event, settled=not isinstance(verdict, LookAgain))
        self._changes.append({**described, **outcome, **repeated})

    def _connection(self, judged: Judged) -> ConnectionRow | None:
        return self._connections.get(judged.key) if judged.key else None

    def _retagging(self, ours: Sequence[tuple[LockedEvent, Judged]]) -> list[tuple[UUID, View]]:
        """Connections that we know, with the views that may give them other tags."""
        seen = [(self._connection(one), one.look) for _, one in ours if one.notice.type in LINKING_TYPES]
        return [(connection.id, look) for connection, look in seen if connection and isinstance(look, View)]

    def _settle(self, event: LockedEvent, judged: Judged) -> Verdict:
        if judged.notice.type in ABOUT_TYPES and event.route_set is not None:
            return Accept(confirmed=False)  # repeated: it was routed, and says nothing of its connection
        connection = self._connection(judged)
        known = _known(connection, self._edits.get(connection.id)) if connection else None
        return settle(judged.notice, judged.look, looks=event.looks, known=known)

    def _claim(self, judged: Judged) -> Claim | None:
        if self._policy.directory is DirectoryPolicy.SQL:
            claim = judged.named.claim if judged.named else None
            return claim if isinstance(claim, Claim) else None
        tags, end_user = judged.evidence
        return read_claim(tags or {}, end_user, self._policy.tag_keys)

    def _others(self, directory: Directory, claims: Sequence[tuple[Judged, Claim]]) -> Superseding:
        """The other connections of whom these will belong to."""
        superseding = Superseding(
            self._session,
            self._policy,
            self._links,
            connections=self._connections,
            before=self._before,
            now=self._now,
        )
        found = [(one.key, directory.resolve(claim)) for one, claim in claims]
        superseding.load([(key, owner) for key, owner in found if key and isinstance(owner, Owner)])
        return superseding

    def _describe(self, item: _Item) -> Row:
        """What the body says, for lists and filters, even while the event waits."""
        notice, connection = item.judged.notice, item.connection
        if connection is not None and isinstance(item.judged.look, View) and _is_newest(connection, item.judged):
            connection.absences = 0
        return {
            "id": item.event.id,
            "type": item.event.type or str(notice.type),
            "integration": notice.integration,
            "connection_id": notice.connection_id,
            "connection_ref": connection.id if connection else None,
            "tags": notice.tags,
        }

    # The three ends of a look, as changes of the event's row

    def _wait(self, item: _Item, verdict: LookAgain) -> Row:
        connection = item.connection
        deletion = item.judged.notice.type is EventType.CONNECTION_DELETED
        if deletion and connection is not None and isinstance(item.judged.look, Absent):
            connection.absences += _is_newest(connection, item.judged)
        self._find(item, verdict.found)
        self._waiting += 1
        return {
            "attempts": 0,  # waiting is a result: it does not count as a crash
            "next_at": self._now + timedelta(seconds=verdict.seconds),
            "problem": verdict.why,
            "looks": item.event.looks + verdict.counts,
        }

    def _find(self, item: _Item, found: View | None) -> None:
        """Have the connection made that Nango showed and that is not known here."""
        key = item.judged.key
        if found is None or key is None:
            return
        tells_of_failure = item.judged.notice.type is EventType.CONNECTION_REFRESH_FAILED
        if tells_of_failure or key not in self._found:
            # An error that this event tells of is not told by the creation as well.
            look = replace(found, auth_failing=False) if tells_of_failure else found
            _, integration, connection_id = key
            kind = EventType.CONNECTION_CREATED
            self._found[key] = OwnEvent(type=kind, integration=integration, connection_id=connection_id, look=look)

    def _give_up(self, item: _Item, verdict: Reject) -> Row:
        self._find(item, verdict.found)
        if item.event.route_set is not None:
            # A second look, for a duplicate: what was confirmed before stays so, and its jobs stand.
            self._outcomes[item.event.type or str(item.judged.notice.type), EventState.PROCESSED] += 1
            return {"state": EventState.PROCESSED, "problem": verdict.why, "attempts": 0, "looks": 0}
        self._outcomes[item.event.type or str(item.judged.notice.type), EventState.FAILED] += 1
        if item.connection is not None:
            self._effects.stay(item.connection, item.event, item.judged)
        return {
            "state": EventState.FAILED,
            "failure": "not_confirmed",
            "problem": verdict.why,
            "confirmed": False,
            "processed_at": self._now,
        }

    def _accept(self, item: _Item, verdict: Accept) -> Row:
        event, connection = item.event, item.connection
        first_time = event.route_set is None
        kind = _kind(item) if first_time else event.type or str(item.judged.notice.type)
        untold = self._effects.act(connection, event, item.judged, verdict) if connection else None
        changes: dict[str, Any] = {
            "confirmed": verdict.confirmed,
            "problem": (untold or verdict.note) if first_time else None,
            "attempts": 0,
            "looks": 0,
            "processed_at": self._now,
            "state": EventState.PROCESSED,
        }
        if first_time:
            document, note = self._judge.judge(
                event,
                kind,
                notice=item.judged.notice,
                connection=connection,
                owner=self._links.of(connection),
                confirmed=verdict.confirmed,
                announce=untold is None,
                size=item.judged.size,
            )
            changes |= {"type": kind, "document": document, "route_set": self._judge.route_set, "untold": untold}
            changes["problem"] = "; ".join(filter(None, (changes["problem"], note))) or None
        if event.duplicates != item.judged.duplicates:
            # The same delivery came while this one was worked on: look once more.
            changes |= {"state": EventState.RECEIVED, "next_at": self._now}
        self._outcomes[kind, EventState.PROCESSED] += 1
        return changes

    def _write(self) -> None:
        """Connections before what refers to them."""
        known = [one for one in self._connections.values() if one.id in self._before]
        connection_rows.insert(self._session, [one for one in self._connections.values() if one.id not in self._before])
        changed = [one for one in known if connection_rows.values(one) != self._before[one.id]]
        connection_rows.update(self._session, changed)
        self._links.write()
        event_rows.change(self._session, self._changes)
        bodies = {item.event.id: item.judged.scrubbed_body for item in self._items if item.judged.scrubbed_body}
        event_rows.replace_bodies(self._session, bodies)
        self._repeating.write()
        for (environment, *_), event in self._found.items():
            internal_events.store(self._session, [event], environment=environment, origin=Origin.SYSTEM, now=self._now)
        self._judge.write(self._session)
        plans = self._effects.plans
        refresh_rows.supersede(self._session, plans.keys() & self._before.keys(), now=self._now)
        opened = {connection_ref: plan for connection_ref, plan in plans.items() if plan is not None}
        refresh_rows.plan(self._session, opened, now=self._now)


def _still_ours(session: Session, judged: Sequence[Judged]) -> list[tuple[LockedEvent, Judged]]:
    """Without those claimed again meanwhile: our lease ran out, and that worker's result counts."""
    claimed = {one.event_id: one for one in judged}
    locked = [(event, claimed[event.id]) for event in event_rows.lock(session, claimed)]
    return [
        (event, one) for event, one in locked if event.state == EventState.RECEIVED and event.attempts == one.attempts
    ]


def _known(connection: ConnectionRow, edit: View | None) -> Known:
    return Known(
        nango_id=connection.nango_id,
        observed_at=connection.observed_at,
        absences=connection.absences,
        deleted=connection.status == ConnectionStatus.DELETED,
        failing=is_failing(connection),
        edit=edit,
    )


def _is_newest(connection: ConnectionRow, judged: Judged) -> bool:
    """Nothing we know of the connection was seen after what was seen now."""
    return connection.observed_at is None or judged.observed_at >= connection.observed_at


def _waits_for_connection(item: _Item) -> bool:
    """It is not acted on before its connection is known, for as long as that may come."""
    found = item.verdict.found if isinstance(item.verdict, LookAgain) else None
    return item.judged.notice.type in ABOUT_TYPES or found is not None


def _will_link(judged: Judged, verdict: Verdict) -> bool:
    """It will say whom its connection belongs to."""
    return isinstance(verdict, Accept) and judged.notice.type in LINKING_TYPES


def _kind(item: _Item) -> str:
    known = item.connection is not None and item.connection.status != ConnectionStatus.DELETED
    return str(settle_failure_type(item.judged.notice, known=known))

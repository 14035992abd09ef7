"""The changes that an accepted event makes to its connection: status, tags, owner, error, and refresh plan."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from app.db.connections import ConnectionState
from app.db.event_claims import ClaimedEvent
from app.domain import recurring_failures
from app.domain.confirming import FLOW_TYPES, LINKING_TYPES, Accept, Snapshot
from app.domain.event import EventError, EventType
from app.domain.refreshing.plan import Plan
from app.domain.refreshing.planning import first_plan
from app.domain.repairs import RepairEnd
from app.domain.routing import ANNOUNCED_BEFORE, KNOWN_BEFORE, RECURRING_FAILURE
from app.domain.states import ConnectionStatus, Origin
from app.ids import EVENT, show
from app.services.events.ownership import Ownership
from app.services.events.pending_event import PendingEvent
from app.services.linking.links import Links
from app.services.policy import Policy
from app.services.routing.router import Router

SHOWN_ERROR: Final = EventError("auth", "Nango shows an auth error")


class _Before(NamedTuple):
    """A connection as it was before an event."""

    nango_id: int | None
    tags: Mapping[str, Any]
    status: str
    failing: bool
    observed_at: datetime | None

    @property
    def has_unknown_generation(self) -> bool:
        """Only webhooks told of it, while there was no API key to ask for its generation."""
        return self.observed_at is not None and self.nango_id is None


class Transitions:
    """Changes a batch's connections in memory.

    plans: each changed connection's next refresh plan, or None. repaired: how connections that needed their end user
    ceased to. recurrences: of events that repeat a failure, the one that was routed.
    """

    def __init__(self, policy: Policy, links: Links, ownership: Ownership, router: Router, *, now: datetime) -> None:
        self._policy, self._links, self._ownership, self._router, self._now = policy, links, ownership, router, now
        self.plans: dict[UUID, Plan | None] = {}
        self.repaired: dict[UUID, RepairEnd] = {}
        self.recurrences: dict[UUID, UUID] = {}

    def apply(
        self, connection: ConnectionState, event: ClaimedEvent, pending: PendingEvent, verdict: Accept
    ) -> str | None:
        """Change the connection as the event says. Returns None to announce the event, or why it is suppressed."""
        before = _Before(
            connection.nango_id,
            connection.tags,
            connection.status,
            is_failing(connection),
            connection.observed_at,
        )
        self._change(connection, event, pending, verdict)
        if _shows_unknown_error(pending, connection):
            self._break(connection, pending)
        if event.route_set is not None and pending.notice.type is EventType.CONNECTION_CREATED:
            suppressed = None  # a generation that a repeated lookup finds is announced by its own event, or a run's
        else:
            suppressed = _why_suppressed(pending.notice.type, event.origin, verdict.snapshot, connection, before)
            if pending.notice.type is EventType.CONNECTION_REFRESH_FAILED and event.origin == Origin.WEBHOOK:
                suppressed = self._why_recurring(connection, event, pending, before)
        same = connection.nango_id is not None and connection.nango_id == before.nango_id
        announced = event.route_set is None and suppressed is None and pending.notice.type in LINKING_TYPES
        if same and connection.tags != before.tags and not announced:
            # Found by a repeated lookup: no other event announces it.
            owner = self._links.owner_of(connection)
            self._router.emit(EventType.CONNECTION_TAGS_CHANGED, connection, owner=owner, confirmed=True)
        return suppressed

    def _why_recurring(
        self, connection: ConnectionState, event: ClaimedEvent, pending: PendingEvent, before: _Before
    ) -> str | None:
        """The reason to suppress a failure that Nango posts again, or None: teams are told of it."""
        if event.route_set is not None:
            return None  # a repeated lookup for one that was routed
        failure, former = recurring_failures.shape(pending.notice.error), connection.failure_event_id
        recurs = recurring_failures.recurs(
            failure, former=connection.failure_shape, former_at=connection.failure_at, now=event.received_at
        )
        connection.failure_at = max(event.received_at, connection.failure_at or event.received_at)
        if former is not None and recurs and before.failing:
            self.recurrences[event.id] = former
            return f"{RECURRING_FAILURE}: {show(EVENT, former)}"
        connection.failure_shape, connection.failure_event_id = failure, event.id
        return None

    def reject(self, connection: ConnectionState, event: ClaimedEvent, pending: PendingEvent) -> None:
        """Plan the next refresh of a connection that a refresh had not found and that Nango still shows."""
        if event.origin == Origin.REFRESH and pending.notice.type is EventType.CONNECTION_DELETED:
            self._replan(connection, pending)

    def _change(self, connection: ConnectionState, event: ClaimedEvent, pending: PendingEvent, verdict: Accept) -> None:
        kind, observed_at = pending.notice.type, pending.observed_at
        if connection.observed_at is not None and observed_at < connection.observed_at:
            pass  # an older snapshot never overwrites a newer one
        elif kind is EventType.CONNECTION_TAGS_CHANGED and _is_alive(connection, verdict.snapshot):
            self._retag(connection, event, pending, verdict)
        elif kind in LINKING_TYPES:
            self._absorb(connection, event, pending, verdict)
        elif kind is EventType.CONNECTION_DELETED:
            self._delete(connection, observed_at)
        elif connection.errors_seen_at is not None and observed_at < connection.errors_seen_at:
            pass  # nor does an older failure hide a newer recovery
        elif kind is EventType.CONNECTION_REFRESH_FAILED:
            error = pending.notice.error
            connection.note_error(error.type if error else "unknown", self._now)
            connection.errors_seen_at = observed_at
        elif kind is EventType.CONNECTION_RECOVERED:
            self._recover(connection, event, pending)
            connection.errors_seen_at = observed_at

    def _absorb(self, connection: ConnectionState, event: ClaimedEvent, pending: PendingEvent, verdict: Accept) -> None:
        """Take over a created or re-authorized connection as Nango showed it."""
        snapshot, notice = verdict.snapshot, pending.notice
        if snapshot and connection.nango_id is not None and connection.nango_id != snapshot.nango_id:
            self._links.close(connection, "new_generation")
            connection.unlinked_reason = None  # an operator's word was about the former one
        connection.nango_id = snapshot.nango_id if snapshot else connection.nango_id
        connection.provider = notice.provider or (snapshot.provider if snapshot else None) or connection.provider
        connection.auth_mode = notice.auth_mode or connection.auth_mode
        # An error that the list shows to the schedule's end is no lag: the flow is over, or there was none.
        broken = snapshot is not None and snapshot.auth_failing and is_failing(connection)
        if not broken or connection.status == ConnectionStatus.DELETED:
            self._revive(connection, pending, snapshot)
        self._retag(connection, event, pending, verdict)

    def _revive(self, connection: ConnectionState, pending: PendingEvent, snapshot: Snapshot | None) -> None:
        """Clear earlier errors: the credentials are new."""
        connection.errors_seen_at = pending.observed_at
        connection.clear_error()
        self._repair(connection, RepairEnd.REAUTHORIZED)
        # Nango's webhook comes within seconds of the issue; what Waylink found by itself may be of any age.
        told = pending.event.origin == Origin.WEBHOOK
        connection.forget_token(authorized_at=pending.event.last_seen_at if told else None)
        if snapshot is not None:
            connection.status = ConnectionStatus.ACTIVE
        elif connection.status != ConnectionStatus.ACTIVE:
            connection.status = ConnectionStatus.UNCONFIRMED
        self._replan(connection, pending)

    def _retag(self, connection: ConnectionState, event: ClaimedEvent, pending: PendingEvent, verdict: Accept) -> None:
        """Take over the tags and the owner that they name."""
        tags, end_user = pending.evidence
        before, connection.tags = connection.tags, dict(tags) if tags is not None else connection.tags
        connection.tags_disagree = verdict.tags_disagree
        connection.observed_at, connection.updated_at = pending.observed_at, self._now
        is_routed = event.route_set is None
        self._ownership.update(connection, pending, end_user, tags_before=before, is_routed=is_routed)

    def _break(self, connection: ConnectionState, pending: PendingEvent) -> None:
        """Record and route an auth error whose own webhook came before the connection was known, or never."""
        connection.note_error(SHOWN_ERROR.type, self._now)
        connection.errors_seen_at = pending.observed_at
        kind, owner = EventType.CONNECTION_REFRESH_FAILED, self._links.owner_of(connection)
        self._router.emit(kind, connection, owner=owner, confirmed=True, error=SHOWN_ERROR)

    def _recover(self, connection: ConnectionState, event: ClaimedEvent, pending: PendingEvent) -> None:
        if not is_failing(connection):
            return
        connection.clear_error()
        connection.updated_at = self._now
        if connection.status == ConnectionStatus.NEEDS_RECONNECT:
            self._repair(connection, RepairEnd.RECOVERED)
            connection.status = ConnectionStatus.ACTIVE
        if event.origin != Origin.REFRESH:  # a refresh that found it has planned the next one
            self._replan(connection, pending)

    def _repair(self, connection: ConnectionState, end: RepairEnd) -> None:
        if connection.status == ConnectionStatus.NEEDS_RECONNECT:
            self.repaired[connection.id] = end

    def _delete(self, connection: ConnectionState, observed_at: datetime) -> None:
        self._repair(connection, RepairEnd.DELETED)
        connection.status, connection.updated_at = ConnectionStatus.DELETED, self._now
        connection.observed_at = observed_at  # an older snapshot must not revive it
        connection.forget_token()
        connection.drift = connection.unlinked_reason = connection.owner_look_at = None
        connection.known_tags = connection.superseded_by = None
        self._links.close(connection, "deleted")
        self.plans[connection.id] = None

    def _replan(self, connection: ConnectionState, pending: PendingEvent) -> None:
        policy = self._policy.refresh_of(connection.environment, connection.integration, connection.provider)
        planned = None
        if policy is not None:
            mode = connection.auth_mode or ""
            planned = first_plan(
                now=self._now, auth_mode=mode, identity=connection.id.hex, policy=policy, reconciled=pending.is_found
            )
        self.plans[connection.id] = planned


def is_failing(connection: ConnectionState) -> bool:
    """Its token could not be renewed, as far as is stored."""
    return connection.last_error_type is not None or connection.status == ConnectionStatus.NEEDS_RECONNECT


def _shows_unknown_error(pending: PendingEvent, connection: ConnectionState) -> bool:
    """Nango shows an auth error that is not recorded. It is not a lagging list's: `settle` has waited for that."""
    snapshot = pending.lookup
    if pending.notice.type not in FLOW_TYPES or not isinstance(snapshot, Snapshot) or not snapshot.auth_failing:
        return False
    absorbed = connection.nango_id == snapshot.nango_id and connection.observed_at == pending.observed_at
    return absorbed and not is_failing(connection)


def _is_alive(connection: ConnectionState, snapshot: Snapshot | None) -> bool:
    """It is stored as living, in the generation that Nango showed: only its tags can be new."""
    dead = connection.status in {ConnectionStatus.DELETED, ConnectionStatus.UNCONFIRMED}
    return not dead and snapshot is not None and connection.nango_id == snapshot.nango_id


def _why_suppressed(
    kind: EventType, origin: str, snapshot: Snapshot | None, connection: ConnectionState, before: _Before
) -> str | None:
    """The reason to suppress an event, or None to announce it: its news may be stored by the time it is applied."""
    if kind is EventType.CONNECTION_CREATED and snapshot is not None:
        # Once per generation, from any origin (promise 4).
        if connection.announced_nango_id == snapshot.nango_id:
            return ANNOUNCED_BEFORE
        connection.announced_nango_id = snapshot.nango_id
        return ANNOUNCED_BEFORE if origin != Origin.WEBHOOK and before.has_unknown_generation else None
    if kind in LINKING_TYPES and snapshot is not None and before.has_unknown_generation:
        connection.announced_nango_id = snapshot.nango_id  # its creation was announced while its generation was unknown
    if kind is EventType.CONNECTION_DELETED:
        return KNOWN_BEFORE if before.status == ConnectionStatus.DELETED else None
    if kind is EventType.CONNECTION_TAGS_CHANGED:
        return KNOWN_BEFORE if connection.tags == before.tags else None
    is_found_failing = kind is EventType.CONNECTION_REFRESH_FAILED and origin != Origin.WEBHOOK
    # Of failures that Nango posts, `_why_recurring` decides. A recovery may be found before its webhook comes.
    if kind is EventType.CONNECTION_RECOVERED or is_found_failing:
        return KNOWN_BEFORE if is_failing(connection) == before.failing else None
    return None

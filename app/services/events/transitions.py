"""What an accepted event does to its connection: status and tags, whose it is, when its token is renewed."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from app.db.connections import ConnectionRow
from app.db.events import LockedEvent
from app.domain.confirming import FLOW_TYPES, LINKING_TYPES, Accept, View
from app.domain.event import EventError, EventType
from app.domain.refresh import Plan, first_plan
from app.domain.routing import KNOWN_BEFORE, TOLD_BEFORE
from app.domain.states import ConnectionStatus, Origin
from app.services.events.ownership import Owning
from app.services.events.pending_event import Judged
from app.services.linking.links import Links
from app.services.policy import Policy
from app.services.routing.router import Judge

SHOWN_ERROR: Final = EventError("auth", "Nango shows an auth error")


class _Before(NamedTuple):
    """What a connection was before an event."""

    nango_id: int | None
    tags: Mapping[str, Any]
    status: str
    failing: bool
    observed_at: datetime | None

    @property
    def told_by_webhook_alone(self) -> bool:
        """A webhook told of it while there was no API key, so that nobody knew its generation."""
        return self.observed_at is not None and self.nango_id is None


class Effects:
    """Changes a batch's connections in memory. `plans` holds each changed connection's next plan, or None for none."""

    def __init__(self, policy: Policy, links: Links, owning: Owning, judge: Judge, *, now: datetime) -> None:
        self._policy, self._links, self._owning, self._judge, self._now = policy, links, owning, judge, now
        self.plans: dict[UUID, Plan | None] = {}

    def act(self, connection: ConnectionRow, event: LockedEvent, judged: Judged, verdict: Accept) -> str | None:
        """Change the connection as the event says. None when the teams are to be told of it, or why they are not."""
        before = _Before(
            connection.nango_id,
            connection.tags,
            connection.status,
            is_failing(connection),
            connection.observed_at,
        )
        self._change(connection, event, judged, verdict)
        if _shows_unknown_error(judged, connection):
            self._break(connection, judged)
        if event.route_set is not None and judged.notice.type is EventType.CONNECTION_CREATED:
            untold = None  # a second look: a generation that it finds is told by its own event, or by a run
        else:
            untold = _untold(judged.notice.type, event.origin, verdict.view, connection, before)
        same = connection.nango_id is not None and connection.nango_id == before.nango_id
        first_told = event.route_set is None and untold is None and judged.notice.type in LINKING_TYPES
        if same and connection.tags != before.tags and not first_told:
            # Found by looking once more: no other event tells of it.
            owner = self._links.of(connection)
            self._judge.conclude(EventType.CONNECTION_TAGS_CHANGED, connection, owner=owner, confirmed=True)
        return untold

    def stay(self, connection: ConnectionRow, event: LockedEvent, judged: Judged) -> None:
        """Nango still shows what a refresh could not find: there is a token to keep fresh."""
        if event.origin == Origin.REFRESH and judged.notice.type is EventType.CONNECTION_DELETED:
            self._replan(connection, judged)

    def _change(self, connection: ConnectionRow, event: LockedEvent, judged: Judged, verdict: Accept) -> None:
        kind, observed_at = judged.notice.type, judged.observed_at
        if connection.observed_at is not None and observed_at < connection.observed_at:
            pass  # an older view never overwrites a newer one
        elif kind is EventType.CONNECTION_TAGS_CHANGED and _is_alive(connection, verdict.view):
            self._retag(connection, judged, verdict)
        elif kind in LINKING_TYPES:
            self._absorb(connection, event, judged, verdict)
        elif kind is EventType.CONNECTION_DELETED:
            self._delete(connection, observed_at)
        elif connection.errors_seen_at is not None and observed_at < connection.errors_seen_at:
            pass  # nor does an older failure hide a newer recovery
        elif kind is EventType.CONNECTION_REFRESH_FAILED:
            error = judged.notice.error
            connection.last_error_type, connection.last_error_at = error.type if error else "unknown", self._now
            connection.errors_seen_at = observed_at
        elif kind is EventType.CONNECTION_RECOVERED:
            self._recover(connection, event, judged)
            connection.errors_seen_at = observed_at

    def _absorb(self, connection: ConnectionRow, event: LockedEvent, judged: Judged, verdict: Accept) -> None:
        """A connection was made or re-authorized: take over what is known of it."""
        view, notice = verdict.view, judged.notice
        if view and connection.nango_id is not None and connection.nango_id != view.nango_id:
            self._links.close(connection, "new_generation")
        connection.nango_id = view.nango_id if view else connection.nango_id
        connection.provider = notice.provider or (view.provider if view else None) or connection.provider
        connection.auth_mode = notice.auth_mode or connection.auth_mode
        # What the list shows still after the schedule is no lag: the flow is long over, or there was none.
        broken = view is not None and view.auth_failing and is_failing(connection)
        if not broken or connection.status == ConnectionStatus.DELETED:
            self._revive(connection, judged, view)
        self._retag(connection, judged, verdict)

    def _revive(self, connection: ConnectionRow, judged: Judged, view: View | None) -> None:
        """Its credentials are new: earlier errors are over."""
        connection.errors_seen_at = judged.observed_at
        connection.last_error_type = connection.last_error_at = connection.expires_at = None
        if view is not None:
            connection.status = ConnectionStatus.ACTIVE
        elif connection.status != ConnectionStatus.ACTIVE:
            connection.status = ConnectionStatus.UNCONFIRMED
        self._replan(connection, judged)

    def _retag(self, connection: ConnectionRow, judged: Judged, verdict: Accept) -> None:
        """Take over the tags, and whom they name."""
        tags, end_user = judged.evidence
        before, connection.tags = connection.tags, dict(tags) if tags is not None else connection.tags
        connection.tags_disagree = verdict.tags_disagree
        connection.observed_at, connection.updated_at = judged.observed_at, self._now
        self._owning.settle(connection, judged, end_user, tags_before=before)

    def _break(self, connection: ConnectionRow, judged: Judged) -> None:
        """Record and route an auth error whose own webhook came before the connection was known, or never."""
        connection.last_error_type, connection.last_error_at = SHOWN_ERROR.type, self._now
        connection.errors_seen_at = judged.observed_at
        kind, owner = EventType.CONNECTION_REFRESH_FAILED, self._links.of(connection)
        self._judge.conclude(kind, connection, owner=owner, confirmed=True, error=SHOWN_ERROR)

    def _recover(self, connection: ConnectionRow, event: LockedEvent, judged: Judged) -> None:
        if not is_failing(connection):
            return  # whoever says so: there is nothing to plan anew
        connection.last_error_type = connection.last_error_at = None
        connection.updated_at = self._now
        if connection.status == ConnectionStatus.NEEDS_RECONNECT:
            connection.status = ConnectionStatus.ACTIVE
        if event.origin != Origin.REFRESH:  # a refresh that found it has planned the next one
            self._replan(connection, judged)

    def _delete(self, connection: ConnectionRow, observed_at: datetime) -> None:
        connection.status, connection.updated_at = ConnectionStatus.DELETED, self._now
        connection.observed_at = observed_at  # an older view must not revive it
        connection.expires_at = connection.drift = connection.unlinked_reason = connection.owner_look_at = None
        connection.known_tags = connection.superseded_by = None
        self._links.close(connection, "deleted")
        self.plans[connection.id] = None

    def _replan(self, connection: ConnectionRow, judged: Judged) -> None:
        policy = self._policy.refresh_of(connection.environment, connection.integration)
        planned = None
        if policy is not None:
            mode = connection.auth_mode or ""
            planned = first_plan(
                now=self._now, auth_mode=mode, identity=connection.id.hex, policy=policy, found=judged.found
            )
        self.plans[connection.id] = planned


def is_failing(connection: ConnectionRow) -> bool:
    """Nango could not renew its token, as far as we know."""
    return connection.last_error_type is not None or connection.status == ConnectionStatus.NEEDS_RECONNECT


def _shows_unknown_error(judged: Judged, connection: ConnectionRow) -> bool:
    """Nango shows an auth error that is not recorded. It is not a lagging list's: `settle` has waited for that."""
    view = judged.look
    if judged.notice.type not in FLOW_TYPES or not isinstance(view, View) or not view.auth_failing:
        return False
    absorbed = connection.nango_id == view.nango_id and connection.observed_at == judged.observed_at
    return absorbed and not is_failing(connection)


def _is_alive(connection: ConnectionRow, view: View | None) -> bool:
    """We hold it for living, and it is the generation that Nango showed: nothing but its tags can be news."""
    dead = connection.status in {ConnectionStatus.DELETED, ConnectionStatus.UNCONFIRMED}
    return not dead and view is not None and connection.nango_id == view.nango_id


def _untold(kind: EventType, origin: str, view: View | None, connection: ConnectionRow, before: _Before) -> str | None:
    """Why the teams need not be told of an event. What somebody compared may be known by the time it is acted on."""
    if kind is EventType.CONNECTION_CREATED and view is not None:
        # Once per generation, whoever told of it (promise 4).
        if connection.announced_nango_id == view.nango_id:
            return TOLD_BEFORE
        connection.announced_nango_id = view.nango_id
        return TOLD_BEFORE if origin != Origin.WEBHOOK and before.told_by_webhook_alone else None
    if kind in LINKING_TYPES and view is not None and before.told_by_webhook_alone:
        connection.announced_nango_id = view.nango_id  # its creation was told while nobody knew its generation
    if kind is EventType.CONNECTION_DELETED:
        return KNOWN_BEFORE if before.status == ConnectionStatus.DELETED else None
    if kind is EventType.CONNECTION_TAGS_CHANGED:
        return KNOWN_BEFORE if connection.tags == before.tags else None
    found_failing = kind is EventType.CONNECTION_REFRESH_FAILED and origin != Origin.WEBHOOK
    # Nango's own webhook tells of each failed try; of a recovery, which may have been found before it comes, once.
    if kind is EventType.CONNECTION_RECOVERED or found_failing:
        return KNOWN_BEFORE if is_failing(connection) == before.failing else None
    return None

"""What an accepted event does to its connection: status and tags, whose it is, when its token is renewed."""

from datetime import datetime
from uuid import UUID

from app.db.connections import ConnectionRow
from app.domain.confirming import LINKING_TYPES, Accept, View
from app.domain.event import EventType
from app.domain.linking import Claim, Keep, Open, Unlinked, decide, read_claim
from app.domain.refresh import Plan, first_plan
from app.domain.states import ConnectionStatus
from app.services.directory import Directory
from app.services.judged import Judged
from app.services.judging import Judge
from app.services.links import Links
from app.services.policy import Policy


class Effects:
    """Changes a batch's connections in memory. `plans` holds each changed connection's next plan, or None for none."""

    def __init__(self, policy: Policy, links: Links, directory: Directory, judge: Judge, *, now: datetime) -> None:
        self._policy, self._links, self._directory, self._judge, self._now = policy, links, directory, judge, now
        self.plans: dict[UUID, Plan | None] = {}

    def act(self, connection: ConnectionRow, judged: Judged, verdict: Accept) -> bool:
        """Change the connection as the event says. False when the teams have been told of it before."""
        kind, observed_at = judged.notice.type, judged.observed_at
        if connection.observed_at is not None and observed_at < connection.observed_at:
            pass  # an older view never overwrites a newer one
        elif kind in LINKING_TYPES:
            self._absorb(connection, judged, verdict)
        elif kind is EventType.CONNECTION_DELETED:
            self._delete(connection, observed_at)
        elif connection.errors_seen_at is not None and observed_at < connection.errors_seen_at:
            pass  # nor does an older failure hide a newer recovery
        elif kind is EventType.CONNECTION_REFRESH_FAILED:
            error = judged.notice.error
            connection.last_error_type, connection.last_error_at = error.type if error else "unknown", self._now
            connection.errors_seen_at = observed_at
        elif kind is EventType.CONNECTION_RECOVERED:
            self._recover(connection)
            connection.errors_seen_at = observed_at
        return _is_news(kind, verdict.view, connection)

    def _absorb(self, connection: ConnectionRow, judged: Judged, verdict: Accept) -> None:
        """A connection was made or re-authorized: take over what is known of it."""
        view, notice = verdict.view, judged.notice
        if view and connection.nango_id is not None and connection.nango_id != view.nango_id:
            self._links.close(connection, "new_generation")
        tags, end_user = judged.evidence
        connection.nango_id = view.nango_id if view else connection.nango_id
        connection.provider = notice.provider or (view.provider if view else None) or connection.provider
        connection.auth_mode = notice.auth_mode or connection.auth_mode
        connection.tags = dict(tags) if tags is not None else connection.tags
        connection.tags_disagree = verdict.tags_disagree
        connection.observed_at = connection.errors_seen_at = judged.observed_at
        connection.last_error_type = connection.last_error_at = None
        connection.updated_at = self._now
        if view is not None:
            connection.status = ConnectionStatus.ACTIVE
        elif connection.status != ConnectionStatus.ACTIVE:
            connection.status = ConnectionStatus.UNCONFIRMED
        self._link(connection, judged, read_claim(connection.tags, end_user, self._policy.tag_keys))
        self._replan(connection)

    def _recover(self, connection: ConnectionRow) -> None:
        connection.last_error_type = connection.last_error_at = None
        connection.updated_at = self._now
        if connection.status == ConnectionStatus.NEEDS_RECONNECT:
            connection.status = ConnectionStatus.ACTIVE
        self._replan(connection)

    def _delete(self, connection: ConnectionRow, observed_at: datetime) -> None:
        connection.status, connection.updated_at = ConnectionStatus.DELETED, self._now
        connection.observed_at = observed_at  # an older view must not revive it
        connection.expires_at = connection.drift = connection.unlinked_reason = None
        self._links.close(connection, "deleted")
        self.plans[connection.id] = None

    def _link(self, connection: ConnectionRow, judged: Judged, claim: Claim | None) -> None:
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
            self._links.open(connection, decision.owner, linked_by=linked_by, event_id=judged.event_id)
            self._judge.conclude(
                EventType.CONNECTION_LINKED,
                connection,
                owner=decision.owner,
                previous=current,
                confirmed=connection.status == ConnectionStatus.ACTIVE,
            )

    def _replan(self, connection: ConnectionRow) -> None:
        policy = self._policy.refresh_of(connection.environment, connection.integration)
        planned = None
        if policy is not None:
            mode = connection.auth_mode or ""
            planned = first_plan(now=self._now, auth_mode=mode, identity=connection.id.hex, policy=policy)
        self.plans[connection.id] = planned


def _is_news(kind: EventType, view: View | None, connection: ConnectionRow) -> bool:
    """`connection.created` goes out once per generation, whoever told of it (promise 4)."""
    if kind is not EventType.CONNECTION_CREATED or view is None:
        return True
    if connection.announced_nango_id == view.nango_id:
        return False
    connection.announced_nango_id = view.nango_id
    return True

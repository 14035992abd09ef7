"""A connection's owner after an event: its link stays, moves or ends, or is missing with a reason (promise 5)."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from app.db.connections import ConnectionState
from app.domain.event import EventType
from app.domain.linking import (
    Claim,
    EndUser,
    Keep,
    Open,
    Unlinked,
    decide,
    read_claim,
    stays_unlinked,
)
from app.domain.owner_queries import next_owner_query
from app.domain.states import ConnectionStatus
from app.services.directory import Directory, claim_of
from app.services.events.pending_event import PendingEvent
from app.services.linking.links import Links
from app.services.linking.superseding import Superseding
from app.services.policy import Policy
from app.services.routing.router import Router


class Ownership:
    """Decides the links of a batch's connections. superseding: None where every duplicates policy is `keep`."""

    def __init__(
        self,
        policy: Policy,
        links: Links,
        directory: Directory,
        router: Router,
        superseding: Superseding | None,
        *,
        now: datetime,
    ) -> None:
        self._policy, self._links, self._directory, self._router, self._now = policy, links, directory, router, now
        self._superseding = superseding

    def update(
        self,
        connection: ConnectionState,
        pending: PendingEvent,
        end_user: EndUser | None,
        *,
        tags_before: Mapping[str, Any],
        is_routed: bool,
    ) -> None:
        """Decide the owner by the connection's new tags; `tags_before` are those that they replaced.

        is_routed: the event gets its document in this batch.
        """
        claimed_before = claim_of(connection, self._policy.tag_keys)
        claim = read_claim(connection.tags, end_user, self._policy.tag_keys)
        if stays_unlinked(connection.unlinked_reason, claimed_before=claimed_before, claimed=claim):
            return
        connection.wanted_user = claim.user_id if claim else None
        connection.wanted_email = claim.email.lower() if claim and claim.email else None
        connection.wanted_organization = claim.organization_id if claim else None
        answer = pending.owner_answer.claim if pending.owner_answer else claim
        decision = decide(
            current=self._links.owner_of(connection),
            named=self._directory.resolve(answer) if isinstance(answer, Claim) else answer,
            tags_empty=not connection.tags,
            policy=self._policy.owner_change,
        )
        connection.known_tags = self._known_tags(connection, decision, tags_before)
        connection.drift = decision.drift if isinstance(decision, Keep) else None
        connection.unlinked_reason = decision.reason if isinstance(decision, Unlinked) else None
        connection.superseded_by = None
        asks_again = pending.owner_answer is not None and isinstance(decision, Unlinked)
        connection.owner_look_at = next_owner_query(now=self._now, since=self._now) if asks_again else None
        if isinstance(decision, Open):
            linked_by = answer.linked_by if isinstance(answer, Claim) else ""
            self._open(connection, pending, decision, linked_by=linked_by, is_routed=is_routed)

    def _open(
        self, connection: ConnectionState, pending: PendingEvent, decision: Open, *, linked_by: str, is_routed: bool
    ) -> None:
        current, owner = self._links.owner_of(connection), decision.owner
        self._links.close(connection, "reassigned")
        if self._superseding and self._superseding.yield_to_newer(connection, owner):
            return
        self._links.open(connection, owner, linked_by=linked_by, event_id=pending.event.id)
        if self._superseding:
            self._superseding.take_over(connection, owner)
        self._router.emit(
            EventType.CONNECTION_LINKED,
            connection,
            owner=owner,
            previous=current,
            confirmed=connection.status != ConnectionStatus.UNCONFIRMED,
            cause=pending.event.id if is_routed else None,
        )

    def _known_tags(
        self, connection: ConnectionState, decision: Keep | Open | Unlinked, before: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """The last tags that carried the link, for as long as the present ones do not."""
        if not isinstance(decision, Keep) or decision.drift is None:
            return None
        if connection.drift is not None:
            return connection.known_tags
        return dict(before) if read_claim(before, None, self._policy.tag_keys) else None

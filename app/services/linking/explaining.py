"""The explanation of a connection's link: what is stored about it is read, then judged."""

from uuid import UUID

from sqlalchemy.orm import Session

from app.db import connections, directory
from app.db.connections import ConnectionState, OpenLink
from app.db.read.newest_event import newest_event
from app.domain.link_explanations import LinkExplanation, LinkFacts, explain_link
from app.domain.linking import Claim
from app.errors import NotFound
from app.ids import CONNECTION, show
from app.services.directory import claim_of
from app.services.policy import Policy


def explain(session: Session, connection_ref: UUID, policy: Policy) -> LinkExplanation:
    """Explain why a connection is linked or not. Nango is not asked. Raises NotFound."""
    found = connections.get(session, connection_ref)
    if found is None:
        raise NotFound("connection", show(CONNECTION, connection_ref))
    return explain_link(_facts(session, found, policy))


def _facts(session: Session, found: ConnectionState, policy: Policy) -> LinkFacts:
    link = connections.open_links(session, [found.id]).get(found.id)
    claim = claim_of(found, policy.tag_keys)
    users = directory.users_by_email(session, [claim.email]) if claim.email else {}
    return LinkFacts(
        id=show(CONNECTION, found.id),
        status=found.status,
        owner=_owner(session, link) if link else None,
        user_linked=link is not None and link.user_id is not None,
        linked_by=claim.linked_by or None,
        unlinked_reason=found.unlinked_reason,
        drift=found.drift,
        tags_empty=not found.tags,
        claim=claim,
        is_known=_is_known(session, claim, with_email=len(users.get(claim.email or "", []))),
        with_email=len(users.get(claim.email or "", [])),
        newest=newest_event(session, found.id),
        keys=policy.tag_keys,
        directory=policy.directory,
    )


def _is_known(session: Session, claim: Claim, *, with_email: int) -> bool:
    """Whether all that the claim names is stored."""
    if claim.organization_id and not directory.organizations_by_external_id(session, [claim.organization_id]):
        return False
    if claim.user_id:
        return bool(directory.users_by_external_id(session, [claim.user_id]))
    return claim.email is None or with_email == 1


def _owner(session: Session, link: OpenLink) -> str:
    """The owner of an open link, in words."""
    users = directory.users_by_id(session, [link.user_id]) if link.user_id else {}
    organizations = directory.organizations_by_id(session, [link.organization_id]) if link.organization_id else {}
    user = f"the user `{next(iter(users.values())).external_id}`" if users else ""
    organization = f"the organization `{next(iter(organizations.values())).external_id}`" if organizations else ""
    return " of ".join(filter(None, (user, organization)))

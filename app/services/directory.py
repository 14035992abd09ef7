"""The local users and organizations, as far as one batch of claims needs them."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from app.db import connections as rows
from app.db.models import Link, Organization, User
from app.domain.linking import Claim, DirectoryPolicy, Owner, Person, Unlinked, resolve
from app.ids import ORGANIZATION, USER, show


class Directory:
    """Answers who a claim means. With the policy `create`, whom the claims name is made first."""

    def __init__(self, session: Session, claims: Collection[Claim], *, policy: DirectoryPolicy, now: datetime) -> None:
        self._session = session
        if policy is DirectoryPolicy.CREATE:
            self._make(claims, now)
        self._organizations = rows.organizations_by_external_id(
            session, {claim.organization_id for claim in claims if claim.organization_id}
        )
        self._users = rows.users_by_external_id(session, {claim.user_id for claim in claims if claim.user_id})
        emails = {claim.email for claim in claims if claim.email and not claim.user_id}
        self._by_email = rows.users_by_email(session, emails) if emails else {}
        if policy is DirectoryPolicy.CREATE:
            self._complete(claims)
        self._users_by_id = {user.id: user for user in self._users.values()}
        self._users_by_id.update({user.id: user for users in self._by_email.values() for user in users})
        self._organizations_by_id = {one.id: one for one in self._organizations.values()}

    def resolve(self, claim: Claim) -> Owner | Unlinked:
        organization = self._organizations.get(claim.organization_id or "")
        user = self._users.get(claim.user_id or "")
        with_email = self._by_email.get((claim.email or "").lower(), [])
        return resolve(
            claim,
            user=_person(user) if user else None,
            with_email=[_person(one) for one in with_email],
            organization_id=organization.id if organization else None,
        )

    def remember_owners(self, links: Sequence[Link]) -> None:
        """Load whom these links point to, so that `user` and `organization` can show them."""
        users, organizations = rows.owners_of(self._session, links)
        self._users_by_id.update(users)
        self._organizations_by_id.update(organizations)

    def user(self, user_id: UUID | None) -> dict[str, Any] | None:
        """The user as the event document shows it."""
        one = self._users_by_id.get(user_id) if user_id else None
        if one is None:
            return None
        return {
            "id": show(USER, one.id),
            "external_id": one.external_id,
            "email": one.email,
            "display_name": one.display_name,
        }

    def organization(self, organization_id: UUID | None) -> dict[str, Any] | None:
        """The organization as the event document shows it."""
        one = self._organizations_by_id.get(organization_id) if organization_id else None
        if one is None:
            return None
        return {"id": show(ORGANIZATION, one.id), "external_id": one.external_id, "name": one.name}

    def _make(self, claims: Collection[Claim], now: datetime) -> None:
        organizations = {
            claim.organization_id: {
                "external_id": claim.organization_id,
                "name": claim.organization_name,
                "created_at": now,
            }
            for claim in claims
            if claim.organization_id
        }
        rows.add_organizations(self._session, organizations)
        ids = {
            external_id: one.id
            for external_id, one in rows.organizations_by_external_id(self._session, list(organizations)).items()
        }
        users = {
            claim.user_id: {
                "external_id": claim.user_id,
                "email": claim.email,
                "display_name": claim.user_name,
                "organization_id": ids.get(claim.organization_id or ""),
                "created_at": now,
            }
            for claim in claims
            if claim.user_id
        }
        rows.add_users(self._session, users)

    def _complete(self, claims: Collection[Claim]) -> None:
        """Fill what was missing; what the directory already says is not overwritten by a tag."""
        for claim in claims:
            user: User | None = self._users.get(claim.user_id or "")
            if user is not None:
                user.email = user.email or claim.email
                user.display_name = user.display_name or claim.user_name
            organization: Organization | None = self._organizations.get(claim.organization_id or "")
            if organization is not None:
                organization.name = organization.name or claim.organization_name


def _person(user: User) -> Person:
    return Person(id=user.id, external_id=user.external_id, organization_id=user.organization_id)

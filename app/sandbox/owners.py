"""The deprecated `end_user` and `organization`, and the tags derived from them
(Nango contract: Tags from end users).
"""

from collections.abc import Mapping
from typing import Any

from app.domain.tags import derive
from app.sandbox.checks import Checks
from app.sandbox.entities import SandboxEndUser, SandboxOrganization


def read_end_user(checks: Checks) -> SandboxEndUser | None:
    """The members `end_user` and `organization` of a session's body."""
    organization = _read_organization(checks)
    member = checks.child("end_user")
    if member is None:
        return None
    if not member.is_object:
        return SandboxEndUser(id="")
    identity = member.text("id")
    email = member.email("email")
    name = member.optional_text("display_name", nullable=True)
    tags = member.record("tags")
    for key, value in (tags or {}).items():
        if not isinstance(value, str):
            member.custom("Invalid input: expected string", "tags", key)
    member.strict()
    return SandboxEndUser(id=identity, email=email, display_name=name, tags=tags, organization=organization)


def derived_tags(end_user: SandboxEndUser | None) -> dict[str, str]:
    if end_user is None:
        return {}
    organization = end_user.organization
    facts: Mapping[str, Any] = {
        "id": end_user.id,
        "email": end_user.email,
        "display_name": end_user.display_name,
        "tags": end_user.tags,
    }
    return derive(facts, {"id": organization.id, "display_name": organization.display_name} if organization else None)


def from_webhook(member: object) -> SandboxEndUser | None:
    """The end user of a webhook's `endUser` member."""
    if not isinstance(member, Mapping) or not isinstance(member.get("endUserId"), str):
        return None
    organization, tags = member.get("organizationId"), member.get("tags")
    return SandboxEndUser(
        id=member["endUserId"],
        email=member.get("endUserEmail"),
        tags=dict(tags) if isinstance(tags, Mapping) else None,
        organization=SandboxOrganization(id=organization) if isinstance(organization, str) else None,
    )


def _read_organization(checks: Checks) -> SandboxOrganization | None:
    member = checks.child("organization")
    if member is None:
        return None
    if not member.is_object:
        return SandboxOrganization(id="")
    found = SandboxOrganization(id=member.text("id"), display_name=member.optional_text("display_name", nullable=True))
    member.strict()
    return found

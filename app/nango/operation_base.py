"""Base class of Nango's operations, and checks of their arguments."""

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote

from app.domain import tags as tag_rules
from app.domain.tags import is_storable, utf16_length
from app.errors import InvalidInput, InvalidTags, TagFault
from app.nango.response_errors import NangoAnswer
from app.nango.transport import Gate, NangoCall, Transport
from app.nango.types import EndUserOrganization, NangoEndUser

MAX_ID: Final = 255  # (Nango contract: Connection identity)


class NangoOperations:
    """Base of the operations: one environment's transport, and the gate that its calls pass, if any."""

    def __init__(self, transport: Transport, gate: Gate | None = None) -> None:
        self._transport, self._gate = transport, gate

    def _call(self, call: NangoCall, *, timeout: float | None) -> NangoAnswer:
        return self._transport.call(call, timeout=timeout, gate=self._gate)


def text(value: object, name: str) -> str:
    """An id in a form that Nango could have issued. Raises InvalidInput with field, rule and length."""
    if not isinstance(value, str) or not value:
        raise InvalidInput(f"{name} must be a text that is not empty")
    if (length := utf16_length(value)) > MAX_ID:
        raise InvalidInput(f"{name} has {length} characters, at most {MAX_ID}")
    if not is_storable(value):
        raise InvalidInput(f"{name} holds a NUL or a lone surrogate ({length} characters)")
    return value


def segment(identity: str, name: str) -> str:
    """An id as exactly one path segment: imported ids may hold `/`, quotes, blanks and `+`.

    (Nango contract: Connection identity)
    """
    if text(identity, name) in {".", ".."}:
        # Clients and proxies resolve these, and the request would reach another operation.
        raise InvalidInput(f"{name} {identity!r} cannot be asked for: no path can name it")
    return quote(identity, safe="")


def connection_path(connection_id: str) -> str:
    return f"/connections/{segment(connection_id, 'connection_id')}"


def of_integration(integration: str) -> dict[str, str]:
    """The query parameter for the integration of one connection."""
    return {"provider_config_key": text(integration, "integration")}


def texts(values: Sequence[str], name: str) -> list[str]:
    """Several ids. A single string is refused, since it would be read as a list of its letters."""
    if isinstance(values, str):
        raise InvalidInput(f"{name} must be a list, not one text")
    return [text(value, f"{name}[{index}]") for index, value in enumerate(values)]


def session_tags(
    tags: Mapping[str, str], end_user: NangoEndUser | None, organization: EndUserOrganization | None = None
) -> dict[str, str]:
    """Tags in lower case. Raises InvalidTags, also where they are too many once Nango has merged those of `end_user`
    into them, which it answers with a 500 (Nango contract: Tag errors).
    """
    own = tag_rules.normalize(tags)
    if end_user is not None:
        merged = tag_rules.derive(end_user_body(end_user), _organization_body(organization)) | own
        if len(merged) > tag_rules.MAX_TAGS:
            words = f"there are {len(merged)} tags with those of end_user, at most {tag_rules.MAX_TAGS}"
            raise InvalidTags([TagFault("too_many", "", words)])
    return own


def end_user_body(end_user: NangoEndUser) -> dict[str, object]:
    """The deprecated `end_user` in Nango's form; its organization is a separate member."""
    facts = {"email": end_user.email, "display_name": end_user.display_name, "tags": dict(end_user.tags) or None}
    named: dict[str, object] = {"id": text(end_user.id, "end_user.id")}
    return named | {name: value for name, value in facts.items() if value is not None}


def owner_body(end_user: NangoEndUser | None, organization: EndUserOrganization | None) -> dict[str, object]:
    """The deprecated members of a session."""
    body: dict[str, object] = {}
    if end_user is not None:
        body["end_user"] = end_user_body(end_user)
    if organization is not None:
        body["organization"] = _organization_body(organization)
    return body


def _organization_body(organization: EndUserOrganization | None) -> dict[str, object] | None:
    if organization is None:
        return None
    body: dict[str, object] = {"id": text(organization.id, "organization.id")}
    if organization.display_name is not None:
        body["display_name"] = organization.display_name
    return body

"""Connect sessions, which an application hands to an end user to connect or reconnect."""

from collections.abc import Mapping, Sequence
from typing import Final

from app.domain.json_values import JsonObject, json_object
from app.errors import NangoConnectionNotFound, NangoError, NangoUnknownIntegration
from app.nango import wire
from app.nango.operation_base import NangoOperations, owner_body, session_tags, text, texts
from app.nango.transport import NangoCall
from app.nango.types import ConnectSession, EndUserOrganization, NangoEndUser

# Both are 400 invalid_body and differ only in the message (Nango contract: Connect sessions).
_UNKNOWN_INTEGRATION: Final[Mapping[str, type[NangoError]]] = {"integration does not exist": NangoUnknownIntegration}
_UNKNOWN_PAIR: Final[Mapping[str, type[NangoError]]] = {
    "connectionid or integrationid does not exist": NangoConnectionNotFound
}


class Sessions(NangoOperations):
    def create_connect_session(
        self,
        *,
        tags: Mapping[str, str],
        allowed_integrations: Sequence[str] = (),
        integrations_config_defaults: JsonObject | None = None,
        overrides: JsonObject | None = None,
        webhook_url_override: str | None = None,
        end_user: NangoEndUser | None = None,
        organization: EndUserOrganization | None = None,
        timeout: float | None = None,
    ) -> ConnectSession:
        """A session for new connections, which get its tags. Scope environment:connect_sessions:write.

        allowed_integrations: empty allows all. integrations_config_defaults and overrides: by integration, see Nango's
        documentation. end_user and organization: deprecated in favour of tags. A session is not used up by a
        connection: until it expires, it can make others with the same tags (Nango contract: Connect sessions). Raises
        InvalidTags and InvalidInput before anything is sent, NangoUnknownIntegration, NangoPlanLimit.
        """
        body: dict[str, object] = {"tags": session_tags(tags, end_user, organization)}
        if allowed_integrations:
            body["allowed_integrations"] = texts(allowed_integrations, "allowed_integrations")
        body |= _options(integrations_config_defaults, overrides, webhook_url_override)
        body |= json_object(owner_body(end_user, organization), "session")
        return self._create(NangoCall(method="POST", path=_PATH, body=body, phrases=_UNKNOWN_INTEGRATION), timeout)

    def create_reconnect_session(
        self,
        integration: str,
        connection_id: str,
        *,
        tags: Mapping[str, str],
        integrations_config_defaults: JsonObject | None = None,
        overrides: JsonObject | None = None,
        webhook_url_override: str | None = None,
        end_user: NangoEndUser | None = None,
        organization: EndUserOrganization | None = None,
        timeout: float | None = None,
    ) -> ConnectSession:
        """A session to authorize an existing connection again. Scope environment:connect_sessions:write.

        tags: all tags that the connection is to have afterwards. They are required because a session without tags wipes
        the connection's (Nango contract: Tag replacement). Raises InvalidTags and InvalidInput before anything is sent,
        and NangoConnectionNotFound, also for an integration that Nango does not know.
        """
        body: dict[str, object] = {
            "connection_id": text(connection_id, "connection_id"),
            "integration_id": text(integration, "integration"),
            "tags": session_tags(tags, end_user, organization),
        }
        body |= _options(integrations_config_defaults, overrides, webhook_url_override)
        body |= json_object(owner_body(end_user, organization), "session")
        return self._create(
            NangoCall(method="POST", path=f"{_PATH}/reconnect", body=body, phrases=_UNKNOWN_PAIR), timeout
        )

    def _create(self, call: NangoCall, timeout: float | None) -> ConnectSession:
        answer = self._call(call, timeout=timeout)
        return wire.session(wire.decode(answer, wire.WireOneSession).data)


_PATH: Final = "/connect/sessions"


def _options(
    integrations_config_defaults: JsonObject | None, overrides: JsonObject | None, webhook_url_override: str | None
) -> dict[str, object]:
    body: dict[str, object] = {}
    if integrations_config_defaults is not None:
        body["integrations_config_defaults"] = json_object(integrations_config_defaults, "integrations_config_defaults")
    if overrides is not None:
        body["overrides"] = json_object(overrides, "overrides")
    if webhook_url_override:
        body["webhook_url_override"] = text(webhook_url_override, "webhook_url_override")
    return body

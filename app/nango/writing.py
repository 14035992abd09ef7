"""Operations that change connections. A call is repeated only where Nango refused it for its rate limit."""

from collections.abc import Mapping, Sequence

from app.domain import tags as tag_rules
from app.domain.json_values import JsonObject, json_object
from app.errors import (
    InvalidInput,
    NangoConnectionNotFound,
    NangoUnexpected,
    NangoUnknownIntegration,
)
from app.nango import wire
from app.nango.operation_base import (
    NangoOperations,
    connection_path,
    end_user_body,
    of_integration,
    session_tags,
    text,
    texts,
)
from app.nango.response_errors import NangoAnswer
from app.nango.transport import NangoCall
from app.nango.types import ConnectionDetail, NangoEndUser


class Writing(NangoOperations):
    def delete_connection(self, integration: str, connection_id: str, *, timeout: float | None = None) -> None:
        """Delete a connection at Nango; nothing is revoked at the provider. Scope environment:connections:delete.

        It may take long: a function of the integration can run before (Nango contract: Change a connection). Raises
        NangoConnectionNotFound, also for an integration that Nango does not know.
        """
        call = NangoCall(method="DELETE", path=connection_path(connection_id), query=of_integration(integration))
        _succeeded(self._call(call, timeout=timeout))

    def set_tags(
        self, integration: str, connection_id: str, tags: Mapping[str, str], *, timeout: float | None = None
    ) -> None:
        """Replace all tags; `{}` clears them. Scope environment:connections:update.

        Nango has no call for a single tag and no version to compare: a concurrent change between reading and writing is
        lost. Raises InvalidTags before anything is sent, NangoConnectionNotFound, NangoUnknownIntegration.
        """
        self.patch_connection(integration, connection_id, tags=tags, timeout=timeout)

    def patch_connection(
        self,
        integration: str,
        connection_id: str,
        *,
        tags: Mapping[str, str] | None = None,
        end_user: NangoEndUser | None = None,
        webhook_url_override: str | None = None,
        timeout: float | None = None,
    ) -> None:
        """Change the given members and leave the rest. Scope environment:connections:update.

        tags: replace all. end_user: deprecated; without tags, Nango replaces all tags by those it derives from it
        (Nango contract: Tag replacement). webhook_url_override: another URL for this connection's webhooks; an empty
        text clears it. Raises InvalidTags before anything is sent, NangoConnectionNotFound, NangoUnknownIntegration.
        """
        body: dict[str, object] = {}
        if tags is not None:
            body["tags"] = session_tags(tags, end_user)
        if end_user is not None:
            body["end_user"] = json_object(_without_organization(end_user), "end_user")
        if webhook_url_override is not None:
            body["webhook_url_override"] = webhook_url_override and text(webhook_url_override, "webhook_url_override")
        if not body:
            raise InvalidInput("nothing to change: give tags, end_user or webhook_url_override")
        call = NangoCall(
            method="PATCH",
            path=connection_path(connection_id),
            query=of_integration(integration),
            body=body,
            not_found=NangoConnectionNotFound,
        )
        _succeeded(self._call(call, timeout=timeout))

    def set_metadata(
        self,
        integration: str,
        connection_ids: str | Sequence[str],
        metadata: JsonObject,
        *,
        timeout: float | None = None,
    ) -> None:
        """Replace the whole metadata of one connection or of several, of all or of none of them.

        Scope environment:connections:update. Raises NangoConnectionNotFound when one is unknown, also for an
        integration that Nango does not know; InvalidInput for metadata that Nango could not keep.
        """
        self._write_metadata("POST", integration, connection_ids, metadata, timeout)

    def update_metadata(
        self,
        integration: str,
        connection_ids: str | Sequence[str],
        metadata: JsonObject,
        *,
        timeout: float | None = None,
    ) -> None:
        """Merge into the metadata, on its first level: a given key replaces the existing one, null included.

        Nango reads and then writes, so of two concurrent calls the last one wins. A key is removed by `set_metadata`
        with all others. Scope and errors are those of `set_metadata`.
        """
        self._write_metadata("PATCH", integration, connection_ids, metadata, timeout)

    def import_connection(
        self,
        integration: str,
        credentials: JsonObject,
        *,
        tags: Mapping[str, str],
        metadata: JsonObject,
        connection_id: str | None = None,
        connection_config: JsonObject | None = None,
        webhook_url_override: str | None = None,
        end_user: NangoEndUser | None = None,
        timeout: float | None = None,
    ) -> ConnectionDetail:
        """Make a connection from existing credentials, or replace one. Scope environment:connections:create.

        credentials: `{"type": …}` and its members (Nango contract: Credential types), of the integration's type.
        connection_id: Nango makes one up when absent. tags and metadata are required because Nango takes omitted ones
        for empty, and wipes those of an existing connection (Nango contract: Tag replacement). Raises InvalidTags and
        InvalidInput before anything is sent, NangoUnknownIntegration, NangoCredentialsRefused, NangoPlanLimit.
        """
        body: dict[str, object] = {
            "provider_config_key": text(integration, "integration"),
            "credentials": json_object(credentials, "credentials"),
            "metadata": json_object(metadata, "metadata"),
            "tags": tag_rules.normalize(tags),
        }
        if connection_id is not None:
            body["connection_id"] = text(connection_id, "connection_id")
        if connection_config is not None:
            body["connection_config"] = json_object(connection_config, "connection_config")
        if webhook_url_override:
            body["webhook_url_override"] = text(webhook_url_override, "webhook_url_override")
        if end_user is not None:
            body["end_user"] = json_object(_without_organization(end_user), "end_user")
        call = NangoCall(method="POST", path="/connections", body=body, not_found=NangoUnknownIntegration)
        answer = self._call(call, timeout=timeout)
        return wire.detail(wire.decode(answer, wire.WireDetail), answer)

    def _write_metadata(
        self,
        method: str,
        integration: str,
        connection_ids: str | Sequence[str],
        metadata: JsonObject,
        timeout: float | None,
    ) -> None:
        single = isinstance(connection_ids, str)
        ids = [text(connection_ids, "connection_id")] if single else texts(connection_ids, "connection_ids")
        if not ids:
            raise InvalidInput("connection_ids is empty: name at least one connection")
        body: dict[str, object] = {
            "connection_id": ids[0] if single else ids,
            "provider_config_key": text(integration, "integration"),
            "metadata": json_object(metadata, "metadata"),
        }
        call = NangoCall(method=method, path="/connections/metadata", body=body, not_found=NangoConnectionNotFound)
        self._call(call, timeout=timeout)


def _without_organization(end_user: NangoEndUser) -> dict[str, object]:
    if end_user.organization is not None:
        raise InvalidInput("end_user.organization is taken by connect sessions only")
    return end_user_body(end_user)


def _succeeded(answer: NangoAnswer) -> None:
    """Raises NangoUnexpected for `{"success": false}`, which Nango sends with status 200
    (Nango contract: Change a connection).
    """
    if not wire.decode(answer, wire.WireSuccess).success:
        raise NangoUnexpected(status=answer.status, detail="Nango says that it was not done")

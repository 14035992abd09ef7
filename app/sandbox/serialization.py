"""Connections and integrations as JSON, with timestamps in Nango's three forms (Nango contract: Timestamps)."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from app.sandbox.entities import SandboxConnection, SandboxEndUser, SandboxIntegration


def iso_z(moment: datetime) -> str:
    """`2026-11-22T12:17:47.086Z`: POST /connections, sessions, integrations and credentials."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def iso_offset(moment: datetime) -> str:
    """`2026-11-22T12:17:47.086+00:00`: GET /connections/{id}."""
    return moment.isoformat(timespec="milliseconds")


def iso_database(moment: datetime) -> str:
    """`2026-11-22T12:20:53.09+00:00`: the list, as PostgreSQL writes it, without trailing zeros."""
    seconds, _, fraction = moment.isoformat(timespec="milliseconds").removesuffix("+00:00").partition(".")
    fraction = fraction.rstrip("0")
    return f"{seconds}.{fraction}+00:00" if fraction else f"{seconds}+00:00"


def listed(connection: SandboxConnection) -> dict[str, Any]:
    return {**_head(connection), "created": iso_database(connection.created_at)}


def full(connection: SandboxConnection, credentials: Mapping[str, Any], *, imported: bool = False) -> dict[str, Any]:
    """The body of GET /connections/{id}, and with `imported` of POST /connections."""
    moment = iso_z if imported else iso_offset
    return {
        **_head(connection),
        "connection_config": connection.connection_config,
        "webhook_url_override": connection.webhook_url_override,
        "created_at": moment(connection.created_at),
        "updated_at": moment(connection.updated_at),
        "last_fetched_at": moment(connection.last_fetched_at),
        "credentials": credentials,
    }


def integration(value: SandboxIntegration, *, public_url: str) -> dict[str, Any]:
    return {
        "unique_key": value.unique_key,
        "provider": value.provider,
        "display_name": value.display_name,
        "logo": logo(value.provider, public_url=public_url),
        "forward_webhooks": value.forward_webhooks,
        "created_at": iso_z(value.created_at),
        "updated_at": iso_z(value.updated_at),
    }


def logo(provider: str, *, public_url: str) -> str:
    return f"{public_url}/images/template-logos/{provider}.svg"


def _head(connection: SandboxConnection) -> dict[str, Any]:
    trouble = connection.trouble
    return {
        "id": connection.id,
        "connection_id": connection.connection_id,
        "provider_config_key": connection.integration,
        "provider": connection.provider,
        "errors": [{"type": "auth", "log_id": trouble.log_id}] if trouble else [],
        "end_user": _end_user(connection.end_user),
        "tags": connection.tags,
        "metadata": connection.metadata,
    }


def _end_user(owner: SandboxEndUser | None) -> dict[str, Any] | None:
    if owner is None:
        return None
    organization = owner.organization
    return {
        "id": owner.id,
        "display_name": owner.display_name,
        "email": owner.email,
        "tags": owner.tags,
        "organization": {"id": organization.id, "display_name": organization.display_name} if organization else None,
    }

"""The integrations of an environment, as Nango has them."""

from typing import Any

from app.services.connections.operations import Operations, remaining


def integrations(operations: Operations, environment: str) -> list[dict[str, Any]]:
    """All of them, for people. Raises NotFound for an unknown environment, Conflict without an API key, NangoError."""
    found = operations.client(environment).list_integrations(timeout=remaining(operations.ends_at()))
    return [
        {
            "integration": one.key,
            "provider": one.provider,
            "display_name": one.display_name,
            "forward_webhooks": one.forward_webhooks,
            "created_at": one.created_at.isoformat() if one.created_at else None,
            "updated_at": one.updated_at.isoformat() if one.updated_at else None,
        }
        for one in found.integrations
    ]

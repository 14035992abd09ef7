"""Scopes of API keys (Nango contract: API key scopes)."""

from collections.abc import Collection
from typing import Final

from app.sandbox.wire import RefusedError

ALL: Final = "environment:*"
LIST: Final = ("environment:connections:list", "environment:connections:list_credentials")
READ: Final = ("environment:connections:read", "environment:connections:read_credentials")
CREDENTIALS: Final = ("environment:connections:read_credentials",)
CREATE: Final = ("environment:connections:create",)
UPDATE: Final = ("environment:connections:update",)
DELETE: Final = ("environment:connections:delete",)
SESSIONS: Final = ("environment:connect_sessions:write",)
INTEGRATIONS_LIST: Final = ("environment:integrations:list",)
INTEGRATIONS_READ: Final = ("environment:integrations:read", "environment:integrations:read_credentials")
INTEGRATIONS_CREDENTIALS: Final = ("environment:integrations:read_credentials",)
ROTATE_SIGNING_KEY: Final = ("environment:webhook_signing_key:rotate",)
# Scopes of an account API key (Nango contract: Environments API)
ACCOUNT_READ: Final = ("account:environments:read", "account:environments:read_secret")
ACCOUNT_READ_SECRET: Final = ("account:environments:read_secret",)
ACCOUNT_UPDATE: Final = ("account:environments:update",)
ACCOUNT_ALL: Final = (*ACCOUNT_READ, *ACCOUNT_UPDATE)
WILDCARDS: Final = (ALL, "environment:connections:*", "environment:connect_sessions:*", "environment:integrations:*")
KNOWN: Final = frozenset(
    {
        *(LIST + READ + CREATE + UPDATE + DELETE + SESSIONS + INTEGRATIONS_LIST + INTEGRATIONS_READ),
        *ROTATE_SIGNING_KEY,
        *WILDCARDS,
    }
)


def allows(granted: Collection[str], needed: Collection[str]) -> bool:
    """Whether a key with the granted scopes has one of the needed ones."""
    return any(_covers(held, scope) for held in granted for scope in needed)


def require(granted: Collection[str], needed: Collection[str]) -> None:
    """Raises RefusedError, 403."""
    if needed and not allows(granted, needed):
        raise RefusedError(403, "forbidden", f"Insufficient scope. Required one of: {' or '.join(needed)}")


def _covers(granted: str, scope: str) -> bool:
    return granted == scope or (granted.endswith(":*") and scope.startswith(granted[:-1]))

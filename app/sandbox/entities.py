"""Stored values of a sandbox: integrations, connect sessions and connections. Frozen: a change replaces the value."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from app.sandbox.grants import DEFAULT_RULES, Grant, TokenRules

SESSION_LIFETIME: Final = timedelta(minutes=30)  # (Nango contract: Connect sessions)


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxIntegration:
    unique_key: str
    provider: str
    auth_mode: str
    display_name: str
    forward_webhooks: bool
    created_at: datetime
    updated_at: datetime
    tokens: TokenRules = DEFAULT_RULES


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxOrganization:
    id: str
    display_name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxEndUser:
    """The deprecated end user. Its tags keep their case, unlike the connection's (Nango contract: Auth webhook)."""

    id: str
    email: str | None = None
    display_name: str | None = None
    tags: dict[str, str] | None = None
    organization: SandboxOrganization | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthFailure:
    """An active auth error: failing refreshes, or a refused re-authorization."""

    failed_at: datetime
    attempts: int
    exhausted: bool
    log_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxConnection:
    id: int
    connection_id: str
    integration: str
    provider: str
    auth_mode: str
    tags: dict[str, str]
    created_at: datetime
    updated_at: datetime
    last_fetched_at: datetime
    end_user: SandboxEndUser | None = None
    metadata: dict[str, Any] | None = None
    connection_config: dict[str, Any]
    webhook_url_override: str | None = None
    credentials: dict[str, Any]
    trouble: AuthFailure | None = None
    grant: Grant | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSession:
    """A connect session. `reconnects` is the connection id it re-authorizes, under the one allowed integration."""

    token: str
    expires_at: datetime
    tags: dict[str, str]
    end_user: SandboxEndUser | None = None
    allowed_integrations: tuple[str, ...] = ()
    reconnects: str | None = None
    webhook_url_override: str | None = None
    defaults: dict[str, Any] | None = None


@dataclass(slots=True, kw_only=True)
class SandboxWebhookSettings:
    """Webhook URLs of an environment, and switches by type (Nango contract: Webhook settings)."""

    primary_url: str | None
    secondary_url: str | None = None
    switches: dict[str, bool]

    def urls(self, operation: str, override: str | None) -> tuple[str, ...]:
        """URLs for an auth webhook of this operation; a connection's override replaces both."""
        if not self.switches.get(_SWITCHES.get(operation, ""), True):
            return ()
        return (override,) if override else tuple(filter(None, (self.primary_url, self.secondary_url)))


# Overrides have no switch (Nango contract: When auth webhooks are sent).
_SWITCHES: Final = {
    "creation": "on_auth_creation",
    "refresh": "on_auth_refresh_error",
    "deletion": "on_connection_deletion",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """An additional key; the sandbox's own has all scopes. `environment` is empty for the sandbox's own one."""

    key: str
    scopes: tuple[str, ...]
    environment: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorization:
    """An OAuth flow whose end user is at the provider."""

    session: SandboxSession
    integration: str
    connection_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedState:
    """The state that survives a restart."""

    next_id: int = 1
    integrations: tuple[SandboxIntegration, ...] = ()
    connections: tuple[SandboxConnection, ...] = ()
    sessions: tuple[SandboxSession, ...] = ()
    keys: tuple[ApiKey, ...] = ()
    signing_key: str | None = None  # set by a rotation

"""The values a sandbox keeps: integrations, connect sessions and connections. Frozen: a change replaces one."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

SESSION_LIFETIME: Final = timedelta(minutes=30)  # (Nango contract: Connect sessions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Integration:
    unique_key: str
    provider: str
    auth_mode: str
    display_name: str
    forward_webhooks: bool
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Organization:
    id: str
    display_name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EndUser:
    """The deprecated owner record. Its tags keep their case, unlike the connection's (Nango contract: Auth webhook)."""

    id: str
    email: str | None = None
    display_name: str | None = None
    tags: dict[str, str] | None = None
    organization: Organization | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """An active auth error: failing refreshes, or a refused re-authorization."""

    failed_at: datetime
    attempts: int
    exhausted: bool
    log_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    id: int
    connection_id: str
    integration: str
    provider: str
    auth_mode: str
    tags: dict[str, str]
    created_at: datetime
    updated_at: datetime
    last_fetched_at: datetime
    end_user: EndUser | None = None
    metadata: dict[str, Any] | None = None
    connection_config: dict[str, Any]
    webhook_url_override: str | None = None
    credentials: dict[str, Any]
    trouble: Trouble | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A connect session. `reconnects` is the connection id it re-authorizes, under the one allowed integration."""

    token: str
    expires_at: datetime
    tags: dict[str, str]
    end_user: EndUser | None = None
    allowed_integrations: tuple[str, ...] = ()
    reconnects: str | None = None
    webhook_url_override: str | None = None
    defaults: dict[str, Any] | None = None


@dataclass(slots=True, kw_only=True)
class WebhookSettings:
    """Where an environment's webhooks go, and which are sent (Nango contract: Webhook settings)."""

    primary_url: str | None
    secondary_url: str | None = None
    switches: dict[str, bool]

    def urls(self, operation: str, override: str | None) -> tuple[str, ...]:
        """Where an auth webhook of this operation goes; an override of the connection drops both."""
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
    """One beside the sandbox's own, which may do everything. `environment` is empty for the sandbox's own one."""

    key: str
    scopes: tuple[str, ...]
    environment: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorization:
    """An OAuth flow whose user is at the provider."""

    session: Session
    integration: str
    connection_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedState:
    """All that survives a restart."""

    next_id: int = 1
    integrations: tuple[Integration, ...] = ()
    connections: tuple[Connection, ...] = ()
    sessions: tuple[Session, ...] = ()
    keys: tuple[ApiKey, ...] = ()
    signing_key: str | None = None  # once it was rotated

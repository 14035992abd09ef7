"""What Nango's API answers, as values. Field names are Nango's where Waylink has no word of its own."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from app.errors import NangoUnexpected

if TYPE_CHECKING:
    from app.nango.credentials import Credentials


@dataclass(frozen=True, slots=True)
class RateLimit:
    """The account's bucket, shared by all its environments and keys, after the request (CONTRACT 3.1)."""

    limit: int
    remaining: int
    reset_at: datetime


@dataclass(frozen=True, slots=True)
class LoggedError:
    """An error Nango keeps on a connection; `type` is auth or sync, `log_id` leads to Nango's own log."""

    type: str
    log_id: str


@dataclass(frozen=True, slots=True)
class EndUserOrganization:
    id: str
    display_name: str | None = None


@dataclass(frozen=True, slots=True)
class EndUser:
    """Nango's deprecated end user; `tags` keep the caller's key case, unlike a connection's (CONTRACT 1.2)."""

    id: str
    display_name: str | None = None
    email: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    organization: EndUserOrganization | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedConnection:
    """One row of the list; `id` is Nango's numeric id, the connection's generation."""

    id: int
    integration: str
    connection_id: str
    provider: str
    errors: tuple[LoggedError, ...]
    end_user: EndUser | None
    tags: Mapping[str, str]
    metadata: Mapping[str, object] | None = field(repr=False)
    created_at: datetime
    observed_at: datetime

    @property
    def auth_errors(self) -> bool:
        """Nango's cheap "it is broken" signal (CONTRACT 3.2)."""
        return any(error.type == "auth" for error in self.errors)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionPage:
    """`observed_at` is the moment the request was sent; the list comes from a replica and may lag behind it."""

    connections: tuple[ListedConnection, ...]
    observed_at: datetime
    rate_limit: RateLimit | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionDetail:
    id: int
    integration: str
    connection_id: str
    provider: str
    errors: tuple[LoggedError, ...]
    end_user: EndUser | None
    tags: Mapping[str, str]
    metadata: Mapping[str, object] | None = field(repr=False)
    connection_config: Mapping[str, object] = field(repr=False)
    webhook_url_override: str | None
    created_at: datetime
    updated_at: datetime
    last_fetched_at: datetime | None
    credentials: "Credentials"
    observed_at: datetime
    rate_limit: RateLimit | None

    @property
    def auth_errors(self) -> bool:
        return any(error.type == "auth" for error in self.errors)

    @property
    def expires_at(self) -> datetime | None:
        """The only expiry Nango exposes."""
        return self.credentials.expires_at


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectSession:
    """Whoever has the token or the link can connect in the end user's name until `expires_at`: no repr shows them."""

    token: str = field(repr=False)
    connect_link: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Integration:
    """`key` is Nango's unique_key, elsewhere called provider_config_key; `credentials` only where asked for."""

    key: str
    provider: str
    display_name: str
    logo: str
    forward_webhooks: bool
    webhook_url: str | None
    credentials: Mapping[str, object] | None = field(repr=False)
    created_at: datetime
    updated_at: datetime
    observed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegrationList:
    integrations: tuple[Integration, ...]
    observed_at: datetime
    rate_limit: RateLimit | None


def parse_timestamp(text: str, name: str) -> datetime:
    """Nango's three forms: `…Z`, `…+00:00`, and PostgreSQL's own with a blank and a short offset (CONTRACT 3.2)."""
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        parsed = None
    if parsed is None:
        raise NangoUnexpected(detail=f"{name} is not a timestamp")
    return parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)

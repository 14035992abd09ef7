"""Values in Nango's answers. Field names are Nango's where Waylink has no term of its own."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from app.domain.refreshing.token_times import TokenTimes

if TYPE_CHECKING:
    from app.nango.credentials import Credentials


@dataclass(frozen=True, slots=True)
class RateLimit:
    """The account's bucket, shared by all its environments and keys, after the request (Nango contract: Rate limit)."""

    limit: int
    remaining: int
    reset_at: datetime


@dataclass(frozen=True, slots=True)
class LoggedError:
    """An error Nango keeps on a connection; `type` is auth or sync, `log_id` refers to Nango's own log."""

    type: str
    log_id: str


@dataclass(frozen=True, slots=True)
class EndUserOrganization:
    id: str
    display_name: str | None = None


@dataclass(frozen=True, slots=True)
class NangoEndUser:
    """The deprecated end user; `tags` keep their keys' case, unlike a connection's (Nango contract: Auth webhook)."""

    id: str
    display_name: str | None = None
    email: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    organization: EndUserOrganization | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedConnection:
    """One row of the list; `id` is Nango's numeric id, the connection's generation.

    Here and below a time is None where Nango sent none that can be read (`domain/timestamps.py`).
    """

    id: int
    integration: str
    connection_id: str
    provider: str
    errors: tuple[LoggedError, ...]
    end_user: NangoEndUser | None
    tags: Mapping[str, str]
    metadata: Mapping[str, object] | None = field(repr=False)
    created_at: datetime | None
    observed_at: datetime

    @property
    def auth_errors(self) -> bool:
        """Whether Nango keeps an auth error on the connection (Nango contract: List connections)."""
        return any(error.type == "auth" for error in self.errors)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableRow:
    """A row of the list in an unexpected form. `problem` names the place, never a value.

    The connection exists: an unreadable row is not an absent one. Its names are None where those are unreadable.
    """

    integration: str | None
    connection_id: str | None
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionPage:
    """`observed_at`: when the request was sent; the list comes from a replica and may lag behind it."""

    connections: tuple[ListedConnection, ...]
    unreadable: tuple[UnreadableRow, ...] = ()
    observed_at: datetime
    rate_limit: RateLimit | None

    @property
    def size(self) -> int:
        """Number of rows that Nango sent."""
        return len(self.connections) + len(self.unreadable)

    def may_hide(self, integration: str, connection_id: str) -> str | None:
        """The problem of an unreadable row that may be this connection; None where no row can be."""
        for row in self.unreadable:
            if row.integration in {None, integration} and row.connection_id in {None, connection_id}:
                return row.problem
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionDetail:
    """One connection. `times` are those of its token, also where the credentials themselves were dropped."""

    id: int
    integration: str
    connection_id: str
    provider: str
    errors: tuple[LoggedError, ...]
    end_user: NangoEndUser | None
    tags: Mapping[str, str]
    metadata: Mapping[str, object] | None = field(repr=False)
    connection_config: Mapping[str, object] = field(repr=False)
    webhook_url_override: str | None
    created_at: datetime | None
    updated_at: datetime | None
    last_fetched_at: datetime | None
    credentials: "Credentials"
    has_credentials: bool
    times: TokenTimes
    observed_at: datetime
    rate_limit: RateLimit | None

    @property
    def auth_errors(self) -> bool:
        return any(error.type == "auth" for error in self.errors)

    @property
    def expires_at(self) -> datetime | None:
        """The only expiry Nango exposes."""
        return self.times.expires_at


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectSession:
    """Its holder can connect in the end user's name until `expires_at`: no repr shows token or link."""

    token: str = field(repr=False)
    connect_link: str = field(repr=False)
    expires_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Integration:
    """`key` is Nango's unique_key, elsewhere called provider_config_key; `credentials` only where requested."""

    key: str
    provider: str
    display_name: str
    logo: str
    forward_webhooks: bool
    webhook_url: str | None
    credentials: Mapping[str, object] | None = field(repr=False)
    created_at: datetime | None
    updated_at: datetime | None
    observed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegrationList:
    integrations: tuple[Integration, ...]
    observed_at: datetime
    rate_limit: RateLimit | None

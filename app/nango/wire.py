"""The JSON of Nango's answers, translated into values. Fields not named here are ignored: Nango adds some at times."""

from datetime import datetime
from typing import Any, TypeVar

import msgspec

from app.domain.webhook_settings import WebhookSettings
from app.errors import NangoUnexpected
from app.nango.answers import Answer
from app.nango.credentials import NoCredentials
from app.nango.types import (
    ConnectionDetail,
    ConnectSession,
    EndUser,
    EndUserOrganization,
    Integration,
    ListedConnection,
    LoggedError,
    parse_timestamp,
)
from app.nango.wire_credentials import parse_credentials

T = TypeVar("T")


class WireError(msgspec.Struct):
    type: str
    log_id: str = ""


class WireOrganization(msgspec.Struct):
    id: str
    display_name: str | None = None


class WireEndUser(msgspec.Struct):
    id: str
    display_name: str | None = None
    email: str | None = None
    tags: dict[str, str] | None = None
    organization: WireOrganization | None = None


class WireRow(msgspec.Struct):
    """What the list and a single connection have in common."""

    id: int
    connection_id: str
    provider_config_key: str
    provider: str
    errors: list[WireError] = []
    end_user: WireEndUser | None = None
    tags: dict[str, str] | None = None
    metadata: dict[str, Any] | None = None


class WireListed(WireRow, kw_only=True):
    created: str


class WirePage(msgspec.Struct):
    connections: list[WireListed]


class WireDetail(WireRow, kw_only=True):
    created_at: str
    updated_at: str
    last_fetched_at: str | None = None
    connection_config: dict[str, Any] | None = None
    webhook_url_override: str | None = None
    credentials: dict[str, Any] = {}

    def __repr__(self) -> str:
        return "<WireDetail, secrets hidden>"


class WireIntegration(msgspec.Struct):
    unique_key: str
    provider: str
    created_at: str
    updated_at: str
    display_name: str | None = None
    logo: str | None = None
    forward_webhooks: bool | None = None
    webhook_url: str | None = None
    credentials: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return f"<WireIntegration {self.unique_key}, secrets hidden>"


class WireIntegrations(msgspec.Struct):
    data: list[WireIntegration]


class WireOneIntegration(msgspec.Struct):
    data: WireIntegration


class WireEnvironment(msgspec.Struct):
    """The members of `webhooks` that are known to be there; its switches are found by their names."""

    webhooks: dict[str, Any]

    def __repr__(self) -> str:
        return "<WireEnvironment, secrets hidden>"


class WireOneEnvironment(msgspec.Struct):
    data: WireEnvironment


class WireSession(msgspec.Struct):
    token: str
    connect_link: str
    expires_at: str

    def __repr__(self) -> str:
        return "<WireSession, secrets hidden>"


class WireOneSession(msgspec.Struct):
    data: WireSession


class WireSuccess(msgspec.Struct):
    success: bool


def decode(answer: Answer, shape: type[T]) -> T:
    """The body as `shape`. Raises NangoUnexpected with the place that does not fit, never with what stands there."""
    problem = ""
    try:
        return msgspec.json.decode(answer.body, type=shape)
    except msgspec.ValidationError as error:
        problem = str(error)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        problem = "the body is not JSON"
    # Raised out here: a chained cause would carry the body along.
    raise NangoUnexpected(status=answer.status, detail=problem)


def listed(row: WireListed, observed_at: datetime) -> ListedConnection:
    return ListedConnection(
        id=row.id,
        integration=row.provider_config_key,
        connection_id=row.connection_id,
        provider=row.provider,
        errors=_errors(row),
        end_user=_end_user(row.end_user),
        tags=row.tags or {},
        metadata=row.metadata,
        created_at=parse_timestamp(row.created, "created"),
        observed_at=observed_at,
    )


def detail(row: WireDetail, answer: Answer, *, credentials: bool = True) -> ConnectionDetail:
    fetched = row.last_fetched_at
    return ConnectionDetail(
        id=row.id,
        integration=row.provider_config_key,
        connection_id=row.connection_id,
        provider=row.provider,
        errors=_errors(row),
        end_user=_end_user(row.end_user),
        tags=row.tags or {},
        metadata=row.metadata,
        connection_config=row.connection_config or {},
        webhook_url_override=row.webhook_url_override,
        created_at=parse_timestamp(row.created_at, "created_at"),
        updated_at=parse_timestamp(row.updated_at, "updated_at"),
        last_fetched_at=parse_timestamp(fetched, "last_fetched_at") if fetched else None,
        credentials=parse_credentials(row.credentials) if credentials else NoCredentials(type=""),
        observed_at=answer.observed_at,
        rate_limit=answer.rate_limit,
    )


def integration(row: WireIntegration, observed_at: datetime) -> Integration:
    return Integration(
        key=row.unique_key,
        provider=row.provider,
        display_name=row.display_name or row.unique_key,
        logo=row.logo or "",
        forward_webhooks=bool(row.forward_webhooks),
        webhook_url=row.webhook_url,
        credentials=row.credentials,
        created_at=parse_timestamp(row.created_at, "created_at"),
        updated_at=parse_timestamp(row.updated_at, "updated_at"),
        observed_at=observed_at,
    )


def webhook_settings(row: WireEnvironment) -> WebhookSettings:
    webhooks = row.webhooks
    texts = {name: webhooks.get(name) for name in ("primary_url", "secondary_url", "signing_key")}
    return WebhookSettings(
        **{name: value if isinstance(value, str) and value else None for name, value in texts.items()},
        switches={name: value for name, value in webhooks.items() if name.startswith("on_") and value in {True, False}},
    )


def session(row: WireSession) -> ConnectSession:
    expires_at = parse_timestamp(row.expires_at, "expires_at")
    return ConnectSession(token=row.token, connect_link=row.connect_link, expires_at=expires_at)


def _errors(row: WireRow) -> tuple[LoggedError, ...]:
    return tuple(LoggedError(error.type, error.log_id) for error in row.errors)


def _end_user(user: WireEndUser | None) -> EndUser | None:
    if user is None:
        return None
    group = user.organization
    organization = EndUserOrganization(group.id, group.display_name) if group else None
    return EndUser(user.id, user.display_name, user.email, user.tags or {}, organization)

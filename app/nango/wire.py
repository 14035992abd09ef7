"""The JSON of Nango's answers, decoded into values. Unknown fields are ignored: Nango adds some at times."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, TypeVar

import msgspec

from app.domain.json_values import read_storable
from app.domain.refreshing.token_times import read_token_times
from app.domain.timestamps import read_moment
from app.domain.webhook_settings import WebhookSettings
from app.errors import NangoUnexpected
from app.nango.credentials import NoCredentials
from app.nango.response_errors import NangoAnswer
from app.nango.types import (
    ConnectionDetail,
    ConnectSession,
    EndUserOrganization,
    Integration,
    ListedConnection,
    LoggedError,
    NangoEndUser,
    UnreadableRow,
)
from app.nango.wire_credentials import parse_credentials

T = TypeVar("T")

Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]  # the range of a database column


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
    """Common members of a list's row and a single connection.

    Times are of any type; `read_moment` interprets them.
    """

    id: Int64
    connection_id: str
    provider_config_key: str
    provider: str
    errors: list[WireError] = []
    end_user: WireEndUser | None = None
    tags: dict[str, str] | None = None
    metadata: dict[str, Any] | None = None


class WireListed(WireRow, kw_only=True):
    created: Any = None


class WirePage(msgspec.Struct):
    connections: list[WireListed]


class WireAnyPage(msgspec.Struct):
    connections: list[Any]


class WireDetail(WireRow, kw_only=True):
    created_at: Any = None
    updated_at: Any = None
    last_fetched_at: Any = None
    connection_config: dict[str, Any] | None = None
    webhook_url_override: str | None = None
    credentials: dict[str, Any] = {}

    def __repr__(self) -> str:
        return "<WireDetail, secrets hidden>"


class WireIntegration(msgspec.Struct):
    unique_key: str
    provider: str
    created_at: Any = None
    updated_at: Any = None
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
    """The members of `webhooks` that are always there; switches are found by their names."""

    webhooks: dict[str, Any]

    def __repr__(self) -> str:
        return "<WireEnvironment, secrets hidden>"


class WireOneEnvironment(msgspec.Struct):
    data: WireEnvironment


class WireSession(msgspec.Struct):
    token: str
    connect_link: str
    expires_at: Any = None

    def __repr__(self) -> str:
        return "<WireSession, secrets hidden>"


class WireOneSession(msgspec.Struct):
    data: WireSession


class WireSuccess(msgspec.Struct):
    success: bool


def decode(answer: NangoAnswer, shape: type[T]) -> T:
    """The body as `shape`. Raises NangoUnexpected with the place that does not fit, never with its value."""
    problem = ""
    try:
        return _decode(answer.body, shape)
    except msgspec.ValidationError as error:
        problem = str(error)
    except (msgspec.DecodeError, ValueError, RecursionError):
        problem = "the body is not JSON"
    # Raised outside the handler: a chained cause would carry the body.
    raise NangoUnexpected(status=answer.status, detail=problem)


def rows_of_page(answer: NangoAnswer) -> tuple[Sequence[WireListed], Sequence[UnreadableRow]]:
    """The readable and the unreadable rows of a page of connections.

    Raises NangoUnexpected where the body is no page.
    """
    try:
        return _decode(answer.body, WirePage).connections, ()
    except (ValueError, RecursionError):
        pass  # the fault is found below, in a row or in the body
    readable: list[WireListed] = []
    unreadable: list[UnreadableRow] = []
    for sent in decode(answer, WireAnyPage).connections:
        try:
            readable.append(msgspec.convert(sent, WireListed))
        except msgspec.ValidationError as error:
            unreadable.append(
                UnreadableRow(
                    integration=_name(sent, "provider_config_key"),
                    connection_id=_name(sent, "connection_id"),
                    problem=str(error),
                )
            )
    return readable, unreadable


def _decode(body: bytes, shape: type[T]) -> T:
    """Raises ValidationError, another ValueError, or RecursionError."""
    if b"\\u" in body:  # an escape may be a character that no database stores, and msgspec refuses lone surrogates
        return msgspec.convert(read_storable(body), shape)
    return msgspec.json.decode(body, type=shape)


def _name(row: object, member: str) -> str | None:
    value = row.get(member) if isinstance(row, dict) else None
    return value if isinstance(value, str) else None


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
        created_at=read_moment(row.created),
        observed_at=observed_at,
    )


def detail(row: WireDetail, answer: NangoAnswer, *, credentials: bool = True) -> ConnectionDetail:
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
        created_at=read_moment(row.created_at),
        updated_at=read_moment(row.updated_at),
        last_fetched_at=read_moment(row.last_fetched_at),
        credentials=parse_credentials(row.credentials) if credentials else NoCredentials(type=""),
        has_credentials=row.credentials.get("type", "") not in ("", "NONE"),
        times=read_token_times(row.credentials),
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
        created_at=read_moment(row.created_at),
        updated_at=read_moment(row.updated_at),
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
    return ConnectSession(token=row.token, connect_link=row.connect_link, expires_at=read_moment(row.expires_at))


def _errors(row: WireRow) -> tuple[LoggedError, ...]:
    return tuple(LoggedError(error.type, error.log_id) for error in row.errors)


def _end_user(user: WireEndUser | None) -> NangoEndUser | None:
    if user is None:
        return None
    group = user.organization
    organization = EndUserOrganization(group.id, group.display_name) if group else None
    return NangoEndUser(user.id, user.display_name, user.email, user.tags or {}, organization)

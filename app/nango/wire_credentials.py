"""The credentials in Nango's answers, decoded by their `type` (Nango contract: Credential types)."""

from collections.abc import Callable
from datetime import datetime
from typing import Final

from app.domain.json_values import JsonObject
from app.domain.timestamps import read_moment
from app.errors import NangoUnexpected
from app.nango.credentials import (
    ApiKeyCredentials,
    AppCredentials,
    AwsCredentials,
    BasicCredentials,
    BillCredentials,
    ClientCredentials,
    Credentials,
    CustomCredentials,
    NoCredentials,
    OAuth1Credentials,
    OAuth2Credentials,
    SignatureCredentials,
    TbaCredentials,
    TokenCredentials,
)


def parse_credentials(sent: JsonObject) -> Credentials:
    """The `credentials` of a connection. Raises NangoUnexpected, which names the field and never a value."""
    mode = sent.get("type", "")
    if not isinstance(mode, str):
        raise NangoUnexpected(detail="credentials have no readable type")
    if not mode or mode == "NONE":
        return NoCredentials(type=mode, expires_at=_expiry(sent))
    return _READERS.get(mode, _token)(mode, sent)


def _oauth2(mode: str, sent: JsonObject) -> Credentials:
    return OAuth2Credentials(
        type=mode,
        expires_at=_expiry(sent),
        access_token=_text(sent, "access_token"),
        refresh_token=_optional(sent, "refresh_token"),
        config_override=_object(sent, "config_override"),
        raw=_object(sent, "raw"),
    )


def _client_credentials(mode: str, sent: JsonObject) -> Credentials:
    return ClientCredentials(
        type=mode,
        expires_at=_expiry(sent),
        token=_text(sent, "token"),
        client_id=_text(sent, "client_id"),
        client_secret=_text(sent, "client_secret"),
        client_certificate=_optional(sent, "client_certificate"),
        client_private_key=_optional(sent, "client_private_key"),
        raw=_object(sent, "raw"),
    )


def _oauth1(mode: str, sent: JsonObject) -> Credentials:
    return OAuth1Credentials(
        type=mode,
        expires_at=_expiry(sent),
        oauth_token=_text(sent, "oauth_token"),
        oauth_token_secret=_text(sent, "oauth_token_secret"),
        raw=_object(sent, "raw"),
    )


def _api_key(mode: str, sent: JsonObject) -> Credentials:
    return ApiKeyCredentials(type=mode, expires_at=_expiry(sent), api_key=_text(sent, "apiKey"))


def _basic(mode: str, sent: JsonObject) -> Credentials:
    return BasicCredentials(
        type=mode,
        expires_at=_expiry(sent),
        username=_optional(sent, "username") or "",
        password=_optional(sent, "password") or "",
    )


def _tba(mode: str, sent: JsonObject) -> Credentials:
    return TbaCredentials(
        type=mode,
        expires_at=_expiry(sent),
        token_id=_text(sent, "token_id"),
        token_secret=_text(sent, "token_secret"),
        config_override=_object(sent, "config_override"),
    )


def _app(mode: str, sent: JsonObject) -> Credentials:
    return AppCredentials(
        type=mode,
        expires_at=_expiry(sent),
        access_token=_text(sent, "access_token"),
        jwt_token=_optional(sent, "jwtToken"),
        raw=_object(sent, "raw"),
    )


def _custom(mode: str, sent: JsonObject) -> Credentials:
    app, user = _object(sent, "app"), _object(sent, "user")
    return CustomCredentials(
        type=mode,
        expires_at=_expiry(sent),
        app=parse_credentials(app) if app else None,
        user=parse_credentials(user) if user else None,
        raw=_object(sent, "raw"),
    )


def _aws(mode: str, sent: JsonObject) -> Credentials:
    return AwsCredentials(
        type=mode,
        expires_at=_expiry(sent),
        role_arn=_text(sent, "role_arn"),
        region=_text(sent, "region"),
        service=_text(sent, "service"),
        access_key_id=_text(sent, "access_key_id"),
        secret_access_key=_text(sent, "secret_access_key"),
        session_token=_text(sent, "session_token"),
        external_id=_optional(sent, "external_id"),
        raw=_object(sent, "raw"),
    )


def _bill(mode: str, sent: JsonObject) -> Credentials:
    return BillCredentials(
        type=mode,
        expires_at=_expiry(sent),
        username=_text(sent, "username"),
        password=_text(sent, "password"),
        organization_id=_text(sent, "organization_id"),
        dev_key=_text(sent, "dev_key"),
        session_id=_optional(sent, "session_id"),
        user_id=_optional(sent, "user_id"),
        raw=_object(sent, "raw"),
    )


def _signature(mode: str, sent: JsonObject) -> Credentials:
    return SignatureCredentials(
        type=mode,
        expires_at=_expiry(sent),
        username=_text(sent, "username"),
        password=_text(sent, "password"),
        token=_optional(sent, "token"),
    )


def _token(mode: str, sent: JsonObject) -> Credentials:
    # Some providers send a structure as token; only a string is taken, everything else stays in the fields.
    named = {"token", "refresh_token"} & {name for name, value in sent.items() if isinstance(value, str)}
    named |= {"raw"} & {name for name, value in sent.items() if isinstance(value, dict)}
    return TokenCredentials(
        type=mode,
        expires_at=_expiry(sent),
        token=_optional(sent, "token"),
        refresh_token=_optional(sent, "refresh_token"),
        fields={name: value for name, value in sent.items() if name not in named | {"type", "expires_at"}},
        raw=_object(sent, "raw"),
    )


_READERS: Final[dict[str, Callable[[str, JsonObject], Credentials]]] = {
    "OAUTH2": _oauth2,
    "OAUTH2_CC": _client_credentials,
    "OAUTH1": _oauth1,
    "API_KEY": _api_key,
    "BASIC": _basic,
    "INSTALL_PLUGIN": _basic,
    "TBA": _tba,
    "APP": _app,
    "CUSTOM": _custom,
    "AWS_SIGV4": _aws,
    "BILL": _bill,
    "SIGNATURE": _signature,
}


def _text(sent: JsonObject, name: str) -> str:
    value = sent.get(name)
    if not isinstance(value, str):
        raise NangoUnexpected(detail=f"{sent.get('type')} credentials without {name}")
    return value


def _optional(sent: JsonObject, name: str) -> str | None:
    value = sent.get(name)
    return value if isinstance(value, str) else None


def _object(sent: JsonObject, name: str) -> JsonObject:
    value = sent.get(name)
    return value if isinstance(value, dict) else {}


def _expiry(sent: JsonObject) -> datetime | None:
    """The expiry, which any type may have; None when absent (Nango contract: Credential types)."""
    return read_moment(sent.get("expires_at"))

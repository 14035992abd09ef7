"""Credentials of a connection, typed by `credentials.type` (Nango contract: Credential types).

Only callers with the scope get them. No repr shows anything but type and expiry.
"""

from dataclasses import dataclass, field
from datetime import datetime

from app.domain.json_values import JsonObject


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class Credentials:
    """`type` as Nango names it, empty where there is none; `expires_at` is None where Nango knows no expiry.

    raw: the provider's own answer, where Nango keeps one, else empty.
    """

    type: str
    expires_at: datetime | None = None
    raw: JsonObject = field(default_factory=dict)

    def __repr__(self) -> str:
        expiry = f", expires_at={self.expires_at.isoformat()}" if self.expires_at else ""
        return f"<{type(self).__name__} {self.type or 'none'}{expiry}, secrets hidden>"


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class NoCredentials(Credentials):
    """Auth mode NONE, or an API key without the scope read_credentials: Nango sends `{}` for both."""


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class OAuth2Credentials(Credentials):
    """`refresh_token` only where it was requested; Nango strips it from `raw` as well."""

    access_token: str
    refresh_token: str | None
    config_override: JsonObject


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class ClientCredentials(Credentials):
    """Credentials of type OAUTH2_CC."""

    token: str
    client_id: str
    client_secret: str
    client_certificate: str | None
    client_private_key: str | None


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class OAuth1Credentials(Credentials):
    oauth_token: str
    oauth_token_secret: str


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class ApiKeyCredentials(Credentials):
    api_key: str


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class BasicCredentials(Credentials):
    """Either part may be empty; providers put API keys into both."""

    username: str
    password: str


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class TbaCredentials(Credentials):
    token_id: str
    token_secret: str
    config_override: JsonObject


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class AppCredentials(Credentials):
    access_token: str
    jwt_token: str | None


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class CustomCredentials(Credentials):
    """`app` and `user` for GitHub App OAuth, else None."""

    app: Credentials | None
    user: Credentials | None


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class AwsCredentials(Credentials):
    role_arn: str
    region: str
    service: str
    access_key_id: str
    secret_access_key: str
    session_token: str
    external_id: str | None


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class BillCredentials(Credentials):
    """`session_id`: the short-lived token, None while there is none."""

    username: str
    password: str
    organization_id: str
    dev_key: str
    session_id: str | None
    user_id: str | None


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class SignatureCredentials(Credentials):
    """`token`: the short-lived token, None while there is none."""

    username: str
    password: str
    token: str | None


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class TokenCredentials(Credentials):
    """JWT, TWO_STEP and every unknown type; `fields` has the provider's own members.

    token: the short-lived token, None while there is none.
    """

    token: str | None
    refresh_token: str | None
    fields: JsonObject

"""Credentials of the sandbox: fake, long and random (Nango contract: Credential types).

Every token starts with `sandbox-`, so a search for a leak finds them and no scanner takes them for real ones.
"""

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from app.sandbox.serialization import iso_z

# By refreshable type, the member with the token that a refresh replaces (Nango contract: Credential types).
_TOKEN_FIELDS: Final = {
    "OAUTH2": "access_token",
    "OAUTH2_CC": "token",
    "APP": "access_token",
    "JWT": "token",
    "BILL": "session_id",
    "TWO_STEP": "token",
    "SIGNATURE": "token",
    "AWS_SIGV4": "session_token",
}
_STATIC_FIELDS: Final = {
    "API_KEY": ("apiKey",),
    "BASIC": ("username", "password"),
    "INSTALL_PLUGIN": ("username", "password"),
    "TBA": ("token_id", "token_secret"),
    "OAUTH1": ("oauth_token", "oauth_token_secret"),
    "OAUTH2_CC": ("client_id", "client_secret"),
    "BILL": ("username", "password", "organization_id", "dev_key"),
    "SIGNATURE": ("username", "password"),
    "AWS_SIGV4": ("role_arn", "region", "service", "access_key_id", "secret_access_key"),
}
_RAW: Final = {"OAUTH2", "OAUTH2_CC", "OAUTH1", "APP", "CUSTOM", "BILL", "TWO_STEP", "AWS_SIGV4"}


def token(kind: str) -> str:
    return f"sandbox-{kind}-{secrets.token_hex(32)}"


def mint(
    auth_mode: str,
    *,
    now: datetime,
    lifetime: float | None,
    given: Mapping[str, Any] | None = None,
    refreshable: bool = True,
    kept_refresh_token: str | None = None,
) -> dict[str, Any]:
    """New credentials of one type. Members of `given` are kept; a lifetime of None makes a token without expiry.

    kept_refresh_token: one that a renewal does not replace.
    """
    if auth_mode == "NONE":
        return {}
    given = given or {}
    credentials: dict[str, Any] = {"type": auth_mode}
    for field in _STATIC_FIELDS.get(auth_mode, ()):
        credentials[field] = given.get(field) or token(field.lower().replace("_", "-"))
    raw: dict[str, Any] = {}
    if auth_mode in _TOKEN_FIELDS:
        renewed = token("access-token")
        credentials[_TOKEN_FIELDS[auth_mode]] = renewed
        raw.update(access_token=renewed, token_type="bearer")  # noqa: S106  # a kind of token, not one
        if refreshable and auth_mode == "OAUTH2":
            credentials["refresh_token"] = raw["refresh_token"] = kept_refresh_token or token("refresh-token")
        if lifetime is not None:
            raw["expires_in"] = int(lifetime)
            credentials["expires_at"] = raw["expires_at"] = iso_z(now + timedelta(seconds=lifetime))
    if auth_mode in _RAW:
        credentials["raw"] = raw
    return credentials


def with_expiry(credentials: Mapping[str, Any], expires_at: datetime | None) -> dict[str, Any]:
    """The same credentials with another expiry, None for none at all."""
    changed = {name: value for name, value in credentials.items() if name != "expires_at"}
    if expires_at is not None:
        changed["expires_at"] = iso_z(expires_at)
    if isinstance(raw := changed.get("raw"), Mapping):
        changed["raw"] = with_expiry(raw, expires_at)
    return changed


def expires_at(credentials: Mapping[str, Any]) -> datetime | None:
    """The expiry; None also for text that is no timestamp, which imports may have."""
    try:
        moment = datetime.fromisoformat(str(credentials["expires_at"]))
    except (KeyError, ValueError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def can_refresh(credentials: Mapping[str, Any]) -> bool:
    """Whether Nango refreshes them. OAUTH2 without a refresh token never is, not even when forced, without an error.

    (Nango contract: When a token is refreshed)
    """
    mode = credentials.get("type")
    return mode in _TOKEN_FIELDS and (mode != "OAUTH2" or bool(credentials.get("refresh_token")))


def without_refresh_tokens(value: Any) -> Any:
    """The value without members named `refresh_token`, `refreshToken` and the like, at every depth.

    When a refresh token expires is no such member (Nango contract: Credential types).
    """
    if isinstance(value, Mapping):
        return {name: without_refresh_tokens(inner) for name, inner in value.items() if not _names_refresh_token(name)}
    if isinstance(value, list):
        return [without_refresh_tokens(inner) for inner in value]
    return value


def _names_refresh_token(name: str) -> bool:
    letters = (letter for letter in name.lower() if "a" <= letter <= "z")
    return "".join(letters) == "refreshtoken"

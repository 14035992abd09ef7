"""Settings of operators' access: the console's address, sessions, and single sign-on by OpenID Connect."""

from datetime import timedelta
from pathlib import Path
from typing import Final

from pydantic import Field, SecretStr, field_validator

from app.config.settings_groups import WebSettings, read_duration

SHORTEST_SESSION: Final = timedelta(minutes=5)
LONGEST_SESSION: Final = timedelta(days=365)
ORIGIN: Final = r"^https?://[^\s/?#@]+/?$"


class ConsoleSettings(WebSettings):
    """The console's address."""

    console_url: str | None = Field(
        None,
        pattern=ORIGIN,
        description="Where operators reach the console: links to it begin so. With `https://`, its cookies are sent "
        "over TLS only. Unset: the address of the web process.",
        examples=["https://waylink.internal"],
    )


class OperatorSettings(ConsoleSettings):
    """Sessions, and single sign-on."""

    session_idle: timedelta = Field(
        timedelta(hours=12),
        description="How long an operator stays signed in without doing anything, from `5m` on.",
        examples=["2h"],
    )
    session_life: timedelta = Field(
        timedelta(days=7), description="How long an operator stays signed in at most, from `5m` on.", examples=["24h"]
    )
    oidc_issuer: str | None = Field(
        None,
        pattern=r"^https?://[^\s?#]+$",
        description="The OpenID Connect provider at which operators sign in, by its issuer's URL: `https://`, or "
        "`http://` on loopback. Unset: no single sign-on.",
        examples=["https://login.example/realms/acme"],
    )
    oidc_client_id: str | None = Field(None, description="Waylink's client id at the provider.", examples=["waylink"])
    oidc_client_secret: SecretStr | None = Field(
        None, description="The client's secret at the provider.", examples=["…"]
    )
    oidc_client_secret_file: Path | None = Field(
        None,
        description="File that holds the client's secret instead; read at the start.",
        examples=["/run/secrets/waylink_oidc"],
    )
    oidc_ca_file: Path | None = Field(
        None,
        description="PEM file of authorities whose certificates the provider may have, beside the public ones.",
        examples=["/etc/waylink/internal-ca.pem"],
    )
    oidc_scopes: str = Field(
        "openid profile email",
        description="The scopes that are asked for, separated by blanks. `openid` is always among them.",
        examples=["openid profile email groups"],
    )
    oidc_groups_claim: str = Field(
        "groups",
        min_length=1,
        description="The claim of the ID token, or of the userinfo endpoint's answer, that lists a person's groups. "
        "`[[operators.groups]]` says what they may do.",
        examples=["roles"],
    )

    @field_validator("session_idle", "session_life", mode="before")
    @classmethod
    def _spans(cls, value: object) -> object:
        return read_duration(value)

    @field_validator("session_idle", "session_life")
    @classmethod
    def _bounded(cls, value: timedelta) -> timedelta:
        if not SHORTEST_SESSION <= value <= LONGEST_SESSION:
            raise ValueError("from 5m to 365d")
        return value

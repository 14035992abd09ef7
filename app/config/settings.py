"""All settings: one field per `WAYLINK_*` variable, completed by waylink.toml and the sandbox.

`app.config.loading.load` makes them, at the edges only; everything else takes values.
"""

from datetime import timedelta
from typing import Final

from pydantic import Field, PrivateAttr, SecretStr, field_validator

from app.config.nango import NangoSettings
from app.config.operator_settings import OperatorSettings
from app.config.settings_groups import LogSettings, SealingSettings, read_duration

SHORTEST_CANARY: Final = timedelta(seconds=5)
SHORTEST_RETENTION: Final = timedelta(days=1)


class Settings(OperatorSettings, LogSettings, SealingSettings, NangoSettings):
    """All variables, completed by waylink.toml and the sandbox."""

    web_processes: int = Field(
        1, ge=1, le=64, description="How many processes serve the web side, on one port.", examples=["2"]
    )
    public_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s/]+(/[^\s?#]*)?$",
        description="Where Nango reaches Waylink, without the path of the webhooks. `waylink check` compares it with "
        "the webhook URL at Nango.",
        examples=["https://waylink.example"],
    )
    allowed_hosts: str = Field(
        "",
        description="Host names the API and the console are served under, comma separated, beside loopback, "
        "WAYLINK_HOST and that of WAYLINK_CONSOLE_URL. `*` allows any.",
        examples=["waylink.example,waylink.internal"],
    )
    open_metrics: bool = Field(
        False,
        description="Serve `/metrics` without a token to requests from this machine. Not where a proxy on this machine "
        "passes strangers' requests on.",
        examples=["true"],
    )
    metrics_address: str | None = Field(
        None,
        description="Host and port on which `/metrics` is served without a token, to everybody who reaches it. A port "
        "alone is of loopback.",
        examples=["10.0.0.5:9464"],
    )
    dedupe_window_seconds: float = Field(
        150.0,
        ge=0,
        le=3600,
        description="Identical bytes within this many seconds of the first receipt are one event.",
        examples=["150"],
    )
    body_limit_bytes: int = Field(
        4 * 1024 * 1024,
        ge=1024,
        le=64 * 1024 * 1024,
        description="Largest webhook body taken; a larger one is answered 413.",
        examples=["4194304"],
    )
    keep_events: timedelta = Field(
        timedelta(days=30),
        description="How long an event and its jobs are kept, from its receipt and from the end of the last of them, "
        "such as `90d`; `0` keeps them for ever. An event with an unfinished job never goes.",
        examples=["90d"],
    )
    keep_refreshes: timedelta = Field(
        timedelta(days=30),
        description="How long a refresh is kept, from its end; `0` keeps them for ever. One that found a grant to be "
        "dead stays for a year at least.",
        examples=["90d"],
    )
    keep_audit: timedelta = Field(
        timedelta(days=365), description="How long the audit is kept; `0` keeps it for ever.", examples=["730d"]
    )
    canary_every: timedelta = Field(
        timedelta(seconds=15),
        description="How often an event of Waylink's own goes the whole way, to show that webhooks are stored, "
        "processed and delivered; `0` sends none.",
        examples=["30s"],
    )
    traces: bool = Field(
        False,
        description="Send [traces](traces.md) to an OpenTelemetry collector, which the standard variables "
        "`OTEL_EXPORTER_OTLP_…` name. Needs the extra `traces`.",
        examples=["true"],
    )
    celery_monitoring: bool = Field(
        False,
        description="Let Flower and other monitors of Celery see the workers: remote control, heartbeats and, while a "
        "monitor asks for them, events of tasks.",
        examples=["true"],
    )
    sandbox_port: int = Field(
        3003, ge=1, le=65535, description="Port of the sandbox that `waylink up` starts.", examples=["3003"]
    )

    # A private attribute, so that no variable can set it.
    _directory_url: SecretStr | None = PrivateAttr(default=None)

    @field_validator("metrics_address")
    @classmethod
    def _metrics_address(cls, value: str | None) -> str | None:
        if value is not None:
            read_address(value)
        return value

    @property
    def metrics_listen(self) -> tuple[str, int] | None:
        """Host and port of the metrics' own address."""
        return None if self.metrics_address is None else read_address(self.metrics_address)

    @field_validator("keep_events", "keep_refreshes", "keep_audit", "canary_every", mode="before")
    @classmethod
    def _kept(cls, value: object) -> object:
        return read_duration(value)

    @field_validator("keep_events", "keep_refreshes", "keep_audit")
    @classmethod
    def _not_too_short(cls, value: timedelta) -> timedelta:
        if value and value < SHORTEST_RETENTION:
            raise ValueError("at least 1d, or 0 to keep everything")
        return value

    @field_validator("canary_every")
    @classmethod
    def _not_too_often(cls, value: timedelta) -> timedelta:
        if value and value < SHORTEST_CANARY:
            raise ValueError("at least 5s, or 0 to send none")
        return value

    @property
    def uses_sandbox(self) -> bool:
        """Whether no API key and no signing keys are configured, so that `waylink up` starts the sandbox."""
        return self.nango_api_key is None and self.nango_signing_keys is None and not self.file.environments

    @property
    def directory_url(self) -> SecretStr | None:
        """SQLAlchemy URL of the application's own database; None unless the directory policy is `sql`."""
        return self._directory_url

    def complete_with_directory(self, url: SecretStr | None) -> None:
        """Add the directory's URL; called once, by the loader."""
        self._directory_url = url


def read_address(value: str) -> tuple[str, int]:
    """Host and port of `host:port`, `[::1]:port` or a port alone, which is of loopback. Raises ValueError."""
    host, _, port = value.strip().rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535):
        raise ValueError("a host and a port, such as 127.0.0.1:9464")
    if ":" in host and not value.strip().startswith("["):
        raise ValueError("an IPv6 address in brackets, such as [::1]:9464")
    return host or "127.0.0.1", int(port)

"""Settings: one field per `WAYLINK_*` variable, with what waylink.toml and the sandbox add to them.

`app.configuration.load` makes them, at the edges only; everything else takes values.
"""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final, Literal

from pydantic import Field, PrivateAttr, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.broker_tls import verified
from app.config_file import UUID_PATTERN, ConfigFile, duration
from app.domain.addresses import Network, read_networks
from app.domain.linking import DirectoryPolicy, OwnerChangePolicy
from app.embedded import broker_url as embedded_broker_url
from app.environments import Environment
from app.forward_proxy import DIRECT, SCHEMES
from app.given import GivenSecrets
from app.plain_text import misfit, misfit_in_url, unwrapped
from app.sealing import read_keys

DEFAULT_BASE_URL: Final = "https://api.nango.dev"
SHORTEST_RETENTION: Final = timedelta(days=1)
SHORTEST_PERIOD: Final = timedelta(minutes=5)  # between two reconciliations


class Settings(BaseSettings):
    """One field per `WAYLINK_*` variable; `description` is the help text shown in docs/settings.md."""

    # An empty variable is an unset one: compose files and unit files pass on what was never given.
    model_config = SettingsConfigDict(
        env_prefix="WAYLINK_", env_ignore_empty=True, frozen=True, extra="ignore", hide_input_in_errors=True
    )

    database_url: SecretStr | None = Field(
        None,
        description="Where events, connections and jobs are stored. Unset: SQLite in the data folder.",
        examples=["postgresql://waylink:…@db.example/waylink"],
    )
    broker_url: SecretStr | None = Field(
        None,
        description="The internal Celery broker (a Redis database of its own). Unset: a bundled Valkey.",
        examples=["redis://redis.example:6379/0"],
    )
    team_broker_url: SecretStr | None = Field(
        None,
        description="Where Celery destinations take their jobs; never the internal database. "
        "Unset: database 1 of the same server.",
        examples=["redis://redis.example:6379/1"],
    )
    broker_ca_file: Path | None = Field(
        None,
        description="PEM file of the authority that certificates of `rediss://` brokers are verified by. Unset: the "
        "public ones.",
        examples=["/etc/waylink/internal-ca.pem"],
    )
    data_dir: Path = Field(
        Path(".waylink"),
        description="The data folder of the embedded default: SQLite file, Valkey's files, sandbox keys.",
        examples=["/var/lib/waylink"],
    )
    host: str = Field("127.0.0.1", description="Address the web process listens on.", examples=["0.0.0.0"])  # noqa: S104
    port: int = Field(8080, ge=1, le=65535, description="Port the web process listens on.", examples=["8080"])
    web_processes: int = Field(
        1, ge=1, le=64, description="How many processes serve the web side, on one port.", examples=["2"]
    )
    config: Path | None = Field(
        None,
        description="The configuration file. Unset: waylink.toml in the working folder, if there is one.",
        examples=["/etc/waylink/waylink.toml"],
    )
    nango_api_key: SecretStr | None = Field(
        None,
        description="API key of the environment `default`. Without it nothing is confirmed or refreshed.",
        examples=["the key from Nango's environment settings"],
    )
    nango_signing_keys: SecretStr | None = Field(
        None,
        description="Live webhook signing keys of the environment `default`, comma separated, newest first.",
        examples=["new-key,old-key"],
    )
    nango_base_url: str = Field(
        DEFAULT_BASE_URL,
        pattern=r"^https?://[^\s/]+(:\d+)?(/\S*)?$",
        description="Nango's API origin for the environment `default`.",
        examples=[DEFAULT_BASE_URL],
    )
    nango_account_key: SecretStr | None = Field(
        None,
        description="Account API key of Nango, by which `waylink check` looks at the webhook settings of the "
        "environment `default`; scopes account:environments:read and :read_secret.",
        examples=["an account API key"],
    )
    nango_environment_id: str | None = Field(
        None,
        pattern=UUID_PATTERN,
        description="UUID that the environment `default` has at Nango, for WAYLINK_NANGO_ACCOUNT_KEY.",
        examples=["00000000-0000-4000-8000-000000000001"],
    )
    nango_proxy: SecretStr | None = Field(
        None,
        description="Forward proxy (`http://` or `https://`) for calls to Nango; `none` for none. Unset: what "
        "HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY of the environment say. Teams' endpoints and brokers are "
        "never reached through one.",
        examples=["http://proxy.internal:3128"],
    )
    public_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s/]+(/[^\s?#]*)?$",
        description="Where Nango reaches Waylink, without the path of the webhooks. `waylink check` compares it with "
        "the webhook URL at Nango.",
        examples=["https://waylink.example"],
    )
    nango_both_urls: bool = Field(
        False,
        description="Both webhook URLs of Nango's environment settings lead here, for the environment `default`: "
        "identical bytes are one event, whatever their type.",
        examples=["true"],
    )
    allowed_hosts: str = Field(
        "",
        description="Host names the API is served under, comma separated, beside loopback and WAYLINK_HOST. "
        "`*` allows any.",
        examples=["waylink.example,waylink.internal"],
    )
    open_metrics: bool = Field(
        False,
        description="Serve `/metrics` without a token to requests from this machine. Not where a proxy on this machine "
        "passes strangers' requests on.",
        examples=["true"],
    )
    nango_requests_per_minute: int = Field(
        200,
        ge=1,
        le=10_000_000,
        description="The rate limit of a Nango account, until one of Nango's answers has told it.",
        examples=["2000"],
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
    directory_policy: DirectoryPolicy = Field(
        DirectoryPolicy.CREATE,
        description="`create` makes users and organizations that tags name; `require` waits until they exist; "
        "`sql` asks your application's database (`[directory.sql]`).",
        examples=["require"],
    )
    owner_change_policy: OwnerChangePolicy = Field(
        OwnerChangePolicy.REASSIGN,
        description="A confirmed different owner: `reassign` moves the link, `hold` waits for an operator.",
        examples=["hold"],
    )
    reconcile_every: timedelta = Field(
        timedelta(hours=1),
        description="How often Nango's list of connections is compared with ours, such as `15m`; `0` turns it off. "
        "2,000 connections cost a call.",
        examples=["15m"],
    )
    secret_key: SecretStr | None = Field(
        None,
        description="Encrypts signing secrets and teams' broker URLs in the database: keys, comma separated, newest "
        "first. Unset: made once in the data folder, as long as the database is there.",
        examples=["new-key,old-key"],
    )
    secret_key_file: Path | None = Field(
        None,
        description="File that holds the keys instead; a change is noticed without a restart.",
        examples=["/run/secrets/waylink_secret_key"],
    )
    allowed_destination_ranges: str = Field(
        "",
        description="Networks, comma separated, in which destinations may be, though they are private, loopback or "
        "reserved. A cloud's metadata service has to be named by its own address.",
        examples=["10.20.0.0/16,fd12:3456::/32"],
    )
    destination_ca_file: Path | None = Field(
        None,
        description="PEM file of authorities whose certificates HTTP destinations may have, beside the public ones.",
        examples=["/etc/waylink/internal-ca.pem"],
    )
    keep_events: timedelta = Field(
        timedelta(days=30),
        description="How long events are kept, with their decisions and jobs, and jobs after their end, such as `90d`; "
        "`0` keeps them for ever. Unfinished jobs never go.",
        examples=["90d"],
    )
    keep_audit: timedelta = Field(
        timedelta(days=365), description="How long the audit is kept; `0` keeps it for ever.", examples=["730d"]
    )
    log_format: Literal["auto", "console", "json"] = Field(
        "auto", description="`json` lines, `console` text, or `auto`: text on a terminal.", examples=["json"]
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe level that is logged.", examples=["debug"]
    )
    sandbox_port: int = Field(
        3003, ge=1, le=65535, description="Port of the sandbox that `waylink up` starts.", examples=["3003"]
    )

    # Private, so that no variable can fill them: `complete` does.
    _file: ConfigFile = PrivateAttr(default_factory=ConfigFile)
    _file_path: Path | None = PrivateAttr(default=None)
    _environments: Mapping[str, Environment] = PrivateAttr(default_factory=dict)
    _directory_url: SecretStr | None = PrivateAttr(default=None)
    _destination_secrets: GivenSecrets = PrivateAttr(default_factory=dict)

    @field_validator("*", mode="before")
    @classmethod
    def _without_wrapping(cls, value: object, info: ValidationInfo) -> object:
        """A variable as it was meant: env files keep quotes, and copies bring blanks and line ends along."""
        if not isinstance(value, str):
            return value
        text = unwrapped(value)
        return text if text or info.field_name is None else cls.model_fields[info.field_name].default

    @field_validator("database_url", "broker_url", "team_broker_url")
    @classmethod
    def _url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and (wrong := misfit_in_url(value.get_secret_value())):
            raise ValueError(wrong)
        return value

    @field_validator("nango_proxy")
    @classmethod
    def _proxy(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        text = value.get_secret_value()
        if wrong := misfit_in_url(text):
            raise ValueError(wrong)
        if text != DIRECT and not text.startswith(tuple(f"{scheme}://" for scheme in SCHEMES)):
            raise ValueError("has to start with http:// or https://, or be `none`")
        return value

    @field_validator("nango_api_key", "nango_account_key")
    @classmethod
    def _key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and (wrong := misfit(value.get_secret_value())):
            raise ValueError(wrong)
        return value

    @field_validator("reconcile_every", "keep_events", "keep_audit", mode="before")
    @classmethod
    def _duration(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return timedelta(0) if value.strip() == "0" else duration(value)

    @field_validator("reconcile_every")
    @classmethod
    def _not_too_often(cls, value: timedelta) -> timedelta:
        if value and value < SHORTEST_PERIOD:
            raise ValueError("at least 5m, or 0: connections younger than five minutes are left to their webhook")
        return value

    @field_validator("secret_key")
    @classmethod
    def _keys(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            read_keys(value.get_secret_value())
        return value

    @field_validator("allowed_destination_ranges")
    @classmethod
    def _networks(cls, value: str) -> str:
        read_networks(value)
        return value

    @field_validator("keep_events", "keep_audit")
    @classmethod
    def _not_too_short(cls, value: timedelta) -> timedelta:
        if value and value < SHORTEST_RETENTION:
            raise ValueError("at least 1d, or 0 to keep everything")
        return value

    @property
    def file(self) -> ConfigFile:
        """What `waylink.toml` says; empty without one."""
        return self._file

    @property
    def file_path(self) -> Path | None:
        """The `waylink.toml` that was read; None where there is none."""
        return self._file_path

    @property
    def environments(self) -> Mapping[str, Environment]:
        """Every Nango environment, by name."""
        return self._environments

    @property
    def directory_url(self) -> SecretStr | None:
        """SQLAlchemy URL of the application's own database; None unless the directory policy is `sql`."""
        return self._directory_url

    @property
    def destination_secrets(self) -> GivenSecrets:
        """The secrets that waylink.toml names for its destinations, by team and name."""
        return self._destination_secrets

    @property
    def database(self) -> str:
        """SQLAlchemy URL, with the driver named."""
        if self.database_url is None:
            return f"sqlite:///{(self.data_dir / 'waylink.db').resolve()}"
        url = self.database_url.get_secret_value()
        scheme, _, rest = url.partition("://")
        return f"postgresql+psycopg://{rest}" if scheme in {"postgresql", "postgres"} else url

    @property
    def broker(self) -> str:
        """kombu URL of the internal broker."""
        if self.broker_url is None:
            return embedded_broker_url(self.data_dir, 0)
        return verified(self.broker_url.get_secret_value(), self.broker_ca_file)

    @property
    def team_broker(self) -> str:
        """kombu URL of the teams' default broker."""
        if self.team_broker_url is not None:
            return verified(self.team_broker_url.get_secret_value(), self.broker_ca_file)
        if self.broker_url is None:
            return embedded_broker_url(self.data_dir, 1)
        return verified(_database_one(self.broker_url.get_secret_value()), self.broker_ca_file)

    @property
    def destination_ranges(self) -> tuple[Network, ...]:
        """The networks that the operator opened for destinations."""
        return read_networks(self.allowed_destination_ranges)

    @property
    def uses_sandbox(self) -> bool:
        """Neither API key nor signing keys are given anywhere: `waylink up` brings its own Nango."""
        return self.nango_api_key is None and self.nango_signing_keys is None and not self.file.environments

    def complete(
        self,
        file: ConfigFile,
        file_path: Path | None,
        environments: Mapping[str, Environment],
        directory_url: SecretStr | None,
        destination_secrets: GivenSecrets,
    ) -> None:
        """Add what variables cannot say; once, before anybody else sees these settings."""
        self._file, self._file_path, self._environments = file, file_path, environments
        self._directory_url, self._destination_secrets = directory_url, destination_secrets


def _database_one(url: str) -> str:
    """The same Redis server's database 1."""
    if url.startswith("redis+socket://"):
        base, _, query = url.partition("?")
        kept = [part for part in query.split("&") if part and not part.startswith("virtual_host=")]
        return f"{base}?{'&'.join([*kept, 'virtual_host=1'])}"
    base, mark, query = url.partition("?")
    scheme, _, rest = base.partition("://")
    server = rest.partition("/")[0]
    return f"{scheme}://{server}/1{mark}{query}"

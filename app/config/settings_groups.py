"""Parts of the settings. Each reads its own variables, so that faults in others do not affect it.

`app.config.loading` makes them. `Settings` in app/config/settings.py has all of them and the rest.
"""

from datetime import timedelta
from pathlib import Path
from typing import Literal

from pydantic import Field, PrivateAttr, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.brokers.tls import verified
from app.config.durations import duration
from app.config.waylink_toml import ConfigFile
from app.domain.addresses import Network, read_networks
from app.domain.linking import DirectoryPolicy, OwnerChangePolicy
from app.runtime.embedded_broker import broker_url as embedded_broker_url
from app.runtime.life_files import DATA_DIR
from app.sealing import read_keys
from app.text_input import misfit_in_url, unwrapped


class Variables(BaseSettings):
    """One field per `WAYLINK_*` variable; `description` is the help text shown in docs/settings.md."""

    # An empty variable counts as unset: compose files and unit files pass on variables that were never set.
    model_config = SettingsConfigDict(
        env_prefix="WAYLINK_", env_ignore_empty=True, frozen=True, extra="ignore", hide_input_in_errors=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _without_wrapping(cls, value: object, info: ValidationInfo) -> object:
        """Strip the quotes of env files, and blanks and line ends of copied values."""
        if not isinstance(value, str):
            return value
        text = unwrapped(value)
        return text if text or info.field_name is None else cls.model_fields[info.field_name].default


class FolderSettings(Variables):
    """The data folder of the embedded default."""

    data_dir: Path = Field(
        Path(DATA_DIR),
        description="The data folder of the embedded default: SQLite file, Valkey's files, sandbox keys.",
        examples=["/var/lib/waylink"],
    )


class DatabaseSettings(FolderSettings):
    """The database."""

    database_url: SecretStr | None = Field(
        None,
        description="Where events, connections and jobs are stored. Unset: SQLite in the data folder.",
        examples=["postgresql://waylink:…@db.example/waylink"],
    )

    @field_validator("database_url")
    @classmethod
    def _database_url(cls, value: SecretStr | None) -> SecretStr | None:
        return _checked_url(value)

    @property
    def database(self) -> str:
        """SQLAlchemy URL, including the driver."""
        if self.database_url is None:
            return f"sqlite:///{(self.data_dir / 'waylink.db').resolve()}"
        url = self.database_url.get_secret_value()
        scheme, _, rest = url.partition("://")
        return f"postgresql+psycopg://{rest}" if scheme in {"postgresql", "postgres"} else url


class BrokerSettings(FolderSettings):
    """The internal broker and the teams' default broker."""

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

    @field_validator("broker_url", "team_broker_url")
    @classmethod
    def _broker_urls(cls, value: SecretStr | None) -> SecretStr | None:
        return _checked_url(value)

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


class HintSettings(DatabaseSettings, BrokerSettings):
    """Database and brokers, for storing rows and hinting workers."""


class SealingSettings(HintSettings):
    """Sealing keys and allowed addresses of destinations."""

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

    @property
    def destination_ranges(self) -> tuple[Network, ...]:
        """Private networks that the operator allows for destinations."""
        return read_networks(self.allowed_destination_ranges)


class FileSettings(Variables):
    """The path of waylink.toml."""

    config: Path | None = Field(
        None,
        description="The configuration file. Unset: waylink.toml in the working folder, if there is one.",
        examples=["/etc/waylink/waylink.toml"],
    )


class PolicySettings(DatabaseSettings, FileSettings):
    """Policies for linking and refreshing, from variables and waylink.toml."""

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

    # Private attributes, so that no variable can set them.
    _file: ConfigFile = PrivateAttr(default_factory=ConfigFile)
    _file_path: Path | None = PrivateAttr(default=None)

    @property
    def file(self) -> ConfigFile:
        """The content of `waylink.toml`; empty without one."""
        return self._file

    @property
    def file_path(self) -> Path | None:
        """The `waylink.toml` that was read; None where there is none."""
        return self._file_path

    def complete_with_file(self, file: ConfigFile, path: Path | None) -> None:
        """Add the file; called once, by the loader."""
        self._file, self._file_path = file, path


class WebSettings(Variables):
    """Address and port of the web process."""

    host: str = Field("127.0.0.1", description="Address the web process listens on.", examples=["0.0.0.0"])  # noqa: S104
    port: int = Field(8080, ge=1, le=65535, description="Port the web process listens on.", examples=["8080"])


class LogSettings(Variables):
    """Format and level of the log."""

    log_format: Literal["auto", "console", "json"] = Field(
        "auto", description="`json` lines, `console` text, or `auto`: text on a terminal.", examples=["json"]
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe level that is logged.", examples=["debug"]
    )


class BeatSettings(HintSettings, LogSettings):
    """Settings of Beat, which sends messages and reads nothing."""


def read_duration(value: object) -> object:
    """A timedelta for text such as `12h` or `0`; any other value unchanged, for pydantic to validate."""
    if not isinstance(value, str):
        return value
    return timedelta(0) if value.strip() == "0" else duration(value)


def _checked_url(value: SecretStr | None) -> SecretStr | None:
    if value is not None and (wrong := misfit_in_url(value.get_secret_value())):
        raise ValueError(wrong)
    return value


def _database_one(url: str) -> str:
    """The URL of database 1 on the same Redis server."""
    if url.startswith("redis+socket://"):
        base, _, query = url.partition("?")
        kept = [part for part in query.split("&") if part and not part.startswith("virtual_host=")]
        return f"{base}?{'&'.join([*kept, 'virtual_host=1'])}"
    base, mark, query = url.partition("?")
    scheme, _, rest = base.partition("://")
    server = rest.partition("/")[0]
    return f"{scheme}://{server}/1{mark}{query}"

"""Settings: `WAYLINK_*` environment variables, and `waylink.toml` for what is reviewed as code.

Loaded by the edges (main, cli, workers) and passed on as values. Every problem is reported at once.
"""

import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import Field, PrivateAttr, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from app.config_file import ConfigFile, EnvironmentEntry
from app.domain.linking import DirectoryPolicy, OwnerChangePolicy
from app.embedded import broker_url as embedded_broker_url
from app.environments import Environment, SigningKeys, split_keys
from app.errors import ConfigurationError, Problem

DEFAULT_BASE_URL: Final = "https://api.nango.dev"
DEFAULT_CONFIG: Final = Path("waylink.toml")
SANDBOX_FILE: Final = "sandbox.json"  # what `waylink up` writes for the other commands


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
    data_dir: Path = Field(
        Path(".waylink"),
        description="The data folder of the embedded default: SQLite file, Valkey's files, sandbox keys.",
        examples=["/var/lib/waylink"],
    )
    host: str = Field("127.0.0.1", description="Address the web process listens on.", examples=["0.0.0.0"])  # noqa: S104
    port: int = Field(8080, ge=1, le=65535, description="Port the web process listens on.", examples=["8080"])
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
        description="`create` makes users and organizations that tags name; `require` waits until they exist.",
        examples=["require"],
    )
    owner_change_policy: OwnerChangePolicy = Field(
        OwnerChangePolicy.REASSIGN,
        description="A confirmed different owner: `reassign` moves the link, `hold` waits for an operator.",
        examples=["hold"],
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

    # Private, so that no variable can fill them: `load` does.
    _file: ConfigFile = PrivateAttr(default_factory=ConfigFile)
    _environments: Mapping[str, Environment] = PrivateAttr(default_factory=dict)

    @property
    def file(self) -> ConfigFile:
        """What `waylink.toml` says; empty without one."""
        return self._file

    @property
    def environments(self) -> Mapping[str, Environment]:
        """Every Nango environment, by name."""
        return self._environments

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
        return self.broker_url.get_secret_value()

    @property
    def team_broker(self) -> str:
        """kombu URL of the teams' default broker."""
        if self.team_broker_url is not None:
            return self.team_broker_url.get_secret_value()
        if self.broker_url is None:
            return embedded_broker_url(self.data_dir, 1)
        return _database_one(self.broker_url.get_secret_value())

    @property
    def uses_sandbox(self) -> bool:
        """Neither API key nor signing keys are given anywhere: `waylink up` brings its own Nango."""
        return self.nango_api_key is None and self.nango_signing_keys is None and not self.file.environments


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Read variables and file. Raises ConfigurationError with every problem."""
    environ = os.environ if environ is None else environ
    problems: list[Problem] = []
    settings = _read_variables(problems)
    config = _read_file(settings, problems)
    environments = _environments(settings, config, environ, problems)
    problems.extend(_database_problems(settings))
    problems.extend(_broker_problems(settings))
    if problems:
        raise ConfigurationError(problems)
    settings._file, settings._environments = config, environments
    return settings


def _read_variables(problems: list[Problem]) -> Settings:
    """The settings; a wrong variable is a problem and, so that the rest can be judged, counts as unset."""
    try:
        return Settings()
    except ValidationError as invalid:
        unset = {}
        for error in invalid.errors(include_url=False, include_input=False, include_context=False):
            name = str(error["loc"][0])
            field = Settings.model_fields[name]
            unset[name] = field.default
            problems.append(Problem(f"WAYLINK_{name.upper()}", error["msg"], f"{(field.examples or [''])[0]}"))
        return Settings(**unset)


def _read_file(settings: Settings, problems: list[Problem]) -> ConfigFile:
    path = settings.config
    if path is None:
        path = DEFAULT_CONFIG
        if not path.exists():
            return ConfigFile()
    try:
        return ConfigFile.model_validate(tomllib.loads(path.read_text()))
    except OSError as unreadable:
        what = f"{path} cannot be read: {unreadable.strerror}"
        problems.append(Problem("WAYLINK_CONFIG", what, "/etc/waylink/waylink.toml"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as broken:
        problems.append(Problem(str(path), f"not valid TOML: {broken}"))
    except ValidationError as invalid:
        problems.extend(
            Problem(
                ": ".join([str(path), *([".".join(map(str, error["loc"]))] if error["loc"] else [])]),
                error["msg"].removeprefix("Value error, "),
            )
            for error in invalid.errors(include_url=False, include_input=False, include_context=False)
        )
    return ConfigFile()


def _environments(
    settings: Settings, config: ConfigFile, environ: Mapping[str, str], problems: list[Problem]
) -> dict[str, Environment]:
    found = {name: _environment_of_file(name, entry, environ, problems) for name, entry in config.environments.items()}
    if settings.nango_api_key or settings.nango_signing_keys:
        if "default" in found:
            problems.append(
                Problem(
                    "WAYLINK_NANGO_SIGNING_KEYS",
                    "the environment `default` is defined both by WAYLINK_NANGO_* variables and by the file: keep one",
                    "signing_keys_env in the file, and no WAYLINK_NANGO_* variable",
                )
            )
        found["default"] = _plain_environment(settings, problems)
    elif not found:
        sandbox = _sandbox_environment(settings.data_dir / SANDBOX_FILE)
        if sandbox is not None:
            found["default"] = sandbox
    return found


def _plain_environment(settings: Settings, problems: list[Problem]) -> Environment:
    keys = split_keys(settings.nango_signing_keys.get_secret_value()) if settings.nango_signing_keys else ()
    if not keys:
        problems.append(
            Problem(
                "WAYLINK_NANGO_SIGNING_KEYS",
                "missing while WAYLINK_NANGO_API_KEY is set: every webhook would be refused",
                "new-key,old-key",
            )
        )
    return Environment(
        name="default",
        base_url=settings.nango_base_url.rstrip("/"),
        account="default",
        signing_keys=SigningKeys(tuple(SecretStr(key) for key in keys)),
        api_key=settings.nango_api_key,
    )


def _environment_of_file(
    name: str, entry: EnvironmentEntry, environ: Mapping[str, str], problems: list[Problem]
) -> Environment:
    where = f"environments.{name}"
    api_key = _secret(f"{where}.api_key", entry.api_key_env, entry.api_key_file, environ, problems)
    if entry.signing_keys_file is not None:
        keys = SigningKeys(file=entry.signing_keys_file)
        if not keys.live():
            problems.append(Problem(f"{where}.signing_keys_file", f"{entry.signing_keys_file} holds no readable key"))
    else:
        text = _secret(f"{where}.signing_keys", entry.signing_keys_env, None, environ, problems)
        plain = split_keys(text.get_secret_value()) if text else ()
        keys = SigningKeys(tuple(SecretStr(key) for key in plain))
        if not plain and (text or entry.signing_keys_env is None):
            problems.append(
                Problem(where, "has no signing keys: every webhook would be refused", 'signing_keys_env = "NANGO_KEYS"')
            )
    return Environment(
        name=name,
        base_url=entry.base_url.rstrip("/"),
        account=entry.account or name,
        signing_keys=keys,
        api_key=api_key,
    )


def _secret(
    where: str, variable: str | None, file: Path | None, environ: Mapping[str, str], problems: list[Problem]
) -> SecretStr | None:
    if file is not None:
        try:
            value = file.read_text().strip()
        except (OSError, UnicodeDecodeError) as unreadable:
            why = unreadable.strerror if isinstance(unreadable, OSError) else "not UTF-8"
            problems.append(Problem(f"{where}_file", f"{file} cannot be read: {why}"))
            return None
        if not value:
            problems.append(Problem(f"{where}_file", f"{file} is empty"))
        return SecretStr(value)
    if variable is None:
        return None
    value = environ.get(variable, "").strip()
    if not value:
        problems.append(Problem(f"{where}_env", f"the variable {variable} is not set"))
        return None
    return SecretStr(value)


def _sandbox_environment(file: Path) -> Environment | None:
    """The sandbox that `waylink up` runs, so that its other commands find it from a second terminal."""
    try:
        known: dict[str, Any] = json.loads(file.read_text())
        return Environment(
            name="default",
            base_url=known["base_url"],
            account="sandbox",
            signing_keys=SigningKeys((SecretStr(known["signing_key"]),)),
            api_key=SecretStr(known["api_key"]),
            sandboxed=True,
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _database_problems(settings: Settings) -> list[Problem]:
    """Never with the URL or a part of it: its password may be what makes it unreadable."""
    try:
        known = make_url(settings.database).drivername in {"postgresql+psycopg", "sqlite"}
    except (ArgumentError, ValueError):
        known = False
    if known:
        return []
    what = "is not the URL of a PostgreSQL or SQLite database (a password with : / @ has to be percent-encoded)"
    return [Problem("WAYLINK_DATABASE_URL", what, "postgresql://waylink:…@db.example/waylink")]


def _broker_problems(settings: Settings) -> list[Problem]:
    """Internal queues never share a Redis database with teams (DESIGN 3)."""
    problems = []
    places = []
    for name, value, url in (
        ("WAYLINK_BROKER_URL", settings.broker_url, settings.broker),
        ("WAYLINK_TEAM_BROKER_URL", settings.team_broker_url, settings.team_broker),
    ):
        try:
            places.append(_redis_place(url))
        except ValueError:
            if value is not None:
                what = "is not a Redis URL with the number of a database (redis, rediss or redis+socket)"
                problems.append(Problem(name, what, "redis://redis.example:6379/0"))
    if not problems and len(set(places)) == 1:
        problems.append(
            Problem(
                "WAYLINK_TEAM_BROKER_URL",
                "is the internal broker's database: the shortest visibility timeout of any application on a database "
                "applies to all of it, so teams need another one",
                "redis://redis.example:6379/1",
            )
        )
    return problems


def _redis_place(url: str) -> tuple[str, int, int]:
    """Socket or host, port and database, so that one place in two spellings is seen as one. Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme == "redis+socket":
        database = parse_qs(parts.query).get("virtual_host", ["0"])[-1]
        return str(Path(unquote(parts.netloc + parts.path)).resolve()), 0, int(database.removeprefix("/"))
    if parts.scheme not in {"redis", "rediss"}:
        raise ValueError(parts.scheme)
    host = parts.hostname or "localhost"
    host = "localhost" if host in {"127.0.0.1", "::1"} else host
    return host, parts.port or 6379, int(parts.path.strip("/") or 0)


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

"""Loading the configuration: variables, waylink.toml and key files. Every problem is reported at once.

Called by the edges (main, cli, workers) only; what it returns is passed on as values.
"""

import difflib
import json
import os
import re
import ssl
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr, ValidationError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from app.broker import redis_place
from app.config_file import ConfigFile, EnvironmentEntry
from app.configured_destinations import destination_secrets
from app.db import application
from app.domain.linking import DirectoryPolicy
from app.environments import Environment, SigningKeys, split_keys, wrong_keys
from app.errors import ConfigurationError, Problem
from app.forward_proxy import SCHEMES, proxy_for
from app.given import given_secret
from app.plain_text import read_text
from app.sealing import sealer_of_file
from app.settings import Settings
from app.telemetry import get_logger
from app.validation_words import reason

log = get_logger(__name__)

DEFAULT_CONFIG: Final = Path("waylink.toml")
# Of the sandbox's command, of `waylink send`, of docker-compose.yml and of the tests.
_NAMED: Final = re.compile(r'"(WAYLINK_[A-Z0-9_]+)"')
_NOT_SETTINGS: Final = ("WAYLINK_SANDBOX_", "WAYLINK_SEND_KEY", "WAYLINK_PUBLISH", "WAYLINK_NO_SKIPS")
SANDBOX_FILE: Final = "sandbox.json"  # what `waylink up` writes for the other commands


def load() -> Settings:
    """Read variables and file. Raises ConfigurationError with every problem."""
    environ = os.environ
    problems: list[Problem] = []
    settings = _read_variables(problems)
    path = _path_of_file(settings)
    config = _read_file(path, problems) if path else ConfigFile()
    environments = {
        name: _through_proxy(environment, settings, problems)
        for name, environment in _environments(settings, config, environ, problems).items()
    }
    problems.extend(_database_problems(settings))
    problems.extend(_broker_problems(settings))
    problems.extend(_secret_key_problems(settings))
    for name in ("destination_ca_file", "broker_ca_file"):
        problems.extend(_authority_problems(f"WAYLINK_{name.upper()}", getattr(settings, name)))
    directory_url = _directory_url(settings, config, environ, problems)
    secrets = destination_secrets(settings, environ, problems, file=config)
    if problems:
        raise ConfigurationError(problems)
    settings.complete(config, path, environments, directory_url, secrets)
    for name, meant in unknown_variables(settings):
        log.warning("unknown_variable", variable=name, meant=meant, then="it is ignored")
    return settings


def unknown_variables(settings: Settings) -> list[tuple[str, str | None]]:
    """Variables that look like settings and are none, each with the setting that may be meant."""
    known = {f"WAYLINK_{name.upper()}" for name in Settings.model_fields}
    named = set(_NAMED.findall(settings.file.model_dump_json()))
    found = []
    for name in sorted(os.environ):
        own = name.startswith("WAYLINK_") and not name.startswith(_NOT_SETTINGS)
        if own and name not in known | named:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
            found.append((name, near[0] if near else None))
    return found


def _read_variables(problems: list[Problem]) -> Settings:
    """The settings; a wrong variable is a problem and, so that the rest can be judged, counts as unset."""
    try:
        return Settings()
    except ValidationError as invalid:
        unset = {}
        for error in invalid.errors(include_url=False, include_input=False):
            name = str(error["loc"][0])
            field = Settings.model_fields[name]
            unset[name] = field.default
            problems.append(Problem(f"WAYLINK_{name.upper()}", reason(error), f"{(field.examples or [''])[0]}"))
        return Settings(**unset)


def _path_of_file(settings: Settings) -> Path | None:
    """The configuration file; None where no variable names one and there is none in the working folder."""
    if settings.config is not None:
        return settings.config
    # A link that leads nowhere is a file that cannot be read, and not none.
    return DEFAULT_CONFIG if os.path.lexists(DEFAULT_CONFIG) else None


def _read_file(path: Path, problems: list[Problem]) -> ConfigFile:
    try:
        return ConfigFile.model_validate(tomllib.loads(read_text(path)))
    except OSError as unreadable:
        what = f"{path} cannot be read: {unreadable.strerror}"
        problems.append(Problem("WAYLINK_CONFIG", what, "/etc/waylink/waylink.toml"))
    except ValidationError as invalid:
        problems.extend(
            Problem(
                ": ".join([str(path), *([".".join(map(str, error["loc"]))] if error["loc"] else [])]),
                reason(error),
            )
            for error in invalid.errors(include_url=False, include_input=False)
        )
    except ValueError as broken:  # tomllib's, and what is no text; pydantic's above is one, too
        problems.append(Problem(str(path), f"not valid TOML: {broken}"))
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
    elif settings.nango_both_urls:
        what = "is for the environment of the other WAYLINK_NANGO_* variables, and none is set: write it into the file"
        problems.append(Problem("WAYLINK_NANGO_BOTH_URLS", what, "both_urls = true in [environments.default]"))
    elif not found:
        sandbox = _sandbox_environment(settings.data_dir / SANDBOX_FILE)
        if sandbox is not None:
            found["default"] = sandbox
    return found


def _through_proxy(environment: Environment, settings: Settings, problems: list[Problem]) -> Environment:
    named = settings.nango_proxy.get_secret_value() if settings.nango_proxy else None
    proxy = proxy_for(environment.base_url, named)
    if proxy is None:
        return environment
    if proxy.partition("://")[0] not in SCHEMES:
        what = "is unset, and the environment's proxy is neither http:// nor https://: name one, or say `none`"
        problems.append(Problem("WAYLINK_NANGO_PROXY", what, "http://proxy.internal:3128"))
    return replace(environment, proxy=SecretStr(proxy))


def _plain_environment(settings: Settings, problems: list[Problem]) -> Environment:
    if (settings.nango_account_key is None) != (settings.nango_environment_id is None):
        what = "goes with WAYLINK_NANGO_ENVIRONMENT_ID, the environment's UUID at Nango: set both or none"
        problems.append(Problem("WAYLINK_NANGO_ACCOUNT_KEY", what))
    keys = split_keys(settings.nango_signing_keys.get_secret_value()) if settings.nango_signing_keys else ()
    if keys and (wrong := wrong_keys(keys)):
        problems.append(Problem("WAYLINK_NANGO_SIGNING_KEYS", wrong, "new-key,old-key"))
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
        account_key=settings.nango_account_key,
        nango_id=settings.nango_environment_id,
        both_urls=settings.nango_both_urls,
    )


def _environment_of_file(
    name: str, entry: EnvironmentEntry, environ: Mapping[str, str], problems: list[Problem]
) -> Environment:
    where = f"environments.{name}"
    api_key = given_secret(f"{where}.api_key", entry.api_key_env, entry.api_key_file, environ, problems)
    if entry.signing_keys_file is not None:
        keys = SigningKeys(file=entry.signing_keys_file)
        if not keys.live():
            what = f"{entry.signing_keys_file}: {keys.problem or 'holds no key'}"
            problems.append(Problem(f"{where}.signing_keys_file", what))
    else:
        text = given_secret(f"{where}.signing_keys", entry.signing_keys_env, None, environ, problems)
        plain = split_keys(text.get_secret_value()) if text else ()
        if plain and (wrong := wrong_keys(plain)):
            problems.append(Problem(f"{where}.signing_keys_env", f"the variable {entry.signing_keys_env}: {wrong}"))
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
        payloads=entry.payloads,
        account_key=given_secret(
            f"{where}.account_key", entry.account_key_env, entry.account_key_file, environ, problems
        ),
        nango_id=entry.nango_id,
        both_urls=entry.both_urls,
    )


def _directory_url(
    settings: Settings, config: ConfigFile, environ: Mapping[str, str], problems: list[Problem]
) -> SecretStr | None:
    """Never with the URL or a part of it in a problem, as for our own database."""
    if settings.directory_policy is not DirectoryPolicy.SQL:
        return None
    entry = config.directory.sql
    if entry is None:
        what = "`sql` needs [directory.sql] in waylink.toml, with the database and the queries"
        problems.append(Problem("WAYLINK_DIRECTORY_POLICY", what))
        return None
    url = given_secret("directory.sql.url", entry.url_env, entry.url_file, environ, problems)
    if url is not None and url.get_secret_value().partition(":")[0] not in application.DRIVERS:
        what = f"is the URL of none of the databases that can be asked: {', '.join(application.DRIVERS)}"
        problems.append(Problem("directory.sql.url", what, "postgresql://reader:…@db.example/app"))
    return url


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
            account_key=SecretStr(known["account_key"]) if "account_key" in known else None,
            nango_id=known.get("environment_id"),
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


def _secret_key_problems(settings: Settings) -> list[Problem]:
    if settings.secret_key_file is None:
        return []
    if settings.secret_key is not None:
        return [Problem("WAYLINK_SECRET_KEY_FILE", "is set beside WAYLINK_SECRET_KEY: keep one")]
    try:
        sealer_of_file(settings.secret_key_file).check()
    except ConfigurationError as unusable:
        return list(unusable.problems)
    return []


def _authority_problems(variable: str, file: Path | None) -> list[Problem]:
    if file is None:
        return []
    try:
        ssl.create_default_context(cafile=file)
    except ssl.SSLError:
        what = f"{file} holds no certificates in PEM"
    except OSError as unreadable:
        what = f"{file} cannot be read: {unreadable.strerror}"
    else:
        return []
    return [Problem(variable, what, "/etc/waylink/internal-ca.pem")]


def _broker_problems(settings: Settings) -> list[Problem]:
    """Internal queues never share a Redis database with teams (DESIGN 3)."""
    problems = []
    places = []
    for name, value, url in (
        ("WAYLINK_BROKER_URL", settings.broker_url, settings.broker),
        ("WAYLINK_TEAM_BROKER_URL", settings.team_broker_url, settings.team_broker),
    ):
        try:
            places.append(redis_place(url))
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

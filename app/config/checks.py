"""Checks of settings beyond their shape, one function per part. No problem text contains a secret."""

import difflib
import os
import re
import ssl
from importlib import metadata
from pathlib import Path
from typing import Final

from pydantic import SecretStr
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from app.brokers.places import redis_place
from app.config.operator_settings import OperatorSettings
from app.config.secret_sources import configured_secret
from app.config.settings import Settings
from app.config.settings_groups import BrokerSettings, DatabaseSettings, SealingSettings, Variables
from app.db import application_database
from app.domain.linking import DirectoryPolicy
from app.errors import ConfigurationError, Problem
from app.openid.urls import is_safe
from app.sealing import sealer_of_file
from app.text_input import read_text, unwrapped

_NAMED: Final = re.compile(r"WAYLINK_[A-Z0-9_]+")
# Variables of the sandbox's command, `waylink send`, docker-compose.yml and the tests.
_NOT_SETTINGS: Final = ("WAYLINK_SANDBOX_", "WAYLINK_SEND_KEY", "WAYLINK_PUBLISH", "WAYLINK_NO_SKIPS")

_OF_TRACES: Final = ("opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http")


def unknown_variables(file: Path | None) -> list[tuple[str, str | None]]:
    """Variables named like settings that are none, each with the setting that is probably meant, or None.

    file: waylink.toml, whose `*_env` keys may name variables; searched as text, so that a broken file does not matter.
    """
    known = {f"WAYLINK_{name.upper()}" for name in Settings.model_fields}
    named = set(_NAMED.findall(_text_of(file)))
    found = []
    for name in sorted(os.environ):
        own = name.startswith("WAYLINK_") and not name.startswith(_NOT_SETTINGS)
        if own and name not in known | named:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
            found.append((name, near[0] if near else None))
    return found


def _text_of(file: Path | None) -> str:
    try:
        return file.read_text(errors="replace") if file else ""
    except OSError:
        return ""


def problems_of(settings: Variables) -> list[Problem]:
    """Problems of the parts that these settings have."""
    found: list[Problem] = []
    if isinstance(settings, DatabaseSettings):
        found += _database_problems(settings)
    if isinstance(settings, BrokerSettings):
        found += _broker_problems(settings)
    if isinstance(settings, SealingSettings):
        found += _sealing_problems(settings)
    if isinstance(settings, OperatorSettings):
        found += _single_sign_on_problems(settings)
    if isinstance(settings, Settings) and settings.traces:
        found += _traces_problems()
    return found


def _traces_problems() -> list[Problem]:
    """Looked up and not imported: most commands make no spans."""
    try:
        for distribution in _OF_TRACES:
            metadata.version(distribution)
    except metadata.PackageNotFoundError as missing:
        what = f"needs {missing.name}, which is not installed: run `pip install 'waylink[traces]'`, or leave it unset"
        return [Problem("WAYLINK_TRACES", what, "false")]
    return []


def _single_sign_on_problems(settings: OperatorSettings) -> list[Problem]:
    issuer, example = settings.oidc_issuer, "https://login.example/realms/acme"
    if issuer is None:
        return []
    found = []
    if not is_safe(issuer):
        found.append(Problem("WAYLINK_OIDC_ISSUER", "has to be an https:// URL, off loopback", example))
    if settings.oidc_client_id is None:
        found.append(Problem("WAYLINK_OIDC_CLIENT_ID", "is not set, beside WAYLINK_OIDC_ISSUER", "waylink"))
    if settings.oidc_client_secret_file is not None:
        if settings.oidc_client_secret is not None:
            found.append(Problem("WAYLINK_OIDC_CLIENT_SECRET_FILE", "is set beside the secret: keep one"))
        else:
            found += _unreadable_secret(settings.oidc_client_secret_file)
    return [*found, *_authority_problems("WAYLINK_OIDC_CA_FILE", settings.oidc_ca_file)]


def _unreadable_secret(file: Path) -> list[Problem]:
    try:
        if unwrapped(read_text(file)):
            return []
        what = f"{file} is empty"
    except OSError as unreadable:
        what = f"{file} cannot be read: {unreadable.strerror}"
    except ValueError as unreadable:
        what = f"{file} cannot be read: {unreadable}"
    return [Problem("WAYLINK_OIDC_CLIENT_SECRET_FILE", what, "/run/secrets/waylink_oidc")]


def _database_problems(settings: DatabaseSettings) -> list[Problem]:
    """Problems never quote the URL or a part of it: its password may be the unreadable part."""
    if _driver(settings.database) in {"postgresql+psycopg", "sqlite"}:
        return []
    what = "is not the URL of a PostgreSQL or SQLite database (a password with : / @ has to be percent-encoded)"
    return [Problem("WAYLINK_DATABASE_URL", what, "postgresql://waylink:…@db.example/waylink")]


def _driver(url: str) -> str | None:
    """The driver name of a database URL; None where the URL cannot be parsed."""
    try:
        return make_url(url).drivername
    except (ArgumentError, ValueError):
        return None


def _broker_problems(settings: BrokerSettings) -> list[Problem]:
    """Internal queues must not share a Redis database with teams."""
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
    return [*problems, *_authority_problems("WAYLINK_BROKER_CA_FILE", settings.broker_ca_file)]


def _sealing_problems(settings: SealingSettings) -> list[Problem]:
    authorities = _authority_problems("WAYLINK_DESTINATION_CA_FILE", settings.destination_ca_file)
    return [*_secret_key_problems(settings), *authorities]


def _secret_key_problems(settings: SealingSettings) -> list[Problem]:
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


def read_directory_url(settings: Settings, problems: list[Problem]) -> SecretStr | None:
    """The URL of the `sql` directory; None where it is not needed or is wrong. Problems never quote the URL."""
    if settings.directory_policy is not DirectoryPolicy.SQL:
        return None
    entry = settings.file.directory.sql
    if entry is None:
        what = "`sql` needs [directory.sql] in waylink.toml, with the database and the queries"
        problems.append(Problem("WAYLINK_DIRECTORY_POLICY", what))
        return None
    found: list[Problem] = []
    url = configured_secret("directory.sql.url", entry.url_env, entry.url_file, os.environ, found)
    if url is not None and not found and _driver(url.get_secret_value()) not in application_database.DRIVERS:
        what = f"is the URL of none of the databases that can be asked: {', '.join(application_database.DRIVERS)}"
        found.append(Problem("directory.sql.url", what, "postgresql://reader:…@db.example/app"))
    problems += found
    return None if found else url

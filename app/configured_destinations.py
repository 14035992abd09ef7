"""What waylink.toml says of destinations that goes beyond its shape: their secrets, and where they lead."""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from app.config_file import ConfigFile
from app.domain.broker_urls import check_broker_url
from app.domain.definitions import wrong_url
from app.domain.standard_webhooks import read_secret
from app.errors import InvalidInput, Problem
from app.given import Given, GivenSecrets, given_secret
from app.settings import Settings


def destination_secrets(
    settings: Settings, environ: Mapping[str, str], problems: list[Problem], *, file: ConfigFile
) -> GivenSecrets:
    """What the file names of destinations' secrets, each looked at; and whether their addresses are allowed."""
    found = {}
    for team, owner in file.teams.items():
        for name, entry in owner.destinations.items():
            where = f"teams.{team}.destinations.{name}"
            if entry.url and (wrong := wrong_url(entry.url, allowed=settings.destination_ranges)):
                problems.append(Problem(f"{where}.url", wrong, "https://hooks.example/waylink"))
            broker = given_secret(f"{where}.broker_url", entry.broker_url_env, entry.broker_url_file, environ, problems)
            signing = given_secret(f"{where}.secret", entry.secret_env, entry.secret_file, environ, problems)
            try:
                if broker is not None:
                    _check_own_broker(settings, broker.get_secret_value())
                if signing is not None:
                    read_secret(signing.get_secret_value())
            except InvalidInput as wrong_value:
                part = "secret" if signing is not None else "broker_url"
                problems.append(Problem(f"{where}.{part}", str(wrong_value)))
            found[team, name] = Given(broker, signing)
    return found


def _check_own_broker(settings: Settings, url: str) -> None:
    """Raises InvalidInput."""
    place = check_broker_url(url, settings.destination_ranges)
    if place.speaks_redis and _is_internal(settings, url):
        raise InvalidInput("is the internal broker's database, whose messages are Waylink's own")


def _is_internal(settings: Settings, url: str) -> bool:
    try:
        return redis_place(url) == redis_place(settings.broker)
    except ValueError:  # the internal broker's own problem, told elsewhere
        return False


def redis_place(url: str) -> tuple[str, int, int]:
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

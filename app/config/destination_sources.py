"""Destinations in waylink.toml: checks of their addresses, and their secrets from variables and files."""

from collections.abc import Mapping

from app.brokers.places import refuse_internal
from app.config.secret_sources import ConfiguredSecrets, SecretsByDestination, configured_secret
from app.config.settings_groups import SealingSettings
from app.config.waylink_toml import ConfigFile
from app.domain.broker_urls import check_broker_url
from app.domain.definitions import wrong_url
from app.domain.standard_webhooks import read_secret
from app.errors import InvalidInput, Problem


def destination_secrets(
    settings: SealingSettings, environ: Mapping[str, str], problems: list[Problem], *, file: ConfigFile
) -> SecretsByDestination:
    """Secrets of the file's destinations by (team, name); problems of secrets and addresses are appended."""
    found = {}
    for team, owner in file.teams.items():
        for name, entry in owner.destinations.items():
            where = f"teams.{team}.destinations.{name}"
            if entry.url and (wrong := wrong_url(entry.url, allowed=settings.destination_ranges)):
                problems.append(Problem(f"{where}.url", wrong, "https://hooks.example/waylink"))
            broker = configured_secret(
                f"{where}.broker_url", entry.broker_url_env, entry.broker_url_file, environ, problems
            )
            signing = configured_secret(f"{where}.secret", entry.secret_env, entry.secret_file, environ, problems)
            try:
                if broker is not None:
                    check_broker_url(broker.get_secret_value(), settings.destination_ranges)
                    refuse_internal(broker.get_secret_value(), settings.broker)
                if signing is not None:
                    read_secret(signing.get_secret_value())
            except InvalidInput as wrong_value:
                part = "secret" if signing is not None else "broker_url"
                problems.append(Problem(f"{where}.{part}", str(wrong_value)))
            found[team, name] = ConfiguredSecrets(broker, signing)
    return found

"""The settings in force, as people may see them: no secret is among them."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

from pydantic import SecretStr

from app.config.durations import shown_duration
from app.config.settings import Settings
from app.config.settings_groups import Variables

HIDDEN: Final = "(hidden)"


def effective(settings: Settings) -> list[dict[str, Any]]:
    """A row for each variable, by name. value: None where it is unset; of a URL without password and parameters."""
    return sorted(_rows(settings), key=lambda row: str(row["variable"]))


def _rows(settings: Variables) -> Iterator[dict[str, Any]]:
    prefix = settings.model_config.get("env_prefix", "")
    for name, described in type(settings).model_fields.items():
        yield {
            "variable": f"{prefix}{name}".upper(),
            "value": _shown(name, getattr(settings, name)),
            "default": _shown(name, described.default),
            "set": name in settings.model_fields_set,
            "meaning": described.description or "",
        }


def _shown(name: str, value: object) -> str | int | float | bool | None:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, SecretStr):
        is_url = name.endswith(("_url", "_proxy"))
        return _place_of(value.get_secret_value()) if is_url else HIDDEN
    if isinstance(value, timedelta):
        return shown_duration(value)
    return str(value)


def _place_of(url: str) -> str:
    """Scheme, host and path of a URL; nothing where these may hold a part of a password that is not encoded."""
    scheme, separator, rest = url.partition("://")
    user, at, place = rest.rpartition("@")
    place = place.partition("?")[0]
    if not separator or "#" in rest or any(mark in user for mark in "@/?"):
        return HIDDEN
    return f"{scheme}://{f'{HIDDEN}@' if at else ''}{place}"

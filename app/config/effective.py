"""The settings in force, as people may see them: no secret is among them."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from pydantic import SecretStr

from app.config.durations import shown_duration
from app.config.settings import Settings
from app.config.settings_groups import Variables
from app.errors import Problem

HIDDEN: Final = "(hidden)"


def effective(
    settings: Settings, problems: Sequence[Problem] = (), *, unknown: Sequence[tuple[str, str | None]] = ()
) -> list[dict[str, Any]]:
    """A row for each variable, by name. value: None where it is unset; of a URL without password and parameters.

    fault: why the variable is not in force, from `problems`; then `set` is false. unknown: variables that are no
    settings, each with the one that is probably meant; their values may be secrets and are hidden.
    """
    faults: dict[str, str] = {}
    for problem in problems:
        faults.setdefault(problem.where, problem.what)
    return sorted([*_rows(settings, faults), *map(_unknown_row, unknown)], key=lambda row: str(row["variable"]))


def _rows(settings: Variables, faults: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    prefix = settings.model_config.get("env_prefix", "")
    for name, described in type(settings).model_fields.items():
        variable = f"{prefix}{name}".upper()
        fault = faults.get(variable)
        yield {
            "variable": variable,
            "value": _shown(name, getattr(settings, name)),
            "default": _shown(name, described.default),
            "set": name in settings.model_fields_set and fault is None,
            "fault": fault,
            "meaning": described.description or "",
        }


def _unknown_row(variable: tuple[str, str | None]) -> dict[str, Any]:
    name, meant = variable
    fault = f"unknown, and ignored{f': {meant} is probably meant' if meant else ''}"
    return {"variable": name, "value": HIDDEN, "default": None, "set": False, "fault": fault, "meaning": ""}


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

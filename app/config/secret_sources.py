"""Secrets that waylink.toml names by variable or file, and a destination's secrets as a value."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from app.errors import Problem
from app.text_input import misfit_in_url, read_text, unwrapped


@dataclass(frozen=True, slots=True)
class ConfiguredSecrets:
    """Configured secrets of one destination. None: the team broker is used, or a signing secret is made."""

    broker_url: SecretStr | None = None
    signing: SecretStr | None = None


NONE_CONFIGURED: Final = ConfiguredSecrets()

SecretsByDestination = Mapping[tuple[str, str], ConfiguredSecrets]  # by team and name


def configured_secret(
    where: str,
    variable: str | None,
    file: Path | None,
    environ: Mapping[str, str],
    problems: list[Problem],
    *,
    blanks: bool = False,
) -> SecretStr | None:
    """The secret in a variable or file; None where neither is named. Faults are appended to `problems`.

    blanks: single blanks may stand within it, as in passwords that are shown in groups.
    """

    def misfit_of(value: str) -> str | None:
        return misfit_in_url(value.replace(" ", "") if blanks else value)

    if file is not None:
        try:
            value = unwrapped(read_text(file))
        except (OSError, ValueError) as unreadable:
            why = unreadable.strerror if isinstance(unreadable, OSError) else unreadable
            problems.append(Problem(f"{where}_file", f"{file} cannot be read: {why}"))
            return None
        if wrong := misfit_of(value) if value else "is empty":
            problems.append(Problem(f"{where}_file", f"{file}: {wrong}"))
        return SecretStr(value)
    if variable is None:
        return None
    value = unwrapped(environ.get(variable, ""))
    if not value:
        what = f"the variable {variable} is not set: set it, or name a file by {where.rpartition('.')[2]}_file"
        problems.append(Problem(f"{where}_env", what))
        return None
    if wrong := misfit_of(value):
        problems.append(Problem(f"{where}_env", f"the variable {variable}: {wrong}"))
    return SecretStr(value)

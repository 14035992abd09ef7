"""Secrets that waylink.toml names by variable or file, and those of a destination as a value."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from app.errors import Problem


@dataclass(frozen=True, slots=True)
class Given:
    """Of one destination. None: nothing is given, so the team broker is used, or a signing secret is made."""

    broker_url: SecretStr | None = None
    signing: SecretStr | None = None


NOTHING: Final = Given()

GivenSecrets = Mapping[tuple[str, str], Given]  # by team and name


def given_secret(
    where: str, variable: str | None, file: Path | None, environ: Mapping[str, str], problems: list[Problem]
) -> SecretStr | None:
    """What a variable or a file holds; what is wrong with it is added to the problems. None where neither is named."""
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

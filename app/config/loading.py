"""Loading of the configuration from variables, waylink.toml and key files.

Each function reads only what its callers need, so that faults elsewhere do not stop them. Called only by the edges
(main, cli, workers), which pass the results on as values.
"""

import os
import tomllib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from pydantic import ValidationError

from app.config.checks import problems_of, read_directory_url, unknown_variables
from app.config.destination_sources import destination_secrets
from app.config.messages import reason
from app.config.nango import NangoSettings
from app.config.nango_environments import read_environments
from app.config.operator_settings import ConsoleSettings
from app.config.secret_sources import SecretsByDestination
from app.config.settings import Settings
from app.config.settings_groups import (
    BeatSettings,
    DatabaseSettings,
    FileSettings,
    HintSettings,
    PolicySettings,
    SealingSettings,
    Variables,
    WebSettings,
)
from app.config.toml_lines import line_of
from app.config.waylink_toml import ConfigFile
from app.errors import ConfigurationError, Problem
from app.telemetry import get_logger
from app.text_input import read_text

log = get_logger(__name__)

DEFAULT_CONFIG: Final = Path("waylink.toml")

Read = TypeVar("Read", bound=Variables)


@dataclass(frozen=True, slots=True)
class Definitions:
    """Teams, destinations and routes of waylink.toml, with the destinations' secrets.

    path: the file; None where there is none.
    """

    file: ConfigFile
    path: Path | None
    secrets: SecretsByDestination


def load_database() -> DatabaseSettings:
    """Database settings, which suffice to read what is stored. Raises ConfigurationError."""
    return _load(DatabaseSettings)


def load_brokers() -> HintSettings:
    """Database and broker settings, for commands that hint workers. Raises ConfigurationError with every problem."""
    return _load(HintSettings)


def load_sealing() -> SealingSettings:
    """Database, broker and sealing settings. Raises ConfigurationError with every problem."""
    return _load(SealingSettings)


def load_beat() -> BeatSettings:
    """Settings of Beat, which only sends messages. Raises ConfigurationError with every problem."""
    return _load(BeatSettings)


def load_web_place() -> WebSettings:
    """The web process's address, for commands that need no other setting of it. Raises ConfigurationError."""
    problems: list[Problem] = []
    settings = _read(WebSettings, problems)
    if problems:
        raise ConfigurationError(problems)
    return settings


def load_console_place() -> ConsoleSettings:
    """The console's address, for commands that need no other setting of it. Raises ConfigurationError."""
    problems: list[Problem] = []
    settings = _read(ConsoleSettings, problems)
    if problems:
        raise ConfigurationError(problems)
    return settings


def load_policy() -> PolicySettings:
    """Linking policy: variables and waylink.toml, no secrets. Raises ConfigurationError with every problem."""
    problems: list[Problem] = []
    settings = _read(PolicySettings, problems)
    settings.complete_with_file(*_file_of(settings.config, problems))
    _require_none([*problems, *problems_of(settings)])
    return settings


def load_file(path: Path) -> ConfigFile:
    """A waylink.toml that is not the configured one. Raises ConfigurationError with every problem."""
    problems: list[Problem] = []
    file = _read_file(path, problems)
    if problems:
        raise ConfigurationError(problems)
    return file


def load_environments(names: Collection[str] | None = None) -> NangoSettings:
    """Settings for calls to Nango. names: environments that must be usable (None: all); others may be missing.

    Raises ConfigurationError with every problem.
    """
    problems: list[Problem] = []
    settings = _read(NangoSettings, problems)
    settings.complete_with_file(*_file_of(settings.config, problems))
    _complete_with_environments(settings, sandbox=not problems)
    _require_none([*problems, *settings.environment_problems(names), *problems_of(settings)])
    return settings


def load_definitions() -> tuple[SealingSettings, Definitions]:
    """Sealing settings and the file's definitions, without environments. Raises ConfigurationError with all
    problems.
    """
    problems: list[Problem] = []
    settings = _read(SealingSettings, problems)
    file, path = _file_of(_read(FileSettings, problems).config, problems)
    secrets = destination_secrets(settings, os.environ, problems, file=file)
    _require_none([*problems, *problems_of(settings)])
    return settings, Definitions(file, path, secrets)


def load() -> Settings:
    """All settings, with each environment's secrets. Raises ConfigurationError with every problem.

    Destinations' secrets are in the database; `load_definitions` reads them for the commands that record them there.
    """
    found = diagnose()
    if found.problems:
        raise ConfigurationError(found.problems)
    return found.settings


def load_all() -> tuple[Settings, Definitions]:
    """All settings and definitions. Raises ConfigurationError with every problem."""
    found = diagnose()
    settings, problems = found.settings, [*found.problems]
    secrets = destination_secrets(settings, os.environ, problems, file=settings.file)
    if problems:
        raise ConfigurationError(problems)
    return settings, Definitions(settings.file, settings.file_path, secrets)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All readable settings, and the problems of the others.

    A wrong variable counts as unset, an unreadable file as empty, and an environment with a problem is left out.
    """

    settings: Settings
    problems: list[Problem]
    file_read: bool  # also true where there is no file
    unknown: Sequence[tuple[str, str | None]] = ()  # variables that are no settings, as `unknown_variables` gives them


def diagnose(*, warn: bool = True) -> Diagnosis:
    """All settings with their problems, for reports that name problems instead of failing on them.

    warn: log unknown variables.
    """
    problems: list[Problem] = []
    unreadable: list[Problem] = []
    settings = _read(Settings, problems)
    settings.complete_with_file(*_file_of(settings.config, unreadable))
    _complete_with_environments(settings, sandbox=not unreadable)
    problems += [*unreadable, *settings.environment_problems(), *problems_of(settings)]
    if not unreadable:
        settings.complete_with_directory(read_directory_url(settings, problems))
    unknown = unknown_variables(settings.file_path)
    if warn:
        _log_unknown(unknown)
    return Diagnosis(settings, list(dict.fromkeys(problems)), not unreadable, unknown)


def usable(kind: type[Read]) -> Read | None:
    """Settings of one part; None where they have problems, which `diagnose` reports."""
    problems: list[Problem] = []
    settings = _read(kind, problems)
    return None if problems or problems_of(settings) else settings


def destination_problems(settings: SealingSettings, file: ConfigFile) -> list[Problem]:
    """Problems of the file's destinations and their secrets."""
    problems: list[Problem] = []
    destination_secrets(settings, os.environ, problems, file=file)
    return problems


def readable_file() -> ConfigFile | None:
    """waylink.toml for listings; None where there is none, or where it cannot be read."""
    problems: list[Problem] = []
    file, path = _file_of(_read(FileSettings, problems).config, problems)
    if problems:
        log.warning("file_not_read", problem=str(problems[0]), then="what has left waylink.toml is not marked")
    return None if path is None or problems else file


def _load(kind: type[Read]) -> Read:
    """Settings of a part that waylink.toml does not add to. Raises ConfigurationError with every problem."""
    problems: list[Problem] = []
    settings = _read(kind, problems)
    _require_none([*problems, *problems_of(settings)])
    return settings


def _require_none(problems: list[Problem]) -> None:
    """Raises ConfigurationError where there are problems; else logs unknown variables."""
    if problems:
        raise ConfigurationError(list(dict.fromkeys(problems)))
    _log_unknown(unknown_variables(_path_of(_read(FileSettings, []).config)))


def _log_unknown(unknown: Sequence[tuple[str, str | None]]) -> None:
    for name, meant in unknown:
        log.warning("unknown_variable", variable=name, meant=meant, then="it is ignored")


def _read(kind: type[Read], problems: list[Problem]) -> Read:
    """The settings; a wrong variable is a problem and counts as unset, so that the others are still checked."""
    try:
        return kind()
    except ValidationError as invalid:
        unset = {}
        for error in invalid.errors(include_url=False, include_input=False):
            name = str(error["loc"][0])
            field = kind.model_fields[name]
            unset[name] = field.default
            problems.append(Problem(f"WAYLINK_{name.upper()}", reason(error), f"{(field.examples or [''])[0]}"))
        return kind(**unset)


def _path_of(config: Path | None) -> Path | None:
    """The configuration file; None where no variable names one and the working folder has none."""
    if config is not None:
        return config
    # A broken link is an unreadable file, not a missing one.
    return DEFAULT_CONFIG if os.path.lexists(DEFAULT_CONFIG) else None


def _complete_with_environments(settings: NangoSettings, *, sandbox: bool) -> None:
    settings.complete_with_environments(*read_environments(settings, settings.file, os.environ, sandbox=sandbox))


def _file_of(config: Path | None, problems: list[Problem]) -> tuple[ConfigFile, Path | None]:
    path = _path_of(config)
    return (_read_file(path, problems) if path else ConfigFile()), path


def _read_file(path: Path, problems: list[Problem]) -> ConfigFile:
    text = ""
    try:
        text = read_text(path)
        return ConfigFile.model_validate(tomllib.loads(text))
    except OSError as unreadable:
        what = f"{path} cannot be read: {unreadable.strerror}"
        problems.append(Problem("WAYLINK_CONFIG", what, "/etc/waylink/waylink.toml"))
    except ValidationError as invalid:
        problems.extend(
            Problem(_place(path, text, error["loc"]), reason(error))
            for error in invalid.errors(include_url=False, include_input=False)
        )
    except ValueError as broken:  # of tomllib or decoding; pydantic's error above is a ValueError, too
        problems.append(Problem(str(path), f"not valid TOML: {broken}"))
    return ConfigFile()


def _place(path: Path, text: str, keys: Sequence[str | int]) -> str:
    """The file with the line, in the form that editors open, and the key."""
    line = line_of(text, keys)
    place = str(path) if line is None else f"{path}:{line}"
    return f"{place}: {'.'.join(map(str, keys))}" if keys else place

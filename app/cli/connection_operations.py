"""Shared by commands that act on a connection: the target's options, and the operations on it."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any, TypeVar
from uuid import UUID

import click

from app.cli.connection_target import Target
from app.cli.hinting import open_hints
from app.cli.opening import cli_actor, open_current
from app.clock import utc_now
from app.config.loading import load_environments
from app.config.nango import NangoSettings
from app.errors import ConfigurationError, NotFound
from app.runtime.wiring import open_clients, policy_of
from app.services.connections import connection_import
from app.services.connections.operations import Operations

Command = TypeVar("Command", bound=Callable[..., Any])


def on_connection(command: Command) -> Command:
    """The argument and options that name a connection."""
    for option in (
        click.option("--environment", help="Of this environment, where Nango's id is given."),
        click.option("--integration", help="Of this integration, where Nango's id is given."),
        click.argument("connection", metavar="ID"),
    ):
        command = option(command)
    return command


@contextmanager
def operations_in(environment: str) -> Iterator[tuple[Operations, str]]:
    """Operations in one environment, loaded without the secrets of others, and the actor."""
    with _operations_by(load_environments([environment])) as operations:
        yield operations, cli_actor()


@contextmanager
def operations_on(target: Mapping[str, Any]) -> Iterator[tuple[Operations, UUID, str]]:
    """Operations on a connection, with its row id and the actor.

    Raises NotFound, also where Nango's id is of several connections, Conflict where only Nango has it, and NangoError
    where it is not stored and Nango could not be asked.
    """
    meant = Target(**target)
    settings = load_environments([])  # the connection's environment decides
    with _operations_by(settings) as operations:
        ref = meant.known(operations.database)
        if ref is None:
            _import_missing(operations, settings, meant)
            raise NotFound("connection", meant.connection)
        require_usable(settings, [operations.find(ref).environment])  # only the stored connection has its environment
        yield operations, ref, cli_actor()


def _import_missing(operations: Operations, settings: NangoSettings, meant: Target) -> None:
    """Import the connection from each environment that it may be in."""
    require_usable(settings, None if meant.environment is None else [meant.environment])
    connection_import.import_missing(
        operations, meant.connection, integration=meant.integration, environment=meant.environment, actor=cli_actor()
    )


def require_usable(settings: NangoSettings, environments: Collection[str] | None) -> None:
    """Raises ConfigurationError for a fault of these environments; of any where none is named."""
    if wrong := settings.environment_problems(environments):
        raise ConfigurationError(wrong)


@contextmanager
def _operations_by(settings: NangoSettings) -> Iterator[Operations]:
    """Run operations, and hint the events that they stored at the end."""
    with closing(open_current(settings)) as database, open_clients(settings) as clients:
        operations = Operations(database, policy_of(settings), clients, utc_now)
        try:
            yield operations
        finally:
            if operations.stored:
                with open_hints(settings) as hints:
                    hints.of_events(operations.stored)

"""Modules that a command loads: no other command, and no library that it has no use for."""

import gc
import re
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from app.cli.lazy import LazyGroup, importing
from app.cli.main import waylink

LIBRARIES = {
    "amqp",
    "celery.app",
    "httpx",
    "kombu.connection",
    "prometheus_client",
    "psycopg",
    "redis",
    "sqlalchemy",
    "structlog",
}
# Of what prints a listing: SQLAlchemy loads psycopg for PostgreSQL, and services count what they do.
FOR_LISTINGS = {"prometheus_client", "sqlalchemy", "structlog"}
BESIDE_ACTS = {"jobs": {"amqp"}}  # the acts on jobs are in the module of their listing
LISTINGS = ("audit", "connections", "destinations", "events", "jobs", "rejections", "routes")


def _groups(command: click.Command, path: str) -> Iterator[tuple[str, LazyGroup]]:
    if isinstance(command, click.Group):
        if isinstance(command, LazyGroup):
            yield path, command
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from _groups(command.get_command(context, name), f"{path} {name}")


def _loaded(arguments: str) -> set[str]:
    code = (
        "import sys; from app.cli.main import waylink; waylink.main(sys.argv[1:], standalone_mode=False);"
        "print(*sys.modules, file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", code, *arguments.split()], capture_output=True, text=True, check=True)
    return set(ran.stderr.split())


def test_help_describes_a_command_as_it_describes_itself():
    groups = dict(_groups(waylink, "waylink"))
    assert {"waylink", "waylink events", "waylink routes"} < groups.keys()
    for path, group in groups.items():
        for name, (_, sentence) in group.lazy.items():
            command = group.get_command(click.Context(group), name)
            assert sentence == command.get_short_help_str(limit=1000), f"{path} {name}"
            assert not command.hidden
            assert not command.deprecated


@pytest.mark.parametrize("width", [60, 80, 110])
def test_help_lists_each_command_once_with_its_whole_sentence(width):
    for path, group in _groups(waylink, "waylink"):
        context = click.Context(group, terminal_width=width)
        formatter = context.make_formatter()
        group.format_commands(context, formatter)
        text = formatter.getvalue()
        assert all(len(line) <= width for line in text.splitlines()), path
        assert "..." not in text
        told = re.findall(r"^  (\S+) ", text, re.MULTILINE)
        assert sorted(told) == group.list_commands(context), path
        for name in told:
            sentence = group.get_command(context, name).get_short_help_str(limit=1000)
            assert sentence.partition("; `waylink ")[0].removesuffix(".") in " ".join(text.split()), f"{path} {name}"


def test_the_commands_stand_under_headings_of_what_one_wants_to_do():
    text = waylink.get_help(click.Context(waylink, terminal_width=100))
    assert re.findall(r"^(\S.*):$", text, re.MULTILINE) == ["Options", *waylink.sections]


@pytest.mark.parametrize("arguments", ["--help", "--version"])
def test_help_loads_no_command(arguments):
    loaded = _loaded(arguments)
    assert not LIBRARIES & loaded
    assert {name for name in loaded if name.startswith("app.cli.")} == {"app.cli.lazy", "app.cli.main"}


@pytest.mark.parametrize("listing", LISTINGS)
def test_a_listing_loads_nothing_that_only_acting_needs(listing):
    assert not (LIBRARIES - FOR_LISTINGS - BESIDE_ACTS.get(listing, set())) & _loaded(f"{listing} --help")


def test_garbage_is_not_looked_for_while_a_module_is_imported_and_is_afterwards():
    frozen = gc.get_freeze_count()
    try:
        with importing():
            assert not gc.isenabled()
        assert gc.isenabled()
        assert gc.get_freeze_count() > frozen
    finally:
        gc.unfreeze()

"""Command groups that load a command's module when it is called, and no module to list the commands."""

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import click
from click.shell_completion import CompletionItem

Places = Mapping[str, tuple[str, str]]  # by name: `module:command`, and the first sentence of its help


@contextmanager
def importing() -> Iterator[None]:
    """Import without collections: modules are no garbage, and looking for it takes a seventh of a listing's time."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


class LazyGroup(click.Group):
    """A group with further commands in `lazy`, which are loaded when they are called."""

    def __init__(self, *arguments: Any, lazy: Places | None = None, **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        self.lazy = lazy or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*self.commands, *self.lazy])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.lazy:
            return super().get_command(ctx, cmd_name)
        module, _, name = self.lazy[cmd_name][0].partition(":")
        with importing():
            found: click.Command = getattr(import_module(module), name)
        return found

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The completions that click has for a group, without loading the commands."""
        loaded = {name: command.get_short_help_str() for name, command in self.commands.items()}
        told = {name: sentence for name, (_, sentence) in self.lazy.items()}
        named = [CompletionItem(name, help=(loaded | told)[name]) for name in self.list_commands(ctx)]
        # Those of a group would load each command for the sentence beside it.
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [*(item for item in named if item.value.startswith(incomplete)), *options]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands as click writes it."""
        told = {name: click.Command(name, help=sentence) for name, (_, sentence) in self.lazy.items()}
        click.Group(commands={**self.commands, **told}).format_commands(ctx, formatter)


class Listing(LazyGroup):
    """A group that lists where no command is given; the word `list` may be added."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, args[1:] if args[:1] == ["list"] else args)

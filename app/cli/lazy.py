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
    """A group with further commands, which are loaded when they are called.

    lazy: those commands. sections: the same by headings, as the help lists them.
    """

    def __init__(
        self, *arguments: Any, lazy: Places | None = None, sections: Mapping[str, Places] | None = None, **named: Any
    ) -> None:
        super().__init__(*arguments, **named)
        self.sections = sections or {}
        self.lazy = {**(lazy or {}), **{name: place for part in self.sections.values() for name, place in part.items()}}

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
        sentences = self._sentences()
        named = [CompletionItem(name, help=sentences[name]) for name in self.list_commands(ctx)]
        # Those of a group would load each command for the sentence beside it.
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [*(item for item in named if item.value.startswith(incomplete)), *options]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands with their whole sentences, under the headings of the sections where there are some."""
        sentences = self._sentences()
        parts = {heading: list(part) for heading, part in self.sections.items()}
        width = max(map(len, sentences), default=0)
        for heading, names in (parts or {"Commands": self.list_commands(ctx)}).items():
            with formatter.section(heading):
                formatter.write_dl([(name.ljust(width), _purpose(sentences[name])) for name in names])

    def _sentences(self) -> dict[str, str]:
        """The first sentence of each command's help, by its name."""
        loaded = {name: command.get_short_help_str(limit=1000) for name, command in self.commands.items()}
        return loaded | {name: sentence for name, (_, sentence) in self.lazy.items()}


def _purpose(sentence: str) -> str:
    """The sentence without what another command is good for, which that command's own help says."""
    return sentence.partition("; `waylink ")[0].removesuffix(".")


class Listing(LazyGroup):
    """A group that lists where no command is given; the word `list` may be added."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, args[1:] if args[:1] == ["list"] else args)

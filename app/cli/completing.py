"""`waylink completion`: the script by which a shell completes commands, options and their values."""

from typing import Final

import click
from click.shell_completion import get_completion_class

from app.cli.options import choice

PROGRAM: Final = "waylink"
VARIABLE: Final = "_WAYLINK_COMPLETE"  # by which click's scripts ask; click derives it from the program's name


@click.command()
@click.argument("shell", type=choice(["bash", "zsh", "fish"]))
def completion(*, shell: str) -> None:
    """Print the script by which a shell completes waylink's commands, options and values.

    \b
    bash   add to ~/.bashrc:  eval "$(waylink completion bash)"
    zsh    add to ~/.zshrc, after compinit:  eval "$(waylink completion zsh)"
    fish   waylink completion fish > ~/.config/fish/completions/waylink.fish
    """
    found = get_completion_class(shell)
    if found is None:
        raise click.BadParameter(f"nothing completes for {shell}", param_hint="SHELL")
    # click's `source` would start a bash to ask its version, which may be another than the one that evaluates this.
    script = found(click.get_current_context().find_root().command, {}, PROGRAM, VARIABLE)
    click.echo(script.source_template % script.source_vars(), nl=False)

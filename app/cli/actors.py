"""Who runs the command, as the audit calls them."""

import getpass


def cli_actor() -> str:
    """`cli:<os user>`; a user that the system cannot name is `cli:unknown`."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):
        return "cli:unknown"

"""Options that say since or until when, and the callbacks that read them."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import click

from app.clock import utc_now
from app.errors import InvalidInput
from app.moments import moment

METAVAR = "TIME"  # such as `7d`, or `2026-11-25T22:00:00Z`


def moment_callback(_context: click.Context, _option: click.Parameter, value: str | None) -> datetime | None:
    """For click: `7d` or a time with its zone becomes a datetime."""
    if value is None:
        return None
    try:
        return moment(value, now=utc_now())
    except InvalidInput as wrong:
        raise click.BadParameter(str(wrong)) from None


def moment_option(name: str, help_: str, *, required: bool = False) -> Callable[[Any], Any]:
    return click.option(name, metavar=METAVAR, callback=moment_callback, required=required, help=help_)

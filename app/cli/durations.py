"""Durations as options take them."""

from datetime import timedelta
from typing import Final

import click

from app.config.waylink_toml import duration

LONGEST: Final = timedelta(days=3650)


def duration_option(_context: click.Context, _option: click.Parameter, value: str) -> timedelta:
    """A callback for click: `90d` becomes a timedelta of at most ten years."""
    try:
        return min(duration(value), LONGEST)
    except ValueError as wrong:
        raise click.BadParameter(str(wrong)) from None

"""Rows of a listing, by pages that each look at a bounded number of rows, so that no statement is a long one."""

import sys
from collections.abc import Callable
from typing import Any
from uuid import UUID

import click

from app.db.read.searching import Page
from app.ids import parse

Look = Callable[[UUID | None, int], Page]  # up to so many rows behind an id, or from the beginning


def rows_of(look: Look, prefix: str, *, behind: UUID | None, count: int) -> list[dict[str, Any]]:
    """`count` rows behind an id, or as many as there are. prefix: of the public ids of the rows."""
    found: list[dict[str, Any]] = []
    is_told = not sys.stderr.isatty()
    while True:
        page = look(behind, count - len(found))
        found += page
        if len(found) >= count or page.searched_to is None:
            return found
        if not is_told:
            click.echo("looking at older rows; Ctrl-C ends it", err=True)
        is_told, behind = True, parse(prefix, page.searched_to)

"""`waylink refreshes …`: renewals, and what providers document of their tokens."""

import io
import json
from datetime import date
from unittest import mock

import pytest
from rich.console import Console

from app.cli import output
from app.config.provider_catalogue import shipped_catalogue
from tests.integration.cli.test_cli import Command


@pytest.fixture
def command(tmp_path) -> Command:
    return Command(tmp_path, {})


def test_the_catalogue_is_shown_with_source_and_date_and_needs_no_database(command: Command):
    rows = json.loads(command.inside("refreshes", "catalogue", "--json").stdout)
    assert len(rows) == len(shipped_catalogue().lines)
    assert all(row["source"].startswith("https://") and date.fromisoformat(row["read"]) for row in rows)
    [zendesk] = [row for row in rows if row["names"] == ["zendesk"]]
    assert (zendesk["access_life"], zendesk["refresh_life"], zendesk["rotates"]) == ("30m", "30d", True)


def test_a_line_of_the_catalogue_fits_a_terminal_of_80_columns(command: Command, monkeypatch):
    written = io.StringIO()
    monkeypatch.setattr(output, "_console", lambda: Console(width=80, file=written, highlight=False))
    with mock.patch("sys.stdout", new=io.StringIO()):
        command.inside("refreshes", "catalogue")
    lines = written.getvalue().splitlines()
    assert len(lines) == len(shipped_catalogue().lines) + 1  # each on one line
    assert max(map(len, lines)) <= 80


def test_one_provider_is_shown_by_its_name_at_nango(command: Command):
    shown = command.inside("refreshes", "catalogue", "google-mail").stdout
    assert "180d" in shown
    assert "https://developers.google.com/" in shown
    unknown = command.inside("refreshes", "catalogue", "nonsense")
    assert (unknown.returncode, unknown.stderr) == (1, "error: no provider in the catalogue 'nonsense'\n")


def test_a_listing_of_renewals_is_empty_where_there_are_none(command: Command):
    assert command.inside("migrate").returncode == 0
    assert json.loads(command.inside("refreshes", "--json").stdout) == []
    assert json.loads(command.inside("refreshes", "list", "--open", "--json").stdout) == []

"""Tables of listings: whole ids and names at any width, texts cut, and what is left out is named."""

import json
from datetime import UTC, datetime

import click
import psycopg
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from sqlalchemy.exc import OperationalError, ProgrammingError

from app.cli import following, output
from app.cli.options import as_table
from app.cli.tables import age, layout, short_time

ID = "evt_0197c3a1b2c4d5e6f708192a3b4c5d6e"
ROW = {
    "id": ID,
    "state": "processed",
    "type": "connection.reauthorization_failed",
    "connection_id": "5c6f3c6e-6f4b-4a38-9b57-0f5f5d7c2f11",
    "tags": {"end_user_id": "usr_1042", "plan": "pro"},
    "received_at": "2026-11-30T07:15:20.123456+00:00",
}
COLUMNS = ("id", "age:received_at", "state", "type", "connection_id", "tags")


@pytest.fixture
def shown(monkeypatch):
    """Run a listing of ROW on a terminal of that width; its lines, on standard output and on standard error."""

    def show(*arguments, width=80, rows=(ROW,)):
        @click.command()
        @as_table
        def listing(as_json):
            output.print_list(list(rows), COLUMNS, as_json=as_json)

        monkeypatch.setattr(output, "_width", lambda: width)
        done = CliRunner().invoke(listing, list(arguments))
        return done.stdout.splitlines(), done.stderr, done.exit_code

    return show


@pytest.mark.parametrize("width", [36, 60, 79, 80, 81, 100, 120, 200])
def test_an_id_is_whole_at_any_width_and_no_line_is_longer(shown, width):
    lines, _, code = shown(width=width)
    assert (len(lines), code) == (2, 0)
    assert lines[1].startswith(ID)
    assert all(cell_len(line) <= width for line in lines)


def test_at_80_columns_what_does_not_fit_is_left_out_and_named(shown):
    lines, said, _ = shown()
    assert lines[0].split() == ["id", "age", "state", "type"]
    assert lines[1].split()[2] == "processed"
    assert lines[1].endswith("…")
    assert lines[1].split()[3].startswith("connection.reauthor")
    assert said == "not shown: connection id, tags; --wide shows all, --columns some\n"


def test_where_all_fits_nothing_is_said(shown):
    lines, said, _ = shown(width=200)
    assert "5c6f3c6e-6f4b-4a38-9b57-0f5f5d7c2f11  end_user_id=usr_1042 plan=pro" in lines[1]
    assert said == ""


def test_wide_shows_every_member_uncut_and_times_in_place_of_ages(shown):
    lines, said, _ = shown("--wide", width=40)
    assert lines[0].split() == ["id", "received", "at", "state", "type", "connection", "id", "tags"]
    assert "connection.reauthorization_failed" in lines[1]
    assert "2026-11-30 07:15:20Z" in lines[1]
    assert said == ""


def test_columns_are_shown_as_named(shown):
    lines, _, _ = shown("--columns", "type, id")
    assert lines[1] == f"connection.reauthorization_failed  {ID}"


def test_an_unknown_column_is_refused_with_those_that_there_are(shown):
    lines, said, code = shown("--columns", "id,typ")
    assert (lines, code) == ([], 2)
    assert "there is no 'typ'; there are id, state, type, connection_id, tags, received_at" in said


@pytest.mark.parametrize("named", ["", " , "])
def test_no_column_is_refused(shown, named):
    assert shown("--columns", named)[2] == 2


def test_json_is_not_touched(shown):
    lines, _, _ = shown("--json", "--columns", "id")
    assert '"received_at": "2026-11-30T07:15:20.123456+00:00"' in "\n".join(lines)


def test_an_empty_listing_says_so_whatever_columns_it_would_have(shown):
    assert shown("--columns", "nope", rows=())[:2] == (["nothing found"], "")


@given(
    st.lists(st.lists(st.text(alphabet="aé漢\u0301 ", max_size=50), min_size=3, max_size=3), max_size=5),
    st.integers(1, 120),
)
def test_no_line_is_longer_than_its_width_unless_the_first_column_is(rows, width):
    names = ("id", "type", "problem")
    made = layout(names, rows, width=width)
    first = max(cell_len(row[0]) for row in [names, *rows])
    for row in [names, *rows]:
        assert cell_len(made.line(row)) <= max(width, first)
    assert len(made.columns) + len(made.hidden) == 3


@pytest.mark.parametrize(
    ("at", "shown"),
    [
        ("2026-11-30T11:59:58.5+00:00", "1s"),
        ("2026-11-30T11:57:00Z", "3m"),
        ("2026-11-30T10:00:00+00:00", "2h"),
        ("2026-11-20T12:00:00+00:00", "10d"),
        ("2026-11-30T13:00:00+00:00", "0s"),  # another machine's clock is ahead
        (None, ""),
        ("soon", ""),
        (17, ""),
    ],
)
def test_an_age_is_in_its_largest_unit(at, shown):
    assert age(at, now=datetime(2026, 11, 30, 12, tzinfo=UTC)) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2026-11-30T07:15:20.123456+00:00", "2026-11-30 07:15:20Z"),
        ("2026-11-30T07:15:20Z", "2026-11-30 07:15:20Z"),
        ("2026-11-30T07:15:20+02:00", "2026-11-30T07:15:20+02:00"),
        ("at 2026-11-30T07:15:20Z", "at 2026-11-30T07:15:20Z"),
    ],
)
def test_a_time_is_shown_to_the_second(text, shown):
    assert short_time(text) == shown


class Looks:
    """A listing that is another one each time it is looked at. After the last, Ctrl-C comes."""

    def __init__(self, monkeypatch, *looks):
        self._looks, self.asked = list(looks), []
        monkeypatch.setattr(following.Interrupts, "wait", lambda _ctrl_c, _seconds: self._wait())

    def __call__(self, limit):
        self.asked.append(limit)
        found = self._looks.pop(0)
        if isinstance(found, Exception):
            raise found
        return found[:limit]

    def _wait(self):
        if not self._looks:
            raise KeyboardInterrupt


def row(number, state="received"):
    return {"id": f"evt_{number:032x}", "state": state}


def follow(look, capsys, *, limit=50, as_json=True):
    following.follow(look, ("id", "state"), state=("id", "state"), limit=limit, as_json=as_json)
    said = capsys.readouterr()
    return said.out.splitlines(), said.err


def test_following_shows_the_newest_rows_then_each_that_is_new_or_changed_oldest_first(monkeypatch, capsys):
    old = [row(number) for number in range(9, 0, -1)]
    looks = Looks(monkeypatch, old, [row(11), row(10), *old], [row(11), row(10, "processed"), *old])
    lines, _ = follow(looks, capsys, limit=2)
    assert [json.loads(line) for line in lines] == [row(8), row(9), row(10), row(11), row(10, "processed")]


def test_following_says_when_it_could_not_keep_up(monkeypatch, capsys):
    rows = [row(number) for number in range(following.AT_ONCE + 5, 0, -1)]
    lines, said = follow(Looks(monkeypatch, [], rows), capsys)
    assert len(lines) == following.AT_ONCE
    assert "older ones are not shown" in said


def test_following_waits_for_a_database_that_is_away(monkeypatch, capsys):
    away = OperationalError("SELECT", {}, psycopg.OperationalError("connection refused"))
    lines, said = follow(Looks(monkeypatch, [], away, away, [row(1)]), capsys)
    assert [json.loads(line) for line in lines] == [row(1)]
    assert said.count("waiting for the database") == 1


def test_a_fault_ends_following(monkeypatch, capsys):
    with pytest.raises(ProgrammingError):
        follow(Looks(monkeypatch, ProgrammingError("SELECT", {}, psycopg.ProgrammingError("no such column"))), capsys)


def test_the_heading_is_repeated_where_the_columns_change(monkeypatch, capsys):
    looks = Looks(monkeypatch, [], [row(1)], [row(2), row(1)], [row(3, "a-longer-state"), row(2), row(1)])
    lines, _ = follow(looks, capsys, as_json=False)
    assert [line.split()[0] == "id" for line in lines] == [True, False, False, True, False]


def test_following_and_going_back_are_not_asked_for_together():
    with pytest.raises(click.UsageError, match="--before"):
        following.follow(lambda _: [], (), state=("id",), limit=1, as_json=False, before="evt_1")

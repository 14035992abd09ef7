"""Tables for people, JSON for programs; text from outside cannot steer the terminal or forge a row."""

import json

import pytest

from app.cli.output import print_one, print_rows

HOSTILE = "\x1b[2J\x9b31m\u202egnp.exe\x07\r\nforged row\t\x00\x7f\u2028"
UNSAFE = set("\x1b\x9b\u202e\x07\r\x00\x7f\u2028")


def test_a_listing_as_json_is_an_array_of_objects_with_every_member(capsys) -> None:
    rows = [{"id": "evt_1", "tags": {"a": "é"}, "state": None}]
    print_rows(rows, ("id",), as_json=True)
    assert json.loads(capsys.readouterr().out) == rows


def test_an_empty_listing_is_an_empty_array(capsys) -> None:
    print_rows([], ("id",), as_json=True)
    assert json.loads(capsys.readouterr().out) == []


def test_an_empty_table_says_so(capsys) -> None:
    print_rows([], ("id",), as_json=False)
    assert capsys.readouterr().out.strip() == "nothing found"


def test_a_row_stays_one_line_in_a_pipe_whatever_is_in_it(capsys) -> None:
    rows = [{"id": HOSTILE, "tags": {HOSTILE: HOSTILE}}, {"id": "evt_2", "tags": {}}]
    print_rows(rows, ("id", "tags"), as_json=False)
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 3
    assert not UNSAFE & set(out)
    assert "\t" not in out
    assert "\\x1b[2J" in out


def test_one_object_cannot_steer_the_terminal(capsys) -> None:
    print_one({"id": HOSTILE, "tags": {"a": HOSTILE}, "list": [HOSTILE]}, as_json=False)
    out = capsys.readouterr().out
    assert not UNSAFE & set(out)


@pytest.mark.parametrize("show", [print_one, lambda row, as_json: print_rows([row], ("id",), as_json=as_json)])
def test_json_cannot_steer_the_terminal_and_still_says_the_same(capsys, show) -> None:
    row = {"id": HOSTILE, "tags": {HOSTILE: HOSTILE}}
    show(row, as_json=True)
    out = capsys.readouterr().out
    assert not UNSAFE & set(out)
    assert json.loads(out) in (row, [row])


def test_markup_is_text(capsys) -> None:
    print_rows([{"id": "[red]x[/red] [link=http://evil.test]y[/link]"}], ("id",), as_json=False)
    assert "[red]x[/red] [link=http://evil.test]y[/link]" in capsys.readouterr().out


def test_a_long_value_is_shown_whole(capsys) -> None:
    print_rows([{"id": "x" * 300}], ("id",), as_json=False)
    assert "x" * 300 in capsys.readouterr().out


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "—"), ({}, "—"), ([], "—"), (True, "yes"), (False, "no"), (0, "0"), ({"a": 1}, "a=1")]
)
def test_values_read_as_words(capsys, value: object, shown: str) -> None:
    print_rows([{"value": value}], ("value",), as_json=False)
    assert capsys.readouterr().out.splitlines()[1].strip() == shown

"""Allowed fields of users and organizations, and reading files of them."""

import io

import pytest

from app.domain.people import OwnerKind, changed, check, required
from app.domain.people_files import MAX_LINE, Format, lines_in, read
from app.errors import InvalidInput

USER, ORGANIZATION = OwnerKind.USER, OwnerKind.ORGANIZATION


@pytest.mark.parametrize(
    ("kind", "fields", "field", "rule"),
    [
        (USER, {"external_id": ""}, "external_id", "empty"),
        (USER, {"external_id": None}, "external_id", "required"),
        (USER, {"external_id": "x" * 256}, "external_id", "too_long"),
        (USER, {"external_id": "😀" * 128}, "external_id", "too_long"),
        (USER, {"external_id": "a\0b"}, "external_id", "unstorable"),
        (USER, {"external_id": "a\udc80"}, "external_id", "unstorable"),
        (USER, {"external_id": " a"}, "external_id", "blanks"),
        (USER, {"external_id": 7}, "external_id", "type"),
        (USER, {"email": "dana"}, "email", "email"),
        (USER, {"email": f"{'a' * 250}@b.co"}, "email", "too_long"),
        (USER, {"email": "dänä@acme.example"}, "email", "email"),
        (USER, {"display_name": "n" * 256}, "display_name", "too_long"),
        (USER, {"display_name": ""}, "display_name", "empty"),
        (USER, {"name": "Dana"}, "name", "unknown_field"),
        (ORGANIZATION, {"email": "dana@acme.example"}, "email", "unknown_field"),
        (ORGANIZATION, {"name": "n" * 256}, "name", "too_long"),
    ],
)
def test_a_field_that_cannot_be_taken_is_named_with_its_rule_and_never_with_its_value(kind, fields, field, rule):
    [fault] = check(kind, fields)
    assert (fault.field, fault.rule) == (field, rule)
    value = next(iter(fields.values()))
    assert not isinstance(value, str) or len(value) < 5 or value not in fault.message


def test_good_fields_have_no_fault_and_an_id_is_required():
    good = {"external_id": "x" * 255, "email": "d@acme.example", "display_name": "Dana Ü", "organization": "org_1"}
    assert check(USER, good) == []
    assert check(USER, {"email": None, "display_name": None, "organization": None}) == []
    assert required(good) == []
    assert [fault.rule for fault in required({"email": "d@acme.example"})] == ["required"]


def test_what_is_absent_is_no_change_and_none_clears():
    current = {"external_id": "u", "email": "a@b.example", "display_name": None}
    assert changed(current, {"external_id": "u"}) == {}
    assert changed(current, {"email": None, "display_name": None}) == {"email": None}


def lines_of(format_, text, kind=USER):
    return list(read(kind, format_, text.splitlines(keepends=True)))


def test_csv_cells_are_values_empty_ones_keep_and_the_marker_clears():
    text = "External_ID, email,display_name\nu1,,Dana\n\nu2,\\N,\n"
    first, second = lines_of(Format.CSV, text)
    assert (first.number, first.fields) == (2, {"external_id": "u1", "display_name": "Dana"})
    assert (second.number, second.fields) == (4, {"external_id": "u2", "email": None})


def test_a_quoted_cell_over_several_lines_keeps_the_numbers_of_those_behind_it():
    found = lines_of(Format.CSV, 'external_id,display_name\nu1,"Dana\nWu"\nu2\nu3,"x"y\nu4,Eve\n')
    assert [(line.number, [fault.rule for fault in line.faults]) for line in found] == [
        (2, []),
        (4, ["cells"]),
        (5, ["csv"]),
        (6, []),
    ]
    assert found[0].fields["display_name"] == "Dana\nWu"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("\n\n", "empty"),
        ("id,email\n", "line 1: 'id' is not a field"),
        ("external_id;email\n", "'external_id;email' is not a field"),
        ("email\n", "does not name external_id"),
        ("external_id,email,Email\n", "names email twice"),
        ('external_id,"email\n', "line 1: not CSV"),
        (f"external_id\nu1\n{'x' * (MAX_LINE + 1)}\n", "line 3 has more than 65536 characters"),
    ],
)
def test_a_file_that_is_no_list_of_people_is_refused_with_the_line(text, says):
    with pytest.raises(InvalidInput, match=says):
        lines_of(Format.CSV, text)


def test_a_quote_that_is_never_closed_refuses_one_line_and_says_so():
    found = lines_of(Format.CSV, 'external_id,display_name\nu1,Ann\nu2,"Bob\nu3,Eve\n')
    assert [(line.number, len(line.faults)) for line in found] == [(2, 0), (3, 1)]


def test_json_lines_are_objects_and_bad_ones_are_refused_alone():
    text = '{"external_id": "u1", "email": null}\n\n[1]\n{"external_id": \n' + "[" * 5000 + '\n{"external_id": "u2"}\n'
    found = lines_of(Format.JSON_LINES, text)
    assert [(line.number, [fault.message for fault in line.faults]) for line in found][:3] == [
        (1, []),
        (3, ["not a JSON object"]),
        (4, ["not JSON at character 18"]),
    ]
    assert [(line.number, bool(line.faults)) for line in found][3:] == [(5, True), (6, False)]
    assert found[0].fields == {"external_id": "u1", "email": None}
    [twice] = lines_of(Format.JSON_LINES, '{"external_id": "u1", "email": "a@b.example", "email": null}')
    assert (twice.fields, [(fault.field, fault.rule) for fault in twice.faults]) == ({}, [("email", "repeated")])
    with pytest.raises(InvalidInput, match="line 1 has more than"):
        lines_of(Format.JSON_LINES, '"' + "x" * MAX_LINE + '"')


def test_of_a_line_without_an_end_no_more_is_read_than_shows_it():
    class Endless(io.StringIO):
        read_so_far = 0

        def readline(self, size=-1):
            assert 0 < size <= MAX_LINE + 1
            Endless.read_so_far += size
            return "x" * size

    with pytest.raises(InvalidInput, match="line 1 has more than"):
        list(read(OwnerKind.USER, Format.JSON_LINES, lines_in(Endless())))
    assert Endless.read_so_far <= MAX_LINE + 1
    assert list(lines_in(io.StringIO("a\nb"))) == ["a\n", "b"]

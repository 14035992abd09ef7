"""Text that is no JSON is refused in our words, with its place."""

import json

import pytest

from app.domain.json_errors import why_not_json


@pytest.mark.parametrize(
    ("text", "says", "place"),
    [
        ("", "a value is missing", "line 1, column 1"),
        ('{"a": }', "a value is missing", "line 1, column 7"),
        ('{"a": tru}', "a value is missing", "line 1, column 7"),
        ("{'a': 1}", "a name in double quotes", "line 1, column 2"),
        ('{"a"}', "a colon is missing", "line 1, column 5"),
        ('{"a": 1\n "b": 2}', "a comma is missing", "line 2, column 2"),
        ('["a" "b"]', "a comma is missing", "line 1, column 6"),
        ('{"a": "b', "a string begins that does not end", "line 1, column 7"),
        ('"a\tb"', "a control character", "line 1, column 3"),
        ('"\\x"', "an escape that JSON does not have", "line 1, column 2"),
        ('"\\u12"', "an escape that JSON does not have", "line 1, column"),
        ("{} {}", "more follows", "line 1, column 4"),
        ("\ufeff{}", "a byte order mark", "line 1, column 1"),
    ],
)
def test_each_fault_is_reported_with_its_place_in_our_words(text, says, place):
    with pytest.raises(json.JSONDecodeError) as broken:
        json.loads(text)
    told = why_not_json(broken.value)
    assert says in told
    assert place in told
    assert broken.value.msg not in told


def test_a_message_that_no_rule_knows_is_not_passed_on():
    assert why_not_json(json.JSONDecodeError("Secret", "x", 0)) == "what follows is not JSON, at line 1, column 1"


@pytest.mark.parametrize("text", ["[1,]", '{"a": 1,}'])
def test_a_comma_before_the_end_is_reported_whatever_the_reader_calls_it(text):
    """Readers differ in it by their release."""
    with pytest.raises(json.JSONDecodeError) as broken:
        json.loads(text)
    assert "what follows" not in why_not_json(broken.value)

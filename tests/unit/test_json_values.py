"""Values that may travel as JSON: copied as they are, or refused with their place and without their value."""

from types import MappingProxyType

import pytest

from app.domain.json_keys import Members, RepeatedKey, repeated_key
from app.domain.json_values import json_object, read_with_repeats
from app.errors import InvalidInput


def test_what_json_has_comes_through_as_plain_values():
    given = MappingProxyType({"a": [1, 2.5, None, True, "ü😀"], "b": MappingProxyType({"c": ("x",)}), "": {}})
    assert json_object(given, "metadata") == {"a": [1, 2.5, None, True, "ü😀"], "b": {"c": ["x"]}, "": {}}


NESTED: dict = {}
for _ in range(200):
    NESTED = {"n": NESTED}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": {"b": ["ok", "s3cret\0"]}}, r"^metadata\.a\.b\[1\] holds a NUL or a lone surrogate \(7 characters\)$"),
        ({"a": "s3cret\ud800"}, r"^metadata\.a holds a NUL or a lone surrogate \(7 characters\)$"),
        ({"s3cret\0": 1}, r"^metadata has a key with a NUL or a lone surrogate \(7 characters\)$"),
        ({"a": float("nan")}, r"^metadata\.a is a number that JSON cannot carry$"),
        ({"a": float("-inf")}, r"^metadata\.a is a number that JSON cannot carry$"),
        ({"a": {1: "s3cret"}}, r"^metadata\.a has a key that is a int, and JSON's are strings$"),
        ({"a": b"s3cret"}, r"^metadata\.a is a bytes, which JSON does not have$"),
        ({"a": {"s3cret"}}, r"^metadata\.a is a set, which JSON does not have$"),
        (["s3cret"], r"^metadata must be an object, not list$"),
        (None, r"^metadata must be an object, not NoneType$"),
        (NESTED, r"nested deeper than 100 levels$"),
        ({"a\x1b[2J": "\0"}, r"^metadata\.a\\x1b\[2J holds"),
    ],
)
def test_what_nango_could_not_keep_is_refused_by_place_and_reason(value: object, message: str):
    with pytest.raises(InvalidInput, match=message) as raised:
        json_object(value, "metadata")
    assert "s3cret" not in str(raised.value)
    assert len(str(raised.value)) < 200


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('{"a": 1, "a": 1}', "a"),
        ('{"a": 1, "\\u0061": 2}', "a"),
        ('{"": 1, "": 2}', ""),
        ('{"x": [1, {"y": {"b": 1, "c": 2, "b": 3}}]}', "x[1].y.b"),
        ('[[{"a": 1, "a": 1}]]', "[0][0].a"),
        ('{"x": {"a": 1, "a": 2}, "b": 1, "b": 2}', "b"),
        ('{"a": {"x": 1, "x": 2}, "a": 3}', "a"),
        ('{"a\\u001b": 1, "a\\u001b": 2}', "a\\x1b"),
    ],
)
def test_a_key_that_stands_twice_is_found_at_its_place(text: str, place: str):
    value, repeated = read_with_repeats(text)
    found = repeated_key(value)
    assert repeated
    assert found is not None
    assert (found.place, found.reason) == (place, "the key stands twice in the same object")


@pytest.mark.parametrize(
    "text", ["{}", "[]", "1", '{"a": {"a": {"b": 1}}, "A": [{"a": 1}, {"a": 2}]}', '{"a": "a", "b": "a"}']
)
def test_the_same_key_in_other_objects_is_no_second_one(text: str):
    value, repeated = read_with_repeats(text)
    assert (repeated, repeated_key(value)) == (False, None)


def test_an_object_with_a_key_twice_holds_the_last_value_as_in_javascript():
    found = Members()([("a", 1), ("b", 2), ("a", 3)])
    assert found == {"a": 3, "b": 2}
    assert isinstance(found, RepeatedKey)

"""A body or a query of another shape is refused in our words: the place, what is expected, what was found."""

import json
import re
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from msgspec import Meta, Struct, inspect

from app.web.api.problems import ApiRefusal
from app.web.api.reading import read_body, read_query
from app.web.api.registry import ENDPOINTS

SECRET = "sk-hunter2"


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Inner(Struct, forbid_unknown_fields=True):
    count: int
    kind: Literal["celery", "http"] | None = None


class One(Struct, tag="one", tag_field="kind"):
    a: int


class Two(Struct, tag="two", tag_field="kind"):
    b: int


class Shape(Struct, forbid_unknown_fields=True, kw_only=True):
    text: Annotated[str, Meta(min_length=2, max_length=3)] | None = None
    form: Annotated[str, Meta(pattern="^a")] = "a"
    count: Annotated[int, Meta(ge=1, le=10)] = 1
    rate: Annotated[float, Meta(gt=0, lt=2)] = 1
    fives: Annotated[int, Meta(multiple_of=5)] = 5
    flag: bool = False
    colour: Colour = Colour.RED
    entries: Annotated[list[str], Meta(min_length=1, max_length=2)] | None = None
    numbers: dict[str, int] = {}
    few: Annotated[dict[str, int], Meta(max_length=1)] = {}
    names: dict[Annotated[str, Meta(max_length=2)], int] = {}
    inner: Inner | None = None
    inners: list[Inner] = []
    either: str | int = ""
    tagged: One | Two | None = None
    pair: tuple[int, int] = (1, 2)
    anything: dict[str, Any] = {}
    id: UUID | None = None
    at: datetime | None = None
    zoned: Annotated[datetime, Meta(tz=True)] | None = None
    raw: bytes = b""


def refused(body, shape=Shape):
    with pytest.raises(ApiRefusal) as caught:
        read_body(body if isinstance(body, bytes) else json.dumps(body).encode(), shape)
    return caught.value


BAD_SHAPES = [
    # another type
    ({"text": 1}, "text", "must be a string or null, not a whole number"),
    ({"text": [SECRET]}, "text", "must be a string or null, not a list"),
    ({"count": SECRET}, "count", "must be a whole number, not a string"),
    ({"count": 1.5}, "count", "must be a whole number, not a number"),
    ({"rate": None}, "rate", "must be a number, not null"),
    ({"flag": SECRET}, "flag", "must be true or false, not a string"),
    ({"entries": {}}, "entries", "must be a list or null, not an object"),
    ({"entries": ["a", 1]}, "entries[1]", "must be a string, not a whole number"),
    ({"numbers": []}, "numbers", "must be an object, not a list"),
    ({"numbers": {SECRET: True}}, "numbers[...]", "must be a whole number, not true or false"),
    ({"inner": True}, "inner", "must be an object or null, not true or false"),
    ({"inners": [{"count": 1}, {"count": []}]}, "inners[1].count", "must be a whole number, not a list"),
    ({"either": None}, "either", "must be a whole number or a string, not null"),
    ([], "", "must be an object, not a list"),
    (None, "", "must be an object, not null"),
    # a missing and an unknown field
    ({"inner": {}}, "inner.count", "this field is required"),
    ({"inners": [{}]}, "inners[0].count", "this field is required"),
    (
        {"inner": {"count": 1, "coutn": 2}},
        "inner.coutn",
        "there is no field 'coutn' here; there are `count` and `kind`",
    ),
    # a length
    ({"text": "a"}, "text", "must have at least 2 characters"),
    ({"text": SECRET}, "text", "must have at most 3 characters"),
    ({"entries": []}, "entries", "must have at least 1 entry"),
    ({"entries": [SECRET] * 3}, "entries", "must have at most 2 entries"),
    ({"few": {"a": 1, "b": 2}}, "few", "must have at most 1 member"),
    ({"names": {SECRET: 1}}, "names", "a name in it must have at most 2 characters"),
    ({"pair": [1]}, "pair", "must have exactly 2 entries"),
    # a range
    ({"count": 0}, "count", "must be at least 1"),
    ({"count": 11}, "count", "must be at most 10"),
    ({"count": 2**70}, "count", "must be at most 10"),
    ({"rate": 0}, "rate", "must be more than 0"),
    ({"rate": 2}, "rate", "must be less than 2"),
    ({"fives": 3}, "fives", "must be a multiple of 5"),
    # a choice
    ({"colour": SECRET}, "colour", "must be one of `red` or `blue`"),
    ({"colour": 1}, "colour", "must be one of `red` or `blue`, not a whole number"),
    ({"inner": {"count": 1, "kind": SECRET}}, "inner.kind", "must be one of `celery` or `http`"),
    ({"inners": [{"count": 1, "kind": 1}]}, "inners[0].kind", "must be one of `celery` or `http`, not a whole number"),
    ({"tagged": {"kind": SECRET}}, "tagged.kind", "must be one of `one` or `two`"),
    ({"tagged": {}}, "tagged.kind", "this field is required"),
    # a form
    ({"form": SECRET}, "form", "does not have the form that is expected here"),
    ({"id": SECRET}, "id", "must be a UUID"),
    ({"at": SECRET}, "at", "must be a time such as 2026-01-31T09:30:00Z"),
    ({"zoned": "2026-01-31T09:30:00"}, "zoned", "must be a time with its zone, such as 2026-01-31T09:30:00Z"),
    ({"raw": "\u00e9"}, "raw", "must be Base64"),
]


@pytest.mark.parametrize(("body", "field", "detail"), BAD_SHAPES)
def test_each_kind_of_fault_is_reported_with_its_place_in_our_words(body, field, detail):
    refusal = refused(body)
    [fault] = refusal.errors
    assert (fault["field"], fault["detail"]) == (field, detail)
    assert refusal.detail == (f"{field}: {detail}" if field else f"The body {detail}")
    assert SECRET not in json.dumps([refusal.detail, refusal.errors])


def test_an_unknown_field_of_the_whole_is_reported_with_those_there_are():
    [fault] = refused({"nope": SECRET}).errors
    assert (fault["field"], fault["rule"]) == ("nope", "unknown")
    assert "there are `anything`, `at`, `colour`, `count`, " in fault["detail"]
    assert SECRET not in fault["detail"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "The body is empty: send a JSON object."),
        (b" \n", "The body is empty: send a JSON object."),
        (b'{"text": tru}', "The body is not JSON: a value is missing, at line 1, column 10"),
        (b'{\n"text" 1}', "The body is not JSON: a colon is missing behind a name, at line 2, column 8"),
        (b'{"count": 1}x', "The body is not JSON: more follows, and it should have ended, at line 1, column 13"),
        (b'{"text": "\xff"}', "The body is not JSON: byte 11 is not UTF-8"),
        ("{}".encode("utf-16"), "The body is not JSON: byte 1 is not UTF-8"),
        (b'{"text": "\\ud800"}', "body.text holds a NUL or a lone surrogate (1 characters)"),
        (b'{"rate": NaN}', "body.rate is a number that JSON cannot carry"),
        (b'{"anything": ' + b'{"a":' * 50_000, "The body is nested deeper than 100 levels"),
    ],
)
def test_what_is_no_json_is_reported_with_its_place_in_our_words(body, says):
    assert refused(body).detail == says


WORDS_OF_MSGSPEC = re.compile(r"Expected|Object |Invalid|got `|JSON is malformed|Input data|`(str|int|array|null)`")
WRONG = [None, True, -1, 2**80, 1.5, "", "\u00e9" * 5000, [], [[]], [None], {}, {"": {}}, {"x": None}]


def fields(shape):
    return [field.encode_name for field in inspect.type_info(shape).fields]


def refusal_text(call, *arguments):
    """The text of a refusal; empty where the arguments are accepted."""
    try:
        call(*arguments)
    except ApiRefusal as refusal:
        return json.dumps([refusal.detail, refusal.errors])
    return ""


@pytest.mark.parametrize(
    "endpoint", [endpoint for endpoint in ENDPOINTS if endpoint.body], ids=lambda endpoint: endpoint.name
)
def test_no_body_of_the_api_is_refused_in_the_words_of_msgspec(endpoint):
    required = {field.encode_name: "x" for field in inspect.type_info(endpoint.body).fields if field.required}
    bodies = [{**required, name: value} for name in [*fields(endpoint.body), "nope"] for value in WRONG]
    found = [refusal_text(read_body, json.dumps(body).encode(), endpoint.body) for body in [*WRONG, *bodies]]
    assert [text for text in found if WORDS_OF_MSGSPEC.search(text) or "does not have the form" in text] == []
    assert sum(map(bool, found)) > len(WRONG)


@pytest.mark.parametrize(
    "endpoint", [endpoint for endpoint in ENDPOINTS if endpoint.query], ids=lambda endpoint: endpoint.name
)
def test_no_query_of_the_api_is_refused_in_the_words_of_msgspec(endpoint):
    ends = ["=", "=-1", "=99999999999999999999", f"={'x' * 5000}", "[a]=1"]
    queries = [f"{name}{end}" for name in [*fields(endpoint.query), "nope"] for end in ends]
    found = [refusal_text(read_query, query.encode(), endpoint.query) for query in queries]
    assert [text for text in found if WORDS_OF_MSGSPEC.search(text) or "does not have the form" in text] == []
    assert any(found)


def test_a_parameter_is_reported_without_what_every_parameter_is():
    class Query(Struct, forbid_unknown_fields=True):
        limit: int | None = None
        colour: Colour | None = None

    for query, says in (
        ("limit=ten", "limit: must be a whole number"),
        ("colour=odd", "colour: must be one of `red` or `blue`"),
        ("limti=1", "limti: there is no parameter 'limti' here; there are `colour` and `limit`"),
    ):
        with pytest.raises(ApiRefusal) as caught:
            read_query(query.encode(), Query)
        assert caught.value.detail == says

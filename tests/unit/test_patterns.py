"""EventBridge patterns: what matches, what is refused and where, and that every answer can be explained."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.domain.patterns import Condition, Effort, compile_pattern
from app.domain.patterns.compiling import compile_tree
from app.domain.patterns.tree import combinations
from app.errors import InvalidPattern

# Cases whose answers EventBridge itself gave; a folder beside the repository, not a part of it.
KNOWN_ANSWERS = Path(__file__).resolve().parents[3] / "shared" / "eventbridge-patterns"
KNOWN_CASES = sorted(KNOWN_ANSWERS.glob("*.json5"))


def read_json5(text: str) -> dict:
    """Comments and trailing commas only, both outside of strings."""
    strings_or_comments = re.compile(r'("(?:\\.|[^"\\])*")|//[^\n]*')
    text = strings_or_comments.sub(lambda found: found.group(1) or "", text)
    strings_or_commas = re.compile(r'("(?:\\.|[^"\\])*")|,(?=\s*[}\]])')
    return json.loads(strings_or_commas.sub(lambda found: found.group(1) or "", text))


def matches(pattern: object, document: object) -> bool:
    compiled = compile_pattern(pattern if isinstance(pattern, str) else json.dumps(pattern))
    matched = compiled.matches(document)
    assert matched == all(condition.matched for condition in compiled.explain(document))
    return matched


def answer(case: dict) -> str:
    """`EXC`, `NEG` or a match, as the names of the known cases say."""
    try:
        return "" if matches(case["EventPattern"], case["Event"]) else "NEG"
    except InvalidPattern:
        return "EXC"


def test_eventbridge_and_we_give_the_same_answer():
    """Over the cases that lie beside the repository, where they do; ours below stand for themselves."""
    ours = {path.stem: answer(read_json5(path.read_text(encoding="utf-8"))) for path in KNOWN_CASES}
    theirs = {stem: stem.rpartition("_")[2] if stem.endswith(("_EXC", "_NEG")) else "" for stem in ours}
    assert ours == theirs


def test_the_json5_reader_leaves_strings_alone():
    assert read_json5('{"a": "x // y,}", // note\n "b": [1, 2,],}') == {"a": "x // y,}", "b": [1, 2]}


YES_AND_NO = [
    (["pro"], ["pro"], ["Pro", "pr", "", None, 1]),
    ([300], [300, 300.0, 3e2], ["300", 301, True]),
    ([1], [1, 1.0], [True, "1"]),
    ([True], [True], [1, "true", False]),
    ([False], [False], [0, None, ""]),
    ([None], [None], ["null", "", 0, False]),
    (["a", 5, None], ["a", 5, None], ["b", 6]),
    ([{"prefix": "ent"}], ["ent", "enterprise"], ["Ent", "an ent", 5, None]),
    ([{"prefix": ""}], ["", "x"], [None, 0]),
    ([{"prefix": {"equals-ignore-case": "ENT"}}], ["enterprise", "ENT"], ["an ent"]),
    ([{"suffix": ".io"}], [".io", "a.io"], ["a.IO", "a.io ", 1]),
    ([{"suffix": {"equals-ignore-case": ".IO"}}], ["a.io", "a.Io"], ["a.i"]),
    ([{"equals-ignore-case": "Pro"}], ["pro", "PRO"], ["pros", None]),
    ([{"wildcard": "a*b*c"}], ["abc", "a1b2c", "abbcc"], ["ab", "acb", "xabc", "abcx"]),
    ([{"wildcard": "*"}], ["", "x"], [None, 1]),
    ([{"wildcard": "ab*ba"}], ["abba", "abxba"], ["aba", "ab"]),
    ([{"wildcard": r"a\*b\\"}], ["a*b\\"], ["axb\\", "a*b"]),
    ([{"wildcard": "exact"}], ["exact"], ["exactly"]),
    ([{"anything-but": "a"}], ["b", 1, None, True, ""], ["a"]),
    ([{"anything-but": ["a", "b"]}], ["c", None], ["a", "b"]),
    ([{"anything-but": 1}], [2, "1", True, None], [1, 1.0]),
    ([{"anything-but": [1, 2.5]}], [3], [1, 2.5]),
    ([{"anything-but": {"prefix": ["a", "b"]}}], ["c", 5, None], ["ax", "bx"]),
    ([{"anything-but": {"suffix": "x"}}], ["y", None], ["ax"]),
    ([{"anything-but": {"equals-ignore-case": ["A", "b"]}}], ["c"], ["a", "B"]),
    ([{"anything-but": {"wildcard": ["a*", "*z"]}}], ["b", None], ["a", "yz"]),
    ([{"exists": True}], ["", 0, None, False], []),
    ([{"numeric": ["=", 3.5]}], [3.5], [3, "3.5", None]),
    ([{"numeric": [">", 0, "<=", 5]}], [0.1, 5], [0, 5.1, True, "3"]),
    ([{"numeric": [">=", 1]}], [1, 10**30], [0.99]),
    ([{"numeric": ["<", 5_000_000_000]}], [4999999999.5, -(10**30)], [5_000_000_000, 10**30]),
    ([9007199254740993], [9007199254740993], [9007199254740992]),
    ([{"cidr": "10.0.0.0/24"}], ["10.0.0.0", "10.0.0.255"], ["10.0.1.0", "::1", "10.0.0", 10, None]),
    ([{"cidr": "10.0.0.7/8"}], ["10.255.0.1"], ["11.0.0.1"]),
    ([{"cidr": "2001:db8::/32"}], ["2001:db8::1", "2001:0DB8:0::2"], ["2001:db9::1", "fe80::1%eth0", "1.2.3.4"]),
    ([{"cidr": "10.0.0.010/024"}], ["10.0.0.1", "10.0.0.001", "::ffff:0a00:0001"], ["10.0.1.1", "10.0.0.1000"]),
    ([{"cidr": "::ffff:0a00:0/24"}], ["10.0.0.9"], ["10.0.1.9", "::ffff:0b00:1"]),
    ([{"cidr": "10.0.0.0/0"}], ["1.2.3.4"], ["::1", "1.2.3.4.5", "01234567.0.0.1"]),
    (["2001:DB8::1"], ["2001:DB8::1", "2001:db8:0:0::1"], ["2001:db8::2", "::1", "x", None]),
    (["10.0.0.1"], ["10.0.0.1"], ["10.0.0.2", "::ffff:0a00:0001"]),
    ([{"exactly": "pro"}], ["pro"], ["Pro", None, "exactly"]),
    ([{"exactly": "::1"}], ["::1"], ["0:0::1"]),
    ([{"equals-ignore-case": "straße"}], ["STRASSE", "Straße"], ["strasse"]),
    ([{"equals-ignore-case": "ΟΔΟΣ"}], ["οδοσ", "ΟΔΟΣ"], ["οδος"]),
    ([{"equals-ignore-case": "k"}], ["k", "K"], ["\u212a"]),
    ([{"equals-ignore-case": "a.c\n"}], ["A.C\n"], ["abc\n", "a.c"]),
    ([{"prefix": {"equals-ignore-case": "straß"}}], ["STRASSEN", "straßen"], ["strassen", "xstraß"]),
    ([{"suffix": {"equals-ignore-case": "aß"}}], ["XASS", "xaß"], ["xass", "aßx"]),
    ([{"suffix": {"equals-ignore-case": ""}}], ["", "x", "ß"], [None, 0]),
    ([{"prefix": {"equals-ignore-case": ""}}], ["", "x", "ß"], [None, 0]),
    ([{"prefix": {"equals-ignore-case": "ab"}}], ["AB", "aBß"], ["a", "", "ßab"]),
    ([{"suffix": {"equals-ignore-case": "ab"}}], ["AB", "ßaB"], ["b", "", "abß"]),
    ([{"suffix": ""}], ["", "x"], [None, 0]),
    ([{"equals-ignore-case": ""}], [""], ["x", None]),
    ([{"wildcard": ""}], [""], ["x"]),
    ([{"wildcard": r"\**\*"}], ["**", "*x*"], ["*", "x*"]),
    ([{"anything-but": ""}], ["x", None], [""]),
    ([{"anything-but": {"wildcard": "*"}}], [1, None], ["", "x"]),
    ([{"anything-but": -0.0}], [1, "0"], [0, -0.0]),
    ([{"anything-but": ["a"]}, "a"], ["a", "b"], []),
    (["x", {"prefix": "y"}, {"numeric": [">", 5]}], ["x", "y1", 6], ["z", 5]),
]


@pytest.mark.parametrize(("entries", "yes", "no"), YES_AND_NO, ids=lambda part: json.dumps(part)[:40])
def test_an_entry_accepts_these_values_and_no_others(entries: list, yes: list, no: list):
    assert [value for value in yes if not matches({"field": entries}, {"field": value})] == []
    assert [value for value in no if matches({"field": entries}, {"field": value})] == []


def test_only_exists_false_accepts_a_missing_field():
    others = [entries for entries, _, _ in YES_AND_NO]
    assert [entries for entries in others if matches({"field": entries}, {})] == []
    assert matches({"field": [{"exists": False}]}, {})
    assert not matches({"field": [{"exists": False}]}, {"field": None})
    assert matches({"field": ["v", {"exists": False}]}, {"other": 1})


@pytest.mark.parametrize("value", [{"deeper": 1}, [], [[]], [{"deeper": 1}]])
def test_a_field_without_a_value_of_its_own_counts_as_missing(value: object):
    assert matches({"field": [{"exists": False}]}, {"field": value})
    assert not matches({"field": [{"exists": True}]}, {"field": value})
    assert not matches({"field": [{"anything-but": "x"}]}, {"field": value})


@pytest.mark.parametrize("user", [None, "text", 5, [], [1]])
def test_fields_below_something_that_is_no_object_are_missing(user: object):
    assert matches({"user": {"id": [{"exists": False}]}}, {"user": user})
    assert not matches({"user": {"id": [{"anything-but": "x"}]}}, {"user": user})


def test_an_array_matches_when_one_of_its_values_does():
    assert matches({"scopes": ["mail"]}, {"scopes": ["calendar", ["mail"]]})
    assert matches({"scopes": [{"anything-but": "mail"}]}, {"scopes": ["mail", "calendar"]})
    assert not matches({"scopes": [{"anything-but": "mail"}]}, {"scopes": ["mail"]})


EMPLOYEES = {"employees": [{"first": "Anna", "last": "Smith"}, [{"first": "Peter", "last": "Jones", "left": True}]]}


def test_fields_of_different_array_elements_do_not_add_up_to_a_match():
    assert matches({"employees": {"first": ["Anna"], "last": ["Smith"]}}, EMPLOYEES)
    assert matches({"employees": {"first": ["Peter"]}}, EMPLOYEES)
    assert not matches({"employees": {"first": ["Anna"], "last": ["Jones"]}}, EMPLOYEES)
    assert matches({"employees": {"first": ["Anna"], "left": [{"exists": False}]}}, EMPLOYEES)
    assert not matches({"employees": {"first": ["Peter"], "left": [{"exists": False}]}}, EMPLOYEES)


def test_a_field_is_missing_from_an_array_only_when_every_element_lacks_it():
    assert not matches({"employees": {"left": [{"exists": False}]}}, EMPLOYEES)
    assert matches({"employees": {"salary": [{"exists": False}]}}, EMPLOYEES)


def test_an_or_outside_of_the_array_still_asks_for_one_element():
    last = [{"employees": {"last": ["Jones"]}}, {"nothing": ["here"]}]
    assert matches({"employees": {"first": ["Peter"]}, "$or": last}, EMPLOYEES)
    assert not matches({"employees": {"first": ["Anna"]}, "$or": last}, EMPLOYEES)


def test_or_holds_when_one_option_does_and_combines_with_its_neighbours():
    pattern = {"type": ["a"], "tags": {"$or": [{"plan": ["pro"], "seats": [{"exists": True}]}, {"vip": ["yes"]}]}}
    assert matches(pattern, {"type": "a", "tags": {"vip": "yes"}})
    assert matches(pattern, {"type": "a", "tags": {"plan": "pro", "seats": "4"}})
    assert not matches(pattern, {"type": "a", "tags": {"plan": "pro"}})
    assert not matches(pattern, {"type": "b", "tags": {"vip": "yes"}})


def test_or_nests():
    pattern = {"$or": [{"a": [1]}, {"b": [1], "$or": [{"c": [1]}, {"d": [1]}]}]}
    assert matches(pattern, {"b": 1, "d": 1})
    assert not matches(pattern, {"b": 1})


@pytest.mark.parametrize(
    "document", [{"d": {"a.b": "x"}}, {"d": {"a": {"b": "x"}}}, {"d.a": {"b": "x"}}, {"d.a.b": "x"}]
)
def test_names_joined_by_dots_are_the_fields_they_lead_to(document):
    for pattern in ({"d": {"a.b": ["x"]}}, {"d": {"a": {"b": ["x"]}}}, {"d.a": {"b": ["x"]}}, {"d.a.b": ["x"]}):
        assert matches(pattern, document)
    for pattern in ({"d": {"a.b": ["y"]}}, {"d": {"a": ["x"]}}, {"d": {"b": ["x"]}}, {"d.a.b.c": ["x"]}):
        assert not matches(pattern, document)
    assert matches({"d.a.c": [{"exists": False}], "d": {"a": {"b": [{"exists": True}]}}}, document)


@pytest.mark.parametrize(
    "pattern",
    [
        {"tags": {"Plan": ["pro"]}},
        {"tags.PLAN": ["pro"]},
        {"tags": {"Team.Size": [5]}},
        {"tags": {"team": {"Size": [5]}}},
        {"$or": [{"tags": {"Plan": ["free"]}}, {"tags": {"Plan": ["pro"]}}]},
        {"tags": {"$or": [{"Plan": ["pro"]}, {"Tier": ["gold"]}]}},
    ],
)
def test_the_case_of_a_tags_name_does_not_count(pattern):
    assert compile_pattern(pattern).matches({"tags": {"plan": "pro", "team.size": 5}})


def test_the_case_counts_in_values_and_in_other_fields():
    document = {"type": "a", "tags": {"plan": "pro"}, "payload": {"Tags": {"Plan": "x"}, "tags": {"Plan": "x"}}}
    assert not compile_pattern({"tags": {"plan": ["Pro"]}}).matches(document)
    assert not compile_pattern({"Type": ["a"]}).matches(document)
    assert compile_pattern({"payload": {"tags": {"Plan": ["x"]}}}).matches(document)
    assert not compile_pattern({"payload": {"tags": {"plan": ["x"]}}}).matches(document)


def test_a_tag_asked_for_in_two_cases_is_asked_for_twice():
    with pytest.raises(InvalidPattern, match="twice") as refused:
        compile_pattern({"tags": {"Plan": ["pro"], "plan": ["free"]}})
    assert refused.value.path == "tags.plan"


def test_a_field_that_is_there_in_both_ways_has_both_values():
    document = {"a.b": 1, "a": {"b": 2, "c": 3}}
    assert matches({"a": {"b": [1]}}, document)
    assert matches({"a": {"b": [2], "c": [3]}}, document)
    assert matches({"a.b": [{"exists": True}], "a.c": [3]}, document)
    assert not matches({"a": {"b": [3]}}, document)
    assert matches({"a": ["x"]}, {"a": "x", "a.b": 1})
    assert matches({"a.b": [1]}, {"a": "x", "a.b": 1})


def test_a_field_and_one_below_it_can_both_be_asked_for():
    pattern = {"tags": {"plan": ["pro"], "plan.tier": ["gold", {"prefix": "si"}]}}
    assert matches(pattern, {"tags": {"plan": "pro", "plan.tier": "silver"}})
    assert not matches(pattern, {"tags": {"plan": "pro", "plan.tier": "iron"}})
    assert not matches(pattern, {"tags": {"plan": "free", "plan.tier": "gold"}})
    assert not matches(pattern, {"tags": {"plan": "pro"}})
    either = {"a": [1], "$or": [{"a.b": [2]}, {"a.c": [3]}]}
    assert matches(either, {"a": 1, "a.c": 3})
    assert not matches(either, {"a": 1, "a.c": 2})
    shown = [
        (condition.path, condition.matched)
        for condition in compile_pattern(pattern).explain({"tags": {"plan.tier": "gold"}})
    ]
    assert shown == [("tags.plan", False), ("tags.plan.tier", True)]


@pytest.mark.parametrize("name", ["." * 70_000, ".".join("a" * 40_000), ".", "", "a..b"])
def test_names_of_nothing_but_dots_do_no_harm(name):
    assert matches({"type": ["x"]}, {"type": "x", name: {name: [name, {name: 1}]}})
    assert not matches({"type": ["y"]}, {"type": "x", name: 1})


REFUSED = [
    ("[]", "", "a list"),
    ("{", "", "line 1, column 2"),
    ('{\n  "a": [1,]\n}', "", "line 2"),
    ('{"a": [NaN]}', "", "NaN"),
    ('{"a": [1e999]}', "", "too large"),
    ('{"a": [' + "9" * 5000 + "]}", "", "digits"),
    ("{}", "", "empty object"),
    ('{"a": {}}', "a", "empty object"),
    ('{"a": {"b": []}}', "a.b", "empty list"),
    ('{"a": "x"}', "a", "a string"),
    ('{"a": null}', "a", "null"),
    ('{"a": [[1]]}', "a", "list inside"),
    ('{"a": [{}]}', "a", "exactly one key"),
    ('{"a": [{"prefix": "x", "suffix": "y"}]}', "a", "exactly one key"),
    ('{"a": [{"regex": "x"}]}', "a", "'regex' is not an operator"),
    ('{"tags": {"a.b": [{"prefix": 1}]}}', "tags.a.b", "prefix takes a string"),
    ('{"a.b": [1], "a": {"b": [2]}}', "a.b", "twice"),
    ('{"' + ".".join("a" * 40) + '": [1]}', ".".join("a" * 32), "deeper"),
    ('{"a": [{"prefix": {"suffix": "x"}}]}', "a", "equals-ignore-case"),
    ('{"a": [{"suffix": ["x"]}]}', "a", "suffix takes a string"),
    ('{"a": [{"equals-ignore-case": null}]}', "a", "not null"),
    ('{"a": [{"exists": "yes"}]}', "a", "true or false"),
    ('{"a": [{"wildcard": "a**b"}]}', "a", "two wildcards"),
    ('{"a": [{"wildcard": "a\\\\b"}]}', "a", "backslash at 1"),
    ('{"a": [{"wildcard": "a\\\\"}]}', "a", "backslash at 1"),
    ('{"a": [{"wildcard": "*1*2*3*4*5*"}]}', "a", "too complex"),
    ('{"a": [{"anything-but": []}]}', "a", "anything-but takes"),
    ('{"a": [{"anything-but": [1, "x"]}]}', "a", "only strings or only numbers"),
    ('{"a": [{"anything-but": null}]}', "a", "anything-but takes"),
    ('{"a": [{"anything-but": true}]}', "a", "anything-but takes"),
    ('{"a": [{"anything-but": {"numeric": ["=", 1]}}]}', "a", "inside anything-but"),
    ('{"a": [{"anything-but": {"prefix": ["x", ""]}}]}', "a", "empty prefix"),
    ('{"a": [{"anything-but": {"wildcard": []}}]}', "a", "empty list"),
    ('{"a": [{"numeric": [">", 5, "<", 5]}]}', "a", "below the upper"),
    ('{"a": [{"numeric": ["<", 5, ">", 1]}]}', "a", "lower bound first"),
    ('{"a": [{"numeric": ["=", 5, "<", 9]}]}', "a", "lower bound first"),
    ('{"a": [{"numeric": ["==", 5]}]}', "a", "'=='"),
    ('{"a": [{"numeric": ["=", true]}]}', "a", "a boolean"),
    ('{"a": [{"numeric": ["="]}]}', "a", "numeric takes"),
    ('{"a": [{"numeric": 5}]}', "a", "numeric takes"),
    ('{"a": [{"numeric": [">", 5000000000.1]}]}', "a", "from -5,000,000,000 to 5,000,000,000"),
    ('{"a": [{"numeric": [">", -6e9, "<", 1]}]}', "a", "from -5,000,000,000"),
    ('{"a": [{"numeric": [">=", 1, ">", 5]}]}', "a", "lower bound first"),
    ('{"a": [{"numeric": []}]}', "a", "numeric takes"),
    ('{"a": [{"numeric": ["=", "5"]}]}', "a", "a string"),
    ('{"a": [{"anything-but": [1, 6000000000]}]}', "a", "anything-but takes numbers from"),
    ('{"a": [{"anything-but": [null]}]}', "a", "only strings or only numbers"),
    ('{"a": [{"anything-but": [["x"]]}]}', "a", "only strings or only numbers"),
    ('{"a": [{"anything-but": {}}]}', "a", "inside anything-but"),
    ('{"a": [{"anything-but": {"prefix": "x", "suffix": "y"}}]}', "a", "inside anything-but"),
    ('{"a": [{"anything-but": {"anything-but": "x"}}]}', "a", "inside anything-but"),
    ('{"a": [{"anything-but": {"wildcard": "a**"}}]}', "a", "two wildcards"),
    ('{"a": [{"anything-but": {"equals-ignore-case": ["x", 1]}}]}', "a", "takes a string"),
    ('{"a": [{"exactly": 5}]}', "a", "exactly takes a string"),
    ('{"a": [{"exactly": "x", "prefix": "x"}]}', "a", "exactly one key"),
    ('{"a": [{"exists": null}]}', "a", "true or false"),
    ('{"a": [{"exists": true, "prefix": "x"}]}', "a", "exactly one key"),
    ('{"a": [{"wildcard": "***"}]}', "a", "two wildcards"),
    ('{"a": [{"cidr": "10.0.0/8"}]}', "a", "not a block"),
    ('{"a": [{"cidr": "10.0.0.0/-1"}]}', "a", "not a block"),
    ('{"a": [{"cidr": "10.0.0.0/8/8"}]}', "a", "not a block"),
    ('{"a": [{"cidr": "::ffff:10.0.0.0/100"}]}', "a", "not a block"),
    ('{"a": [{"cidr": "::ffff:0a00:0/100"}]}', "a", "longer than 31"),
    ('{"a": [{"cidr": "1::2::3/8"}]}', "a", "not an address"),
    ('{"a": [{"cidr": "fe80::1%eth0/64"}]}', "a", "not a block"),
    ('{"$or": []}', "$or", "two or more"),
    ('{"$or": [{"a": [1]}, {"$or": [{"b": [1]}]}]}', "$or[1].$or", "two or more"),
    ('{"$or": [{"a": [1]}, {"b": {"numeric": [1]}}]}', "$or[1].b.numeric", "inside $or"),
    ('{"a": [{"cidr": "10.0.0.0"}]}', "a", "not a block"),
    ('{"a": [{"cidr": "10.0.0.0/255.0.0.0"}]}', "a", "not a block"),
    ('{"a": [{"cidr": "10.0.0.0/32"}]}', "a", "longer than 31"),
    ('{"a": [{"cidr": "::1/128"}]}', "a", "longer than 127"),
    ('{"a": [{"cidr": "10.0.0.256/8"}]}', "a", "not an address"),
    ('{"$or": {"a": [1]}}', "$or", "two or more"),
    ('{"x": {"$or": [{"a": [1]}]}}', "x.$or", "two or more"),
    ('{"$or": [{"a": [1]}, 5]}', "$or[1]", "a number"),
    ('{"$or": [{"a": [1]}, {}]}', "$or[1]", "empty object"),
    ('{"$or": [{"a": [1]}, {"b": {"c": 1}}]}', "$or[1].b.c", "must be a list"),
    ('{"$or": [{"a": [1]}, {"prefix": ["x"]}]}', "$or[1].prefix", "inside $or"),
    ('{"a": [1], "$or": [{"a": [2]}, {"b": [1]}]}', "a", "twice"),
    ('{"a": ["x\\u0000"]}', "", "NUL"),
    ('{"a\\ud800": ["x"]}', "", "half of a character"),
    ('{"a": [1], "a": [2]}', "a", "twice"),
    ('{"x": {"a": [1], "a": [2]}}', "x.a", "twice"),
    ('{"x": {"a": [{"prefix": "1", "prefix": "2"}]}}', "x.a", "twice"),
    ('{"x": {"a": [{"anything-but": {"prefix": "1", "prefix": "2"}}]}}', "x.a", "twice"),
]


@pytest.mark.parametrize(("source", "path", "reason"), REFUSED, ids=[source[:50] for source, _, _ in REFUSED])
def test_what_eventbridge_refuses_is_refused_with_place_and_reason(source: str, path: str, reason: str):
    with pytest.raises(InvalidPattern) as refused:
        compile_pattern(source)
    assert refused.value.path == path
    assert reason in refused.value.reason


@pytest.mark.parametrize("source", [{"a": [{1, 2}]}, {"a": [float("nan")]}, {1: ["a"], "1": ["b"]}], ids=repr)
def test_an_object_that_is_not_json_is_refused(source: dict):
    with pytest.raises(InvalidPattern):
        compile_pattern(source)


@pytest.mark.parametrize(
    "source",
    [
        '{"a": ' * 33 + "[1]" + "}" * 33,
        '{"a": ' * 9000 + "[1]" + "}" * 9000,
        '{"$or": [{"z": [1]}, ' * 40 + '{"a": [1]}' + "]}" * 40,
        json.dumps({"a": ["x" * 70_000]}),
        json.dumps({f"f{i}": {"$or": [{"a": [1]}, {"b": [1]}]} for i in range(10)}),
    ],
    ids=["deep", "deeper", "deep or", "long", "1024 combinations"],
)
def test_the_work_a_pattern_can_ask_for_is_bounded(source: str):
    with pytest.raises(InvalidPattern):
        compile_pattern(source)


def test_the_canonical_source_does_not_depend_on_the_writing():
    compiled = compile_pattern('{"b": [1],   "a": {"d": ["x"], "c": [{"prefix": "y"}]}}')
    other = compile_pattern({"a": {"c": [{"prefix": "y"}], "d": ["x"]}, "b": [1]})
    assert compiled == other
    assert hash(compiled) == hash(other)
    assert compiled.source == {"a": {"c": [{"prefix": "y"}], "d": ["x"]}, "b": [1]}
    assert list(compiled.source) == ["a", "b"]
    compiled.source["a"] = "changed"
    assert "c" in compiled.source["a"]


def test_each_condition_shows_expected_and_actual():
    pattern = compile_pattern({"type": ["created"], "tags": {"plan": ["pro", {"prefix": "ent"}], "a.b": ["x"]}})
    assert pattern.explain({"type": "created", "tags": {"plan": "free"}}) == (
        Condition("type", ["created"], "created", present=True, matched=True),
        Condition("tags.plan", ["pro", {"prefix": "ent"}], "free", present=True, matched=False),
        Condition("tags.a.b", ["x"], None, present=False, matched=False),
    )


def test_a_null_and_a_missing_field_are_distinguished():
    null, missing = (compile_pattern({"a": ["x"]}).explain(document)[0] for document in ({"a": None}, {}))
    assert (null.actual, null.present) == (None, True)
    assert (missing.actual, missing.present) == (None, False)


def test_an_or_is_one_condition_with_its_options_below():
    pattern = compile_pattern({"t": {"$or": [{"plan": ["pro"]}, {"vip": ["yes"]}]}})
    (condition,) = pattern.explain({"t": {"vip": "yes"}})
    assert (condition.path, condition.matched, condition.actual) == ("t.$or", True, [1])
    assert condition.expected == [{"plan": ["pro"]}, {"vip": ["yes"]}]
    assert [[(each.path, each.matched) for each in option] for option in condition.alternatives] == [
        [("t.plan", False)],
        [("t.vip", True)],
    ]


def test_an_array_is_explained_by_the_element_that_comes_closest():
    pattern = compile_pattern({"employees": {"first": ["Anna"], "last": ["Jones"], "left": [{"exists": False}]}})
    explained = {condition.path: condition for condition in pattern.explain(EMPLOYEES)}
    assert explained["employees.first"].matched
    assert explained["employees.last"].actual == "Smith"


scalars = st.sampled_from(["x", "y", "xy", 1, 1.0, True, None])
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
entries = st.lists(
    scalars | st.sampled_from([{"exists": False}, {"exists": True}, {"prefix": "x"}, {"anything-but": "x"}]),
    min_size=1,
    max_size=3,
)
plain_patterns = st.recursive(
    st.dictionaries(st.sampled_from("abc"), entries, min_size=1, max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner | entries, min_size=1, max_size=2),
    max_leaves=4,
)
patterns = plain_patterns | st.builds(
    lambda plain, options: {**{name: part for name, part in plain.items() if name == "a"}, "$or": options},
    plain_patterns,
    st.lists(st.dictionaries(st.sampled_from("bc"), entries, min_size=1, max_size=2), min_size=2, max_size=3),
)


@given(pattern=patterns, document=st.dictionaries(st.sampled_from("abc"), documents, max_size=3))
def test_the_explanation_always_agrees_with_the_answer(pattern: dict, document: dict):
    matches(pattern, document)


trees = st.recursive(
    entries,
    lambda inner: (
        st.dictionaries(st.sampled_from("abc"), inner, min_size=1, max_size=2)
        | st.builds(
            lambda rest, options: {**rest, "$or": options},
            st.dictionaries(st.sampled_from("abc"), inner, max_size=1),
            st.lists(st.dictionaries(st.sampled_from("abc"), inner, min_size=1, max_size=2), min_size=2, max_size=3),
        )
    ),
    max_leaves=8,
).filter(lambda tree: isinstance(tree, dict))


@given(pattern=trees, document=st.dictionaries(st.sampled_from("abc"), documents, max_size=3))
@example({"a": {"b": [1]}, "$or": [{"a": {"c": [2]}}, {"b": [1]}]}, {"a": [{"b": 1, "c": 3}, {"b": 3, "c": 2}]})
@example({"a": {"$or": [{"b": [{"exists": False}]}, {"c": [1]}]}}, {"a": [{"b": 1, "c": 2}, {"c": 2}]})
@example({"a": {"b": {"c": [1]}}, "$or": [{"a": {"b": {"a": [1]}}}, {"b": [1]}]}, {"a": {"b": [{"c": 1}, {"a": 1}]}})
def test_a_choice_answers_what_its_combinations_answer_that_are_spelled_out(pattern: dict, document: dict):
    """A `$or` is matched where it stands; EventBridge spells out the combinations, and matches one after the other."""
    try:
        root = compile_tree(pattern)
    except InvalidPattern:  # a field that is asked for twice
        return
    spelled_out = any(each.matches(document, Effort()) for each in combinations(root, Effort()))
    assert root.matches(document, Effort()) == spelled_out
    assert matches(pattern, document) == spelled_out

"""Patterns and documents of strangers cost linear work: for every operator, compiling, matching, explaining, filing."""

import json
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain import people, routing, tags
from app.domain.event import EventType, read
from app.domain.json_values import json_object
from app.domain.patterns import ASKED, KEPT, Effort, Pattern, compile_pattern
from app.domain.patterns.effort import MAX_STEPS
from app.domain.patterns.fields import unfolded
from app.domain.route_index import RouteIndex
from app.domain.routing import Route, RouteSet
from app.domain.shortening import shortened
from app.errors import InvalidPattern, TooMuchWork
from app.services.routing.explanations import DecisionRenderer
from tests.growth import assert_linear, growth, steps

INSTRUCTIONS = 100  # of Python, of one step at most
MANY = 30_000  # steps
SECONDS = 5.0  # of processor time, as a guard against hanging: each takes some hundredths, and took minutes before

Source = dict[str, Any]


def route(name: str, source: Source, team: str = "crm") -> Route:
    return Route(name, 1, team, "jobs", "crm.do", compile_pattern(source))


def numbered(count: int, entries: list[Any], letter: str = "f") -> Source:
    return {f"{letter}{number}": entries for number in range(count)}


def test_a_step_is_counted_for_each_instruction_and_quadratic_work_is_seen():
    def quadratic(size: int) -> Callable[[], object]:
        return lambda: [1 for _ in range(size) for _ in range(size // 10)]

    assert growth(quadratic) > 3.5
    assert 1.9 < growth(lambda size: lambda: [1 for _ in range(size)]) < 2.1


def test_the_steps_of_code_that_ran_before_are_counted_and_those_of_another_thread_are_not():
    def work() -> int:
        return sum(number for number in range(1_000))

    work()
    assert steps(work) == steps(work) > 1_000
    with ThreadPoolExecutor(1) as pool:
        assert steps(lambda: pool.submit(work).result()) < 1_000


class Finalized:
    """An object in a cycle, whose end is work in Python."""

    def __init__(self) -> None:
        self.itself = self

    def __del__(self) -> None:
        sum(number for number in range(1_000))


def test_finalizers_of_what_other_tests_left_are_not_counted():
    def allocate() -> int:
        return len([[number] for number in range(5_000)])  # enough for several collections

    allocate()
    alone = steps(allocate)
    left = [Finalized() for _ in range(100)]
    left.clear()
    assert steps(allocate) == alone


DOCUMENTS: dict[str, Callable[[int], Any]] = {
    "names with dots": lambda n: {f"a.{number}": 1 for number in range(n)},
    "names with dots beside an object": lambda n: {"a": {"x": 1}, **{f"a.{number}": {"y": 2} for number in range(n)}},
    "names with dots beside a value": lambda n: {"a": [1], **{f"a.{number}": 1 for number in range(n)}},
    "names that lead through one another": lambda n: {f"a{'.c' * (number % 30)}.{number}": 1 for number in range(n)},
    "one long name": lambda n: {".".join("a" * n): 1},
    "names of dots": lambda n: {"." * number: 1 for number in range(1, n // 5)},
    "members": lambda n: numbered(n, [1]),
    "nested arrays": lambda n: {"a": json.loads("[" * n + "1" + "]" * n)},
    "empty arrays": lambda n: {"a": [[]] * n},
    "objects": lambda n: {"a": [{}] * n},
    "objects with fields": lambda n: {"a": [{"b": number, "c": "x"} for number in range(n)]},
    "arrays in arrays": lambda n: {"a": [{"b": [{"c": 1}] * (n // 50)}] * 50},
    "values": lambda n: {"a": list(range(n))},
    "texts": lambda n: {"a": ["x" * 40] * n},
}
PATTERNS: dict[str, Source] = {
    "a value": {"a": ["y"]},
    "two levels": {"a": {"b": [1], "c": ["y"]}},
    "three levels": {"a": {"b": {"c": [2]}}},
    "missing": {"a": {"b": [{"exists": False}], "d": [{"exists": False}]}},
    "a choice": {"$or": [{"a": {"b": [-1]}}, {"a": {"c": ["z"]}}, {"a": ["y"]}]},
    "a choice about missing fields": {"a": {"$or": [{"b": [{"exists": False}]}, {"d": [{"exists": False}]}]}},
    "a choice beside the same array": {"a": {"b": [-1]}, "$or": [{"a": {"c": ["x"]}}, {"a": {"d": ["x"]}}]},
    "operators": {"a": [{"prefix": "y"}, {"wildcard": "*y*z"}, {"numeric": ["<", 0]}, {"cidr": "10.0.0.0/8"}]},
}


@pytest.mark.parametrize("document", DOCUMENTS)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_matching_and_explaining_grow_with_the_document(pattern: str, document: str):
    compiled = compile_pattern(PATTERNS[pattern])
    assert_linear(lambda size: partial(compiled.matches, DOCUMENTS[document](size)))
    assert_linear(lambda size: partial(compiled.explain, DOCUMENTS[document](size)))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_finding_the_routes_of_a_document_grows_with_it(document: str):
    routes = RouteSet(1, [route(f"r{number}", source) for number, source in enumerate(PATTERNS.values())])
    assert_linear(lambda size: partial(routes.match, DOCUMENTS[document](size)))


COMPILED: dict[str, Callable[[int], Source]] = {
    "fields": lambda n: numbered(n, ["x"]),
    "names with dots": lambda n: {f"a.{number}": ["x"] for number in range(n)},
    "names with dots beside an object": lambda n: {
        "a": numbered(n, [1]),
        **{f"a.x{number}": ["x"] for number in range(n)},
    },
    "values": lambda n: {"a": [str(number) for number in range(n)]},
    "addresses": lambda n: {"a": [f"::{number:x}" for number in range(n)]},
    "excluded values": lambda n: {"a": [{"anything-but": [str(number) for number in range(n)]}]},
    "excluded prefixes": lambda n: {"a": [{"anything-but": {"prefix": [str(number) for number in range(n)]}}]},
    "options": lambda n: {"$or": [{"a": [number]} for number in range(n)]},
    "options with fields": lambda n: {"$or": [numbered(n // 10, [1]) for _ in range(10)]},
    "options beside fields": lambda n: {**numbered(n, [1]), "$or": [{f"x{number}": [1]} for number in range(n)]},
    "options in a field": lambda n: {**numbered(n, [1]), "z": {"$or": [{f"x{number}": [1]} for number in range(n)]}},
    "options of the same object": lambda n: {
        "a": numbered(n, [1]),
        "$or": [{"a": {f"x{number}": [1]}} for number in range(n)],
    },
    "two choices": lambda n: {
        "a": {"$or": [{f"x{number}": [1]} for number in range(30)], **numbered(n, [1])},
        "b": {"$or": [{f"x{number}": [1]} for number in range(30)], **numbered(n, [1])},
    },
    "a name": lambda n: {"a" * n: [1]},
    "a name with dots": lambda n: {"a" * n + ".b": [1]},
    "a value's length": lambda n: {"a": ["x" * n]},
    **{
        f"many of {name}": lambda n, entry=entry: {"a": [entry] * n}
        for name, entry in {
            "prefix": {"prefix": "x"},
            "numeric": {"numeric": [">", 0, "<", 1]},
            "cidr": {"cidr": "10.0.0.0/8"},
            "exists": {"exists": True},
            "exactly": {"exactly": "x"},
        }.items()
    },
}


@pytest.mark.parametrize("pattern", COMPILED)
def test_compiling_grows_with_the_pattern(pattern: str):
    assert_linear(lambda size: partial(compile_pattern, COMPILED[pattern](size), KEPT))


@pytest.mark.parametrize("pattern", COMPILED)
def test_matching_and_explaining_grow_with_the_pattern(pattern: str):
    """On a document without arrays; elements times fields are what the bound on steps is for."""
    document = {"a": {"f1": 1, "x3": 1}, "f0": "x", "z": {"x5": 1}, "b": "y"}

    def prepare(size: int, ask: Callable[[Pattern], Callable[..., object]]) -> Callable[[], object]:
        return partial(ask(compile_pattern(COMPILED[pattern](size), KEPT)), document)

    assert_linear(partial(prepare, ask=lambda compiled: compiled.matches))
    assert_linear(partial(prepare, ask=lambda compiled: compiled.explain))


OPERANDS: dict[str, Callable[[str], Any]] = {
    "exact": lambda text: text,
    "exactly": lambda text: {"exactly": text},
    "prefix": lambda text: {"prefix": text},
    "suffix": lambda text: {"suffix": text},
    "prefix, any case": lambda text: {"prefix": {"equals-ignore-case": text}},
    "suffix, any case": lambda text: {"suffix": {"equals-ignore-case": text}},
    "any case": lambda text: {"equals-ignore-case": text},
    "wildcard": lambda text: {"wildcard": f"*{escaped(text)}*{escaped(text)}x*{escaped(text)}"},
    "wildcard at the end": lambda text: {"wildcard": f"{escaped(text)}*"},
    "anything but": lambda text: {"anything-but": [text, "x"]},
    "anything but a prefix": lambda text: {"anything-but": {"prefix": [f"{text}x", "x"]}},
    "anything but a suffix": lambda text: {"anything-but": {"suffix": f"x{text}"}},
    "anything but any case": lambda text: {"anything-but": {"equals-ignore-case": text}},
    "anything but a wildcard": lambda text: {"anything-but": {"wildcard": [f"*{escaped(text)}x*"]}},
    "cidr": lambda _: {"cidr": "2001:db8::/32"},
    "cidr 4": lambda _: {"cidr": "10.0.0.0/8"},
    "an address": lambda _: "2001:db8::1",
    "numeric": lambda _: {"numeric": [">", 0]},
    "exists": lambda _: {"exists": False},
}
UNITS = [
    "a",
    ":",
    "0",
    "0.",
    "0.0.0.0",
    "a:",
    "::",
    "ß",
    "aß",
    "İ",
    "ΐ",
    "\\",
    "*",
    "a*",
    "ab",
    "é\u0301",
    "😀",
    " ",
    '"',
]


def escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("*", "\\*")


@pytest.mark.parametrize("operand", OPERANDS)
@settings(max_examples=25, deadline=None)
@given(unit=st.sampled_from(UNITS), end=st.sampled_from(["", "x", ":", "A"]), asked=st.sampled_from([1, 3, 40]))
def test_every_operator_grows_with_the_text_it_reads(operand: str, unit: str, end: str, asked: int):
    """The same unit over and over is what makes naive searching slow, in the pattern, in the text and in both."""
    pattern = compile_pattern({"field": [OPERANDS[operand](unit * asked)]})
    assert_linear(lambda size: partial(pattern.matches, {"field": unit * size + end}))
    assert_linear(lambda size: partial(pattern.matches, {"field": [unit * 5 + end] * size}))

    def both(size: int) -> Callable[[], object]:
        entry = OPERANDS[operand](unit * (size // len(unit)))
        return lambda: compile_pattern({"field": [entry]}).matches({"field": unit * size + end})

    assert_linear(both)


@pytest.mark.parametrize("operand", OPERANDS)
@pytest.mark.parametrize("unit", UNITS)
def test_every_operator_answers_about_a_text_of_a_million_characters(operand: str, unit: str):
    asked = unit * (600 // len(unit))
    pattern = compile_pattern({"field": [OPERANDS[operand](asked)]})
    began = time.thread_time()
    for end in ("", "x"):
        pattern.explain({"field": unit * (1_000_000 // len(unit)) + end})
    assert time.thread_time() - began < SECONDS


def test_the_worst_of_each_kind_takes_no_time():
    """Patterns that once took web or a worker minutes; each is bounded by its form or by the allowed steps."""
    fields = numbered(600, [1])
    options = [{f"a{number}": [1]} for number in range(31)]
    began = time.thread_time()
    assert not compile_pattern({"type": ["x"]}).matches({f"a.{number}": 1 for number in range(100_000)})
    assert not compile_pattern({"a": [{"cidr": "10.0.0.0/8"}, "::1"]}).matches({"a": ":" * 50_000})
    compile_pattern({**fields, "x": {"$or": options}, "y": {"$or": options}})
    assert not compile_pattern({"a": [{"numeric": [">", 0.5, "<", 1]}]}).matches({"a": [10**4299] * 1000})
    assert time.thread_time() - began < SECONDS


SHARED: Source = {
    "a": {**numbered(600, [1]), "$or": [{"b": [1]}, {"c": [1]}]},
    "$or": [{"a": {f"x{number}": [1]}} for number in range(300)],
}
TOO_MUCH: dict[str, tuple[Pattern, Any]] = {
    "branches of the same array": (compile_pattern(SHARED), {"a": [numbered(600, 1)] * 20_000}),
    "fields of many elements": (compile_pattern({"a": numbered(900, [{"exists": False}])}), {"a": [{}] * 20_000}),
    "tests of many elements": (
        compile_pattern({"a": [{"prefix": f"p{number}"} for number in range(900)]}),
        {"a": ["p"] * 20_000},
    ),
    "wildcards over a long text": (
        compile_pattern({"a": [{"wildcard": f"*{number}*"} for number in range(100)]}),
        {"a": "a" * 4_000_000},
    ),
}


@pytest.mark.parametrize("kind", TOO_MUCH)
def test_what_is_not_linear_ends_when_its_steps_are_spent(kind: str):
    pattern, document = TOO_MUCH[kind]
    fields = unfolded(document)

    def ask(allowed: int) -> None:
        for work in (pattern.fits, pattern.conditions_of):
            with pytest.raises(TooMuchWork, match="more steps than are allowed"):
                work(fields, Effort(allowed))

    begun = steps(partial(ask, MANY))
    assert steps(partial(ask, MANY + 10_000)) < begun + 2 * 10_000 * INSTRUCTIONS


def test_a_body_of_the_largest_size_is_decided():
    """Whatever its shape: only what is asked many times of each of its values is not."""
    pattern = compile_pattern(
        {"a": {"b": ["x"], "c": [{"prefix": "y"}]}, "$or": [{"d": [1]}, {"e": [{"exists": True}]}]}
    )
    for document in ({"a": [[]] * 1_300_000}, {"a": [{"b": "x"}] * 400_000}, {"d": [0] * 2_000_000}):
        assert not pattern.matches(document, Effort(MAX_STEPS))


SEVERAL: dict[str, Callable[[int], list[Route]]] = {
    "of one value": lambda n: [route(f"r{number}", {"type": ["a"]}) for number in range(n)],
    "of a value each": lambda n: [route(f"r{number}", {"org": [number]}) for number in range(n)],
    "of the same values": lambda n: [
        route(f"r{number}", {"type": ["a", "b"], "org": [1, number]}) for number in range(n)
    ],
    "of any document": lambda n: [route(f"r{number}", {"type": [{"prefix": "a"}]}) for number in range(n)],
    "of a field each": lambda n: [route(f"r{number}", {"tags": {f"t{number}": [1]}}) for number in range(n)],
}


@pytest.mark.parametrize("kind", SEVERAL)
def test_filing_and_finding_routes_grows_with_their_number(kind: str):
    def added(size: int) -> Callable[[], object]:
        routes = SEVERAL[kind](size)
        return lambda: RouteIndex[Route]().changed(added=routes)

    def removed(size: int) -> Callable[[], object]:
        index = RouteIndex(SEVERAL[kind](size))
        return lambda: index.changed(removed=list(index.routes))

    def found(size: int) -> Callable[[], object]:
        routes = RouteSet(1, SEVERAL[kind](size))
        return lambda: routes.match({"type": "a", "org": 1, "tags": {"t1": 1}})

    for prepare in (added, removed, found, lambda size: partial(RouteIndex, SEVERAL[kind](size))):
        assert_linear(prepare)


def test_many_routes_of_one_value_are_added_and_removed_without_copying_them_each_time():
    first = route("first", {"type": ["a"]})
    routes = [replace(first, name=f"r{number}") for number in range(100_000)]
    began = time.thread_time()
    index = RouteIndex([first]).changed(added=routes)
    assert len(list(index.candidates({"type": "a"}))) == 100_001
    assert list(index.changed(removed=[route.key for route in routes]).candidates({"type": "a"})) == [first]
    assert time.thread_time() - began < SECONDS


ASKS_MUCH = {"a": [{"prefix": f"p{number}"} for number in range(900)]}


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing, "MAX_STEPS", 20_000)
    monkeypatch.setattr(routing, "TEAM_STEPS", 60_000)


@pytest.mark.usefixtures("few_steps")
def test_a_route_that_costs_too_much_is_named_and_no_other_is_missed():
    routes = [route(f"r{number}", ASKS_MUCH, "greedy") for number in range(10)]
    routes += [route("plain", {"type": ["x"]}, "greedy"), route("other", {"a": ["p"]}, "modest")]
    matched = RouteSet(1, routes).match({"type": "x", "a": ["p"] * 1_000})
    assert [undecided.name for undecided in matched.undecided] == [f"r{number}" for number in range(10)]
    assert [decision.route.name for decision in matched.decisions] == ["plain", "other"]


@pytest.mark.usefixtures("few_steps")
def test_the_routes_of_a_team_have_a_bound_together(monkeypatch: pytest.MonkeyPatch):
    allowed = []
    met = Pattern.met
    monkeypatch.setattr(
        Pattern, "met", lambda pattern, fields, effort: allowed.append(effort.left) or met(pattern, fields, effort)
    )
    RouteSet(1, [route(f"r{number}", ASKS_MUCH) for number in range(6)]).match({"a": ["p"] * 1_000})
    assert allowed == [20_000, 20_000, 20_000, 0, 0, 0]


@pytest.mark.usefixtures("few_steps")
def test_explaining_says_where_it_would_cost_too_much_and_explains_the_others():
    routes = RouteSet(1, [route("a", ASKS_MUCH), route("b", {"type": ["x"]})])
    first, second = routes.explain({"type": "x", "a": ["p"] * 1_000})
    assert (first.matched, second.matched) == (False, True)
    [condition] = first.conditions
    assert "more steps than are allowed" in str(condition.actual)


LIMITED: dict[str, tuple[Source, str, str]] = {
    "fields": (numbered(1001, [1]), "f1000", "more than 1,000 fields"),
    "values": ({"a": [*range(10_000)], "b": [1]}, "b", "more than 10,000 values"),
    "values of an operator": ({"a": [{"anything-but": [*range(10_000)]}]}, "a", "more than 10,000 values"),
    "operators": (
        {"a": {"b": [{"prefix": str(number)} for number in range(1001)]}},
        "a.b",
        "more than 1,000 operators",
    ),
    "cidr": ({"a": [{"cidr": "10.0.0.0/8"}] * 1001}, "a", "more than 1,000 operators"),
    "strings of an operator": (
        {"a": [{"anything-but": {"suffix": [str(number) for number in range(1001)]}}]},
        "a",
        "more than 1,000 operators",
    ),
    "wildcards": (
        {"a": [{"wildcard": "*"}] * 60, "b": [{"anything-but": {"wildcard": ["*"] * 41}}]},
        "b",
        "more than 100",
    ),
    "a string": ({"a": {"b": ["x" * 4097]}}, "a.b", "a string of 4,097 characters"),
    "a string of an operator": (
        {"a": [{"anything-but": {"prefix": ["x" * 4097]}}]},
        "a",
        "a string of 4,097 characters",
    ),
    "a name": ({"a": {"x" * 4097: [1]}}, "a", "a string of 4,097 characters"),
}


@pytest.mark.parametrize("kind", LIMITED)
def test_what_is_beyond_a_limit_is_refused_with_its_place_and_kept_where_it_is_in_force(kind: str):
    source, path, reason = LIMITED[kind]
    with pytest.raises(InvalidPattern) as refused:
        compile_pattern(source)
    assert refused.value.path == path
    assert reason in refused.value.reason
    assert compile_pattern(source, KEPT).source == json.loads(json.dumps(source))


def test_limits_are_met_exactly():
    for source in (
        numbered(ASKED.fields, [1]),
        {"a": [*range(ASKED.values)]},
        {"a": [{"prefix": "x"}] * ASKED.operators},
        {"a": [{"wildcard": "*"}] * ASKED.wildcards},
        {"a": ["x" * ASKED.string]},
        {"$or": [{"a": [number]} for number in range(1000)]},
    ):
        compile_pattern(source)


VALUES: dict[str, Callable[[int], Any]] = {
    "text": lambda n: "ab " * n,
    "list": lambda n: [1] * n,
    "object": lambda n: {f"{'k' * 200}{number}": "v" for number in range(n)},
    "deep": lambda n: json.loads("[" * min(n, 900) + "]" * min(n, 900)),
    "digits": lambda n: 10 ** min(n, 4299),
}


@pytest.mark.parametrize("kind", VALUES)
def test_a_long_value_is_shown_shortened_and_no_more_of_it_is_read(kind: str):
    value = VALUES[kind](100_000)
    shown = shortened(value)
    assert len(json.dumps(shown)) < 2_500
    assert "…" in json.dumps(shown, ensure_ascii=False)
    assert steps(lambda: shortened(VALUES[kind](400))) >= steps(lambda: shortened(value)) // 2


@pytest.mark.parametrize("value", ["short", 5, None, True, [1, [2]], {"a": {"b": ["c"]}}, "x" * 990, 10**30])
def test_a_short_value_is_shown_as_it_is(value: Any):
    assert shortened(value) == value


def test_a_word_is_shown_whole_or_not_at_all():
    """A search for an erased person's address would not find a part of it."""
    assert shortened("a " * 490 + "dana@customer.example and more " * 9) == "a " * 490 + "… (1,259 characters)"


def test_an_answer_has_a_bound_and_says_what_it_left_out():
    text = "word " * 100_000
    several = {"a": {"$or": [{"b": [{"prefix": str(number)}]} for number in range(900)]}, **numbered(80, ["x"])}
    document = {"a": {"b": text}, **numbered(80, text)}
    conditions = compile_pattern(several).explain(document)
    rendered = DecisionRenderer().conditions(conditions)
    assert len(json.dumps(rendered)) < 600_000
    assert "left_out" not in rendered
    [choice] = [condition for condition in rendered["conditions"] if condition["path"] == "a.$or"]
    first, second = choice["alternatives"][0][0]["actual"], choice["alternatives"][1][0]["actual"]
    assert (len(first) > 900, len(second) < 150) == (True, True), "the same value again is shown shorter"
    renderer = DecisionRenderer(20_000)
    answers = [renderer.conditions(conditions) for _ in range(3)]
    assert len(json.dumps(answers)) < 60_000
    assert all(answer["left_out"] for answer in answers)
    assert [rendered_in(answer["conditions"]) + answer["left_out"] for answer in answers] == [981] * 3


def rendered_in(conditions: list[dict[str, Any]]) -> int:
    return sum(1 + sum(map(rendered_in, condition.get("alternatives", []))) for condition in conditions)


BODIES: dict[str, Callable[[int], bytes]] = {
    "nested lists": lambda n: b'{"type":"forward","payload":[%b1]}' % (b"[[[]]]," * n),
    "members": lambda n: json.dumps({"type": "auth", "tags": numbered(n, "x")}).encode(),
    "escapes": lambda n: b'{"type":"forward","payload":["' + b"\\u0000" * n + b'"]}',
    "values": lambda n: json.dumps({"type": "forward", "payload": [[1]] * n}).encode(),
}


@pytest.mark.parametrize("kind", BODIES)
def test_reading_a_body_grows_with_it(kind: str):
    assert_linear(lambda size: partial(read, BODIES[kind](size)))


@pytest.mark.parametrize("levels", [100, 101, 400, 5_000])
def test_a_body_that_is_nested_without_end_is_kept_and_not_understood(levels: int):
    """Its readers have less of Python's stack left than the one that stored it."""
    envelope = b'{"type":"forward","from":"github","providerConfigKey":"github","connectionId":"c","payload":%b}'
    notice = read(envelope % (b"[" * (levels - 1) + b"]" * (levels - 1)))
    assert (notice.type is EventType.NANGO_FORWARD) == (levels == 100)
    if 100 < levels < 1_000:
        assert notice.problem == "nested deeper than 100 levels"


VALIDATED: dict[str, Callable[[int], Callable[[], object]]] = {
    "a copy of a large object": lambda n: partial(json_object, {"a": {"b" * 60: numbered(n, [1])}}, "metadata"),
    "tags that are too many": lambda n: partial(tags.check, numbered(n, "x")),
    "tags that are all wrong": lambda n: partial(tags.check, numbered(n, [1])),
    "tags in each other's place": lambda n: partial(
        tags.check, {f"{'aA'[number % 2]}{number // 2}": "x" for number in range(n)}
    ),
    "fields that there are not": lambda n: partial(people.check, people.OwnerKind.USER, numbered(n, "x")),
}


@pytest.mark.parametrize("kind", VALIDATED)
def test_checking_what_the_api_is_given_grows_with_it(kind: str):
    assert_linear(VALIDATED[kind])


def test_the_faults_of_a_large_body_are_reported_up_to_a_bound():
    assert len(tags.check(numbered(5_000, [1]))) == tags.MAX_FAULTS
    assert len(tags.check({"a": "x", **numbered(5_000, "x")})) == 1
    assert len(people.check(people.OwnerKind.USER, numbered(5_000, "x"))) == people.MAX_FAULTS


def test_a_large_body_is_copied_without_a_name_for_each_of_its_values():
    inner: Any = numbered(20_000, 1)
    for _ in range(90):
        inner = {"n" * 60: inner}
    tracemalloc.start()
    json_object(inner, "metadata")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 20_000_000

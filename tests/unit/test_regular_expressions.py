"""Every regular expression of Waylink takes time linear in its text (promise 12).

Three things are held: each is compiled once, at the top of a module, so that it is found here; none has a form that is
slow on some text; and counted in steps on texts of its own alphabet, three times as much takes three times as long.
"""

import ast
import importlib
import pkgutil
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import app
import workers
from tests.unit.regex_forms import LIMIT, Matcher, faults, form_of, is_bounded, pumps, steps

ROOT = Path(__file__).parents[2]
ONE_PLACE = {"match", "fullmatch"}

# Of the operator's own file: a SELECT, whose dollar quotes can only be found by a reference to a group.
OWN_TEXT = {"app.domain.query_validation._ASIDE"}
# Made of words of one person, each escaped: alternatives without repeats.
MADE_LATER = {"app/domain/erasing.py": 1}


@cache
def patterns() -> dict[str, re.Pattern[Any]]:
    """By module and name; one that is imported elsewhere as well counts once."""
    found: dict[re.Pattern[Any], str] = {}
    for package in (app, workers):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__") and ".migrations" not in module.name:
                for name, value in vars(importlib.import_module(module.name)).items():
                    if isinstance(value, re.Pattern):
                        found.setdefault(value, f"{module.name}.{name}")
    return {name: pattern for pattern, name in found.items()}


def trees() -> Iterator[tuple[str, ast.Module]]:
    for folder in ("app", "workers"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "migrations" not in path.parts:  # they run once, over our own schema
                yield str(path.relative_to(ROOT)), ast.parse(path.read_text())


@cache
def searched_names() -> frozenset[str]:
    """Names of patterns that are searched for anywhere in a text, or passed on, so that their use is not seen."""
    found = set()
    for _, tree in trees():
        parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                parent = parents.get(node)
                if not (isinstance(parent, ast.Attribute) and parent.attr in ONE_PLACE):
                    found.add(node.id)
    return frozenset(found)


def is_searched(name: str) -> bool:
    return name.rpartition(".")[2] in searched_names()


def test_every_regular_expression_is_compiled_at_the_top_of_a_module():
    elsewhere: Counter[str] = Counter()
    for path, tree in trees():
        at_top = {id(node.value) for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign)}
        elsewhere.update(path for node in ast.walk(tree) if is_call_of_re(node) and id(node) not in at_top)
    assert elsewhere == MADE_LATER
    assert len(patterns()) > 40


def is_call_of_re(node: ast.AST) -> bool:
    called = node.func if isinstance(node, ast.Call) else None
    of_re = isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name) and called.value.id == "re"
    return of_re and called.attr != "escape"


def test_none_has_a_form_that_is_slow_on_some_text():
    found = {name: faults(pattern, searched=is_searched(name)) for name, pattern in patterns().items()}
    assert {name for name, slow in found.items() if slow} == OWN_TEXT


LONG = sorted(name for name, pattern in patterns().items() if name not in OWN_TEXT and not is_bounded(pattern))


@pytest.mark.parametrize("name", LONG)
def test_three_times_the_text_takes_three_times_the_steps(name: str):
    pattern, searched = patterns()[name], is_searched(name)
    for pump in pumps(pattern):
        assert not grows(pattern, *pump, searched=searched), pump


def grows(pattern: re.Pattern[Any], beginning: str, repeated: str, end: str, *, searched: bool) -> bool:
    """Whether three times the text takes more than four and a half times the steps."""
    few, many = (steps(pattern, beginning + repeated * times + end, searched=searched) for times in (12, 36))
    return many == LIMIT or many > 4.5 * max(few, 20)


# Both can fail


@pytest.mark.parametrize(
    ("source", "searched"),
    [
        (r"(?:[\w-]*(?:token|secret)[\w-]*|\bcode)\s*[=:]", True),  # what scrubbing was done with
        (r"\w+://[^/\s:@]*:", True),  # what logs were redacted with
        (r"\s*\(*\s*(select|with)\b", False),
        (r"(a+)+b", False),
        (r"(?:a*b?)*c", False),
        (r"(?:a|b|ab)*c", False),
        (r"\\*\"", True),
        (r"[^\"]*\"", True),
        (r"x.*?y", True),
        (r"(?P<a>x*)y(?P=a)", False),
    ],
)
def test_a_slow_form_is_found(source: str, searched: bool):
    assert faults(re.compile(source), searched=searched)


@pytest.mark.parametrize(
    ("source", "searched"),
    [
        (r"(?:[\w-]*(?:token|secret)[\w-]*|\bcode)\s*[=:]", True),
        (r"\w+://[^/\s:@]*:", True),
        (r"\s*\s*x", False),
        (r"(?:a*b?)*c", False),
        (r"(a+)+b", False),
        (r"\\*\"", True),
    ],
)
def test_slow_growth_is_counted(source: str, searched: bool):
    pattern = re.compile(source)
    assert any(grows(pattern, *pump, searched=searched) for pump in pumps(pattern))


@pytest.mark.parametrize(
    ("source", "searched"),
    [
        (r"(?<!\w)\w+:", True),
        (r"\A\w+:", True),
        (r"\"[^\"]*\"", True),
        (r"[a-z]+", True),
        (r"(?:[^'\\]++|\\.)*+", False),
        (r"a{0,200}a{0,3}", False),
        (r"(?:a*+b)*+c", False),
        (r"for\s+share", True),
        (r"unknown field `[^`]*`", True),
    ],
)
def test_a_plain_form_is_not(source: str, searched: bool):
    assert faults(re.compile(source), searched=searched) == []


@pytest.mark.parametrize("text", ["", "a", "aaab", "abab", 'x"y"', "\\\\n", "a-1_b", "  select (", "https://u:p@h"])
@pytest.mark.parametrize("name", LONG)
def test_the_counting_matcher_finds_what_the_real_one_finds(name: str, text: str):
    pattern = patterns()[name]
    if isinstance(pattern.pattern, str):
        assert counted_match(pattern, text) == (pattern.fullmatch(text) is not None)


def counted_match(pattern: re.Pattern[Any], text: str) -> bool:
    matcher = Matcher(form_of(pattern), text, LIMIT)
    return matcher.match(list(matcher.form.tree), 0, lambda end: end if end == len(text) else None) is not None

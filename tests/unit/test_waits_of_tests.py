"""Tests wait for what a machine takes, however busy it is: httpx gives an answer five seconds, unless it is told."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ASKS = {"Client", "AsyncClient", "get", "post", "put", "patch", "delete", "request", "stream"}


def impatient(source):
    """The lines of calls of httpx that leave its own bound on the wait."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ASKS:
            is_httpx = isinstance(node.func.value, ast.Name) and node.func.value.id == "httpx"
            if is_httpx and not {keyword.arg for keyword in node.keywords} & {"timeout", None}:  # None: `**options`
                yield node.lineno


def test_no_request_of_a_test_has_the_bound_of_httpx_on_its_wait():
    found = [(str(path.relative_to(ROOT)), line) for path in ROOT.rglob("*.py") for line in impatient(path.read_text())]
    assert found == []


@pytest.mark.parametrize(("call", "count"), [("httpx.get(url)", 1), ("httpx.Client(timeout=9)", 0), ("db.get(url)", 0)])
def test_such_calls_are_seen(call, count):
    assert len(list(impatient(call))) == count

"""The project's English: docstrings and comments use the field's words."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("app", "bench", "tests", "workers")
PERSONS = re.compile(r"\b(?:who(?:m|ever|soever)|(?:some|any|every|no)body|(?:some|any|every)one|no one)\b", re.I)
QUESTIONS = re.compile(r"(?:Who|Whom|Whose|What|Why|How|When|Where|Which|Is|Are|Does|Do|Can)\b")


def modules() -> Iterator[tuple[str, str]]:
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if not name.startswith("app/db/migrations/versions/") and path != Path(__file__):
                yield name, path.read_text()


def docstrings(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text is not None:
                yield text


def comments(source: str) -> Iterator[str]:
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


def persons(source: str) -> list[str]:
    """Pronouns of unnamed persons. Name the thing instead: client, caller, process, worker, operator, team."""
    return [found for text in (*docstrings(source), *comments(source)) for found in PERSONS.findall(text)]


def questions(source: str) -> list[str]:
    """Docstrings that begin as a question. Begin with a noun or an imperative."""
    return [text.splitlines()[0] for text in docstrings(source) if QUESTIONS.match(text)]


@pytest.mark.parametrize("search", [persons, questions], ids=["persons", "questions"])
def test_docstrings_and_comments_use_the_fields_words(search):
    found = [f"{name}: {text}" for name, source in modules() for text in search(source)]
    assert not found, search.__doc__


@pytest.mark.parametrize(
    ("source", "search"),
    [
        ('"""Whoever calls it."""', persons),
        ("x = 1  # nobody reads it", persons),
        ('def f():\n    """What came of it."""', questions),
        ('class A:\n    """Who may do what."""', questions),
    ],
)
def test_the_search_finds_what_it_is_for(source, search):
    assert search(source)

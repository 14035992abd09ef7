"""Counts stand with their nouns as a person would say them."""

import re
from pathlib import Path

import pytest

from app.wording import counted

APP = Path(__file__).parents[2] / "app"
# A number in braces before a plural, which `1` does not go with, or an s in parentheses.
UNCOUNTED = re.compile(
    r"\{(?:len\(|[a-z_.]*count\b|[a-z_.]*total\b)[^{}]*\} "
    r"(?:connections|events|jobs|links|owners|plans|refreshes|routes|secrets|tokens|users|rows|attempts)\b"
    r"|[a-z]\(s\)"
)


@pytest.mark.parametrize(
    ("number", "noun", "shown"),
    [
        (0, "event", "0 events"),
        (1, "event", "1 event"),
        (1200, "signing key", "1,200 signing keys"),
        (2, "entry", "2 entries"),
        (5, "refresh", "5 refreshes"),
        (2, "address", "2 addresses"),
    ],
)
def test_a_count_has_its_noun_in_singular_or_plural(number: int, noun: str, shown: str) -> None:
    assert counted(number, noun) == shown


def test_no_text_for_people_has_a_number_before_a_fixed_plural_or_an_s_in_parentheses() -> None:
    found = [
        f"{path.relative_to(APP)}: {text}"
        for path in sorted(APP.rglob("*.py"))
        for text in re.findall(r'f"[^"\n]*"', path.read_text())
        if UNCOUNTED.search(text)
    ]
    assert found == []

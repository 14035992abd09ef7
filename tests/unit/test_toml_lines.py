"""Lines of keys in waylink.toml, for messages."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.config import toml_lines
from app.config.toml_lines import line_of

TEXT = """\
# teams
[teams.crm.destinations.jobs]
kind = "celery"
queue = "team.crm.jobs"

[[routes]]
name = "first"
pattern = '''
{
  "type": ["a = 1"]
}
'''

[[routes]]
name = "second"
pattern = {"type" = ["[x]"]}
list = [
  1,  # one
  2,
]

[routes.more]
deep.er = 1

[refresh."*"]
"keep = alive" = true
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("teams",), 2),
        (("teams", "crm", "destinations", "jobs"), 2),
        (("teams", "crm", "destinations", "jobs", "queue"), 4),
        (("teams", "crm", "destinations", "jobs", "missing"), 2),
        (("routes", 0), 6),
        (("routes", 0, "name"), 7),
        (("routes", 0, "pattern"), 8),
        (("routes", 1), 14),
        (("routes", 1, "pattern"), 16),
        (("routes", 1, "pattern", "type", 0), 16),
        (("routes", 1, "list", 1), 17),
        (("routes", 1, "more"), 22),
        (("routes", 1, "more", "deep", "er"), 23),
        (("refresh", "*"), 25),
        (("refresh", "*", "keep = alive"), 26),
        (("unknown",), None),
        ((), None),
    ],
)
def test_a_key_has_the_line_on_which_it_begins(path: tuple[str | int, ...], line: int | None) -> None:
    assert line_of(TEXT, path) == line


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("character", ["\u2028", "\x85", "\u2029"])
def test_characters_that_end_a_line_elsewhere_end_none_of_toml(character: str, end: str) -> None:
    text = end.join([f'a = "x{character}y"', "", "[b]", "c = [", " 1,", "]", "d = 2", ""])
    tomllib.loads(text)
    assert [line_of(text, path) for path in (("a",), ("b",), ("b", "c"), ("b", "d"))] == [1, 3, 4, 7]


def test_a_value_of_many_lines_is_read_a_bounded_number_of_times(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = []
    monkeypatch.setattr(toml_lines, "_parsed", lambda text, real=toml_lines._parsed: parsed.append(text) or real(text))
    text = "\n".join(["first = 1", "x = [", *["  1,"] * 20_000, "]", "last = 1"])
    assert [line_of(text, (name,)) for name in ("first", "last")] == [1, None]
    assert len(parsed) <= 2 * (toml_lines.MOST + 2 * toml_lines.LONGEST)  # in two searches


@given(st.text(alphabet="ab.=[]{}\"'\n# ,1", max_size=60))
def test_any_valid_text_has_lines(text: str) -> None:
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    for key in found:
        line = line_of(text, (key,))
        assert line is not None
        assert 1 <= line <= text.count("\n") + 1

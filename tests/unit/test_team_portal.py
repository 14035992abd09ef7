"""The look of a team's portal: colours are read in both schemes whatever a team chooses, and origins are origins."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain import team_portal
from app.domain.team_portal import (
    CONTRAST,
    DARK,
    LIGHT,
    contrast,
    ink_on,
    luminance,
    readable,
    stylesheet,
    wrong_origin,
)

CSS = Path(team_portal.__file__).parents[1] / "web/static/waylink.css"
COLORS = st.integers(0, 0xFFFFFF).map("#{:06x}".format)


def test_contrast_is_that_of_wcag():
    assert (luminance("#000000"), round(luminance("#ffffff"), 6)) == (0.0, 1.0)
    assert round(contrast("#000000", "#ffffff"), 6) == 21.0
    assert round(contrast("#767676", "#ffffff"), 2) == 4.54, "the lightest grey that passes on white"


@given(COLORS)
def test_text_is_read_whatever_the_colour(color):
    assert contrast(ink_on(color), color) >= CONTRAST
    for papers in (LIGHT, DARK):
        shade = readable(color, papers)
        assert min(contrast(shade, paper) for paper in papers) >= CONTRAST
        assert contrast(ink_on(shade), shade) >= CONTRAST


def test_a_colour_that_is_read_stays_as_it_is():
    assert readable("#0b5fff", LIGHT) == "#0b5fff"
    assert readable("#0b5fff", DARK) != "#0b5fff"
    assert readable("#ffffff", LIGHT) != "#ffffff"


def test_the_backgrounds_are_those_of_the_style_sheet():
    found = re.findall(r"--(paper|panel): (#[0-9a-f]{6});", CSS.read_text())
    assert found == list(zip(("paper", "panel", "paper", "panel"), LIGHT + DARK, strict=True))


@given(COLORS)
def test_a_style_sheet_has_nothing_but_colours(color):
    assert re.fullmatch(r"[-:;{}()@.#\w\s]+", stylesheet(color))
    assert "url" not in stylesheet(color)


@pytest.mark.parametrize("color", ["", "red", "#fff", "#0B5FFF", "#0b5fff;", "#0b5ff\n", "url(x)", "#0b5fffff"])
def test_what_is_no_colour_is_refused(color):
    assert "hexadecimal" in str(team_portal.wrong_color(color))


@pytest.mark.parametrize(
    "origin",
    ["https://app.example.com", "https://app.example.com:8443", "https://localhost", "http://localhost:3000",
     "http://127.0.0.1:8000", "https://10.0.0.1"],
)  # fmt: skip
def test_origins_are_taken(origin):
    assert wrong_origin(origin) is None


@pytest.mark.parametrize(
    "origin",
    ["", "*", "https://*.example.com", "https://app.example.com/", "https://app.example.com/x", "app.example.com",
     "https://", "https://App.example.com", "https://app.example.com:0", "https://app.example.com:70000",
     "https://app.example.com; script-src *", "https://a b", "https://a,https://b", "https://a..b", "https://-a",
     "https://u@a", "ftp://a", "'self'", "https://a:80:90", "https://a\n", "http://app.example.com", "javascript://a",
     "https://" + "a" * 254],
)  # fmt: skip
def test_what_is_no_origin_is_refused(origin):
    assert wrong_origin(origin)


@pytest.mark.parametrize(("title", "right"), [("Acme CRM", True), ("", False), (" x", False), ("x" * 61, False)])
def test_a_title_is_short_and_printable(title, right):
    assert (team_portal.wrong_title(title) is None) is right
    assert team_portal.wrong_title("a\u202eb")

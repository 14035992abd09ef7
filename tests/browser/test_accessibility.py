"""axe-core on every page of the console, in both schemes, on a narrow and a wide screen, and with what opens open."""

import json
import re
from importlib.resources import files

import pytest

from app.ids import JOB, parse
from tests.browser.conftest import REFUSALS, Installation, opened
from tests.browser.test_connections import con  # noqa: F401 - a fixture
from tests.browser.test_console import figures, rows, sign_in  # noqa: F401 - fixtures
from tests.browser.visitor import Visitor
from tests.console_walk import LINK, kind_of
from tests.integration.status.rows import add_bulk_run

AXE = (files("axe_playwright_python") / "axe.min.js").read_text()
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
RUN = "options => axe.run(document, {resultTypes: ['violations'], ...options})"
WIDE = 1280  # the width at which contrast is looked at in both schemes
NANGO = {"/console/connections/{con_id}/metadata"}  # which this installation has no API key for


def violations(visitor: Visitor, *, rules: list[str] | None = None) -> list[str]:
    """The violations of the page as it is now, with the elements. rules: of axe; without them those of TAGS."""
    page = visitor.page
    if page.evaluate("typeof axe") == "undefined":
        page.evaluate(AXE)
    options = {"runOnly": {"type": "rule", "values": rules} if rules else {"type": "tag", "values": TAGS}}
    found = page.evaluate(RUN, options)["violations"]
    return [f"{each['id']}: {node['html'][:200]}" for each in found for node in each["nodes"]]


def pages(visitor: Visitor) -> list[str]:
    """Paths of one page of each kind that a link leads to, from the overview on."""
    found: dict[str, str] = {}
    waiting = ["/console"]
    while waiting:
        path = waiting.pop(0)
        kind = kind_of(path)
        if kind in found or not path.startswith("/console") or kind in NANGO:
            continue
        answer = visitor.page.request.get(f"{visitor.origin}{path}")
        assert answer.status == 200, path
        found[kind] = path
        waiting += [link.replace("&amp;", "&") for link in LINK.findall(answer.text())]
    return list(found.values())


def both_schemes(visitor: Visitor) -> list[str]:
    """The violations in one scheme, and those of contrast in the other."""
    found = []
    for scheme, rules in (("light", None), ("dark", ["color-contrast"])):
        visitor.page.emulate_media(color_scheme=scheme)
        found += [f"{scheme}: {each}" for each in violations(visitor, rules=rules)]
    return found


@pytest.mark.parametrize("width", [360, WIDE])
@pytest.mark.usefixtures("con", "figures")
def test_axe_finds_nothing_on_any_page(chromium, installed: Installation, operator, rows, width):  # noqa: F811
    add_bulk_run(installed.database, parse(JOB, rows["job"]))
    with opened(chromium, width, "light", expected=REFUSALS) as page:
        visitor = Visitor(page, installed.origin, (width, "light"))
        visitor.go("/console/sign-in")
        found = {"/console/sign-in": both_schemes(visitor)}
        visitor.go(operator[1])
        found["/console/welcome"] = both_schemes(visitor)
        sign_in(visitor, operator)
        paths = pages(visitor)
        assert len(paths) > 60, paths
        assert "/console/bulk-runs/{blk_id}" in map(kind_of, paths)
        for path in paths:
            page.goto(f"{installed.origin}{path}")
            page.evaluate("document.querySelectorAll('main details').forEach(one => one.open = true)")
            found[path] = both_schemes(visitor) if width == WIDE else violations(visitor)
    wrong = {path: each for path, each in found.items() if each}
    assert not wrong, json.dumps(wrong, indent=1)


def test_axe_finds_nothing_where_something_is_open(chromium, installed: Installation, operator, rows):  # noqa: F811
    with opened(chromium, 1280, "light", expected=REFUSALS) as page:
        visitor = Visitor(page, installed.origin, (1280, "light"))
        sign_in(visitor, operator)
        visitor.go(f"/console/jobs?state=discarded&name={rows['name']}")
        page.locator("details.live summary").click()
        found = {"live": both_schemes(visitor)}
        for name, key in (("Commands", "Control+k"), ("Keys", "?")):
            visitor.go("/console/events")
            page.keyboard.press(key)
            page.get_by_role("dialog", name=name).wait_for()
            found[name] = both_schemes(visitor)
        visitor.go(f"/console/jobs/act?act=retry&state=discarded&name={rows['name']}")
        visitor.fill(reason=" ")
        visitor.press("Retry 2 jobs")
        page.get_by_role("alert").wait_for()
        assert page.evaluate("document.activeElement.getAttribute('role')") == "alert", (
            "what was not done is read first"
        )
        found["refused"] = both_schemes(visitor)
    wrong = {path: each for path, each in found.items() if each}
    assert not wrong, json.dumps(wrong, indent=1)


def test_axe_finds_what_is_wrong(chromium, installed: Installation):
    with opened(chromium, WIDE, "light", expected=REFUSALS) as page:
        visitor = Visitor(page, installed.origin, (WIDE, "light"))
        visitor.go("/console/sign-in")
        page.evaluate("document.querySelector('label').remove()")
        page.evaluate("document.querySelector('h1').style.color = '#777'; document.body.style.background = '#888'")
        assert {each.partition(":")[0] for each in violations(visitor)} >= {"label", "color-contrast"}


SEEN = """selector => [...document.querySelectorAll(selector)].filter(one => one.checkVisibility()).map(one => {
  const style = getComputedStyle(one);
  return [style.outlineStyle, parseFloat(style.outlineWidth), parseFloat(style.borderTopWidth)];
})"""


def test_with_forced_colours_marks_notices_and_the_focus_are_seen(chromium, installed, operator, rows):  # noqa: F811
    with opened(chromium, 1280, "light", expected=REFUSALS, forced_colors="active") as page:
        visitor = Visitor(page, installed.origin, (1280, "light"))
        sign_in(visitor, operator)
        visitor.go(f"/console/jobs/{rows['job']}")
        assert violations(visitor, rules=["color-contrast"]) == []
        borders = page.evaluate(SEEN, ".mark, .notice, button, .button")
        assert len(borders) > 4
        assert all(border >= 1 for _, _, border in borders), "what a colour says, a border says, too"
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        [(style, width, _)] = page.evaluate(SEEN, ":focus")
        assert (style, width) == ("solid", 3)


@pytest.mark.parametrize("width", [640, 2560], ids=["1280px at 200%", "2560px"])
def test_lists_and_pages_fit_screens_between_and_beyond(chromium, installed, operator, rows, width):  # noqa: F811
    with opened(chromium, width, "light", expected=REFUSALS) as page:
        visitor = Visitor(page, installed.origin, (width, "light"))
        sign_in(visitor, operator)
        visitor.sees_overview(f"overview-{width}")
        for path, heading in (
            ("/console/events", "Events"),
            (f"/console/events/{rows['event']}", "connection.created"),
            ("/console/jobs", "Jobs"),
            (f"/console/jobs/{rows['job']}", rows["name"]),
            ("/console/commands", "Commands"),
        ):
            visitor.go(path)
            visitor.sees(heading, re.sub(r"\W+", "-", heading))

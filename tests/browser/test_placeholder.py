"""The page at /console, served by a real web process and shown by a real Chromium."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.ports import free_port
from tests.waiting import PATIENCE, until

playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra `browser`")

ROOT = Path(__file__).parents[2]
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SCREENS = [(width, scheme) for width in (360, 1280) for scheme in ("light", "dark")]


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A web process of its own, on SQLite in a temporary folder. It needs no broker to serve the page."""
    folder = tmp_path_factory.mktemp("web")
    port = free_port()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WAYLINK_")}
    environment = inherited | {
        "PYTHONPATH": str(ROOT),
        "WAYLINK_PORT": str(port),
        "WAYLINK_NANGO_SIGNING_KEYS": "a-key-for-this-test",
    }
    command = [sys.executable, "-m", "app.cli"]
    subprocess.run([*command, "migrate"], cwd=folder, env=environment, check=True, timeout=PATIENCE)
    with (folder / "web.log").open("wb") as log:
        web = subprocess.Popen([*command, "web"], cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            _wait_for(f"http://127.0.0.1:{port}/healthz", web, folder / "web.log")
            yield f"http://127.0.0.1:{port}"
        finally:
            web.terminate()
            web.wait(timeout=PATIENCE)


def _wait_for(url: str, web: subprocess.Popen, log: Path) -> None:
    def answers() -> bool:
        with suppress(httpx.HTTPError):
            return httpx.get(url, trust_env=False, timeout=PATIENCE).status_code == 200
        return False

    until("it answers or has ended", lambda: web.poll() is not None or answers())
    assert web.poll() is None, log.read_text()


@pytest.fixture(scope="module")
def chromium() -> Iterator["playwright.Browser"]:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("needs Chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=list(QUIET))
        yield browser
        browser.close()


@pytest.fixture(params=SCREENS, ids=lambda screen: f"{screen[0]}px-{screen[1]}")
def page(request: pytest.FixtureRequest, chromium, origin: str) -> Iterator["playwright.Page"]:
    """The page on one screen. What the browser complains about fails the test, CSP violations included."""
    width, scheme = request.param
    context = chromium.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("requestfailed", lambda failed: complaints.append(f"failed: {failed.url}"))
    opened.on("response", lambda answer: complaints.append(answer.url) if answer.status >= 400 else None)
    answer = opened.goto(f"{origin}/console", wait_until="networkidle")
    assert answer.status == 200
    if folder := os.environ.get("SCREENSHOTS"):
        opened.screenshot(path=f"{folder}/placeholder-{width}-{scheme}.png", full_page=True)
    yield opened
    context.close()
    assert complaints == []


def test_the_page_says_that_waylink_runs_and_what_to_do_next(page):
    assert page.locator("h1").inner_text() == "Waylink is running"
    assert page.title() == "Waylink"
    assert "waylink events" in page.locator("main").inner_text()


def test_nothing_scrolls_sideways(page):
    widths = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    scrolled, seen = page.evaluate(widths)
    assert scrolled <= seen


def test_text_stands_out_from_what_is_behind_it(page):
    """WCAG AA, 4.5 : 1, for every piece of text."""
    assert page.evaluate(CONTRAST) >= 4.5


def test_text_is_large_enough_to_read(page):
    sizes = "[...document.querySelectorAll('main *')].map(one => parseFloat(getComputedStyle(one).fontSize))"
    assert min(page.evaluate(sizes)) >= 13


def test_links_are_reached_by_keyboard_and_show_it(page):
    links = page.locator("a").count()
    reached = set()
    for _ in range(links):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.getAttribute('href')"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert reached == {"/healthz", "/readyz"}


def test_the_page_loads_nothing_from_elsewhere(page, origin):
    loaded = page.evaluate("performance.getEntriesByType('resource').map(one => one.name)")
    assert loaded
    assert all(name.startswith(origin) for name in loaded)


# The lowest contrast of any text with its nearest opaque background.
CONTRAST = """() => {
  const parts = color => color.match(/[\\d.]+/g).map(Number);
  const light = color => parts(color).slice(0, 3).map(one => one / 255)
    .map(one => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4)
    .reduce((sum, one, at) => sum + one * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = one => {
    for (; one; one = one.parentElement) {
      const color = getComputedStyle(one).backgroundColor;
      if ((parts(color)[3] ?? 1) === 1) return color;
    }
    return 'rgb(255, 255, 255)';
  };
  const holds = one => [...one.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
  return Math.min(...[...document.querySelectorAll('main, main *')].filter(holds).map(one => {
    const [low, high] = [light(getComputedStyle(one).color), light(behind(one))].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  }));
}"""

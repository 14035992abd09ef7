"""A person at a real Chromium, who looks at each page that is reached."""

import os

LOADED = "performance.getEntriesByType('resource').map(one => one.name)"
# Elements beyond the right edge, where the page scrolls sideways.
TOO_WIDE = """document.documentElement.scrollWidth <= document.documentElement.clientWidth ? [] : [
  ...document.querySelectorAll('body *')
].filter(one => one.getBoundingClientRect().right > document.documentElement.clientWidth).map(one => one.outerHTML)"""
SMALLEST_TEXT = (
    "Math.min(...[...document.querySelectorAll('main, main *')].map(one => parseFloat(getComputedStyle(one).fontSize)))"
)
# Links within a sentence are no targets in this sense.
SMALLEST_TARGET = """Math.min(...[
  ...document.querySelectorAll('button, .button, input:not(.off, [type=hidden]), select, summary, nav a')
].filter(one => one.checkVisibility())
  .map(one => Math.min(one.getBoundingClientRect().width, one.getBoundingClientRect().height)))"""
UNLABELLED = """[...document.querySelectorAll('input:not([type=hidden], .off), select, textarea')]
  .filter(one => !one.labels.length && !one.ariaLabel).map(one => one.outerHTML)"""
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
  const seen = one => one.checkVisibility();
  return Math.min(...[...document.querySelectorAll('body, body *')].filter(holds).filter(seen).map(one => {
    const [low, high] = [light(getComputedStyle(one).color), light(behind(one))].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  }));
}"""


class Visitor:
    """A person at a browser, who looks at each page that is reached."""

    def __init__(self, page, origin: str, screen: tuple[int, str]) -> None:
        self.page, self.origin = page, origin
        self._scheme = screen[1]
        self._screen = f"{screen[0]}-{screen[1]}"

    def go(self, path: str) -> None:
        self.page.goto(f"{self.origin}{path}", wait_until="networkidle")

    def press(self, button: str) -> None:
        self.page.get_by_role("button", name=button, exact=True).click()
        self.page.wait_for_load_state("networkidle")

    def fill(self, **fields: str) -> None:
        for name, value in fields.items():
            self.page.locator(f"#{name}").fill(value)

    def opens(self, label: str) -> None:
        """Go to a page by the navigation, which a narrow screen opens by a link."""
        menu = self.page.get_by_role("link", name="Menu", exact=True)
        if menu.is_visible():
            menu.click()
        self.page.get_by_role("navigation", name="Pages").get_by_role("link", name=label, exact=True).click()
        self.page.wait_for_load_state("networkidle")

    def sees(self, heading: str, picture: str | None = None) -> None:
        """Hold what every page has to be, and take a picture of it where SCREENSHOTS names a folder."""
        page = self.page
        if picture and (folder := os.environ.get("SCREENSHOTS")):
            page.screenshot(path=f"{folder}/{picture}-{self._screen}.png", full_page=True)
        assert page.locator("h1").inner_text() == heading
        assert page.title().endswith("· Waylink")
        assert page.evaluate(TOO_WIDE) == [], "nothing is wider than the screen"
        for scheme in ("light", "dark", self._scheme):  # the last one is this screen's again
            page.emulate_media(color_scheme=scheme)
            assert page.evaluate(CONTRAST) >= 4.5, f"WCAG AA, for every piece of text, {scheme}"
        assert page.evaluate(SMALLEST_TEXT) >= 13
        assert page.evaluate(SMALLEST_TARGET) >= 24, "WCAG 2.2 AA"
        assert page.evaluate(UNLABELLED) == []
        assert all(name.startswith(self.origin) for name in page.evaluate(LOADED))

    def sees_overview(self, picture: str | None = None) -> None:
        """Hold that this is the first page, whose heading counts what needs a person."""
        heading = self.page.locator("h1").inner_text()
        assert heading.removesuffix(" a person").endswith((" need", " needs")), heading
        self.sees(heading, picture)

"""The pages of signing in, used in a real Chromium: by link, by password, at the provider; without JavaScript."""

import os
from collections.abc import Iterator
from hashlib import sha256

import pytest

from tests.browser.conftest import Installation, opened

PASSWORD = "correct horse battery staple"
REFUSALS = frozenset({403, 410, 422})


class Visitor:
    """A person at a browser, who looks at each page that is reached."""

    def __init__(self, page, installed: Installation, screen: tuple[int, str]) -> None:
        self.page, self.origin = page, installed.origin
        self._screen = f"{screen[0]}-{screen[1]}"

    def go(self, path: str) -> None:
        self.page.goto(f"{self.origin}{path}", wait_until="networkidle")

    def press(self, button: str) -> None:
        self.page.get_by_role("button", name=button, exact=True).click()
        self.page.wait_for_load_state("networkidle")

    def fill(self, **fields: str) -> None:
        for name, value in fields.items():
            self.page.locator(f"#{name}").fill(value)

    def sees(self, heading: str, picture: str | None = None) -> None:
        """Hold what every page has to be, and take a picture of it where SCREENSHOTS names a folder."""
        page = self.page
        assert page.locator("h1").inner_text() == heading
        assert page.title().endswith("· Waylink")
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        assert page.evaluate(CONTRAST) >= 4.5, "WCAG AA, for every piece of text"
        assert page.evaluate(SMALLEST_TEXT) >= 13
        assert page.evaluate(SMALLEST_TARGET) >= 24, "WCAG 2.2 AA"
        assert page.evaluate(UNLABELLED) == []
        assert all(name.startswith(self.origin) for name in page.evaluate(LOADED))
        if picture and (folder := os.environ.get("SCREENSHOTS")):
            page.screenshot(path=f"{folder}/{picture}-{self._screen}.png", full_page=True)


@pytest.fixture
def visit(chromium, installed: Installation, screen: tuple[int, str]) -> Iterator[Visitor]:
    """A visitor on one screen. No page has a script, so that none needs one."""
    with opened(chromium, *screen, expected=REFUSALS) as page:
        yield Visitor(page, installed, screen)


@pytest.fixture
def operator(installed: Installation, request: pytest.FixtureRequest) -> tuple[str, str]:
    """A new operator: the name, and the path of the link."""
    name = f"ada-{sha256(request.node.name.encode()).hexdigest()[:8]}"
    said = installed.run("operator", "add", name, "--role", "operator")
    return name, said.split()[-1].removeprefix(installed.origin)


def test_a_link_sets_a_password_with_which_one_signs_in(visit: Visitor, operator):
    name, link = operator
    visit.go(link)
    visit.sees(f"Welcome, {name}", "welcome")
    assert visit.page.evaluate("document.activeElement.id") == "password"
    visit.fill(password="too short", repeated="too short")
    visit.press("Set the password and sign in")
    visit.sees(f"Welcome, {name}", "welcome-wrong")
    assert "at least 12 characters" in visit.page.get_by_role("alert").inner_text()
    visit.fill(password=PASSWORD, repeated=PASSWORD)
    visit.press("Set the password and sign in")
    visit.sees("Waylink is running", "start")
    visit.page.get_by_role("link", name=name).click()
    visit.sees("Your account", "account")
    visit.press("Sign out")
    visit.sees("You are signed out", "signed-out")
    visit.go(link)
    visit.sees("This link does not work any more", "spent")

    visit.go("/console/account")
    visit.sees("Sign in", "sign-in")
    visit.fill(name=name, password="not the one I have")
    visit.press("Sign in")
    visit.sees("Sign in", "sign-in-wrong")
    assert visit.page.get_by_role("alert").inner_text() == "Not done. Name or password is wrong."
    assert visit.page.evaluate("document.activeElement.id") == "password"
    assert visit.page.locator("#password").input_value() == ""
    visit.page.locator("#password").fill(PASSWORD)
    visit.page.keyboard.press("Enter")
    visit.page.wait_for_url("**/console/account")
    visit.sees("Your account")


def test_one_signs_in_at_the_provider_and_out_of_it(visit: Visitor, installed: Installation):
    installed.provider.person |= {"groups": ["everyone", "sales"]}
    visit.go("/console/sign-in")
    visit.page.get_by_role("link", name="Sign in at").click()
    visit.page.wait_for_url("**/oidc/callback?*")
    visit.sees("No access", "no-access")
    assert "sales" in visit.page.locator("main").inner_text()
    installed.provider.person |= {"groups": ["ops"]}
    visit.page.get_by_role("link", name="Sign in again").click()
    visit.page.get_by_role("link", name="Sign in at").click()
    visit.page.wait_for_url("**/console")
    visit.sees("Waylink is running")
    visit.page.get_by_role("link", name="ada").click()
    visit.sees("Your account", "account-of-the-provider")
    visit.press("Sign out")
    visit.sees("You are signed out", "signed-out-of-the-provider")
    visit.page.get_by_role("link", name="Sign out of").click()
    visit.page.wait_for_url(f"{installed.provider.origin}/logout?*")


def test_the_forms_are_reached_by_keyboard_and_show_it(visit: Visitor):
    visit.go("/console/sign-in")
    reached = {visit.page.evaluate(FOCUSED)}
    for _ in range(8):  # past the end of the page they begin anew
        visit.page.keyboard.press("Tab")
        focused = visit.page.evaluate(FOCUSED)
        if focused is not None:
            reached.add(focused)
            assert visit.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert {"Skip to the content", "Waylink", "name", "password", "Sign in"} <= reached


def test_a_form_of_another_site_is_refused(visit: Visitor, installed: Installation, operator):
    visit.go(operator[1])
    visit.fill(password=PASSWORD, repeated=PASSWORD)
    visit.press("Set the password and sign in")
    visit.sees("Waylink is running")
    elsewhere = f"{installed.provider.origin}/keys"  # another origin of the same site
    visit.page.goto(elsewhere)
    visit.page.evaluate(POSTS, f"{installed.origin}/console/sign-out")
    visit.page.wait_for_url("**/console/sign-out")
    visit.sees("The request came from another site", "another-site")
    visit.go("/console")
    visit.sees("Waylink is running")


LOADED = "performance.getEntriesByType('resource').map(one => one.name)"
FOCUSED = """document.activeElement === document.body ? null
  : document.activeElement.id || document.activeElement.innerText.trim()"""
POSTS = """url => {
  const form = document.createElement('form');
  form.method = 'post';
  form.action = url;
  document.body.append(form);
  form.submit();
}"""
SMALLEST_TEXT = (
    "Math.min(...[...document.querySelectorAll('main, main *')].map(one => parseFloat(getComputedStyle(one).fontSize)))"
)
# Links within a sentence are no targets in this sense.
SMALLEST_TARGET = """Math.min(...[
  ...document.querySelectorAll('button, .button, input:not(.off, [type=hidden]), nav a')
].map(one => Math.min(one.getBoundingClientRect().width, one.getBoundingClientRect().height)))"""
UNLABELLED = """[...document.querySelectorAll('input:not([type=hidden], .off)')]
  .filter(one => !one.labels.length).map(one => one.outerHTML)"""
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
  return Math.min(...[...document.querySelectorAll('body, body *')].filter(holds).map(one => {
    const [low, high] = [light(getComputedStyle(one).color), light(behind(one))].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  }));
}"""

"""The console's pages in a real Chromium, used without JavaScript on each screen."""

import re

import httpx

from tests.browser.conftest import Installation
from tests.browser.visitor import Visitor

PASSWORD = "correct horse battery staple"


def sign_in(visit: Visitor, operator) -> None:
    visit.go(operator[1])
    visit.fill(password=PASSWORD, repeated=PASSWORD)
    visit.press("Set the password and sign in")


def open_page(visit: Visitor, label: str) -> None:
    """Go to a page by the navigation, which a narrow screen opens by a link."""
    menu = visit.page.get_by_role("link", name="Menu", exact=True)
    if menu.is_visible():
        menu.click()
    visit.page.get_by_role("navigation", name="Pages").get_by_role("link", name=label, exact=True).click()
    visit.page.wait_for_load_state("networkidle")


def test_rejections_are_found_and_filtered(visit: Visitor, installed: Installation, operator):
    for _ in range(3):
        answer = httpx.post(f"{installed.origin}/webhooks/nango", content=b"{}", trust_env=False)
        assert answer.status_code == 401
    sign_in(visit, operator)
    open_page(visit, "Rejections")
    visit.sees("Rejections", "rejections")
    visit.page.get_by_text("Filter", exact=True).click()
    visit.page.locator("#cause").fill("too_large")
    visit.press("Show")
    visit.sees("Rejections", "rejections-none")
    assert re.search(r"cause=too_large", visit.page.url)
    assert "No rejection matches these filters." in visit.page.locator("main").inner_text()

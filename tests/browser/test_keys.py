"""Commands, help and keys in a real Chromium; without JavaScript they are pages."""

import pytest

from tests.browser.conftest import REFUSALS, Installation, opened
from tests.browser.test_console import rows, said, sign_in, state_of  # noqa: F401 - a fixture
from tests.browser.visitor import Visitor

FOCUSED = "document.activeElement.id"


@pytest.fixture
def keyboard(chromium, installed: Installation, operator):
    """A visitor with a wide screen and a keyboard."""

    with opened(chromium, 1280, "light", expected=REFUSALS) as page:
        visitor = Visitor(page, installed.origin, (1280, "light"))
        sign_in(visitor, operator)
        yield visitor


def press(visitor: Visitor, *keys: str) -> None:
    for key in keys:
        visitor.page.keyboard.press(key)


def leads_to(visitor: Visitor, path: str) -> None:
    visitor.page.wait_for_url(f"{visitor.origin}{path}")
    visitor.page.wait_for_load_state("networkidle")


def test_every_page_is_a_command_away(visit: Visitor, installed, operator):
    sign_in(visit, operator)
    visit.page.get_by_role("link", name="Commands").click()
    field = visit.page.get_by_label("Go to a page or to the id of a row, or search for a text")
    field.fill("forec")
    field.press("Enter")
    if visit.page.get_by_role("heading", name="Commands").is_visible():
        visit.page.wait_for_load_state("networkidle")  # without a script the list is a page
        visit.sees("Commands", "commands")
        visit.page.get_by_role("link", name="Forecast of refreshes").click()
    leads_to(visit, "/console/refreshes/forecast")
    visit.go("/console/keys")
    visit.sees("Keys", "keys")


def test_commands_have_the_acts_of_the_page_and_the_rows_of_ids(keyboard: Visitor, installed, rows):  # noqa: F811
    page = keyboard.page
    keyboard.go(f"/console/jobs/{rows['job']}")
    press(keyboard, "Control+k")
    dialog = page.get_by_role("dialog", name="Commands")
    dialog.wait_for()
    assert page.evaluate(FOCUSED) == "command"
    page.keyboard.type("retr")
    searches = ["Search the connections for this text", "Search the events for this text"]
    assert dialog.locator("li:visible").all_inner_texts() == ["Retry", *searches]
    assert dialog.locator("#commands-found").inner_text() == "3 commands"
    press(keyboard, "ArrowDown")
    assert page.evaluate("document.activeElement.textContent") == "Retry"
    press(keyboard, "Enter")
    page.get_by_role("status").wait_for()
    keyboard.page.wait_for_load_state("networkidle")
    assert "delivered again" in said(keyboard)
    assert page.evaluate("document.activeElement === document.querySelector('.notice.done')"), "where the act is told"

    press(keyboard, "Control+k")
    dialog.wait_for()
    page.keyboard.type(rows["event"])
    assert dialog.locator("li:visible").all_inner_texts() == ["The event of this id"]
    press(keyboard, "Enter")
    leads_to(keyboard, f"/console/events/{rows['event']}")

    press(keyboard, "Control+k")
    dialog.wait_for()
    page.keyboard.type("ada & co")
    assert dialog.locator("li:visible").all_inner_texts() == searches
    press(keyboard, "Enter")
    leads_to(keyboard, "/console/connections?q=ada%20%26%20co")
    assert page.get_by_label("Search").input_value() == "ada & co"


def test_letters_lead_to_pages_but_not_while_typing_or_with_a_modifier(keyboard: Visitor):
    page = keyboard.page
    press(keyboard, "g", "c")
    leads_to(keyboard, "/console/connections")
    press(keyboard, "/")
    assert page.evaluate("document.activeElement.matches('#main input')")
    page.keyboard.type("gj?/")
    assert page.evaluate("document.activeElement.value") == "gj?/"
    page.locator("h1").click()
    press(keyboard, "g", "Alt+j", "g", "Shift+J", "g", "1", "j")
    assert page.url.endswith("/console/connections")
    assert page.locator("dialog[open]").count() == 0
    press(keyboard, "g", "j")
    leads_to(keyboard, "/console/jobs")


def test_the_help_opens_closes_and_gives_the_focus_back(keyboard: Visitor):
    page = keyboard.page
    keyboard.go("/console/events")
    page.get_by_role("link", name="Jobs", exact=True).focus()
    press(keyboard, "?")
    page.get_by_role("dialog", name="Keys").wait_for()
    press(keyboard, "g", "j")
    assert page.url.endswith("/console/events"), "a dialog is open"
    press(keyboard, "Escape")
    page.get_by_role("dialog", name="Keys").wait_for(state="hidden")
    assert page.evaluate("document.activeElement.textContent") == "Jobs"


def test_keys_that_are_switched_off_do_nothing(keyboard: Visitor):
    page = keyboard.page
    keyboard.go("/console/keys")
    keyboard.press("Switch them off")
    press(keyboard, "g", "j", "?", "/", "Control+k")
    assert page.url.endswith("/console/keys")
    assert page.locator("dialog[open]").count() == 0
    page.get_by_role("link", name="Commands").click()
    page.get_by_role("dialog", name="Commands").wait_for()

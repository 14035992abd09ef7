"""The list of commands and the keys, as pages that need no script."""

from html import unescape

import pytest

from app.web.console.navigation import _PAGES
from tests.console_walk import LINK
from tests.integration.console.pages import Page

FRAME = {"Overview", "Waylink"}


def listed(page: Page) -> dict[str, str]:
    """The commands of the page: paths by label."""
    part = page.html[page.html.index('<ul class="commands">') : page.html.index("</main>")]
    found = {}
    for item in part.split("<li>")[1:]:
        link = LINK.search(item)
        assert link is not None
        label = item.partition('">')[2].partition("<")[0]
        found[unescape(label).strip()] = unescape(link[1])
    return found


@pytest.mark.parametrize("who", ["operator", "viewer", "team"])
def test_commands_are_the_pages_that_a_role_may_see(console, who):
    commands = listed(console.get("/console/commands", who=who))
    assert {"Events", "Jobs", "Your account", "Keys"} <= set(commands)
    for label, path in commands.items():
        page = console.get(path, who=who)
        heading = page.html.partition("<h1")[2].partition(">")[2].partition("</h1>")[0]
        assert path in page.links.values() or unescape(heading) == label, (label, path, heading)
    assert ("Add a user" in commands) is (who == "operator")
    assert ("Settings" in commands) is (who != "team")


def test_a_word_narrows_the_commands_and_an_id_leads_to_its_row(console):
    searches = {"Search the connections for fore", "Search the events for fore"}
    found = listed(console.get("/console/commands", q="fore"))
    assert set(found) == {"Forecast of refreshes"} | searches
    assert found["Search the connections for fore"] == "/console/connections?q=fore"
    found = listed(console.get("/console/commands", who="team", q="ROUTE"))
    assert set(found) == {"Routes", "Add a route", "Search the events for ROUTE"}, "a team sees no connections"
    shown = "con_" + "0" * 32
    assert listed(console.get("/console/commands", q=shown)) == {
        f"The connection {shown}": f"/console/connections/{shown}"
    }
    assert listed(console.get("/console/commands", q=shown, who="team")) == {}, "whose pages it may not see"
    page = console.get("/console/commands", q='<script>"' * 50)
    assert "<script>&" not in page.html
    assert "2 commands" in page.text
    assert "0 commands" in console.get("/console/commands", who="team", q=shown).text
    assert len(page.fields["q"]) <= 100


def test_keys_are_listed_and_can_be_switched_off(console):
    letters = [key for _, _, key in _PAGES]
    assert len(set(letters)) == len(letters)
    assert "g" not in letters
    browser = console.browsers["viewer"]
    page = console.get("/console/keys", who="viewer")
    assert "g then c Connections" in page.text
    assert "g then a Audit" not in page.text, "which a viewer may not see"
    assert 'data-keys="on"' in page.html
    off = console.post("/console/preferences", who="viewer", keys="off", back="/console/keys")
    assert off.answer.headers["location"] == "/console/keys"
    page = console.get("/console/keys", who="viewer")
    assert 'data-keys="off"' in page.html
    assert "Switch them on" in page.buttons
    console.post("/console/preferences", who="viewer", every="15", back="/console/keys")
    assert 'data-keys="off"' in browser.get("/console/keys").text, "one choice keeps the other"
    console.post("/console/preferences", who="viewer", keys="on", every="off", back="/console/keys")
    assert 'data-keys="on"' in browser.get("/console/keys").text

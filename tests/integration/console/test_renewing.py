"""Pages that renew themselves: what the server answers to a script, and what all of the first page weighs."""

import re
from datetime import timedelta

import pytest

from app.clock import utc_now
from app.db.models import OperatorSession
from tests.integration.console.pages import FORM
from tests.integration.operators import visitors
from tests.integration.status.rows import add, an_event

RENEWAL = {"hx-request": "true", "hx-request-type": "partial", "waylink-renewal": "true"}
LOADED = re.compile(r'(?:src|href)="(/static/[^"]+)"')
LARGEST = 100_000  # bytes, uncompressed


@pytest.fixture(scope="module")
def browser(console):
    return console.browsers["operator"]


@pytest.mark.parametrize("path", ["/console", "/console/events", "/console/users"])
def test_a_renewal_has_the_content_of_the_page_and_nothing_else(browser, path):
    browser.cookies.set("waylink-every", "5")
    whole, part = browser.get(path), browser.get(path, headers=RENEWAL)
    browser.cookies.delete("waylink-every")
    assert part.text.strip().startswith('<main id="main"')
    assert part.text.strip().endswith("</main>")
    assert 'data-every="5"' in part.text
    at = re.compile(r"<time.*?</time>")  # of the look, which differs
    assert at.sub("", part.text.strip()) in at.sub("", whole.text)
    assert part.headers["content-security-policy"] == whole.headers["content-security-policy"]


def test_a_renewal_that_changes_nothing_has_no_content(console, browser):
    first = browser.get("/console/events", headers=RENEWAL)
    known = RENEWAL | {"if-none-match": first.headers["etag"]}
    again = browser.get("/console/events", headers=known)
    assert (again.status_code, again.content) == (304, b"")
    add(console.database, an_event(utc_now(), state="processed", type="connection.created"))
    assert browser.get("/console/events", headers=known).status_code == 200
    assert "etag" not in browser.get("/console/events").headers, "a page that a person asks for is made anew"
    refused = browser.get("/console/jobs?state=lost", headers=RENEWAL)
    assert (refused.status_code, "etag" in refused.headers) == (422, False), "nor is a refusal kept"


def test_a_script_is_told_that_nobody_is_signed_in(console):
    with visitors.browser(console.api.web) as stranger:
        answer = stranger.get("/console/events", headers=RENEWAL)
        assert (answer.status_code, stranger.get("/console/events").status_code) == (401, 303)
        assert "/console/sign-in" in answer.text


def test_renewals_do_not_keep_a_session_from_ending(console, browser):
    before = utc_now() - timedelta(minutes=30)

    def seen_after(headers) -> bool:
        with console.database.write() as session:
            for each in session.query(OperatorSession):
                each.seen_at = before
        assert browser.get("/console/events", headers=headers).status_code == 200
        with console.database.read() as session:
            return any(each.seen_at > before for each in session.query(OperatorSession))

    assert not seen_after(RENEWAL)
    assert seen_after({})


def test_choices_are_kept_and_lead_back_to_no_other_site(browser):
    def chosen(**fields: str):
        return browser.post("/console/preferences", data=fields, headers=FORM)

    answer = chosen(every="15", back="/console/jobs?state=failed")
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/jobs?state=failed")
    assert all("HttpOnly" in each and "Path=/console" in each for each in answer.headers.get_list("set-cookie"))
    assert chosen(every="15", back="/console?span=1h").headers["location"] == "/console?span=1h"
    for wrong in ("https://elsewhere.example/console/", "//elsewhere.example", ""):
        assert chosen(every="15", back=wrong).headers["location"] == "/console"
    assert 'data-every="15"' in browser.get("/console").text
    for none in ("off", "1", "x" * 50):
        chosen(every=none)
        assert "data-every" not in browser.get("/console").text


def test_the_first_page_with_all_that_it_loads_is_small(browser):
    page = browser.get("/console?span=24h")
    loaded = {path: browser.get(path) for path in set(LOADED.findall(page.text))}
    assert {answer.status_code for answer in loaded.values()} == {200}
    sizes = {path: len(answer.content) for path, answer in loaded.items()} | {"page": len(page.content)}
    assert sum(sizes.values()) <= LARGEST, sizes
    assert sizes[next(path for path in sizes if ".css" in path)] < 25_000


def test_a_file_is_kept_under_the_address_of_its_content(browser):
    page = browser.get("/console").text
    for path in set(LOADED.findall(page)):
        assert browser.get(path).headers["cache-control"] == "public, max-age=31536000, immutable"
        plain = browser.get(path.partition("?")[0])
        assert plain.headers["cache-control"] == "no-cache", "an address without the content's hash"
        assert browser.get(f"{path}0").headers["cache-control"] == "no-cache", "another content's"
        known = {"if-none-match": plain.headers["etag"]}
        assert browser.get(path, headers=known).status_code == 304

"""Pages that renew themselves, in a real Chromium, by a clock that the tests move."""

import re
from datetime import timedelta

import pytest

from app.clock import utc_now
from app.db import operator_sessions
from app.db.models import Job
from app.ids import EVENT, JOB, parse, show
from tests.browser.conftest import REFUSALS, Installation, opened
from tests.browser.test_console import rows, sign_in  # noqa: F401 - a fixture
from tests.browser.visitor import Visitor
from tests.integration.status.rows import add, an_event

EVERY = 5  # seconds, as the tests choose it
LONG = 60_000  # ms: several renewals
HIDE = "hidden => { Object.defineProperty(document, 'hidden', {configurable: true, get: () => hidden});" + (
    "document.dispatchEvent(new Event('visibilitychange')); }"
)
SELECT = "getSelection().selectAllChildren(document.querySelector('h1'))"


@pytest.fixture
def live(chromium, installed: Installation, operator):
    """A visitor of the events, which are renewed every 5 s of a clock that stands still until it is moved."""
    with opened(chromium, 1280, "light", expected=REFUSALS | {401, 503}) as page:
        visitor = Visitor(page, installed.origin, (1280, "light"))
        sign_in(visitor, operator)
        visitor.go("/console/events")
        choose(visitor, f"every {EVERY} s")
        page.clock.install()
        visitor.go("/console/events")
        yield visitor


def choose(visitor: Visitor, label: str) -> None:
    visitor.page.locator("details.live summary").click()
    visitor.press(label)


def arrives(installed: Installation) -> str:
    """An event more; its path."""
    event = an_event(utc_now(), state="processed", type="connection.created", integration="hubspot")
    add(installed.database, event)
    return f"/console/events/{show(EVENT, event.id)}"


def renewed(visitor: Visitor, *, seconds: int = EVERY + 1) -> None:
    """Move the clock, so that the page asks for itself once. seconds: fewer than an answer is waited for."""
    page = visitor.page
    with page.expect_response(lambda answer: "waylink-renewal" in answer.request.headers):
        page.clock.run_for(seconds * 1000)
    page.wait_for_load_state("networkidle")


def asks_nothing(visitor: Visitor) -> None:
    asked = []

    def note(request) -> None:
        asked.append(request.url)

    visitor.page.on("request", note)
    visitor.page.clock.run_for(LONG)
    visitor.page.wait_for_load_state("networkidle")
    visitor.page.remove_listener("request", note)
    assert asked == []


def test_a_list_shows_what_is_new_and_says_how_many(live: Visitor, installed, rows):  # noqa: F811
    page = live.page
    page.set_viewport_size({"width": 1280, "height": 300})
    live.go("/console/events")
    kept = page.locator(f"a[href='/console/events/{rows['event']}']")
    kept.focus()
    page.evaluate("scrollTo(0, 40)")
    paths = [arrives(installed), arrives(installed)]
    assert page.locator(f"a[href='{paths[0]}']").count() == 0
    renewed(live)
    for path in paths:
        page.locator(f"a[href='{path}']").wait_for()
    assert re.fullmatch(r"2 new at \d\d:\d\d:\d\d UTC", page.locator("#told").inner_text())
    focused = page.evaluate("document.activeElement.getAttribute('href')")
    assert focused == f"/console/events/{rows['event']}", "the focus stays with its row, though others came in above"
    assert page.evaluate("scrollY") == 40
    renewed(live)
    assert page.locator("#told").inner_text().startswith("2 new"), "what brings nothing new says nothing"


def test_a_page_that_did_not_change_is_answered_without_its_content(live: Visitor, installed):
    live.go("/console/rejections")
    statuses = []
    for _ in range(2):
        with live.page.expect_response(lambda answer: "waylink-renewal" in answer.request.headers) as found:
            live.page.clock.run_for(EVERY * 1000 + 1000)
        statuses.append(found.value.status)
        live.page.wait_for_load_state("networkidle")
    assert statuses == [200, 304]
    assert live.page.locator("#stale").is_hidden()


def test_nothing_is_renewed_while_that_would_disturb(live: Visitor, installed):
    page = live.page
    state = page.locator("#live")
    path = arrives(installed)
    page.evaluate(SELECT)
    asks_nothing(live)
    assert state.inner_text() == "5 s, paused: text is selected"
    page.evaluate("getSelection().removeAllRanges()")

    page.evaluate(HIDE, True)
    asks_nothing(live)
    page.evaluate(HIDE, False)
    page.locator(f"a[href='{path}']").wait_for()  # at once when it is seen again
    page.wait_for_load_state("networkidle")

    page.get_by_text("Filter", exact=True).click()
    page.locator("h1").click()
    asks_nothing(live)
    assert state.inner_text() == "5 s, paused: a form is open"
    page.locator("#integration").fill("slack")
    asks_nothing(live)
    assert state.inner_text() == "5 s, paused: a form is in use"
    page.get_by_text("Filter", exact=True).click()
    page.locator("h1").click()
    asks_nothing(live)
    assert state.inner_text() == "5 s, paused: a form was changed"
    assert page.locator("#integration").input_value() == "slack"


def test_what_a_viewer_opened_stays_open(live: Visitor, installed):
    live.go("/console")
    live.page.get_by_text("checks are well").click()
    renewed(live)
    before = live.page.locator("main p.soft-text time").first.inner_text()
    renewed(live)
    live.page.wait_for_function("before => document.querySelector('main time').textContent !== before", arg=before)
    assert live.page.locator("main details").first.get_attribute("open") is not None


def test_a_job_tells_its_new_state(live: Visitor, installed, rows):  # noqa: F811
    live.go(f"/console/jobs/{rows['job']}")
    with installed.database.write() as session:
        job = session.get(Job, parse(JOB, rows["job"]))
        job.state, job.finished_at, job.next_at = "available", None, utc_now() + timedelta(hours=1)
    renewed(live)
    live.page.get_by_role("button", name="Cancel").wait_for()
    assert "available at " in live.page.locator("#told").inner_text()


def test_a_page_that_cannot_be_renewed_says_since_when(live: Visitor, installed, operator):
    page, stale = live.page, live.page.get_by_role("alert")
    page.route("**/console/events", lambda route: route.fulfill(status=503, body="away"))
    renewed(live)
    assert re.search(r"Not renewed since \d\d:\d\d:\d\d UTC: the server answers 503", stale.inner_text())
    page.unroute("**/console/events")
    renewed(live, seconds=2 * EVERY + 1)  # a failure doubles the time to the next attempt
    page.locator("#stale").wait_for(state="hidden")

    with installed.database.write() as session:
        for each in session.query(operator_sessions.OperatorSession):
            session.delete(each)
    renewed(live)
    stale.get_by_role("link", name="Sign in").wait_for()
    assert "you are signed out" in stale.inner_text()
    asks_nothing(live)
    assert page.locator("h1").inner_text() == "Events", "what was there is still there"
    stale.get_by_role("link", name="Sign in").click()
    page.wait_for_url("**/console/sign-in?next=%2Fconsole%2Fevents")


def test_how_often_is_chosen_with_and_without_a_script(visit: Visitor, installed, operator):
    sign_in(visit, operator)
    visit.go("/console/events?state=failed")
    assert visit.page.locator("#live").inner_text() == "off"
    choose(visit, "every 15 s")
    assert visit.page.url.endswith("/console/events?state=failed")
    assert visit.page.locator("#live").inner_text() == "15 s"
    visit.opens("Jobs")
    assert visit.page.locator("#live").inner_text() == "15 s"
    visit.page.locator("details.live summary").click()
    visit.sees("Jobs", "live")
    visit.press("never")
    assert visit.page.locator("#live").inner_text() == "off"

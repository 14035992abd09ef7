"""Three questions of a newcomer, each answered within three clicks from the overview, without JavaScript."""

from datetime import timedelta

from app.clock import utc_now
from app.ids import CONNECTION, JOB, REFRESH, new_id, show
from tests.browser.conftest import REFUSALS, Installation, opened
from tests.browser.test_console import follow, sign_in
from tests.browser.visitor import Visitor
from tests.integration.console.test_finding import a_plan
from tests.integration.status.rows import a_connection, a_job, add, an_event, destination


def test_three_questions_are_answered_by_three_clicks(chromium, installed: Installation, operator):
    now, mark = utc_now(), new_id().hex[-8:]
    waits = a_connection(now, f"waits-{mark}", wanted_user="usr_9", unlinked_reason="unknown_user")
    lapses = a_connection(now, f"lapses-{mark}", expires_at=now + timedelta(minutes=1))
    event = an_event(now, state="processed", type="connection.created", processed_at=now)
    gone = {"state": "discarded", "finished_at": now, "fault": "team", "attempts": 1, "destination": "hook"}
    job = a_job(now, event.id, name=f"crm.j{mark}", problem="the endpoint answered 500", team=f"t{mark}", **gone)
    place = destination(f"t{mark}", "hook")
    plan = a_plan(lapses, now + timedelta(minutes=1))
    add(installed.database, place, waits, lapses, event, job, plan)
    screen = (1280, "light")
    with opened(chromium, *screen, expected=REFUSALS, java_script_enabled=False) as page:
        visit = Visitor(page, installed.origin, screen)
        sign_in(visit, operator)
        for first, second, third, answer in (
            (
                "Connections",
                "Without an owner here",
                f"/console/connections/{show(CONNECTION, waits.id)}",
                "Why it is not linked",
            ),
            ("Jobs", "dead letters", f"/console/jobs/{show(JOB, job.id)}", "the endpoint answered 500"),
            (
                "Refreshes",
                "In danger: lapse within a day",
                f"/console/refreshes/{show(REFRESH, plan.id)}",
                f"lapses-{mark}",
            ),
        ):
            visit.go("/console")
            visit.opens(first)
            follow(visit, second)
            if first == "Refreshes":
                assert page.locator("tbody a").first.get_attribute("href") == third, "what lapses first comes first"
            page.locator(f"a[href='{third}']").first.click()
            page.wait_for_load_state("networkidle")
            assert answer in page.locator("main").inner_text()

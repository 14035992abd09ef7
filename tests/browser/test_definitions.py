"""The pages of teams, routes and destinations in a real Chromium, used without JavaScript on each screen."""

import json
from datetime import datetime, timedelta

from app.clock import utc_now
from app.db import figures
from app.domain.figures import FigureName, Step
from tests.browser.conftest import REFUSALS, Installation, opened
from tests.browser.test_console import follow, sign_in
from tests.browser.visitor import Visitor

PATTERN = '{"type": ["connection.created"], "tags": {"plan": ["pro"]}}'


def test_a_team_gets_a_route_that_was_tried_before(visit: Visitor, installed: Installation, operator):
    team = operator[0].replace(".", "-")
    sign_in(visit, operator)
    visit.opens("Teams")
    visit.sees("Teams", "teams")
    follow(visit, "Add a team")
    visit.sees("Add a team", "team-add")
    visit.fill(name=team)
    visit.press("Add the team")
    visit.sees("Teams")
    installed.run("destinations", "add", f"{team}/jobs", "--queue", f"team.{team}.jobs")

    visit.opens("Routes")
    follow(visit, "Try a pattern")
    visit.sees("Try a pattern", "route-trial")
    visit.fill(pattern=PATTERN, document='{"type": "connection.created", "tags": {"plan": "free"}}')
    visit.press("Try it")
    visit.sees("Try a pattern", "route-trial-no-match")
    assert "It does not match." in visit.page.get_by_role("status").inner_text()
    visit.fill(document='{"type": "connection.created", "tags": {"plan": "pro"}}')
    visit.press("Try it")
    assert "It matches." in visit.page.get_by_role("status").inner_text()

    follow(visit, "Back")
    follow(visit, "Add a route")
    visit.fill(team=team, name="pro", job="crm.pro", destination="jobs", pattern='{"type": [}')
    visit.press("Put it in force")
    visit.sees("Add a route", "route-add-wrong")
    assert "line 1" in visit.page.locator("#pattern-problem").inner_text()
    visit.fill(pattern=PATTERN)
    visit.press("Put it in force")
    visit.sees("Routes", "routes")
    visit.go(f"/console/routes/{team}/pro/change")
    visit.fill(pattern='{"type": ["connection.deleted"]}')
    visit.press("Make a new version")
    visit.sees(f"{team}/pro", "route")
    follow(visit, "Disable")
    visit.press("Disable")
    [stored] = json.loads(installed.run("routes", "--team", team, "--json"))
    assert (stored["enabled"], stored["pattern"]) == (False, {"type": ["connection.deleted"]})


def test_a_destination_is_parked_and_released(visit: Visitor, installed: Installation, operator):
    team = operator[0].replace(".", "-")
    installed.run("teams", "add", team)
    installed.run("destinations", "add", f"{team}/jobs", "--queue", f"team.{team}.jobs")
    sign_in(visit, operator)
    visit.opens("Destinations")
    visit.sees("Destinations", "destinations")
    visit.go(f"/console/destinations/{team}/jobs")
    follow(visit, "Disable")
    visit.sees("Disable the destination", "destination-disable")
    visit.fill(reason="they move")
    visit.press("Park its jobs")
    visit.sees(f"{team}/jobs", "destination")
    assert "they move" in visit.page.locator("main").inner_text()

    def stored():
        rows = json.loads(installed.run("destinations", "--team", team, "--json"))
        return rows[0]

    assert stored()["disabled_reason"] == "they move"
    follow(visit, "Enable")
    visit.press("Enable")
    follow(visit, "Change the rate")
    visit.fill(rate_per_second="2.5")
    visit.press("Set the rate")
    visit.sees(f"{team}/jobs")
    assert (stored()["disabled_at"], stored()["rate_per_second"]) == (None, 2.5)


def test_a_pattern_is_tried_while_it_is_typed_and_the_focus_stays(chromium, installed: Installation, operator):
    with opened(chromium, 1280, "light", expected=REFUSALS) as page:
        visit = Visitor(page, installed.origin, (1280, "light"))
        sign_in(visit, operator)
        for path in ("/console/routes/test", "/console/routes/add"):
            visit.go(path)
            said, pattern = page.locator("#said"), page.locator("#pattern")
            pattern.fill("")
            pattern.press_sequentially('{"type": [{"prefx": "a"}]}')
            said.filter(has_text="prefx").wait_for()
            assert page.evaluate("document.activeElement.id") == "pattern"
            assert pattern.input_value() == '{"type": [{"prefx": "a"}]}'
            pattern.fill('{"type": [{"prefix": "a"}]}')
            said.filter(has_text="stored event").wait_for()
            assert "Not tried." not in said.inner_text()
            assert page.evaluate("document.activeElement.id") == "pattern"
            assert page.url.endswith(path)


def test_a_time_of_a_figure_is_chosen_by_dragging_over_its_chart(chromium, installed: Installation, operator):
    with installed.database.write() as session:
        for hours in range(1, 20):
            at = Step.MINUTE.start(utc_now() - timedelta(hours=hours))
            figures.put(session, {(FigureName.WEBHOOKS, ("default", "stored")): (hours,)}, at=at)
    with opened(chromium, 1280, "light", expected=REFUSALS) as page:
        visit = Visitor(page, installed.origin, (1280, "light"))
        sign_in(visit, operator)
        visit.go("/console/figures/webhooks?since=24h")
        visit.sees("Webhooks", "figure")
        box = page.locator(".chart").bounding_box()
        middle = box["y"] + box["height"] / 2
        page.mouse.move(box["x"] + box["width"] / 4, middle)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] / 2, middle, steps=5)
        with page.expect_navigation():
            page.mouse.up()
        shown = [page.locator("figure").get_attribute(f"data-{end}") for end in ("since", "until")]
        began, ended = map(datetime.fromisoformat, shown)
        assert timedelta(hours=5) < ended - began < timedelta(hours=8), "a quarter of the time"
        before = page.url
        with page.expect_navigation():
            page.locator(".chart a").first.click()
        assert page.url != before, "a click on a part narrows"

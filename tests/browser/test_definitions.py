"""The pages of teams, routes and destinations in a real Chromium, used without JavaScript on each screen."""

import json

from tests.browser.conftest import Installation
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

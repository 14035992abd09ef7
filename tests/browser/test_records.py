"""The pages of people, refreshes, comparisons, audit and operators in a real Chromium, without JavaScript."""

import json

from tests.browser.conftest import Installation
from tests.browser.test_connections import con  # noqa: F401 - a fixture
from tests.browser.test_console import follow, sign_in
from tests.browser.visitor import Visitor


def test_a_user_is_added_changed_and_removed(visit: Visitor, installed: Installation, operator):
    name = f"u-{operator[0]}"
    sign_in(visit, operator)
    visit.opens("Users")
    follow(visit, "Add a user")
    visit.sees("Add a user", "user-add")
    visit.fill(external_id=name, email="lee@acme.example", organization="nobody")
    visit.press("Add")
    visit.sees("Add a user", "user-add-wrong")
    assert "names none that is here" in visit.page.locator("#organization-problem").inner_text()
    visit.fill(organization="")
    visit.press("Add")
    visit.sees("Users", "users")
    follow(visit, name)
    visit.sees(name, "user")
    follow(visit, "Change")
    visit.fill(display_name="Lee")
    visit.press("Save the change")
    assert json.loads(installed.run("users", "show", name, "--json"))["display_name"] == "Lee"
    follow(visit, "Remove")
    visit.sees("Remove the user", "user-remove")
    visit.press("Remove 1 user")
    visit.sees("Users")
    assert json.loads(installed.run("users", "--external-id", name, "--json")) == []


def test_pages_of_the_installation_are_read(visit: Visitor, installed: Installation, operator):
    sign_in(visit, operator)
    for label in ("Organizations", "Reconcile", "Audit", "Settings", "Refreshes"):
        visit.opens(label)
        visit.sees(label, label.lower())
    for path, heading in (
        ("/console/refreshes/forecast", "Forecast of refreshes"),
        ("/console/refreshes/catalogue", "Catalogue of providers"),
        ("/console/refreshes/pauses", "Paused integrations"),
        ("/console/reconciliations/add", "Compare Nango's list now"),
        ("/console/tokens", "API tokens"),
    ):
        visit.go(path)
        visit.sees(heading, path.rpartition("/console/")[2].replace("/", "-"))


def test_an_integration_is_paused_and_resumed(visit: Visitor, installed: Installation, operator, con):  # noqa: F811
    sign_in(visit, operator)
    visit.go("/console/refreshes/pauses/add")
    visit.sees("Pause an integration", "pause")
    visit.fill(integration="google-mail", reason="an outage")
    visit.press("Pause its refreshes")
    visit.sees("Paused integrations", "paused")
    assert "an outage" in installed.run("refreshes", "paused", "--json")
    follow(visit, "google-mail")
    visit.sees("Resume the integration", "resume")
    visit.press("Resume its refreshes")
    visit.sees("Paused integrations")
    assert json.loads(installed.run("refreshes", "paused", "--json")) == []


def test_another_operator_is_added_gets_a_link_and_is_kept_out(visit: Visitor, installed: Installation, operator):
    name = f"n-{operator[0]}"
    sign_in(visit, operator)
    visit.opens("Operators")
    visit.sees("Operators", "operators")
    follow(visit, "Add an operator")
    visit.sees("Add an operator", "operator-add")
    visit.fill(name=name)
    visit.page.locator("#role").select_option("viewer")
    visit.press("Add the operator")
    follow(visit, name)
    visit.sees(name, "operator")
    follow(visit, "Make a link")
    visit.press("Make the link")
    visit.sees("Make a link", "operator-link")
    assert visit.page.locator("#value1").input_value().startswith("/console/welcome/")
    follow(visit, "Back")
    follow(visit, "Disable")
    visit.press("Keep the operator out")
    visit.sees(name)
    listed = json.loads(installed.run("operator", "list", "--json"))
    assert next(row for row in listed if row["name"] == name)["disabled_at"]

"""The pages about the REST API in a real Chromium, on each screen."""

from app.web.console.reference import reference
from tests.browser.visitor import Visitor

PASSWORD = "correct horse battery staple"


def test_an_operator_finds_a_call_and_what_it_answers(visit: Visitor, operator):
    visit.go(operator[1])
    visit.fill(password=PASSWORD, repeated=PASSWORD)
    visit.press("Set the password and sign in")
    visit.opens("REST API")
    visit.sees("REST API", "api")
    visit.page.get_by_role("link", name="POST /connections/{con_id}/refresh").click()
    visit.sees("REST API: connections", "api-connections")
    assert visit.page.url.endswith("/console/api/connections#refresh_connection")
    answer = visit.page.get_by_role("link", name="RefreshAnswer").first
    answer.click()
    assert visit.page.locator("#RefreshAnswer").is_visible()
    for group in reference().groups:
        visit.go(f"/console/api/{group}")
        visit.sees(f"REST API: {group}")

"""The pages of signing in, used in a real Chromium: by link, by password, at the provider; without JavaScript."""

from tests.browser.conftest import Installation
from tests.browser.visitor import Visitor

PASSWORD = "correct horse battery staple"


def test_a_link_sets_a_password_with_which_one_signs_in(visit: Visitor, operator):
    name, link = operator
    visit.go(link)
    visit.sees(f"Welcome, {name}", "welcome")
    assert visit.page.evaluate("document.activeElement.id") == "password"
    visit.fill(password="too short", repeated="too short")
    visit.press("Set the password and sign in")
    visit.sees(f"Welcome, {name}", "welcome-wrong")
    assert "at least 12 characters" in visit.page.get_by_role("alert").inner_text()
    visit.fill(password=PASSWORD, repeated=PASSWORD)
    visit.press("Set the password and sign in")
    visit.sees_overview("overview")
    visit.page.get_by_role("link", name=name).click()
    visit.sees("Your account", "account")
    visit.press("Sign out")
    visit.sees("You are signed out", "signed-out")
    visit.go(link)
    visit.sees("This link does not work any more", "spent")

    visit.go("/console/account")
    visit.sees("Sign in", "sign-in")
    visit.fill(name=name, password="not the one I have")
    visit.press("Sign in")
    visit.sees("Sign in", "sign-in-wrong")
    assert visit.page.get_by_role("alert").inner_text() == "Not done. Name or password is wrong."
    assert visit.page.evaluate("document.activeElement.id") == "password"
    assert visit.page.locator("#password").input_value() == ""
    visit.page.locator("#password").fill(PASSWORD)
    visit.page.keyboard.press("Enter")
    visit.page.wait_for_url("**/console/account")
    visit.sees("Your account")


def test_one_signs_in_at_the_provider_and_out_of_it(visit: Visitor, installed: Installation):
    installed.provider.person |= {"groups": ["everyone", "sales"]}
    visit.go("/console/sign-in")
    visit.page.get_by_role("link", name="Sign in at").click()
    visit.page.wait_for_url("**/oidc/callback?*")
    visit.sees("No access", "no-access")
    assert "sales" in visit.page.locator("main").inner_text()
    installed.provider.person |= {"groups": ["ops"]}
    visit.page.get_by_role("link", name="Sign in again").click()
    visit.page.get_by_role("link", name="Sign in at").click()
    visit.page.wait_for_url("**/console")
    visit.sees_overview()
    visit.page.get_by_role("link", name="ada").click()
    visit.sees("Your account", "account-of-the-provider")
    visit.press("Sign out")
    visit.sees("You are signed out", "signed-out-of-the-provider")
    visit.page.get_by_role("link", name="Sign out of").click()
    visit.page.wait_for_url(f"{installed.provider.origin}/logout?*")


def test_the_forms_are_reached_by_keyboard_and_show_it(visit: Visitor):
    visit.go("/console/sign-in")
    reached = {visit.page.evaluate(FOCUSED)}
    for _ in range(8):  # past the end of the page they begin anew
        visit.page.keyboard.press("Tab")
        focused = visit.page.evaluate(FOCUSED)
        if focused is not None:
            reached.add(focused)
            assert visit.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert {"Skip to the content", "Waylink", "name", "password", "Sign in"} <= reached


def test_a_form_of_another_site_is_refused(visit: Visitor, installed: Installation, operator):
    visit.go(operator[1])
    visit.fill(password=PASSWORD, repeated=PASSWORD)
    visit.press("Set the password and sign in")
    visit.sees_overview()
    elsewhere = f"{installed.provider.origin}/keys"  # another origin of the same site
    visit.page.goto(elsewhere)
    visit.page.evaluate(POSTS, f"{installed.origin}/console/sign-out")
    visit.page.wait_for_url("**/console/sign-out")
    visit.sees("The request came from another site", "another-site")
    visit.go("/console")
    visit.sees_overview()


FOCUSED = """document.activeElement === document.body ? null
  : document.activeElement.id || document.activeElement.innerText.trim()"""
POSTS = """url => {
  const form = document.createElement('form');
  form.method = 'post';
  form.action = url;
  document.body.append(form);
  form.submit();
}"""

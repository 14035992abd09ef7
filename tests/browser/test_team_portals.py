"""A team's portal in a real Chromium, without JavaScript: opened by a link, themed, and within another site's page."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.browser.conftest import Installation
from tests.browser.test_console import follow, said, sign_in
from tests.browser.visitor import CONTRAST, Visitor
from tests.ports import free_port
from tests.waiting import PATIENCE


@pytest.fixture
def team(installed: Installation, operator) -> str:
    name = operator[0].replace(".", "-")
    installed.run("teams", "add", name)
    installed.run("destinations", "add", f"{name}/jobs", "--queue", f"team.{name}.jobs")
    return name


def test_an_operator_makes_a_link_with_which_a_team_sees_its_own(visit: Visitor, installed, operator, team):
    sign_in(visit, operator)
    visit.go(f"/console/teams/{team}")
    follow(visit, "Portal")
    visit.sees(f"Portal of {team}", "portal-managed")
    follow(visit, "Change its look")
    visit.sees("Change the portal's look", "portal-look")
    visit.fill(title="Acme CRM", color="#ffcc00")
    visit.press("Change the look")
    assert "The portal is changed." in said(visit)
    follow(visit, "Make a link")
    visit.sees("Make a link to the portal", "portal-link-add")
    visit.fill(note="Ada", uses="2")
    visit.press("Make the link")
    visit.sees("Make a link to the portal", "portal-link")
    path = visit.page.locator("#value1").input_value()

    visit.go(path)
    assert visit.page.locator("h1").inner_text() == "Acme CRM"
    visit.press("Open")
    name = visit.page.locator(".brand span")
    assert name.evaluate("one => getComputedStyle(one).clipPath") == "none", "it has no mark that could stand for it"
    for label in ("Destinations", "Routes", "Jobs"):
        visit.opens(label)
        assert visit.page.locator("h1").inner_text() == label
        assert visit.page.title() == f"{label} · Acme CRM"
        for scheme in ("light", "dark"):
            visit.page.emulate_media(color_scheme=scheme)
            assert visit.page.evaluate(CONTRAST) >= 4.5, "also on a light colour"
    bar = visit.page.locator(".bar")
    assert bar.evaluate("one => getComputedStyle(one).backgroundColor") == "rgb(255, 204, 0)"
    assert not visit.page.get_by_role("link", name="Connections", exact=True).count()
    visit.opens("Destinations")
    follow(visit, "jobs")
    follow(visit, "Disable")
    visit.fill(reason="we move")
    visit.press("Park its jobs")
    [stored] = json.loads(installed.run("destinations", "--team", team, "--json"))
    assert stored["disabled_reason"] == "we move"
    [link] = json.loads(installed.run("teams", "links", team, "--json"))
    [entry] = json.loads(
        installed.run("audit", "--action", "destination.disabled", "--subject", f"{team}/jobs", "--json")
    )
    assert entry["actor"] == f"portal:{link['id']}"
    installed.run("teams", "revoke-link", team, link["id"])
    visit.go("/console/destinations")
    visit.sees("Sign in")


@pytest.fixture
def page_around():
    """Pages of another site, at `/` with the frame that the query names, and with a form that posts to it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            to = self.path.partition("?")[2]
            body = (
                f'<!doctype html><iframe name="frame" src="{to}" width="1200" height="700"></iframe>'
                f'<form method="post" target="frame" action="{to.rpartition("/console/")[0]}/console/sign-out">'
                "<button>Attack</button></form>"
            ).encode()
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", free_port()), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://localhost:{server.server_port}"  # of another site than 127.0.0.1
        server.shutdown()
        thread.join()


def test_a_portal_is_embedded_by_the_page_that_is_allowed_and_by_no_other(chromium, installed, team, page_around):
    installed.run("teams", "portal", team, "--origin", page_around)

    def link(*options: str) -> str:
        return json.loads(installed.run("teams", "link", team, *options, "--json"))["link"]

    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(PATIENCE * 1000)
    page, refused = context.new_page(), []
    page.on("console", lambda message: refused.append(message.text) if "Security Policy" in message.text else None)
    page.goto(f"{page_around}/?{link('--embed', page_around)}", wait_until="networkidle")
    frame = page.frame_locator("iframe")
    frame.get_by_role("link", name="Destinations", exact=True).click()
    frame.get_by_role("link", name="jobs", exact=True).click()
    frame.get_by_role("link", name="Disable", exact=True).click()
    frame.locator("#reason").fill("from within")
    frame.get_by_role("button", name="Park its jobs").click()
    frame.get_by_text("The destination is changed.").wait_for()
    [stored] = json.loads(installed.run("destinations", "--team", team, "--json"))
    assert stored["disabled_reason"] == "from within", "its own forms are its own"
    assert json.loads(installed.run("teams", "sessions", team, "--json"))
    assert refused == [], "nothing of the embedded pages breaks their policy"
    with page.expect_response(lambda answer: answer.url.endswith("/console/sign-out")) as answered:
        page.get_by_role("button", name="Attack").click()
    assert answered.value.status == 403, "a form of the page around it is none of its own"
    assert len(json.loads(installed.run("teams", "sessions", team, "--json"))) == 1
    page.wait_for_load_state("networkidle")
    page.goto(f"{page_around}/?{link('--embed', page_around)}", wait_until="networkidle")
    refused.clear()  # the answer to the attack is shown in no page around
    for row in json.loads(installed.run("teams", "links", team, "--json")):
        installed.run("teams", "revoke-link", team, row["id"])
    frame.get_by_role("navigation", name="Pages").get_by_role("link", name="Jobs", exact=True).click()
    frame.get_by_role("heading", name="The portal is closed").wait_for()
    assert refused == [], "the page around may show that it is closed"
    context.close()


def test_a_link_that_is_not_for_a_page_is_not_shown_in_it(chromium, installed, team, page_around):
    made = json.loads(installed.run("teams", "link", team, "--json"))["link"]
    context = chromium.new_context()
    page = context.new_page()
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text))
    page.goto(f"{page_around}/?{made}", wait_until="networkidle")
    context.close()
    assert any("frame-ancestors 'none'" in text for text in refused)
    assert json.loads(installed.run("teams", "links", team, "--json"))[0]["uses_left"] == 1

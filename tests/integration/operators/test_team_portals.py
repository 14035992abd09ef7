"""Portals of teams: opened by a link without an account, for one team alone, embedded where that is allowed."""

import re
from datetime import timedelta

import pytest
from sqlalchemy import delete, select, update

from app.clock import utc_now
from app.db.models import Audit, Team, TeamLink, TeamPortal, TeamSession
from app.ids import SESSION, new_id, show
from app.services.operators import team_portals
from app.services.operators.team_portals import NewLink
from tests.integration.api.api_client import ApiClient, open_api, problem_of
from tests.integration.operators import visitors
from tests.integration.operators.visitors import browser, is_signed_in
from tests.integration.status.rows import add, destination
from tests.integration.web.web_server import serve
from tests.integration.world import in_threads

APP = "https://app.example.com"
POLICY = "content-security-policy"


@pytest.fixture(params=["sqlite", "postgresql"])
def api(request, broker_url, tmp_path):
    sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/waylink.db" if sqlite else request.getfixturevalue("postgres_url")
    with open_api(database_url=url, broker_url=broker_url, folder=tmp_path) as opened:
        yield opened


@pytest.fixture
def small(tmp_path, broker_url):
    """On SQLite alone, for what the database does not decide."""
    url = f"sqlite:///{tmp_path}/waylink.db"
    with open_api(database_url=url, broker_url=broker_url, folder=tmp_path) as opened:
        yield opened


def make(api: ApiClient, team: str = "crm", **body) -> dict:
    made = api("POST", f"/teams/{team}/links", json=body)
    assert made.status_code == 201, made.text
    return made.json()


def look(api: ApiClient, **body) -> None:
    assert api("PUT", "/teams/crm/portal", json=body).status_code == 200


def actions(api: ApiClient) -> list[str]:
    return [row["action"] for row in api.json("/audit?subject=crm")["data"]]


def test_a_link_opens_the_portal_of_its_team_once_without_an_account(api: ApiClient):
    made = make(api, note="Ada")
    secret = made["path"].rpartition("/")[2]
    assert secret not in api.get("/teams/crm/links").text + api.get("/audit").text
    with browser(api.web) as visitor, browser(api.web) as second:
        asked = visitor.get(made["path"])
        assert (asked.status_code, "Open" in asked.text) == (200, True)
        assert api.json("/teams/crm/links")["data"][0]["uses_left"] == 1, "to look at it spends nothing"
        opened = visitor.post(made["path"])
        assert (opened.status_code, opened.headers["location"]) == (303, "/console")
        cookie = opened.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=lax" in cookie
        page = visitor.get("/console/routes")
        assert page.status_code == 200
        assert page.headers[POLICY].endswith("frame-ancestors 'none'")
        assert visitor.get("/console/connections").status_code == 403
        assert second.post(made["path"]).status_code == second.get(made["path"]).status_code == 410
        assert not is_signed_in(second)
        [row] = api.json("/teams/crm/links")["data"]
        assert (row["uses_left"], row["sessions"], row["note"]) == (0, 1, "Ada")
        [session] = api.json("/teams/crm/sessions")["data"]
        assert session["link"] == row["id"]
        assert actions(api)[:2] == ["team.portal_opened", "team.link_made"]
        [entry] = api.json("/audit?action=team.portal_opened")["data"]
        assert entry["actor"] == f"portal:{row['id']}"


def test_a_link_with_uses_opens_as_many_sessions_and_its_end_is_theirs(api: ApiClient):
    made = make(api, uses=2)
    with browser(api.web) as one, browser(api.web) as two, browser(api.web) as three:
        assert [each.post(made["path"]).status_code for each in (one, two, three)] == [303, 303, 410]
        [_, of_one] = [row["id"] for row in api.json("/teams/crm/sessions")["data"]]
        assert api("DELETE", f"/teams/crm/sessions/{of_one}").status_code == 204
        assert [is_signed_in(one), is_signed_in(two)] == [False, True]
        assert api("DELETE", f"/teams/crm/links/{made['id']}").json() == {"sessions": 1}
        assert not is_signed_in(two)
    assert api.json("/teams/crm/links")["data"] == api.json("/teams/crm/sessions")["data"] == []
    assert {"team.link_revoked", "team.session_ended"} <= set(actions(api))
    problem_of(api("DELETE", f"/teams/crm/links/{made['id']}"), 404, "not_found")
    problem_of(api("DELETE", f"/teams/crm/sessions/{show(SESSION, new_id())}"), 404, "not_found")


def test_a_second_link_opened_in_a_browser_ends_the_session_that_it_replaces(api: ApiClient):
    first, second = make(api), make(api)
    with browser(api.web) as visitor:
        assert [visitor.post(each["path"]).status_code for each in (first, second)] == [303, 303]
        assert is_signed_in(visitor)
    [session] = api.json("/teams/crm/sessions")["data"]
    assert session["link"] == second["id"]


def test_a_portal_signs_out_and_has_no_account(small: ApiClient):
    made = make(small)
    with browser(small.web) as visitor:
        visitor.post(made["path"])
        page = visitor.get("/console/account")
        assert "You have no account here" in page.text
        assert visitor.post("/console/account/password", data={"password": "x"}).status_code == 403
        assert visitor.post("/console/account/sessions", data={}).status_code == 403
        kept = visitor.cookies["waylink-session"]
        assert "You are signed out" in visitor.post("/console/sign-out").text
        visitor.cookies.set("waylink-session", kept)
        assert not is_signed_in(visitor), "the session ended, not the cookie alone"
    assert actions(small)[0] == "team.portal_left"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"expires_in": "8d"}, "expires_in"),
        ({"expires_in": "30s"}, "expires_in"),
        ({"expires_in": "soon"}, "expires_in"),
        ({"embed": APP}, "embed"),
        ({"note": " "}, "note"),
        ({"note": "x" * 201}, "note"),
        ({"note": "a\nb"}, "note"),
    ],
)
def test_what_cannot_be_a_link_is_refused_at_its_field(small: ApiClient, body, field):
    problem = problem_of(small("POST", "/teams/crm/links", json=body), 422, "invalid_input")
    assert [error["field"] for error in problem["errors"]] == [field]
    problem_of(small("POST", "/teams/crm/links", json={"uses": 0}), 400, "invalid_request")
    problem_of(small("POST", "/teams/absent/links", json={}), 404, "not_found")
    assert small.json("/teams/crm/links")["data"] == []


def test_a_team_makes_no_links_and_sees_none(small: ApiClient):
    for who in ("team", "team-viewer", "viewer"):
        problem_of(small("POST", "/teams/crm/links", who=who, json={}), 403, "forbidden")
        problem_of(small.get("/teams/crm/links", who=who), 403, "forbidden")
        problem_of(small.get("/teams/crm/sessions", who=who), 403, "forbidden")
        problem_of(small("PUT", "/teams/crm/portal", who=who, json={}), 403, "forbidden")
    assert small.json("/teams/crm/portal", who="team") == {"title": None, "color": None, "origins": []}
    assert small("POST", "/teams", json={"name": "erp"}).status_code == 201
    problem_of(small.get("/teams/erp/portal", who="team"), 404, "not_found")


def test_an_expired_link_opens_nothing_and_is_pruned_with_sessions_that_ended(api: ApiClient):
    for uses in (1, 5):
        make(api, uses=uses)
    expired = make(api)
    with browser(api.web) as visitor:
        long_ago = utc_now() - timedelta(days=1)
        with api.database.write() as session:
            for row in session.scalars(select(TeamLink)):
                row.expires_at = long_ago
        assert visitor.post(expired["path"]).status_code == 410
        made = make(api, uses=2)
        assert visitor.post(made["path"]).status_code == 303
        with api.database.write() as session:
            assert [row.uses_left for row in session.scalars(select(TeamLink))] == [1], "the others are gone"
            [row] = session.scalars(select(TeamSession))
            row.expires_at = long_ago
        assert not is_signed_in(visitor)
        assert visitor.post(made["path"]).status_code == 303, "the last use, with what ended pruned before"
        with api.database.read() as session:
            assert len(session.scalars(select(TeamSession)).all()) == 1
        assert is_signed_in(visitor)


def test_a_removed_team_has_no_links_and_a_later_one_of_its_name_none_of_them(small: ApiClient):
    assert small("POST", "/teams", json={"name": "erp"}).status_code == 201
    made = make(small, "erp", uses=3)
    with browser(small.web) as visitor:
        assert visitor.post(made["path"]).status_code == 303
        assert small("DELETE", "/teams/erp").status_code == 200
        assert not is_signed_in(visitor)
        assert small("POST", "/teams", json={"name": "erp"}).status_code == 201
        assert not is_signed_in(visitor)
        assert visitor.post(made["path"]).status_code == 410


def test_the_look_is_the_teams_and_its_colour_a_style_sheet(small: ApiClient):
    look(small, title="Acme CRM", color="#ffee00")
    with browser(small.web) as visitor:
        visitor.post(make(small)["path"])
        page = visitor.get("/console")
        assert "Acme CRM</span>" in page.text
        assert "· Acme CRM</title>" in page.text
        assert "<h1>Acme CRM</h1>" in page.text
        assert 'href="/console/theme/crm.css"' in page.text
        sheet = visitor.get("/console/theme/crm.css")
        assert sheet.headers["content-type"].startswith("text/css")
        assert "background: #ffee00; color: #000000" in sheet.text
        assert visitor.get("/console/theme/absent.css").status_code == 404
        add(small.database, destination("erp", "jobs"))
        assert small("PUT", "/teams/erp/portal", json={"color": "#112233"}).status_code == 200
        assert visitor.get("/console/theme/erp.css").status_code == 404, "another team's"
        assert small("PUT", "/teams/crm/portal", json={}).json() == {"title": None, "color": None, "origins": []}
        assert "/console/theme" not in visitor.get("/console").text
    for body, field in (
        ({"color": "red; } body { display: none"}, "color"),
        ({"title": "x" * 61}, "title"),
        ({"origins": ["https://a.example", "https://*.example"]}, "origins[1]"),
    ):
        problem = problem_of(small("PUT", "/teams/crm/portal", json=body), 422, "invalid_input")
        assert [error["field"] for error in problem["errors"]] == [field]
    assert actions(small).count("team.portal_changed") == 2, "what changes nothing is no entry"


def test_an_embedded_portal_is_for_the_page_that_is_allowed_alone(small: ApiClient):
    look(small, origins=[APP, "https://other.example"])
    made = make(small, embed=APP)
    with browser(small.web, **{"sec-fetch-dest": "iframe"}) as frame:
        opened = frame.get(made["path"], headers={"sec-fetch-site": "cross-site"})
        assert opened.status_code == 303, "within the page it is opened at once"
        cookie = opened.headers.get_list("set-cookie")[0]
        assert {"SameSite=None", "Secure", "Partitioned", "HttpOnly"} <= set(cookie.split("; "))
        kept = re.match(r"waylink-embedded=(wlp_[\w-]+);", cookie)[1]
        frame.cookies.clear()
        frame.headers["cookie"] = f"waylink-embedded={kept}"
        page = frame.get("/console/routes")
        assert page.status_code == 200
        assert page.headers[POLICY].endswith(f"frame-ancestors {APP}")
        assert page.headers[POLICY].count("frame-ancestors") == 1
        refused = frame.post("/console/sign-out", headers={"sec-fetch-site": "cross-site"})
        assert refused.status_code == 403, "a form of the page around it"
        without = frame.post("/console/sign-out", headers={"sec-fetch-site": "", "origin": APP})
        assert without.status_code == 403
        assert is_signed_in(frame)
        change = {"enabled": False}
        answer = frame.patch("/api/v1/routes/crm/x", json=change, headers={"sec-fetch-site": "cross-site"})
        assert answer.status_code == 403
        look(small, origins=["https://other.example"])
        assert frame.get("/console/routes").headers[POLICY].endswith("frame-ancestors 'none'"), "at once"
        assert "You are signed out" in frame.post("/console/sign-out").text
        assert not is_signed_in(frame)


def framed_cookies(*answers) -> str:
    """The header of the cookies that pages within another site's page keep of these answers."""
    set_by = [header for answer in answers for header in answer.headers.get_list("set-cookie")]
    assert all({"SameSite=None", "Secure", "Partitioned", "HttpOnly"} <= set(each.split("; ")) for each in set_by)
    return "; ".join(each.partition(";")[0] for each in set_by)


def test_what_a_viewer_chose_is_kept_within_another_page_as_the_session_is(small: ApiClient):
    look(small, origins=[APP])
    made = make(small, embed=APP)
    with browser(small.web, **{"sec-fetch-dest": "iframe"}) as frame:
        opened = frame.get(made["path"], headers={"sec-fetch-site": "cross-site"})
        frame.cookies.clear()
        session = {"cookie": framed_cookies(opened)}
        chosen = frame.post("/console/preferences", data={"every": "15", "keys": "off"}, headers=session)
        frame.cookies.clear()
        page = frame.get("/console/jobs", headers={"cookie": framed_cookies(opened, chosen)})
        assert 'data-every="15"' in page.text
        assert 'data-keys="off"' in page.text


@pytest.mark.parametrize("how", ["revoked", "ended", "expired", "left"])
def test_a_portal_that_is_closed_within_another_page_says_so_there(small: ApiClient, how: str):
    look(small, origins=[APP, "https://other.example"])
    made = make(small, embed=APP, uses=2)
    with browser(small.web, **{"sec-fetch-dest": "iframe"}) as frame:
        opened = frame.get(made["path"], headers={"sec-fetch-site": "cross-site"})
        frame.cookies.clear()
        frame.headers["cookie"] = framed_cookies(opened)
        assert frame.get("/console/jobs").status_code == 200
        if how == "revoked":
            assert small("DELETE", f"/teams/crm/links/{made['id']}").status_code == 200
        elif how == "ended":
            [session] = small.json("/teams/crm/sessions")["data"]
            assert small("DELETE", f"/teams/crm/sessions/{session['id']}").status_code == 204
        elif how == "expired":
            with small.database.write() as session:
                session.execute(update(TeamSession).values(expires_at=utc_now()))
        else:
            left = frame.post("/console/sign-out")
            assert left.headers[POLICY].endswith(f"frame-ancestors {APP}")
            assert "Sign in" not in left.text
        closed = frame.get("/console/jobs")
        assert (closed.status_code, "The portal is closed" in closed.text) == (401, True)
        assert closed.headers[POLICY].endswith(f"frame-ancestors {APP}")
        assert "Load the page around this one again" in closed.text
        assert "sign-in" not in closed.text, "no page to sign in is shown within another"
        posted = frame.post("/console/jobs/act", data={"act": "retry"})
        assert (posted.status_code, "The portal is closed" in posted.text) == (401, True)
        top = frame.get("/console/jobs", headers={"sec-fetch-dest": "document"})
        assert (top.status_code, top.headers["location"].partition("?")[0]) == (303, "/console/sign-in")
        assert top.headers[POLICY].endswith("frame-ancestors 'none'")
        look(small, origins=["https://other.example"])
        assert frame.get("/console/jobs").headers[POLICY].endswith("frame-ancestors 'none'"), "at once"


def test_a_spent_link_says_so_within_the_page_that_it_is_for(small: ApiClient):
    look(small, origins=[APP])
    made = make(small, embed=APP)
    around = {"sec-fetch-dest": "iframe", "sec-fetch-site": "cross-site"}
    with browser(small.web, **around) as frame, browser(small.web, **around) as other:
        assert frame.get(made["path"]).status_code == 303
        spent = other.get(made["path"])
        assert spent.status_code == 410
        assert spent.headers[POLICY].endswith(f"frame-ancestors {APP}")
        assert "Load the page around this one again" in spent.text
        own = other.get(made["path"], headers={"sec-fetch-dest": "document"})
        assert own.headers[POLICY].endswith("frame-ancestors 'none'")
        unknown = other.get(made["path"][:-1] + ("A" if made["path"][-1] != "A" else "B"))
        assert (unknown.status_code, unknown.headers[POLICY].endswith("frame-ancestors 'none'")) == (410, True)


def test_a_revoked_link_says_so_within_the_page_where_the_portal_was_open(small: ApiClient):
    look(small, origins=[APP])
    made = make(small, embed=APP, uses=2)
    with browser(small.web, **{"sec-fetch-dest": "iframe", "sec-fetch-site": "cross-site"}) as frame:
        opened = frame.get(made["path"])
        frame.cookies.clear()
        frame.headers["cookie"] = framed_cookies(opened)
        assert small("DELETE", f"/teams/crm/links/{made['id']}").status_code == 200
        gone = frame.get(made["path"])
        assert (gone.status_code, gone.headers[POLICY].endswith(f"frame-ancestors {APP}")) == (410, True)


def test_what_one_web_process_ends_has_ended_at_another_at_once(api: ApiClient, tmp_path):
    second_folder = tmp_path / "second"
    second_folder.mkdir()
    used = api.web.settings
    with serve(database_url=used.database, broker_url=used.broker, folder=second_folder) as second:
        made = make(api, uses=3)
        ends = {
            "link": lambda: api("DELETE", f"/teams/crm/links/{made['id']}"),
            "session": lambda: api("DELETE", f"/teams/crm/sessions/{api.json('/teams/crm/sessions')['data'][0]['id']}"),
        }
        for what in ("session", "link"):
            with browser(api.web) as here, browser(second) as there:
                assert here.post(made["path"]).status_code == 303
                there.cookies.set("waylink-session", here.cookies["waylink-session"])
                assert is_signed_in(there), "a session is one of the database, not of a process"
                assert is_signed_in(there)
                assert ends[what]().status_code in {200, 204}
                assert not is_signed_in(there)
                assert not is_signed_in(here)
        with browser(second) as there:
            assert there.post(made["path"]).status_code == 410
        again = make(api)
        with browser(api.web) as here, browser(second) as there:
            assert sorted([here.post(again["path"]).status_code, there.post(again["path"]).status_code]) == [303, 410]
            assert (
                there.post("/console/sign-out", headers={"origin": APP, "sec-fetch-site": "cross-site"}).status_code
                == 403
            )
            there.cookies.set("waylink-session", here.cookies["waylink-session"])
            assert "You are signed out" in there.post("/console/sign-out").text
            assert not is_signed_in(here)


def test_an_operators_session_is_none_within_another_page_and_an_embedded_one_does_not_replace_it(small: ApiClient):
    look(small, origins=[APP])
    with browser(small.web) as visitor:
        visitors.welcome(visitor, visitors.add(small.database))
        own = visitor.cookies["waylink-session"]
        assert visitor.get("/console", headers={"sec-fetch-dest": "iframe"}).status_code == 303
        embedded = framed_cookies(visitor.post(make(small, embed=APP)["path"]))
        visitor.cookies.clear()
        both = {"cookie": f"waylink-session={own}; {embedded}"}
        top = visitor.get("/console/operators", headers=both | {"sec-fetch-dest": "document"})
        assert top.status_code == 200
        framed = visitor.get("/console/operators", headers=both | {"sec-fetch-dest": "iframe"})
        assert framed.status_code == 403
        script = visitor.get("/console/operators", headers=both | {"sec-fetch-dest": "empty"})
        assert script.status_code == 403, "the one with fewer rights, where a page cannot be told"


def test_embedding_needs_tls_off_loopback(broker_url, tmp_path):
    url = f"sqlite:///{tmp_path}/waylink.db"
    allowed = {"WAYLINK_ALLOWED_HOSTS": "waylink.test,secure.test", "WAYLINK_CONSOLE_URL": "https://secure.test"}
    with open_api(database_url=url, broker_url=broker_url, folder=tmp_path, **allowed) as api, browser(api.web) as page:
        look(api, origins=[APP])
        made = make(api, embed=APP)
        refused = page.post(made["path"], headers={"host": "waylink.test"})
        assert (refused.status_code, "open Waylink over https" in refused.text) == (409, True)
        assert api.json("/teams/crm/links")["data"][0]["uses_left"] == 1
        opened = page.post(made["path"], headers={"host": "secure.test"})
        assert opened.headers["set-cookie"].startswith("__Host-waylink-embedded=wlp_")


def test_two_who_open_a_link_at_once_get_one_session(api: ApiClient):
    with api.database.write() as session:
        made = team_portals.issue(session, "crm", NewLink(), actor="cli:test", now=utc_now())

    def use() -> int:
        with browser(api.web) as visitor:
            return visitor.post(made.path).status_code

    assert sorted(in_threads(*[use] * 4)) == [303, 410, 410, 410]


def test_nothing_of_a_secret_is_stored(small: ApiClient):
    made = make(small)
    with browser(small.web) as visitor:
        visitor.post(made["path"])
        session_secret = visitor.cookies["waylink-session"]
    with small.database.read() as session:
        rows = [
            str(vars(row)) for kind in (TeamLink, TeamSession, TeamPortal, Audit, Team)
            for row in session.scalars(select(kind))
        ]  # fmt: skip
    assert not [row for row in rows if made["path"].rpartition("/")[2] in row or session_secret in row]
    with small.database.write() as session:
        session.execute(delete(TeamLink))
        assert session.scalars(select(TeamSession)).all() == [], "sessions go with their link"

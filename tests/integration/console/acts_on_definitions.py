"""Each act of the console on routes, destinations, teams and their portals, done by its form."""

import json

from app.db.models import Destination, DestinationSecret, RouteVersion, Team, TeamLink, TeamPortal, TeamSession
from app.ids import SESSION, TEAM_LINK, show
from tests.integration.console.acting import Acting, does
from tests.integration.operators import visitors

TEAMS, ROUTES, DESTINATIONS = "/console/teams", "/console/routes", "/console/destinations"
PATTERN = '{"type": ["connection.deleted"]}'


@does("POST /console/routes/add")
def add_route(acting: Acting) -> None:
    name = acting.name()
    acting.act(f"{ROUTES}/add", team="crm", name=name, job="crm.gone", destination="jobs", pattern=PATTERN)
    stored = acting.one(RouteVersion.job, RouteVersion.pattern, RouteVersion.enabled, team="crm", name=name)
    assert stored == ("crm.gone", json.loads(PATTERN), True)
    acting.audited("route.added", f"crm/{name}")


@does("POST /console/routes/test")
def try_pattern(acting: Acting) -> None:
    before = acting.rows(RouteVersion.name, RouteVersion.version)
    page = acting.act(f"{ROUTES}/test", status=200, pattern=PATTERN, document='{"type": "connection.deleted"}')
    assert "It matches." in page.text
    assert acting.rows(RouteVersion.name, RouteVersion.version) == before, "nothing is stored"


@does("POST /console/routes/{team}/{route}/change")
def change_route(acting: Acting) -> None:
    name = acting.route()
    acting.act(f"{ROUTES}/crm/{name}/change", pattern=PATTERN, job="crm.other")
    versions = acting.rows(RouteVersion.version, RouteVersion.job, RouteVersion.pattern, team="crm", name=name)
    assert versions[1:] == [(2, "crm.other", json.loads(PATTERN))]


@does("POST /console/routes/{team}/{route}/disable")
def disable_route(acting: Acting) -> None:
    name = acting.route()
    acting.act(f"{ROUTES}/crm/{name}/disable")
    assert acting.rows(RouteVersion.enabled, team="crm", name=name)[-1] is False


@does("POST /console/routes/{team}/{route}/enable")
def enable_route(acting: Acting) -> None:
    name = acting.route()
    acting.act(f"{ROUTES}/crm/{name}/disable")
    acting.act(f"{ROUTES}/crm/{name}/enable")
    assert acting.rows(RouteVersion.enabled, team="crm", name=name) == [True, False, True]


@does("POST /console/routes/{team}/{route}/remove")
def remove_route(acting: Acting) -> None:
    name = acting.route()
    acting.act(f"{ROUTES}/crm/{name}/remove")
    assert acting.one(RouteVersion.until_set, team="crm", name=name) is not None


@does("POST /console/destinations/-/http")
def add_endpoint(acting: Acting) -> None:
    name, url = acting.name(), "http://127.0.0.1:1025/hook"
    acting.act(f"{DESTINATIONS}/-/http", status=200, team="crm", name=name, url=url, rate_per_second="2.5")
    stored = acting.one(Destination.kind, Destination.url, Destination.rate_per_second, team="crm", name=name)
    assert stored == ("http", url, 2.5)
    assert len(acting.rows(DestinationSecret.id, team="crm", destination=name)) == 1


@does("POST /console/destinations/-/celery")
def add_queue(acting: Acting) -> None:
    name = acting.name()
    acting.act(f"{DESTINATIONS}/-/celery", team="crm", name=name, queue=f"team.crm.{name}")
    assert acting.one(Destination.kind, Destination.queue, name=name) == ("celery", f"team.crm.{name}")


@does("POST /console/destinations/{team}/{destination}/disable")
def disable_destination(acting: Acting) -> None:
    name = acting.destination()
    acting.act(f"{DESTINATIONS}/crm/{name}/disable", reason="they move")
    at, reason = acting.one(Destination.disabled_at, Destination.disabled_reason, name=name)
    assert (at is not None, reason) == (True, "they move")


@does("POST /console/destinations/{team}/{destination}/enable")
def enable_destination(acting: Acting) -> None:
    name = acting.destination()
    acting.act(f"{DESTINATIONS}/crm/{name}/disable", reason="they move")
    acting.act(f"{DESTINATIONS}/crm/{name}/enable")
    assert acting.one(Destination.disabled_at, name=name) is None


@does("POST /console/destinations/{team}/{destination}/rate")
def change_rate(acting: Acting) -> None:
    name = acting.destination()
    acting.act(f"{DESTINATIONS}/crm/{name}/rate", rate_per_second="0.5")
    assert acting.one(Destination.rate_per_second, name=name) == 0.5


@does("POST /console/destinations/{team}/{destination}/rotate")
def rotate_secret(acting: Acting) -> None:
    name = acting.destination(kind="http", queue=None, url="http://127.0.0.1:1025/hook")
    acting.act(f"{DESTINATIONS}/crm/{name}/rotate", status=200, overlap="1h")
    ends = acting.rows(DestinationSecret.expires_at, team="crm", destination=name)
    assert (len(ends), ends.count(None)) == (2, 1), "the earlier one ends"


@does("POST /console/destinations/{team}/{destination}/remove")
def remove_destination(acting: Acting) -> None:
    name = acting.destination()
    acting.act(f"{DESTINATIONS}/crm/{name}/remove")
    assert acting.one(Destination.retired_at, name=name) is not None


@does("POST /console/teams/-/add")
def add_team(acting: Acting) -> None:
    name = acting.name()
    acting.act(f"{TEAMS}/-/add", name=name)
    assert acting.one(Team.source, name=name) == "api"


@does("POST /console/teams/{team}/remove")
def remove_team(acting: Acting) -> None:
    name = acting.make("/teams", name=acting.name())["name"]
    acting.act(f"{TEAMS}/{name}/remove")
    assert acting.one(Team.retired_at, name=name) is not None


@does("POST /console/teams/{team}/portal")
def change_portal(acting: Acting) -> None:
    name = acting.make("/teams", name=acting.name())["name"]
    acting.act(f"{TEAMS}/{name}/portal", title="Acme", color="#0b5fff", origins="https://app.acme.example")
    stored = acting.one(TeamPortal.title, TeamPortal.color, TeamPortal.origins, team=name)
    assert stored == ("Acme", "#0b5fff", ["https://app.acme.example"])


@does("POST /console/teams/{team}/links/add")
def make_team_link(acting: Acting) -> None:
    name = acting.make("/teams", name=acting.name())["name"]
    acting.act(f"{TEAMS}/{name}/links/add", status=200, note="Ada", uses="2")
    assert acting.one(TeamLink.note, TeamLink.uses_left, team=name) == ("Ada", 2)


@does("POST /console/portal/{secret}")
def open_portal(acting: Acting) -> None:
    name = acting.make("/teams", name=acting.name())["name"]
    with visitors.browser(acting.console.api.web) as browser:
        acting.act(visitors.portal(acting.console.database, name), browser=browser)
    link, left = acting.one(TeamLink.id, TeamLink.uses_left, team=name)
    assert (len(acting.rows(TeamSession.id, link_id=link)), left) == (1, 0)


@does("POST /console/teams/{team}/links/{link_id}/revoke")
def revoke_team_link(acting: Acting) -> None:
    name = acting.make("/teams", name=acting.name())["name"]
    with visitors.browser(acting.console.api.web) as browser:
        assert browser.post(visitors.portal(acting.console.database, name)).status_code == 303
    link = acting.one(TeamLink.id, team=name)
    done = acting.act(f"{TEAMS}/{name}/links/{show(TEAM_LINK, link)}/revoke")
    assert "1 session" in acting.console.follow(done).text
    assert acting.rows(TeamLink.id, team=name) == acting.rows(TeamSession.id, link_id=link) == []
    acting.audited("team.link_revoked", name)


@does("POST /console/teams/{team}/sessions/{session_id}/end")
def end_team_session(acting: Acting) -> None:
    name = acting.make("/teams", name=acting.name())["name"]
    with visitors.browser(acting.console.api.web) as browser:
        assert browser.post(visitors.portal(acting.console.database, name)).status_code == 303
        session = acting.one(TeamSession.id, link_id=acting.one(TeamLink.id, team=name))
        acting.act(f"{TEAMS}/{name}/sessions/{show(SESSION, session)}/end")
        assert acting.rows(TeamSession.id, id=session) == []
        assert not visitors.is_signed_in(browser)

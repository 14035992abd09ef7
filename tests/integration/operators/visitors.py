"""Browsers of operators, as far as a web server can tell: cookies, and the headers that browsers send by themselves."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import httpx

from app.db.engine import Database
from app.domain.access import Rights, Role
from app.services.operators import accounts, links, team_portals
from app.services.operators.team_portals import NewLink
from tests.integration.web.web_server import WebServer
from tests.waiting import PATIENCE

PASSWORD = "correct horse battery staple"
OWN = {"sec-fetch-site": "same-origin"}


def add(database: Database, name: str = "ada", role: Role = Role.OPERATOR, *, team=None, credentials=False) -> str:
    """Add an operator. Returns the path of the link with which a password is set."""
    now = datetime.now(UTC)
    with database.write() as session:
        row = accounts.add(session, name, Rights(role, team, credentials), actor="cli:test", now=now)
        return f"{links.PATH}/{links.issue(session, row, actor='cli:test', now=now)}"


def portal(database: Database, team: str = "crm") -> str:
    """Make a link to a team's portal. Returns its path."""
    with database.write() as session:
        return team_portals.issue(session, team, NewLink(), actor="cli:test", now=datetime.now(UTC)).path


@contextmanager
def browser(web: WebServer, **headers: str) -> Iterator[httpx.Client]:
    """A browser with cookies of its own, whose forms come from Waylink's pages."""
    with httpx.Client(
        base_url=f"http://127.0.0.1:{web.port}", timeout=PATIENCE, trust_env=False, headers=OWN | headers
    ) as client:
        yield client


def welcome(client: httpx.Client, link: str, password: str = PASSWORD) -> httpx.Response:
    return client.post(link, data={"password": password, "repeated": password})


def sign_in(client: httpx.Client, name: str = "ada", password: str = PASSWORD, **fields: str) -> httpx.Response:
    return client.post("/console/sign-in", data={"name": name, "password": password, **fields})


def is_signed_in(client: httpx.Client) -> bool:
    answer = client.get("/console")
    assert answer.status_code in {200, 303}
    return answer.status_code == 200

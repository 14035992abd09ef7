"""The console's first page: the checks of the status, for those who may see them."""

import html
import re

import pytest

from app.domain.access import Role
from tests.integration.api.api_client import open_api
from tests.integration.operators import visitors


@pytest.fixture(params=["sqlite", "postgresql"])
def api(request, broker_url, tmp_path):
    sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/waylink.db" if sqlite else request.getfixturevalue("postgres_url")
    with open_api(database_url=url, broker_url=broker_url, folder=tmp_path) as client:
        yield client


def signed_in(api, client, role=Role.VIEWER, **rights):
    assert visitors.welcome(client, visitors.add(api.database, f"o-{role}", role, **rights)).status_code == 303
    return client


def text_of(answer):
    assert answer.status_code == 200
    return html.unescape(re.sub(r"<[^>]*>", "", answer.text))


def test_the_page_tells_each_check_that_the_status_does(api):
    with visitors.browser(api.web) as client:
        answer = signed_in(api, client).get("/console")
        told = api.json("/status", who="viewer")
    text, page = text_of(answer), " ".join(answer.text.split())
    assert f'<h1 class="ill">{told["red"]} things need a person</h1>' in page
    assert told["red"] > 1, "no worker runs here"
    for check in told["data"]:
        assert (check["id"] if check["level"] != "ok" else check["name"]) in text
        if check["level"] == "red":
            assert check["cause"] in text
            assert check["repair"] in text
    assert answer.text.count('class="mark red"') == told["red"]
    assert answer.text.count('class="mark hint"') == told["hints"]


def test_a_team_sees_no_check_of_the_installation(api):
    with visitors.browser(api.web) as client:
        text = text_of(signed_in(api, client, Role.TEAM, team="crm").get("/console"))
    assert "Waylink for crm" in text
    assert "internal-broker" not in text

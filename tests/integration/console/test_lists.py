"""The frame of all pages, and what every list does, shown on the list of rejections."""

from datetime import timedelta

import pytest

from app.clock import utc_now
from app.db import rejections
from app.db.rejections import RefusalCount
from app.domain.access import Rights, Role
from app.web.console import notices
from app.web.console.navigation import entries, may
from tests.integration.console.pages import open_console


@pytest.fixture(params=["sqlite", "postgresql"])
def console(request, broker_url, tmp_path):
    sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/waylink.db" if sqlite else request.getfixturevalue("postgres_url")
    with open_console(database_url=url, broker_url=broker_url, folder=tmp_path) as opened:
        yield opened


def refuse(console, *causes: str) -> None:
    """A rejection in a minute of its own for each of the causes, the first the newest."""
    now = utc_now()
    with console.database.write() as session:
        for number, cause in enumerate(causes):
            at = now - timedelta(minutes=number)
            rejections.add(session, [RefusalCount("default", cause, 401, 3, at, "198.51.100.7", "no signature")])


def test_the_navigation_has_the_pages_that_there_are_for_the_role():
    labels = [entry.label for entry in entries(Rights(Role.VIEWER).access("a"), "/console/rejections")]
    assert labels[0] == "Overview"
    assert "Rejections" in labels
    team = entries(Rights(Role.TEAM, "crm").access("b"), "/console/rejections")
    assert "Rejections" not in [entry.label for entry in team], "it is the installation's"
    here = [
        entry.label for entry in entries(Rights(Role.VIEWER).access("a"), "/console/rejections/more") if entry.is_here
    ]
    assert here == ["Rejections"]
    assert not may(Rights(Role.OPERATOR).access("c"), "GET /console/of-no-table")


def test_a_list_is_filtered_by_its_url_and_says_which_filters_hold(console):
    refuse(console, "bad_signature", "too_large")
    page = console.get("/console/rejections", cause="too_large")
    assert page.fields["cause"] == "too_large"
    assert page.links["too_large"] == "/console/rejections?cause=too_large"
    assert "bad_signature" not in page.links
    assert "1 rejection shown: no more match." in page.text
    assert page.links["All"] == "/console/rejections"
    assert console.get("/console/rejections", cause="", environment="").text.count("no signature") == 2


def test_pages_lead_on_by_the_cursor_of_the_api_and_keep_the_filters(console):
    refuse(console, "bad_signature", "bad_signature", "too_large", "bad_signature")
    page = console.get("/console/rejections", cause="bad_signature", limit="2")
    assert "2 rejections shown, and there are more" in page.text
    assert "cause=bad_signature" in page.links["Older"]
    older = console.get(page.links["Older"])
    assert "1 rejection shown, the oldest" in older.text
    assert "Older" not in older.links
    assert console.get(older.links["Newest"]).text == page.text


def test_an_empty_list_says_what_it_means(console):
    assert "No webhook was refused within seven days." in console.get("/console/rejections").text
    refuse(console, "bad_signature")
    page = console.get("/console/rejections", cause="too_large")
    assert "No rejection matches these filters." in page.text
    assert page.links["All rejections"] == "/console/rejections"


def test_a_query_that_cannot_be_used_is_told_and_loses_nothing(console):
    refuse(console, "bad_signature")
    page = console.get("/console/rejections", status=422, cause="bad_signature", cursor="nonsense")
    assert "not a cursor of this list" in page.text
    assert page.fields["cause"] == "bad_signature"
    page = console.get("/console/rejections", status=422, colour="red")
    assert "Nothing is listed." in page.text
    assert "colour" in page.text


def test_a_link_or_form_that_the_console_never_wrote_is_refused_and_a_fault_of_ours_is_not_blamed_on_it(
    console, monkeypatch
):
    many = "&".join(f"name{number}=1" for number in range(200))
    for query in (f"rejections?{many}", "jobs/act?act=delete"):
        assert "cannot be read" in console.get(f"/console/{query}", status=400).text
    for path, fields in (("jobs/act", {"act": "nonsense"}), ("jobs/acknowledge", {"expected": "many", "reason": "x"})):
        assert "cannot be read" in console.post(f"/console/{path}", status=400, **fields).text
    whole = console.browsers["operator"].post("/console/jobs/act", json={"act": "retry"})
    assert whole.status_code == 400
    monkeypatch.setattr(notices, "text_of", lambda _code: int("a fault of ours"))
    assert console.browsers["operator"].get("/console/rejections").status_code == 500


def test_a_notice_is_a_code_and_never_a_text_of_the_url(monkeypatch, console):
    found = {"rows_done": notices.Notice("{} are done.", "row"), "it_is_done": notices.Notice("It is done.")}
    monkeypatch.setattr(notices, "NOTICES", found)
    assert notices.code("rows_done", 2) == "rows_done.2"
    assert "2 rows are done." in console.get("/console/rejections", done="rows_done.2").text
    assert "It is done." in console.get("/console/rejections", done="it_is_done").text
    for other in ("rows_done", "it_is_done.3", "<b>no</b>", "unknown", "rows_done.99999999"):
        assert 'class="notice done"' not in console.get("/console/rejections", done=other).html


def test_the_sign_in_leads_back_to_the_list_with_its_filters(console):
    console.browsers["viewer"].post("/console/sign-out")
    answer = console.browsers["viewer"].get("/console/rejections", params={"cause": "too_large"})
    assert answer.headers["location"] == "/console/sign-in?next=/console/rejections%3Fcause%3Dtoo_large"

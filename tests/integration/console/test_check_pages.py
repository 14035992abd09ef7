"""The lines of the status on the overview lead to the pages that show more of them, where they are repaired."""

import pytest

from app.clock import utc_now
from app.domain.access import Access, Scope
from app.domain.status import Check, CheckKind, Level
from app.web.console.check_pages import ELSEWHERE, PAGES, page_of
from tests.integration.status.rows import a_job, add, an_event, destination

VIEWER, OPERATOR = (Access("operator:o", frozenset({scope})) for scope in (Scope.VIEWER, Scope.OPERATOR))
SUBJECTS = {
    CheckKind.DESTINATION_FAILING: "crm/jobs",
    CheckKind.DESTINATION_DISABLED: "crm/jobs",
    CheckKind.JOBS_DISCARDED: "crm/jobs",
    CheckKind.RECONCILE: "default",
    CheckKind.BREAKER: "default",
    CheckKind.SIGNATURES: "default",
    CheckKind.REJECTIONS: "bad_signature",
}


def red(kind, subject=""):
    return Check(kind, Level.RED, 1, subject=subject)


def test_each_kind_of_check_has_a_page_or_is_known_to_have_none():
    assert PAGES.keys() | ELSEWHERE == set(CheckKind)
    assert not PAGES.keys() & ELSEWHERE
    assert all((kind in SUBJECTS) is bool(page.of or "{" in page.path) for kind, page in PAGES.items())


@pytest.mark.parametrize("kind", PAGES)
def test_the_page_is_there_and_takes_the_filters_of_the_link(console, kind):
    if kind is CheckKind.DESTINATION_FAILING:
        add(console.database, destination("crm", "jobs"))
    page, subject = PAGES[kind], SUBJECTS.get(kind, "")
    found = page_of(red(kind, subject), OPERATOR)
    assert found is not None
    shown = console.get(found[1])
    assert "Nothing is listed" not in shown.text
    wanted = {**page.query, **({page.of: subject} if page.of else {})}
    if not page.operation:
        labels = {name: {"true": "yes"}.get(value, value) for name, value in wanted.items()}
        assert {name: shown.fields.get(name) for name in wanted} == labels


def test_a_page_is_of_the_subject_and_only_for_those_who_may_see_it():
    letters = "/console/jobs?state=discarded"
    assert page_of(red(CheckKind.JOBS_DISCARDED, "crm/jobs"), VIEWER) == (
        "Dead letters",
        f"{letters}&destination=crm%2Fjobs",
    )
    assert page_of(red(CheckKind.JOBS_DISCARDED, "others"), VIEWER) == ("Dead letters", letters)
    assert page_of(red(CheckKind.DESTINATION_FAILING, "crm/a b"), VIEWER) == (
        "The destination",
        "/console/destinations/crm/a%20b",
    )
    assert page_of(red(CheckKind.ACTS), OPERATOR) == ("Audit", "/console/audit?outcome=begun")
    assert page_of(red(CheckKind.ACTS), VIEWER) is None, "viewers do not see the audit"
    assert page_of(red(CheckKind.DATABASE), OPERATOR) is None


def test_a_red_line_is_repaired_from_its_page(console):
    now = utc_now()
    event = an_event(now, state="processed", type="connection.created", processed_at=now)
    given_up = {"state": "discarded", "finished_at": now, "fault": "team", "problem": "answered 500", "attempts": 1}
    letter = a_job(now, event.id, destination="letters", **given_up)
    add(console.database, destination("crm", "letters"), event, letter)
    listed = console.get(console.get("/console").links["Dead letters"])
    preview = console.get(listed.links["Retry all that match…"])
    fields = {name: value for name, value in preview.fields.items() if value and name != "reason"}
    console.post("/console/jobs/act", reason="the endpoint is mended", **fields)
    assert "Dead letters" not in console.get("/console").links

"""Figures that are numbers of rows: each links to the list that has exactly these rows."""

from collections.abc import Iterator
from datetime import timedelta
from html.parser import HTMLParser

import pytest

from app.clock import utc_now
from app.db import figures
from app.db.models import Job, Refresh, RefreshPause
from app.db.rejections import Rejection
from app.domain.figures import FigureName, Step
from app.ids import new_id
from tests.integration.console.pages import Console, open_console
from tests.integration.status.rows import a_connection, a_job, add, an_event, destination, id_at

HOUR = timedelta(hours=1)
PAGES = (
    "/console?span=1h",
    "/console",
    "/console?span=7d",
    "/console?span=30d",
    "/console/queues",
    "/console/refreshes/pauses",
    "/console/figures/jobs?destination=crm/jobs",
    "/console/figures/discarded?destination=crm/jobs&since=2h",
    "/console/figures/webhooks?since=3h&until=1h",
)


class CountedLinks(HTMLParser):
    """The links whose figure is a number of rows: path, number, and the member that has the counts of rows."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, int, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        if tag == "a" and (number := given.get("data-counts")) is not None:
            self.found.append((given["href"] or "", int(number), given.get("data-column")))


def rows_of(console: Console, path: str) -> list[dict]:
    """All rows of the list of the API that a page of the console shows, page by page."""
    where, _, query = path.removeprefix("/console").partition("?")
    rows, cursor = [], None
    while True:
        found = console.api.json(f"{where}?{query}&limit=2" + (f"&cursor={cursor}" if cursor else ""))
        rows += found["data"]
        cursor = found["next_cursor"]
        if cursor is None:
            return rows


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def console(request, tmp_path_factory, valkey) -> Iterator[Console]:
    folder = tmp_path_factory.mktemp("counted")
    valkey.start()
    url = f"sqlite:///{folder}/waylink.db"
    if request.param == "postgresql":
        postgres = request.getfixturevalue("postgres")
        postgres.start()
        url = postgres.create_database()
    with open_console(database_url=url, broker_url=valkey.url(0), folder=folder) as opened:
        fill(opened)
        yield opened


def fill(console: Console) -> None:
    """Rows of every kind, now and in the past, and the figures of the minutes in which each was counted."""
    now = utc_now()
    add(console.database, destination("crm", "jobs"), destination("crm", "hook"), destination("erp", "jobs"))
    for age in (timedelta(minutes=5), 2 * HOUR + timedelta(minutes=30), 26 * HOUR, 8 * 24 * HOUR):
        put_rows(console, now - age)
    waiting = [an_event(now, id=new_id()) for _ in range(3)]
    held = an_event(now, state="processed", type="connection.created", processed_at=now)
    add(console.database, *waiting, held)
    more = [("available", None)] * 3 + [("retryable", None), ("running", None), ("available", "destination_disabled")]
    of_jobs = [
        a_job(now, held.id, state=state, blocked_by=block, destination="jobs") for state, block in [*more, more[-1]]
    ]
    connection = a_connection(now, "held")
    pause = RefreshPause(environment="default", integration="oauth2", cause="operator", paused_at=now, probes=0)
    plan = a_refresh(connection, now, outcome="paused", next_at=now)
    add(console.database, *of_jobs, connection, pause, plan)
    with console.database.write() as session:
        webhooks = {(FigureName.WEBHOOKS, ("default", "stored")): (4,)}
        events = {(FigureName.EVENTS, ("connection.created", "processed")): (1,)}
        figures.put(session, webhooks | events, at=Step.MINUTE.start(now))
        backlog = {(FigureName.BACKLOG, ("events",)): (3_000_000,), (FigureName.BACKLOG, ("jobs",)): (5_000_000,)}
        for minute in range(-1, 10):  # however long the tests take
            figures.put(session, backlog, at=Step.MINUTE.start(now) + timedelta(minutes=minute))


def put_rows(console: Console, at) -> None:
    """Rows of one minute, and their figures."""
    stored = [an_event(at, id=id_at(at), state=state, processed_at=at) for state in ("processed", "failed")]
    stored[1].failure, stored[0].type = "error", "connection.created"
    before = at - timedelta(days=3)  # received long before it fails
    late = an_event(before, id=id_at(before), origin="operator", state="failed", failure="error", processed_at=at)
    system = an_event(
        at, id=id_at(at), origin="system", state="processed", type="waylink.job.discarded", processed_at=at
    )
    ended = [
        ("completed", "jobs", None), ("completed", "hook", None), ("discarded", "jobs", "team"),
        ("discarded", "jobs", "ours"), ("discarded", "hook", "team"), ("cancelled", "jobs", None),
    ]  # fmt: skip
    earlier = at - timedelta(days=1)  # when the jobs were made: they end later
    jobs: list[Job] = [
        a_job(earlier, stored[0].id, id=id_at(earlier), state=state, destination=to, fault=fault, finished_at=at)
        for state, to, fault in ended
    ]
    connection = a_connection(at, new_id().hex)
    finished = [a_refresh(connection, at, outcome=outcome, finished_at=at) for outcome in ("renewed", "failed")]
    refused = [
        Rejection(
            minute=Step.MINUTE.start(at), environment="default", cause=cause, status=401, count=count,
            peak=1, window_at=at, window_count=1, last_at=at, last_peer="192.0.2.1", last_detail="",
        )
        for cause, count in (("bad_signature", 3), ("no_signature", 2))
    ]  # fmt: skip
    add(console.database, *stored, late, system, *jobs, connection, *finished, *refused)
    counted = {
        (FigureName.WEBHOOKS, ("default", "stored")): 2,
        (FigureName.WEBHOOKS, ("default", "duplicate")): 4,
        (FigureName.WEBHOOKS, ("default", "bad_signature")): 3,
        (FigureName.WEBHOOKS, ("default", "no_signature")): 2,
        (FigureName.EVENTS, ("connection.created", "processed")): 1,
        (FigureName.EVENTS, ("waylink.job.discarded", "processed")): 1,
        (FigureName.EVENTS, ("", "failed")): 2,
        (FigureName.JOBS, ("crm", "jobs", "completed")): 1,
        (FigureName.JOBS, ("crm", "hook", "completed")): 1,
        (FigureName.JOBS, ("crm", "jobs", "retryable")): 7,
        (FigureName.JOBS, ("crm", "jobs", "discarded")): 2,
        (FigureName.JOBS, ("crm", "hook", "discarded")): 1,
        (FigureName.JOBS_DISCARDED, ("crm", "jobs", "team")): 1,
        (FigureName.JOBS_DISCARDED, ("crm", "jobs", "ours")): 1,
        (FigureName.JOBS_DISCARDED, ("crm", "hook", "team")): 1,
        (FigureName.REFRESHES, ("default", "oauth2", "renewed")): 1,
        (FigureName.REFRESHES, ("default", "oauth2", "failed")): 1,
        (FigureName.REFRESHES, ("default", "oauth2", "rate_limited")): 9,
    }
    with console.database.write() as session:
        figures.put(session, {key: (count,) for key, count in counted.items()}, at=Step.MINUTE.start(at))


def a_refresh(connection, at, **changes) -> Refresh:
    facts = {
        "id": id_at(at), "connection_ref": connection.id, "refresh_at": at, "next_at": at, "forced": False,
        "reason": "planned", "attempts": 0, "failures": 0, "keeps": "token", "deadline_at": at, "created_at": at,
    }  # fmt: skip
    return Refresh(**facts | changes)


@pytest.mark.parametrize("path", PAGES)
def test_each_figure_is_the_number_of_the_rows_that_it_links_to(console, path):
    links = CountedLinks(console.get(path).html).found
    assert any(number for _, number, _ in links), "some of these figures are not nothing"
    for to, number, column in links:
        rows = rows_of(console, to)
        assert number == (sum(row[column] for row in rows) if column else len(rows)), to
        console.get(to)


def test_a_row_outside_the_time_of_a_figure_is_not_in_its_list(console):
    [(to, number, _)] = [
        each
        for each in CountedLinks(console.get("/console/figures/events?since=3h&until=2h").html).found
        if "failed" in each[0]
    ]
    assert number == len(rows_of(console, to)) == 2

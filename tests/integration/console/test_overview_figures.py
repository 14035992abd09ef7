"""The charts of the overview, and the page about queues and processes."""

import re
from datetime import timedelta

import pytest

from app.clock import utc_now
from app.db import figures
from app.domain.figures import FigureName, Step
from app.services.metrics.own_counts import METRICS
from app.web.console import figure_charts
from tests.integration.status.rows import a_job, add, an_event, destination, report_running

TO_JOB = next(shape for shape in METRICS if shape.name == "waylink_webhook_to_job_seconds")


def put(console, at, **counted) -> None:
    """Figures of one minute, each as (labels, value)."""
    with console.database.write() as session:
        figures.put(session, {(FigureName(name), labels): value for name, (labels, value) in counted.items()}, at=at)


def histogram(seconds_below: float, count: int) -> tuple[int, ...]:
    """So many values in the bucket up to a bound."""
    return (0, *(count if bound == seconds_below else 0 for bound in TO_JOB.buckets), 0)


def chart(page, name: str) -> str:
    return re.search(rf'(?s)<figure id="{name}">.*?</figure>', page.html)[0]


def test_figures_are_drawn_with_their_unit_a_table_and_links_to_the_rows(console):
    at = Step.HOUR.start(utc_now() - timedelta(hours=3))
    put(console, at, webhooks=(("default", "stored"), (30,)), backlog=(("events",), (4_000_000,)))
    put(console, at, webhooks=(("default", "bad_signature"), (10,)), jobs_discarded=(("crm", "jobs", "team"), (2,)))
    for name, bound in (("jobs", 0.5), ("hook", 10)):
        put(console, at, webhook_to_job_seconds=(("crm", name), histogram(bound, 50)))
    page = console.get("/console", who="viewer")
    webhooks = chart(page, "webhooks")
    assert '<strong class="figure">40</strong> webhooks in 24h' in webhooks
    assert 'role="img"' in webhooks
    assert re.search(r'<td class="number">30</td><td class="number">0</td><td class="number">10</td>', webhooks)
    assert "/console/rejections" in webhooks
    assert webhooks.count("<rect class=") == 2 + 3, "two bars, and three of the legend"
    assert "4" in re.findall(r'<td class="number">(.*?)</td>', chart(page, "backlog"))
    both = re.findall(r'<td class="number">(.*?)</td>', chart(page, "to-job"))
    assert both == ["500 ms", "9.9 s"], "of both destinations together"
    assert "/console/jobs?state=discarded&amp;fault=team&amp;ended_since=" in chart(page, "discarded")
    assert "Nothing was counted in this time." in chart(page, "refreshes")
    assert len(page.html) < 100_000


@pytest.mark.parametrize(("chosen", "unit"), [("1h", "minute"), ("24h", "hour"), ("7d", "hour"), ("30d", "day")])
def test_the_time_of_the_charts_is_chosen_by_the_url(console, chosen, unit):
    at = Step.MINUTE.start(utc_now() - timedelta(minutes=5))
    put(console, at, webhooks=(("default", "stored"), (7,)))
    page = console.get("/console", span=chosen)
    assert f"per {unit}</p>" in chart(page, "webhooks")
    assert re.search(rf'aria-current="true">{chosen}<', page.html)
    assert chosen in figure_charts.SPANS
    assert len(page.html) < 100_000


def test_an_unknown_span_is_the_default(console):
    assert "webhooks in 24h" in chart(console.get("/console", span="century"), "webhooks")


def test_what_waits_for_each_destination_and_who_works_on_what(console):
    now = utc_now()
    event = an_event(now, state="processed", type="connection.created")
    waiting = a_job(now, event.id, team="crm", destination="slow", next_at=now - timedelta(minutes=3))
    other = a_job(now, event.id, team="erp", destination="jobs", state="discarded", finished_at=now, fault="team")
    add(console.database, destination("crm", "slow"), destination("erp", "jobs"), event, waiting, other)
    put(console, Step.MINUTE.start(now - timedelta(minutes=2)), jobs=(("crm", "slow", "completed"), (30,)))
    report_running(console.database, task="process_events", task_since=now - timedelta(seconds=30))
    page = console.get("/console/queues", who="viewer")
    row = page.text.partition("crm/slow")[2].partition("erp/jobs")[0]
    assert "delivering 1 0 0 0 3 min 2.0 0" in row
    assert page.links["1"] == "/console/jobs?state=available&parked=false&destination=crm%2Fslow"
    assert re.search(r"process_events, for \d", page.text)  # 30 s, or more on a loaded machine
    assert page.text.count("running") >= 4
    team = console.get("/console/queues", who="team")
    assert "crm/slow" in team.text
    assert "erp" not in team.text
    assert "Processes" not in team.text

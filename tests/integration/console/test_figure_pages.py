"""The page of one figure: any time of it, narrowed by links, with the values and what is not stored any more."""

import json
import re
from datetime import timedelta
from html import unescape

import pytest
from sqlalchemy import delete

from app.clock import utc_now
from app.db import figures
from app.db.models import Figure
from app.domain.figures import FigureName, Step
from app.web.console.figure_kinds import KINDS

HOUR = timedelta(hours=1)
PART = re.compile(r'<a href="([^"]+)" aria-label="Narrow to ([^"]+)"><rect class="part"')


def put(console, at, name: FigureName, *labels: str, value: int) -> None:
    with console.database.write() as session:
        figures.put(session, {(name, labels): (value,)}, at=Step.MINUTE.start(at))


def values(page) -> list[list[str]]:
    """The rows of the table of values, without their times."""
    rows = re.findall(r"<tr><td>.*?</tr>", page.html)
    return [re.findall(r'<td class="number">(.*?)</td>', row) for row in rows]


def test_a_figure_is_narrowed_to_its_minute_by_the_parts_of_its_chart(console):
    at = utc_now() - 5 * HOUR
    put(console, at, FigureName.WEBHOOKS, "default", "stored", value=77)
    page, steps = console.get("/console/figures/webhooks", since="24h", who="viewer"), ["hour"]
    assert ["77", "0", "0"] in values(page)
    while parts := [unescape(path) for path, _ in PART.findall(page.html)]:
        assert len(parts) <= 12
        [page] = [found for found in map(console.get, parts) if ["77", "0", "0"] in values(found)]
        steps.append(re.search(r"A row for each (\w+)", page.text)[1])
    assert steps[-1] == "minute"
    assert 1 < len(steps) <= 4
    wider = console.get(page.links["Wider"])
    assert ["77", "0", "0"] in values(wider)
    assert ["77", "0", "0"] in values(console.get(console.get(page.links["Earlier"]).links["Later"]))


def test_a_row_of_the_table_leads_to_its_time_as_a_part_of_the_chart_does(console):
    at = Step.HOUR.start(utc_now() - 9 * HOUR)
    put(console, at, FigureName.EVENTS, "connection.created", "failed", value=3)
    page = console.get("/console/figures/events?since=24h")
    narrowed = console.get(page.links[f"{at:%Y-%m-%d %H:%M}"])
    assert values(narrowed) == [["0", "3"]]
    assert "A row for each minute" in narrowed.text


def test_a_time_is_chosen_by_fields_in_utc(console):
    at = Step.MINUTE.start(utc_now() - 7 * HOUR)
    put(console, at, FigureName.REFRESHES, "default", "hubspot", "renewed", value=5)
    page = console.get("/console/figures/refreshes", since=f"{at:%Y-%m-%dT%H:%M}", until=f"{at + HOUR:%Y-%m-%dT%H:%M}")
    assert values(page) == [["5", "0", "0"]]
    assert page.fields["since"] == f"{at:%Y-%m-%dT%H:%M}"
    assert page.fields["until"] == f"{at + HOUR:%Y-%m-%dT%H:%M}"


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ({"since": "yesterday"}, "expected how long ago"),
        ({"since": "2026-02-31T00:00"}, "expected how long ago"),
        ({"since": "1h", "until": "2h"}, "has to be later than the beginning"),
        ({"since": "9999-12-31T23:59"}, "has to be later than the beginning"),
        ({"destination": "crm"}, "expected TEAM/NAME"),
    ],
)
def test_what_cannot_be_a_time_is_told_and_the_last_day_is_shown(console, query, told):
    page = console.get("/console/figures/jobs", status=422, **query)
    assert told in page.text
    assert "The last 24 hours are shown." in page.text


def test_a_figure_of_one_destination_has_its_values_alone(console):
    at = utc_now() - 3 * HOUR
    for name, value in (("mine", 4), ("mine-too", 50), ("m%", 600)):
        put(console, at, FigureName.JOBS, "crm", name, "completed", value=value)
    page = console.get("/console/figures/jobs?destination=crm/mine&since=24h")
    assert values(page) == [["4", "0", "0"]]
    assert "Attempts to deliver of crm/mine" in page.text
    assert unescape(PART.findall(page.html)[0][0]).startswith("/console/figures/jobs?destination=crm%2Fmine&since=")
    assert values(console.get("/console/figures/jobs?destination=crm/m%25&since=24h")) == [["600", "0", "0"]]
    assert (
        "not told apart by destination"
        in console.get("/console/figures/webhooks?destination=crm/mine", status=422).text
    )


def test_what_is_coarser_or_not_stored_any_more_is_said(console):
    page = console.get("/console/figures/events?since=5d&until=119h")
    assert "Values by minute are kept for 2 days; these are by hour." in page.text
    at = utc_now() - timedelta(days=50)
    put(console, at, FigureName.EVENTS, "connection.created", "processed", value=8)
    page = console.get("/console/figures/events?since=60d")
    assert "are not stored any more" in page.text
    assert page.html.count('class="edge"') == 1
    assert "data-counts" not in page.html, "the rows that are left are fewer"
    assert "366 days at most" in console.get("/console/figures/events?since=700d").text


def test_the_page_is_for_those_who_see_all_teams_and_each_chart_leads_to_it(console):
    console.get("/console/figures/events", who="team", status=403)
    console.get("/console/figures/nothing", status=404)
    overview = console.get("/console")
    for kind in list(KINDS)[:-1]:
        assert f'href="/console/figures/{kind}?since=' in overview.html
        console.get(f"/console/figures/{kind}")


def test_a_year_of_every_day_is_a_small_page(console):
    today = Step.DAY.start(utc_now())
    with console.database.write() as session:
        session.execute(delete(Figure).where(Figure.step == Step.DAY, Figure.name == FigureName.WEBHOOKS))
        session.add_all(
            Figure(
                step=Step.DAY, at=today - timedelta(days=days), name=FigureName.WEBHOOKS,
                labels=json.dumps(["default", answer], separators=(",", ":")), value=(12_345 + days,),
            )
            for days in range(366)
            for answer in ("stored", "duplicate", "bad_signature")
        )  # fmt: skip
    page = console.get("/console/figures/webhooks?since=366d")
    assert len(values(page)) == 366
    assert len(page.html) < 150_000

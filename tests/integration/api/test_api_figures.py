"""Figures over time by REST and by `waylink figures`: the same points, a bar for each span."""

import json
from datetime import timedelta

import pytest

from app.clock import utc_now
from app.db import figures
from app.domain.figures import FigureName, Step
from tests.integration.api.api_client import open_api
from tests.integration.cli.test_cli import Command


@pytest.fixture
def api(broker_url, tmp_path):
    with open_api(database_url=f"sqlite:///{tmp_path}/waylink.db", broker_url=broker_url, folder=tmp_path) as client:
        yield client


@pytest.fixture
def hour(api):
    """An hour in the past in which webhooks were stored and refused."""
    at = Step.HOUR.start(utc_now() - timedelta(hours=3))
    counted = {
        (FigureName.WEBHOOKS, ("default", "stored")): (30,),
        (FigureName.WEBHOOKS, ("default", "bad_signature")): (10,),
        (FigureName.BACKLOG, ("events",)): (4_000_000,),
    }
    with api.database.write() as session:
        figures.put(session, counted, at=at)
        figures.put(session, {(FigureName.WEBHOOKS, ("default", "stored")): (10,)}, at=at + timedelta(hours=1))
    return at


def test_points_are_listed_by_labels_the_earliest_first(api, hour) -> None:
    shown = api.json("/figures?name=webhooks", who="viewer")
    assert (shown["name"], shown["step"]) == ("webhooks", "hour")
    points = [(point["at"], point["labels"]["answer"], point["value"], point["p99"]) for point in shown["data"]]
    later = (hour + timedelta(hours=1)).isoformat()
    assert points == [
        (hour.isoformat(), "bad_signature", 10, None),
        (hour.isoformat(), "stored", 30, None),
        (later, "stored", 10, None),
    ]
    until = (hour + timedelta(hours=1)).isoformat().replace("+00:00", "Z")
    assert len(api.json(f"/figures?name=webhooks&until={until}")["data"]) == 2
    assert api.json("/figures?name=webhooks&since=1h")["data"] == []
    assert len(api.json("/figures?name=webhooks&step=minute")["data"]) == 3
    assert [point["value"] for point in api.json("/figures?name=backlog")["data"]] == [4]


@pytest.mark.parametrize("query", ["", "name=weather", "name=webhooks&step=year", "name=webhooks&since=soon"])
def test_what_is_no_figure_step_or_time_is_refused(api, query: str) -> None:
    assert api("GET", f"/figures?{query}").status_code in {400, 422}


def test_the_command_draws_a_bar_for_each_span_and_has_the_same_points_as_json(api, hour, broker_url, tmp_path) -> None:
    variables = {"WAYLINK_DATABASE_URL": f"sqlite:///{tmp_path}/waylink.db"}
    folder = tmp_path / "command"
    folder.mkdir()
    command = Command(folder, variables)
    done = command.inside("figures", "webhooks", "--since", "24h")
    assert done.returncode == 0
    bars = done.stdout.splitlines()
    assert [line.split()[0] for line in bars] == [f"{at:%Y-%m-%dT%H:%M}Z" for at in (hour, hour + timedelta(hours=1))]
    assert [line.count("#") for line in bars] == [40, 10]
    assert [line.split()[-1] for line in bars] == ["40", "10"]
    assert (
        json.loads(command.inside("figures", "webhooks", "--json").stdout) == api.json("/figures?name=webhooks")["data"]
    )
    assert "nothing was counted" in command.inside("figures", "webhooks", "--since", "1h").stdout
    assert command.inside("figures", "weather").returncode == 2

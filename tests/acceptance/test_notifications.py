"""Real processes tell once what has died among them, whichever of them still runs, and once that it is back."""

import json
import signal
from collections.abc import Iterator

import pytest

from tests.acceptance.harness import Process, Waylink, installation, until
from tests.integration.notifying.servers import HttpSide, http_side
from tests.servers import PostgresServer, ValkeyServer

CONFIG = """
[notify.channels.ops]
kind = "webhook"
url = "{url}"
secret_env = "OPS_SECRET"
checks = ["processes"]
after = "1s"
"""
VARIABLES = {
    "WAYLINK_NANGO_SIGNING_KEYS": "a-signing-key",
    "OPS_SECRET": "whsec_QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo=",
    "WAYLINK_ALLOWED_DESTINATION_RANGES": "127.0.0.0/8",
}
KINDS = (("web",), ("worker", "events"), ("worker", "io"), ("beat",), ("beat",))


@pytest.fixture
def side() -> Iterator[HttpSide]:
    with http_side() as side:
        yield side


@pytest.fixture
def waylink(postgres: PostgresServer, valkey: ValkeyServer, side: HttpSide) -> Iterator[Waylink]:
    postgres.start()
    valkey.start()
    valkey.flush()
    place = {
        "WAYLINK_DATABASE_URL": postgres.create_database(),
        "WAYLINK_BROKER_URL": valkey.url(0),
        "WAYLINK_TEAM_BROKER_URL": valkey.url(1),
    }
    with installation(config=CONFIG.format(url=side.url), **VARIABLES | place) as waylink:
        assert waylink.run("migrate").returncode == 0
        yield waylink


def well(waylink: Waylink) -> bool:
    states = [row["state"] for row in waylink.listing("processes")]
    return states.count("running") == len(KINDS)


def told(side: HttpSide) -> list[tuple[str, str]]:
    documents = [json.loads(body)["data"]["changes"] for _, body in side.requests]
    return [(change["state"], change["id"]) for changes in documents for change in changes]


def test_of_each_death_and_return_there_is_one_message(waylink: Waylink, side: HttpSide) -> None:
    """Also where Beat, the io worker and web die one after the other: what is left tells it."""
    started: dict[tuple[str, ...], list[Process]] = {}
    for kind in KINDS:
        started.setdefault(kind, []).append(waylink.spawn(*kind))
    until("all run", lambda: well(waylink), every=0.5)
    before = len(told(side))  # of processes that were not there yet when the first one looked
    for kinds in ([("beat",), ("worker", "io")], [("web",)]):
        names = {words[-1] for words in kinds}
        for process in [process for words in kinds for process in started[words]]:
            process.send(signal.SIGKILL)
        dead = {("red", f"processes:{name}") for name in names}
        until(f"{names} are told", lambda dead=dead, before=before: dead <= set(told(side)[before:]), every=0.5)
        before = len(told(side))
    for words in (("web",), ("worker", "io"), ("beat",)):
        waylink.spawn(*words)
    back = {("recovered", f"processes:{name}") for name in ("web", "io", "beat")}
    until("all are back", lambda: back <= set(told(side)), every=0.5)
    seen = told(side)
    for name in ("web", "io", "beat", "events"):
        of_one = [state for state, check in seen if check == f"processes:{name}"]
        assert of_one == ["red", "recovered"] * (len(of_one) // 2), "each is told once, in order"
    ids = [headers["webhook-id"] for headers, _ in side.requests]
    assert len(set(ids)) == len(ids)
    for process in waylink.processes:
        assert "notifications_fault" not in process.output

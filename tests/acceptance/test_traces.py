"""One trace from the webhook to the teams' headers, over all of Waylink's processes; a collector holds up nothing."""

import json
import signal
from collections import Counter
from contextlib import closing

import pytest
import redis

from app.domain.signature import HEADER as SIGNATURE
from app.domain.signature import sign
from app.domain.traceparent import HEADER
from app.sealing import new_key
from tests.acceptance.harness import Process, Waylink, creation, installation
from tests.integration.delivery.endpoints import endpoints
from tests.otlp_collector import collecting
from tests.ports import free_port
from tests.waiting import until

TRACE, SENDER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
QUEUE = "team.crm.jobs"
LATER = str(3_600_000)  # milliseconds between two batches of spans: what arrives is sent at the stop of a process

CONFIG = """
[teams.crm.destinations.jobs]
kind = "celery"
queue = "team.crm.jobs"

[teams.erp.destinations.hook]
kind = "http"
url = "{url}/204"

[[routes]]
name = "import"
team = "crm"
destination = "jobs"
job = "crm.import"
pattern = '{{"type": ["connection.created"]}}'

[[routes]]
name = "tell"
team = "erp"
destination = "hook"
job = "erp.tell"
pattern = '{{"type": ["connection.created"]}}'
"""


def variables(broker_url: str, teams_url: str, collector: str) -> dict[str, str]:
    return {
        "WAYLINK_BROKER_URL": broker_url,
        "WAYLINK_TEAM_BROKER_URL": teams_url,
        "WAYLINK_ALLOWED_DESTINATION_RANGES": "127.0.0.0/8",
        "WAYLINK_SECRET_KEY": new_key(),
        "WAYLINK_TRACES": "true",
        "WAYLINK_LOG_LEVEL": "debug",
        "WAYLINK_LOG_FORMAT": "json",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector,
        "OTEL_BSP_SCHEDULE_DELAY": LATER,
    }


def post(waylink: Waylink, body: bytes, **headers: str) -> str:
    """A webhook whose connection the sandbox has; the event's id."""
    sandbox = waylink.sandbox()
    sandbox.register(body)
    signed = {"content-type": "application/json", SIGNATURE: sign(body, sandbox.signing_key), **headers}
    answer = waylink.post(body, "", headers=signed)
    assert answer.status_code == 202, answer.text
    return answer.json()["event_id"]


def delivered(waylink: Waylink, event_id: str) -> dict[str, str]:
    """The jobs of an event by team, once all are completed."""

    def done() -> list[dict]:
        jobs = [job for job in waylink.listing("jobs") if job["event_id"] == event_id]
        return jobs if [job["state"] for job in jobs] == ["completed"] * 2 else []

    return {job["team"]: job["id"] for job in until("both jobs are completed", done)}


def messages(url: str) -> dict[str, dict]:
    """The headers of the Celery messages in the team's queue, by task id."""
    with closing(redis.Redis.from_url(url)) as client:
        found = [json.loads(message)["headers"] for message in client.lrange(QUEUE, 0, -1)]
    return {headers["id"]: headers for headers in found}


def lines(process: Process) -> list[dict]:
    """The lines of the log that are JSON."""
    texts = (line[line.index("{") :] for line in process.output.splitlines() if '{"' in line)
    return [json.loads(text) for text in texts if text.endswith("}")]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_webhook_is_one_trace_from_its_senders_span_to_the_teams_headers(
    kind: str, request: pytest.FixtureRequest, broker_url: str, valkey
) -> None:
    with endpoints() as team, collecting() as collector:
        settings = variables(broker_url, valkey.url(1), collector.url)
        if kind == "postgresql":
            settings["WAYLINK_DATABASE_URL"] = request.getfixturevalue("postgres_url")
        with installation(config=CONFIG.format(url=team.url), **settings) as waylink:
            up = waylink.up()
            body = creation(1)
            # Its flag does not decide whether spans are made here.
            event_id = post(waylink, body, **{HEADER: f"00-{TRACE}-{SENDER}-00"})
            jobs = delivered(waylink, event_id)
            again = waylink.post(body, waylink.sandbox().signing_key)
            assert again.json() == {"event_id": event_id, "duplicate": True}
            assert waylink.sql(
                "SELECT count(*) FROM events WHERE traceparent LIKE :trace", trace=f"00-{TRACE}-%-01"
            ) in (
                [(1,)],
                [(2,)],  # that of the link, which nothing routes
            )
            assert not collector.of(TRACE), "nothing was to be sent before the stop"
            up.send(signal.SIGTERM)
            assert up.ends() == 0
            logged = lines(up)
        spans = collector.of(TRACE)
        by_name = {span.name: span for span in spans}
        # The look that the duplicate asked for may come before the stop or not; once a busy machine made a third.
        looks = Counter(span.name for span in spans)["apply"]
        assert looks in {1, 2, 3}
        assert Counter(span.name for span in spans) == {
            "receive": 1, "store": 1, "confirm": looks, "apply": looks, "route": 1, "deliver": 2,
        }  # fmt: skip
        receive = by_name["receive"].span_id
        [first] = [span for span in spans if span.span_id == by_name["route"].parent_id]
        assert first.name == "apply"
        parents = {name: {span.parent_id for span in spans if span.name == name} for name in by_name}
        assert parents == {
            "receive": {SENDER},
            "store": {receive},
            "confirm": {receive},
            "apply": {receive},
            "route": {first.span_id},
            "deliver": {receive},
        }
        assert {span.attributes["waylink.event.id"] for span in spans} == {event_id}
        assert {span.name: span.process for span in spans if span.name != "deliver"} == {
            "receive": "web", "store": "web", "confirm": "events", "apply": "events", "route": "events",
        }  # fmt: skip
        assert all(span.begin <= span.end for span in spans)
        assert not any(span.failed for span in spans)
        deliver = {span.attributes["waylink.team"]: span for span in spans if span.name == "deliver"}
        assert {name: span.attributes["waylink.job.id"] for name, span in deliver.items()} == jobs
        assert deliver["erp"].attributes["http.response.status_code"] == 204
        assert deliver["erp"].process == "io"
        [call] = [call for call in team.calls if call.headers["webhook-id"] == jobs["erp"]]
        assert call.headers[HEADER] == f"00-{deliver['erp'].header}-01"
        assert messages(valkey.url(1))[jobs["crm"]][HEADER] == f"00-{deliver['crm'].header}-01"
        _no_content(collector.bodies, team.url)
        _every_stage_is_logged(logged, event_id, jobs)


def _no_content(bodies: list[bytes], url: str) -> None:
    """Nothing of a body, a person, or an endpoint's URL is in what was sent."""
    sent = b"".join(bodies)
    for text in ("batch-1", "people.example", "local-oauth2", url, "204?", "whsec_"):
        assert text.encode() not in sent, text


def _every_stage_is_logged(logged: list[dict], event_id: str, jobs: dict[str, str]) -> None:
    mine = [line for line in logged if line.get("event_id") == event_id and line["level"] == "debug"]
    first = [line for line in mine if line.get("trace_id") == TRACE]
    stages = Counter(line["event"] for line in first)
    assert set(stages) == {"event_stored", "event_asked", "event_applied", "job_made", "job_sent", "job_answered"}
    for stage in ("job_made", "job_sent", "job_answered"):
        assert {line["job_id"] for line in first if line["event"] == stage} == set(jobs.values()), stage
    # The duplicate came without a trace, and has one of its own.
    [duplicate] = [line for line in mine if line["event"] == "event_stored" and line["duplicate"]]
    assert duplicate["trace_id"] != TRACE


@pytest.mark.parametrize("hangs", [False, True], ids=["gone", "hanging"])
def test_a_collector_that_is_away_holds_up_neither_webhooks_nor_deliveries_nor_the_stop(
    hangs: bool, broker_url: str, valkey
) -> None:
    with endpoints() as team, collecting(hangs=True) as collector:
        url = collector.url if hangs else f"http://127.0.0.1:{free_port()}"
        settings = variables(broker_url, valkey.url(1), url) | {"OTEL_BSP_SCHEDULE_DELAY": "100"}
        with installation(config=CONFIG.format(url=team.url), **settings) as waylink:
            up = waylink.up()
            for number in range(3):
                event_id = post(waylink, creation(number))
                delivered(waylink, event_id)
            if hangs:
                assert collector.asked.wait(60)
            up.send(signal.SIGTERM)
            assert up.ends() == 0
            assert not collector.spans
            lost = [line for line in lines(up) if line["event"] == "spans_lost"]
            assert lost, up.output
            assert {line["level"] for line in lost} == {"warning"}
            assert "Traceback" not in up.output

"""Metrics of several processes of each kind: no count falls as they end and begin, and the sums are what was sent."""

import itertools
import signal

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.domain.signature import HEADER, sign
from tests.acceptance.harness import Process, Waylink, creation, installation
from tests.ports import free_port
from tests.waiting import PATIENCE, until

KEY = "a-signing-key"
CONFIG = """
[teams.crm.destinations.jobs]
kind = "celery"
queue = "team.crm.jobs"

[[routes]]
name = "import"
team = "crm"
destination = "jobs"
job = "crm.import"
pattern = '{"type": ["connection.created"]}'
"""
SCRAPES = 40
Counts = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def counts_of(text: str) -> Counts:
    """Every sample of a counter or histogram."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        if family.type in {"counter", "histogram"}
        for sample in family.samples
    }


def total(counts: Counts, name: str, **labels: str) -> float:
    wanted = set(labels.items())
    return sum(value for (found, having), value in counts.items() if found == name and wanted <= set(having))


class Installation:
    """Two of each kind of process, each web process with an address of its own for the metrics."""

    def __init__(self, waylink: Waylink) -> None:
        self.waylink = waylink
        self.webs = [(free_port(), free_port()) for _ in range(2)]
        self.running: dict[tuple[str, int], Process] = {}
        self.answered = 0
        self.before: Counts = {}
        self.scrapes = 0
        for kind, place in itertools.product(("web", "events", "io"), range(2)):
            self.start(kind, place)
        self.running["beat", 0] = waylink.spawn("beat")

    def start(self, kind: str, place: int) -> None:
        if kind == "web":
            port, metrics = self.webs[place]
            variables = {"WAYLINK_PORT": str(port), "WAYLINK_METRICS_ADDRESS": str(metrics)}
            process = self.waylink.spawn("web", **variables)
            until("web answers", lambda: self._answers(metrics))
        else:
            process = self.waylink.spawn("worker", kind)
        self.running[kind, place] = process

    def end(self, kind: str, place: int, number: signal.Signals) -> None:
        process = self.running[kind, place]
        process.send(number)
        process.ends()

    def send(self, number: int, place: int) -> None:
        """A webhook to one web process, until it is answered 202. Counted once for each answer."""
        body = creation(number, group="sent")
        port = self.webs[place][0]
        headers = {"content-type": "application/json", HEADER: sign(body, KEY)}
        answer = httpx.post(f"http://127.0.0.1:{port}/webhooks/nango", content=body, headers=headers,
                            timeout=PATIENCE, trust_env=False)  # fmt: skip
        assert answer.status_code == 202, answer.text
        self.answered += 1

    def scrape(self, place: int) -> Counts:
        """The counts that one web process shows; none is lower than any web process has shown before."""
        text = httpx.get(f"http://127.0.0.1:{self.webs[place][1]}/metrics", timeout=PATIENCE, trust_env=False).text
        shown = counts_of(text)
        fallen = {key: (value, shown.get(key)) for key, value in self.before.items() if shown.get(key, -1) < value}
        assert not fallen
        self.before = shown
        self.scrapes += 1
        return shown

    def _answers(self, port: int) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def shows_all(self, place: int) -> bool:
        shown = self.scrape(place)
        assert total(shown, "waylink_webhooks_total") <= self.answered
        assert total(shown, "waylink_events_total") <= self.answered
        assert total(shown, "waylink_jobs_total") <= self.answered
        return (
            total(shown, "waylink_webhooks_total", answer="stored")
            == total(shown, "waylink_ingest_seconds_count")
            == total(shown, "waylink_events_total", state="processed")
            == total(shown, "waylink_jobs_total", outcome="completed", team="crm")
            == total(shown, "waylink_webhook_to_job_seconds_count", team="crm")
            == self.answered
        )


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_no_count_falls_while_processes_end_and_begin_and_the_sums_are_what_was_sent(
    kind: str, request: pytest.FixtureRequest, broker_url: str
) -> None:
    variables = {"WAYLINK_BROKER_URL": broker_url, "WAYLINK_NANGO_SIGNING_KEYS": KEY}
    if kind == "postgresql":
        variables["WAYLINK_DATABASE_URL"] = request.getfixturevalue("postgres_url")
    with installation(config=CONFIG, **variables) as waylink:
        assert waylink.run("migrate").returncode == 0
        running = Installation(waylink)
        numbers = itertools.count()
        # Stopped in the middle, with work in hand, and started again: the last counts are written at the end.
        for place, which in enumerate((("web", 1), ("events", 0), ("io", 0))):
            for _ in range(12):
                running.send(next(numbers), 0)
                running.scrape(place % 2)
            running.end(*which, signal.SIGTERM)
            for _ in range(12):
                running.send(next(numbers), 0)
            running.scrape(0)
            running.start(*which)
            running.scrape(1)
        # Killed with everything written: what a process counted after its last report goes with it.
        for which in (("web", 0), ("events", 1), ("io", 1)):
            until("all counts are shown by both", lambda: running.shows_all(0) and running.shows_all(1), every=0.3)
            running.end(*which, signal.SIGKILL)
            for _ in range(12):
                running.send(next(numbers), 1)
            running.scrape(1)
            running.start(*which)
            running.scrape(0)
        until("all counts are shown by both", lambda: running.shows_all(0) and running.shows_all(1), every=0.3)
        while running.scrapes < SCRAPES:
            running.scrape(running.scrapes % 2)

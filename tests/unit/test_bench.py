"""The benchmarks' own arithmetic: what is a ratio, what meets a goal, what is written when something fails."""

import json
import math
import os
import subprocess
import sys
from types import SimpleNamespace
from uuid import UUID

import pytest

from app.ids import show
from app.web.access_table import PAGES
from app.web.api.records import EventQuery
from app.web.api.registry import ENDPOINTS
from bench import delivery, page_cases, pages, snapshot, webhook_to_job, writes
from bench.compare import table as compared
from bench.endpoint import ANSWER, Answering, Arrivals
from bench.fastify import FOLDER
from bench.ladder import DELAY, ENDPOINT, INSERT, NOTHING, POSTGRES, Run, figures, table
from bench.load import percentiles
from bench.page_cases import API, Case
from bench.pages import Measured, Took
from bench.pipeline_cost import Cost
from bench.processes import ROOT, Failed, cpu_seconds, ticks_in
from bench.processor_time import Samples, sampled
from bench.report import Report, figure, ratio
from bench.scale import Tables, _connection_id, _webhooks
from bench.scale import figures as scale_figures
from bench.soak import growth
from tests.waiting import until


def runs(*rates, cpu=100.0):
    return [Run(rate, 5.0, 20.0, cpu, 50.0, 8.0) for rate in rates]


def test_a_goal_is_met_from_its_side_only():
    assert figure(0.55, "ratio", at_least=0.55)["met"] is True
    assert figure(0.5499, "ratio", at_least=0.55)["met"] is False
    assert figure(1.5, "ratio", at_most=1.5) == {"value": 1.5, "unit": "ratio", "goal": 1.5, "met": True}
    assert figure(1.6, "ratio", at_most=1.5)["met"] is False
    assert figure(123_456.7, "requests/s") == {"value": 123_457, "unit": "requests/s", "goal": None, "met": None}


def test_a_figure_is_compared_with_its_goal_before_it_is_rounded():
    assert figure(0.549_999, "ratio", at_least=0.55) == {"value": 0.55, "unit": "ratio", "goal": 0.55, "met": False}


def test_what_is_no_number_meets_no_goal():
    assert figure(math.nan, "ratio", at_least=1) == {"value": None, "unit": "ratio", "goal": 1, "met": False}
    assert figure(math.nan, "ratio", at_most=1)["met"] is False


def test_ratios_are_taken_within_a_round():
    # The third round was slow for both: between the medians it would be 8 / 10.
    assert ratio([8.0, 9.0, 1.0], [10.0, 18.0, 2.0]) == 0.5
    assert ratio([8.0], [10.0, 20.0]) == 0.8
    assert math.isnan(ratio([], [1.0]))


def test_the_ladder_gives_medians_and_every_ratio_that_has_a_goal():
    found = figures(
        {
            NOTHING: runs(10_000, 20_000, 30_000),
            ENDPOINT: runs(9000, 9000, 9000),
            POSTGRES: runs(6000, 8000, 18_000),
            DELAY: runs(500, 500, 500),
            INSERT: runs(400, 400, 400, cpu=2000.0),
        }
    )
    assert found[f"ingest, {POSTGRES}"]["value"] == 8000
    assert found[f"ingest, {POSTGRES} / {NOTHING}"] == {"value": 0.6, "unit": "ratio", "goal": 0.55, "met": True}
    assert found[f"ingest, {POSTGRES} / {ENDPOINT}"]["met"] is False
    assert found[f"ingest, {POSTGRES} / {INSERT}"]["value"] == 20
    assert found[f"ingest, {POSTGRES} / {DELAY}"]["goal"] == 10
    assert found[f"CPU per event, {INSERT} / {POSTGRES}"]["value"] == 20


def test_a_missing_rung_takes_only_its_own_figures_away():
    found = figures({NOTHING: runs(10_000), POSTGRES: runs(6000)})
    assert f"ingest, {POSTGRES} / {NOTHING}" in found
    assert not [name for name in found if INSERT in name or ENDPOINT in name]
    assert POSTGRES in table({POSTGRES: runs(6000)})


def test_a_part_that_fails_is_named_and_loses_nothing_else(tmp_path, capsys):
    report = Report()
    report.figures["before"] = figure(1, "ratio")
    with report.part("broken"):
        report.figures["half"] = figure(math.inf, "ms")
        raise RuntimeError("no such server")
    report.write(tmp_path / "results.json")
    report.print()
    assert report.failures == ["broken: no such server"]
    assert "FAILED broken: no such server" in capsys.readouterr().out
    assert json.loads((tmp_path / "results.json").read_text()) == {
        "figures": {
            "before": {"value": 1.0, "unit": "ratio", "goal": None, "met": None},
            "half": {"value": None, "unit": "ms", "goal": None, "met": None},
        }
    }
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]


def test_growth_is_counted_from_a_fifth_of_the_time():
    assert growth([1, 2, 10, 10, 10, 10, 10, 10, 10, 12]) == 1.2


def test_percentiles_of_what_was_answered():
    assert percentiles([number / 1000 for number in range(100, 0, -1)]) == {"p50_ms": 51.0, "p99_ms": 100.0}
    assert math.isnan(percentiles([])["p99_ms"])


def test_processor_time_counts_children_that_have_ended():
    before = cpu_seconds([os.getpid()])
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    subprocess.run([sys.executable, "-c", burn], check=True)
    assert cpu_seconds([os.getpid()]) - before >= 0.25


def test_processor_time_of_a_process_is_read_past_blanks_in_its_name():
    assert ticks_in("42 (a (strange) name) S 1 42 42 0 -1 4194560 9 8 7 6 100 20 3000 400 20 0 1 0 5 6 7") == 3520


def test_processor_time_of_a_span_is_interpolated_between_samples():
    samples = Samples()
    for moment, seconds in ((100.0, 1.0), (101.0, 1.0), (102.0, 3.0), (103.0, 2.5), (104.0, 4.0)):
        samples.add(moment, {"server": seconds})
    assert samples.between(101.0, 102.0) == {"server": 2.0}
    assert samples.between(101.5, 103.5) == {"server": 1.5}  # what was missing at 103 had been counted before
    assert samples.between(100.0, 104.0) == {"server": 3.0}
    with pytest.raises(Failed):
        samples.between(99.9, 101.0)
    with pytest.raises(Failed):
        samples.between(101.0, 104.1)


def test_processor_time_is_sampled_of_a_process_with_children_that_still_run():
    burn = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ninput()"
    with subprocess.Popen([sys.executable, "-c", burn], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        with sampled(own=os.getpid()) as samples:
            child.stdout.readline()
        child.communicate(b"\n")
    assert samples.between(samples.moments[0], samples.moments[-1])["own"] >= 0.25


def test_states_of_the_code_are_compared_by_their_least_and_by_ratios_within_rounds():
    # The second round was slow for both.
    measured = {"v1": [{"wall, µs": 100.0}, {"wall, µs": 400.0}], "here": [{"wall, µs": 50.0}, {"wall, µs": 200.0}]}
    head, line = compared("postgresql", measured).splitlines()
    assert head.split() == ["postgresql", "v1", "median", "here", "median", "ratio"]
    assert line.split() == ["wall,", "µs", "100.0", "250.0", "50.0", "125.0", "0.500"]


def test_the_pipeline_is_compared_with_the_tutorial_by_the_clock_and_by_processor_time():
    measured = {
        webhook_to_job.TUTORIAL: [Cost(10_000.0, 7000.0, 1000.0), Cost(40_000.0, 7000.0, 1000.0)],
        webhook_to_job.POSTGRES: [Cost(200.0, 200.0, 100.0), Cost(1000.0, 300.0, 100.0)],
        webhook_to_job.SQLITE: [Cost(500.0, 400.0, 0.0)] * 2,
    }
    found = webhook_to_job.figures(measured)
    assert found["pipeline, postgresql / tutorial"] == {"value": 45.0, "unit": "ratio", "goal": 40, "met": True}
    used = found["processor time per event, tutorial / pipeline, postgresql"]
    assert used == {"value": 23.33, "unit": "ratio", "goal": 25, "met": False}
    assert found["pipeline, postgresql: processor time of PostgreSQL"]["value"] == 100
    assert "pipeline, sqlite: processor time of PostgreSQL" not in found
    del measured[webhook_to_job.TUTORIAL]
    assert not [name for name in webhook_to_job.figures(measured) if "tutorial" in name]


WAL_STATISTICS = """\
WAL statistics between 0/21D5908 and 0/3285898:
Type                                           N      (%)          Record size      (%)
----                                           -      ---          -----------      ---
Heap2/PRUNE_ON_ACCESS                        673 (  0.61)                52074 (  0.30)
Heap/INSERT+INIT                             613 (  0.55)               490425 (  2.83)
Heap/LOCK                                    300 (  0.30)                 1000 (  1.00)
Btree/INSERT_LEAF                           1400 ( 55.40)              4812664 ( 27.79)
Btree/INSERT_UPPER                            95 (  0.21)                20744 (  0.12)
Btree/INSERT_POST                             50 (  0.44)                38638 (  0.22)
Btree/SPLIT_L                                 30 (  0.06)               190184 (  1.10)
Btree/SPLIT_R                                 70 (  0.16)               371688 (  2.15)
                                        --------                      --------
Total                                     110781                      17317989 [100.00%]
"""


def test_writes_are_counted_per_event():
    records = writes.records_in(WAL_STATISTICS)
    assert (len(records), records["Heap/INSERT+INIT"], records["Heap2/PRUNE_ON_ACCESS"]) == (8, 613, 673)
    rows = {"events": (100, 200, 50, 0), "leases": (10, 0, 0, 10), "teams": (0, 0, 0, 0)}
    done = writes.Writes(100, rows, records, wal_bytes=480_000)
    found = {name.rpartition(": ")[2]: figure["value"] for name, figure in writes.figures(done).items()}
    assert found == {
        "row writes": 3.2,
        "heap-only updates of them": 0.5,
        "row locks": 3,
        "index entries": 15.5,
        "WAL": 4.8,
    }
    assert [line.split()[0] for line in writes.table(done).splitlines()] == ["rows", "events", "leases"]


def test_the_cost_beside_an_open_snapshot_is_of_what_was_finished():
    first, last = snapshot.Span(10.0, 5000, 2.0), snapshot.Span(10.0, 4000, 2.0)
    found = snapshot.figures(first, last, 500)
    assert found["an open snapshot at 500/s: processor time, last / first"]["value"] == 1.25
    assert found["an open snapshot at 500/s: finished of sent, last 10 s"]["value"] == 0.8
    with pytest.raises(Failed):
        snapshot.figures(first, snapshot.Span(10.0, 0, 2.0), 500)


@pytest.mark.parametrize("connections", [1000, 100_000])
def test_webhooks_for_known_connections_are_spread_and_never_twice(connections):
    sent = [json.loads(webhook) for batch in range(20) for webhook in _webhooks(batch, connections)]
    known = [body["connectionId"] for body in sent if body["operation"] == "override"]
    assert len(known) == len(set(known)) == 1000
    assert known[0] == _connection_id(0) == "cfcd2084-95d5-65ef-66e7-dff9f98764da"
    assert known[-1] == _connection_id(999 * connections // 1000)


def test_what_a_hanging_destination_costs_is_taken_within_a_round():
    measured = {
        # The second round was slow for both.
        delivery.WELL: [delivery.Run(1000.0, delay_p99=0.02), delivery.Run(500.0, delay_p99=0.02)],
        delivery.HANGING: [delivery.Run(960.0, delay_p99=0.03), delivery.Run(480.0, delay_p99=0.03)],
        delivery.HTTP: [delivery.Run(1500.0, 600.0, 400.0)] * 2,
    }
    found = delivery.figures(measured)
    left = found["delivery, nine of ten, the tenth hangs / is well"]
    assert left == {"value": 0.96, "unit": "ratio", "goal": 0.95, "met": True}
    assert found[f"{delivery.HANGING}: p99 from due to arrival"]["value"] == 30
    assert found[delivery.HTTP]["met"] is True
    assert not [name for name in found if "requests.post" in name]


def test_one_size_alone_is_not_flat():
    small, large = (Tables(None, None, 1000, 1.0, [10.0, 30.0, slow], [100.0, 100.0, 100.0]) for slow in (20.0, 40.0))
    assert "flatness, largest table" not in scale_figures({10_000: small})
    found = scale_figures({10_000: small, 1_000_000: large})
    assert found["flatness, largest table"]["value"] == 1_000_000
    assert found["flatness, ingest statement: largest / smallest table"]["value"] == 1.0
    assert found["ingest statement with 1 million events"]["value"] == 30.0


def endpoint_hears(*pieces):
    """The endpoint's counts and answers after these bytes."""
    came, answers = Arrivals(), []
    connection = Answering(came)
    connection.connection_made(SimpleNamespace(write=answers.append))
    for piece in pieces:
        connection.data_received(piece)
    return came, answers


def test_the_endpoint_counts_whole_requests_and_each_job_once():
    request = b"POST /waylink HTTP/1.1\r\nWebhook-Id: job_%d\r\ncontent-length: 4\r\n\r\nbody"
    came, answers = endpoint_hears(
        (request % 1)[:30], (request % 1)[30:-2], b"dy", request % 1, request % 2, request[:-1]
    )
    assert (came.requests, sorted(came.jobs)) == (3, ["job_1", "job_2"])
    assert answers == [ANSWER] * 3
    assert came.counts() == {"requests": 3, "jobs": 2, "first_at": came.jobs["job_1"], "last_at": came.jobs["job_2"]}


@pytest.mark.parametrize(
    ("folder", "packages"),
    [(FOLDER, ("fastify", "bullmq")), (ROOT / "examples" / "http-team-node", ("standardwebhooks",))],
    ids=["bench", "example"],
)
def test_the_node_locks_name_no_place_to_load_from(folder, packages):
    locked = json.loads((folder / "package-lock.json").read_text())["packages"]
    assert {f"node_modules/{package}" for package in packages} <= set(locked)
    assert not [name for name, package in locked.items() if "resolved" in package]
    assert not [name for name, package in locked.items() if name and "integrity" not in package]


def answers(**worst):
    """Answers of pages by the milliseconds of the slower of two ways to ask."""
    found = []
    for name, server in worst.items():
        path = f"{API}/{name}" if name.startswith("list") else f"/console/{name}"
        for how, took in (("", 5.0), ("state=failed", server)):
            found.append(Measured(Case(f"GET {path}", path, how), 200, Took(took, took / 4, took / 2)))
    return found


def test_the_slowest_way_to_ask_for_a_page_is_shown_first_and_judged():
    found = answers(events=150.0, jobs=250.4, list_jobs=20.0)
    assert pages.table(found).splitlines()[2:] == [
        "| `GET /console/jobs` | `state=failed` | 250 | 63 | 125 |",
        "| `GET /console/events` | `state=failed` | 150 | 38 | 75 |",
        f"| `GET {API}/list_jobs` | `state=failed` | 20 | 5 | 10 |",
    ]
    told = pages.figures(found)
    assert told["pages, server time of the slowest"]["met"] is False
    assert told["pages, processor time of the slowest"]["value"] == 187.8
    assert told["endpoints, server time of the slowest"]["met"] is True
    assert (told["answers over 200 ms"]["value"], told["answers over 200 ms"]["unit"]) == (1, "of 6")


def test_processor_time_of_another_process_is_read_while_it_works():
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            before = pages.cpu(busy.pid)
            until("it has worked", lambda: pages.cpu(busy.pid) > before + 1)
        finally:
            busy.kill()


def test_every_page_and_list_is_asked_for_and_every_filter_of_a_list():
    class Known:
        """Rows of a database, without one."""

        def id_of(self, kind, share):
            return show(page_cases.TABLES[kind][1], UUID(int=round(share * 10**6)))

        def connection_id(self, share):
            return f"connection-{share}"

        def one(self, query):
            return str(UUID(int=1))

    asked = list(page_cases.cases(Known()))
    pages_of_people = {operation for operation in PAGES if operation.startswith("GET ")} - page_cases.LEFT_OUT
    lists = {f"GET {each.path}" for each in ENDPOINTS if each.method == "GET" and not each.asks_nango}
    assert {case.operation for case in asked} == pages_of_people | lists
    assert [case.path for case in asked if "{" in case.path] == []
    queries = {case.path.partition("?")[2].partition("=")[0] for case in asked if case.operation == "GET /events"}
    assert queries == {*EventQuery.__struct_fields__, ""} - {"limit"}

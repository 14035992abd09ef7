"""A bulk run: 100,000 dead letters are retried by one call, beside one io worker that delivers them meanwhile.

`python -m bench.bulk_retry [--jobs N]` runs it alone. The product makes the jobs from webhooks, and they are discarded.
The call is that of the console's form; meanwhile the run is looked at again and again, as its page does.
"""

import argparse
import json
import time
import urllib.request
from collections.abc import Mapping
from contextlib import closing
from typing import Any, Final

from sqlalchemy import text

from app.db.engine import connect
from bench.ladder import Bench, bench
from bench.processes import Failed, python, run, serving
from bench.report import Figure, Report, figure, progress
from bench.stand import Delivering, Jobs, delivering, prepare, variables_of
from tests.ports import free_port

JOBS, QUICK_JOBS = 100_000, 5_000
WITHIN: Final = 60.0  # seconds, the goal
GIVE_UP: Final = 600.0
LOOK_EVERY: Final = 0.25


def figures(quick: bool) -> Mapping[str, Figure]:
    """Measure once."""
    return measure(QUICK_JOBS if quick else JOBS)


def measure(count: int) -> dict[str, Figure]:
    with bench() as on:
        jobs = prepare(on, 1, count)
        _discard(jobs)
        with delivering(on, jobs) as now:
            return _retried(on, jobs, now)


def _discard(jobs: Jobs) -> None:
    sql = (
        "UPDATE jobs SET state = 'discarded', fault = 'team', problem = 'HTTP 500', attempts = 9,"
        " finished_at = now() - interval '1 hour', created_at = now() - interval '2 hours'"
    )
    with closing(connect(jobs.url)) as database, database.write() as session:
        session.execute(text(sql))


def _retried(on: Bench, jobs: Jobs, now: Delivering) -> dict[str, Figure]:
    url = now.database.engine.url.render_as_string(hide_password=False)
    variables, port = variables_of(on, url), free_port()
    made = run(python("app.cli", "token", "create", "bench", "--scope", "operator"), variables, jobs.folder)
    token = next(word for word in made.split() if word.startswith("wl_"))
    web = ["env", f"WAYLINK_PORT={port}", *python("app.cli", "web")]
    with serving(web, variables, port, jobs.folder):
        api = _Api(f"http://127.0.0.1:{port}/api/v1", token)
        body: dict[str, Any] = {"filter": {"team": "bench"}, "reason": "the endpoint is back"}
        counted = api.call("POST", "/jobs/retry", body | {"dry_run": True})["count"]
        began = time.monotonic()
        answer = api.call("POST", "/jobs/retry", body | {"expected": counted})
        answered, slowest = time.monotonic() - began, 0.0
        while answer["run"]["state"] not in {"done", "failed"}:
            time.sleep(LOOK_EVERY)
            asked = time.monotonic()
            answer["run"] = api.call("GET", f"/bulk-runs/{answer['run']['id']}")
            slowest = max(slowest, time.monotonic() - asked)
            if asked - began > GIVE_UP:
                raise Failed(f"{answer['run']['done']} of {counted} jobs were retried")
        seconds = time.monotonic() - began
        with now.database.read() as session:
            delivered = session.scalar(text("SELECT count(*) FROM jobs WHERE state = 'completed'")) or 0
    if answer["run"]["done"] != jobs.count:
        raise Failed(f"{answer['run']['done']} of {jobs.count} jobs were retried")
    progress(f"{jobs.count} jobs retried in {seconds:.1f} s; {delivered} of them were delivered by then")
    return {
        f"bulk run, {jobs.count:,} jobs retried": figure(seconds, "s", at_most=WITHIN * jobs.count / JOBS),
        "bulk run, answer of the call that begins it": figure(answered * 1000, "ms"),
        "bulk run, slowest look at it meanwhile": figure(slowest * 1000, "ms"),
        "bulk run, jobs delivered meanwhile": figure(delivered / seconds, "jobs/s"),
    }


class _Api:
    def __init__(self, base: str, token: str) -> None:
        self.base, self.headers = base, {"authorization": f"Bearer {token}", "content-type": "application/json"}

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.base + path, data, self.headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            found: dict[str, Any] = json.load(answer)
        return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.bulk_retry", description="Measure a bulk run.")
    parser.add_argument("--jobs", type=int, default=JOBS)
    report = Report()
    report.figures |= measure(parser.parse_args().jobs)
    report.print()


if __name__ == "__main__":
    main()

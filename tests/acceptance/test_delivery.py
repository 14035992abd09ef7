"""A worker that is killed while hundreds of jobs are on their way loses none of them (promises 1 and 10)."""

from collections import Counter
from contextlib import closing
from types import SimpleNamespace

import pytest

from app.clock import utc_now
from app.db.engine import connect
from app.ids import JOB, show
from app.sealing import new_key, sealer_with
from tests.acceptance.harness import installation, until
from tests.integration.delivery.destinations import fill
from tests.integration.delivery.endpoints import endpoints
from tests.integration.delivery.test_http_delivery import add_http

JOBS, HELD = 600, 20


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_worker_killed_while_it_delivers_loses_no_job(broker_url, kind, request):
    key = new_key()
    variables = {
        "WAYLINK_BROKER_URL": broker_url,
        "WAYLINK_NANGO_SIGNING_KEYS": "404a7bbb-deae-4a85-b048-09d6d4ad9e72",
        "WAYLINK_SECRET_KEY": key,
        "WAYLINK_ALLOWED_DESTINATION_RANGES": "127.0.0.0/8",
    }
    if kind == "postgresql":
        variables["WAYLINK_DATABASE_URL"] = request.getfixturevalue("postgres_url")
    with endpoints() as server, installation(**variables) as waylink:
        assert waylink.run("migrate").returncode == 0
        with closing(connect(waylink.database_url)) as database:
            world = SimpleNamespace(database=database, clock=utc_now)
            for team, path in (("crm", "/200"), ("slow", "/hang")):
                add_http(world, server, team, path, sealer=sealer_with(key))
            ids = {show(JOB, id_) for id_ in fill(world, "crm", JOBS) + fill(world, "slow", HELD)}
        worker = waylink.spawn("worker", "io")
        until("it is in the middle of them", lambda: len(server.of("/200")) > JOBS // 4 and server.waiting.get("/hang"))
        worker.kill()
        [(lost,)] = waylink.sql("SELECT count(*) FROM jobs WHERE state = 'running'")
        assert lost >= server.most["/hang"] > 0, "killed too late to mean anything"
        server.let_go()
        waylink.sql("UPDATE jobs SET next_at = created_at WHERE state = 'running'")  # their leases have run out
        waylink.spawn("worker", "io")
        until(
            "all are completed", lambda: waylink.sql("SELECT count(*) FROM jobs WHERE state <> 'completed'") == [(0,)]
        )
        came = Counter(call.headers["webhook-id"] for call in server.calls)
        assert set(came) == ids
        assert sum(came.values()) <= len(ids) + lost, "no other job came twice"
        assert all(call.headers["webhook-id"] == call.job["id"] for call in server.calls)

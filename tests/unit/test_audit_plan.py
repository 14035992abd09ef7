"""Webhooks and faults of an audit are drawn from its seed, and leave no kind out."""

from collections import Counter

import pytest

from bench.audit_chaos import BROKER, DATABASE, VICTIMS, WORKERS, plan
from bench.audit_sender import webhooks


def test_the_same_seed_gives_the_same_run() -> None:
    assert plan(seed=1, seconds=60, database=True) == plan(seed=1, seconds=60, database=True)
    assert plan(seed=1, seconds=60, database=True) != plan(seed=2, seconds=60, database=True)
    assert webhooks(seed=1, seconds=5, rate=50) == webhooks(seed=1, seconds=5, rate=50)
    assert webhooks(seed=1, seconds=5, rate=50) != webhooks(seed=2, seconds=5, rate=50)


@pytest.mark.parametrize("seconds", [12, 32])
@pytest.mark.parametrize("seed", range(20))
def test_everything_is_struck_in_a_short_course_and_the_database_only_where_it_can_be(seed: int, seconds: int) -> None:
    struck = {(blow.target, blow.kind) for blow in plan(seed=seed, seconds=seconds, database=True)}
    assert struck >= {(name, kind) for name in VICTIMS for kind in ("killed", "stood still")}
    assert struck >= {(name, "overtaken") for name in WORKERS}
    assert struck >= {("broker", kind) for kind in BROKER} | {("database", kind) for kind in DATABASE}
    assert "database" not in {blow.target for blow in plan(seed=seed, seconds=seconds, database=False)}


def test_a_longer_course_has_its_blows_no_closer_to_each_other() -> None:
    assert len(plan(seed=1, seconds=600, database=True)) in range(400, 600)
    assert all(blow.away <= 5 for blow in plan(seed=1, seconds=600, database=True))


def test_webhooks_come_in_order_with_repetitions_reauthorizations_and_bursts() -> None:
    planned = webhooks(seed=1, seconds=10, rate=50)
    assert planned == sorted(planned, key=lambda webhook: webhook.at)
    copies = Counter(webhook.body for webhook in planned)
    assert len(copies) < len(planned)
    types = Counter({webhook.body: webhook.sent.type for webhook in planned}.values())
    assert types["connection.created"] == 500
    assert types["connection.reauthorized"] > 0
    assert max(Counter(webhook.at for webhook in planned).values()) >= 50

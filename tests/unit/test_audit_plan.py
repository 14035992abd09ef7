"""What an audit sends and destroys is drawn from its seed, and leaves nothing out."""

from collections import Counter

from bench.audit_chaos import VICTIMS, plan
from bench.audit_sender import webhooks


def test_the_same_seed_gives_the_same_run() -> None:
    assert plan(seed=1, seconds=60, database=True) == plan(seed=1, seconds=60, database=True)
    assert plan(seed=1, seconds=60, database=True) != plan(seed=2, seconds=60, database=True)
    assert webhooks(seed=1, seconds=5, rate=50) == webhooks(seed=1, seconds=5, rate=50)
    assert webhooks(seed=1, seconds=5, rate=50) != webhooks(seed=2, seconds=5, rate=50)


def test_everything_is_struck_within_fifteen_seconds_and_the_database_only_where_it_can_be() -> None:
    struck = {(blow.target, blow.kind) for blow in plan(seed=1, seconds=15, database=True)}
    assert struck >= {(name, "killed") for name in VICTIMS}
    assert struck >= {("broker", "flushed"), ("broker", "restarted empty")}
    assert struck >= {("database", "restarted"), ("database", "killed")}
    assert "database" not in {blow.target for blow in plan(seed=1, seconds=60, database=False)}


def test_webhooks_come_in_order_with_repetitions_reauthorizations_and_bursts() -> None:
    planned = webhooks(seed=1, seconds=10, rate=50)
    assert planned == sorted(planned, key=lambda one: one.at)
    copies = Counter(one.body for one in planned)
    assert len(copies) < len(planned)
    types = Counter({one.body: one.sent.type for one in planned}.values())
    assert types["connection.created"] == 500
    assert types["connection.reauthorized"] > 0
    assert max(Counter(one.at for one in planned).values()) >= 50

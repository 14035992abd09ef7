"""The schedule of Beat. Messages expire soon, as ticks missed in an outage are worthless."""

from datetime import timedelta
from typing import Any

from app.brokers.celery_broker import BULK_RUNS, LINK_WAITING, PRUNE, QUEUE_OF, RECONCILE, REFRESH_DUE, SWEEP


def beat_schedule() -> dict[str, dict[str, Any]]:
    """Celery's `beat_schedule`."""
    return {
        name: {
            "task": task,
            "schedule": every,
            "options": {"queue": QUEUE_OF[task], "expires": expires.total_seconds()},
        }
        for name, task, every, expires in (
            ("sweep", SWEEP, timedelta(seconds=1), timedelta(seconds=3)),
            ("refresh-due", REFRESH_DUE, timedelta(seconds=5), timedelta(seconds=10)),
            ("reconcile", RECONCILE, timedelta(seconds=5), timedelta(seconds=10)),
            ("bulk-runs", BULK_RUNS, timedelta(seconds=5), timedelta(seconds=10)),
            ("link-waiting", LINK_WAITING, timedelta(seconds=10), timedelta(seconds=20)),
            ("prune", PRUNE, timedelta(seconds=60), timedelta(seconds=60)),
        )
    }

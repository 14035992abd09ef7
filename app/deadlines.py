"""Deadlines, leases and limits of background work, in one module because they have to nest."""

from datetime import timedelta
from typing import Final

# A call's deadline has to be shorter than the lease, and the lease than the broker's visibility timeout: work beyond
# its lease would be done twice. A killed worker's work waits until its lease ends, so leases are as short as possible.
CONFIRM_DEADLINE: Final = timedelta(seconds=10)  # all lookups of one batch together
DIRECTORY_DEADLINE: Final = timedelta(seconds=5)  # all queries of one batch to the application's database
EVENT_LEASE: Final = timedelta(seconds=30)
OWNER_LOOKUP_LEASE: Final = timedelta(seconds=60)
PUBLISH_DEADLINE: Final = timedelta(seconds=15)  # one batch to a team's broker
HTTP_TIMEOUT: Final = timedelta(seconds=15)  # one job to a team's endpoint, unless its destination sets another timeout
MAX_HTTP_TIMEOUT: Final = timedelta(seconds=30)
JOB_LEASE: Final = timedelta(seconds=30)  # plus what a destination's timeout exceeds HTTP_TIMEOUT by
REFRESH_DEADLINE: Final = timedelta(seconds=45)  # one GET, which can take well over 12 s (Nango contract: Refresh lock)
REFRESH_LEASE: Final = timedelta(seconds=75)
RECONCILE_DEADLINE: Final = timedelta(seconds=45)  # one call
RECONCILE_LEASE: Final = timedelta(seconds=75)
EDIT_DEADLINE: Final = timedelta(seconds=45)  # all calls to Nango of one operation; web closes a request after 60 s
EDIT_LEASE: Final = timedelta(seconds=60)
NOTIFICATION_DEADLINE: Final = timedelta(seconds=35)  # one message to a channel, by HTTP or SMTP
NOTIFICATION_LEASE: Final = timedelta(seconds=60)
BULK_LEASE: Final = timedelta(seconds=75)  # a chunk of a bulk run: statements, or one connection at Nango
VISIBILITY_TIMEOUT: Final = timedelta(seconds=300)
STATEMENT: Final = timedelta(seconds=20)  # one statement of a worker's in PostgreSQL
DATABASE_SHARE: Final = timedelta(seconds=10)  # locks and commits around the call

MAX_CLAIMS: Final = 5  # claims without a result after which a row is given up, so that poison does not loop
BATCH: Final = 200  # jobs in one claim, or rows of one transaction; 1,000 was measured no better
EVENT_BATCH: Final = 500  # events in one claim, and on PostgreSQL in one transaction
POSSIBLY_POISON_SECONDS: Final = 2.0  # per call, for rows whose last claim brought no result; new work waits meanwhile


def assert_nested() -> None:
    """Assert deadline < lease < visibility timeout for each kind of work. Called when a worker starts."""
    for name, deadline, lease in (
        ("events", CONFIRM_DEADLINE + DIRECTORY_DEADLINE, EVENT_LEASE),
        ("owner looks", DIRECTORY_DEADLINE, OWNER_LOOKUP_LEASE),
        ("jobs", PUBLISH_DEADLINE, JOB_LEASE),
        ("jobs over HTTP", HTTP_TIMEOUT, JOB_LEASE),
        ("slow jobs over HTTP", MAX_HTTP_TIMEOUT, JOB_LEASE + MAX_HTTP_TIMEOUT - HTTP_TIMEOUT),
        ("refreshes", REFRESH_DEADLINE, REFRESH_LEASE),
        ("reconciliations", RECONCILE_DEADLINE, RECONCILE_LEASE),
        ("edits", EDIT_DEADLINE, EDIT_LEASE),
        ("notifications", NOTIFICATION_DEADLINE, NOTIFICATION_LEASE),
        ("bulk runs", EDIT_DEADLINE, BULK_LEASE),
    ):
        if not deadline + DATABASE_SHARE < lease < VISIBILITY_TIMEOUT:
            raise AssertionError(f"{name}: deadline {deadline}, lease {lease} and visibility timeout do not nest")

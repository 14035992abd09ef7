"""Tables that are written per event have no foreign keys on PostgreSQL (`app.db.models`).

Only the catalog changes. All tables are locked for that moment, and a lock is not waited for longer than a batch takes:
behind a waiting exclusive lock all other work would wait, too.
"""

import time
from typing import Final

import sqlalchemy as sa
from alembic import op
from sqlalchemy.exc import OperationalError

from app.errors import Conflict

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

FOREIGN_KEYS: Final = {
    "events": ["fk_events_connection_ref"],
    "users": ["fk_users_organization_id"],
    "links": ["fk_links_connection_ref", "fk_links_user_id", "fk_links_organization_id"],
    "jobs": ["fk_jobs_event_id", "fk_jobs_team_destination"],
}
# In the order in which a batch of events takes them. A foreign key's removal locks the table that it names, too.
LOCKED: Final = "events, connections, organizations, users, links, destinations, jobs"
WAIT: Final = "500ms"  # per table; less than `deadlock_timeout`, so that this gives way and no worker is ended
PAUSE: Final = 0.5  # seconds between two tries, for the work that had to wait
TRIES: Final = 120
NOT_GRANTED: Final = {"55P03", "40P01"}  # SQLSTATE of a lock that is not available, and of a deadlock


def upgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    _lock()
    for table, names in FOREIGN_KEYS.items():
        op.execute(f"ALTER TABLE {table} {', '.join(f'DROP CONSTRAINT IF EXISTS {name}' for name in names)}")


def _lock() -> None:
    """Lock the tables, all or none. Raises Conflict where other transactions hold one of them all the time."""
    connection = op.get_bind()
    for _ in range(TRIES):
        try:
            with connection.begin_nested():
                connection.execute(sa.text(f"SET LOCAL lock_timeout = '{WAIT}'"))
                connection.execute(sa.text(f"LOCK TABLE {LOCKED} IN ACCESS EXCLUSIVE MODE"))
                connection.execute(sa.text("SET LOCAL lock_timeout = 0"))
        except OperationalError as failed:
            if getattr(failed.orig, "sqlstate", None) not in NOT_GRANTED:
                raise
            time.sleep(PAUSE)
        else:
            return
    raise Conflict(
        f"the tables {LOCKED} cannot be locked: another transaction has been using one of them for minutes, such as a "
        "backup; pg_stat_activity shows it. Migrate again once it has ended"
    )

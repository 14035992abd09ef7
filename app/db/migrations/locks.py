"""Locks of whole tables for migrations that change them while other processes work.

A lock is not waited for longer than a batch takes: behind a waiting exclusive lock all other work would wait, too.
"""

import time
from typing import Final

import sqlalchemy as sa
from alembic import op
from sqlalchemy.exc import OperationalError

from app.errors import Conflict

WAIT: Final = "500ms"  # per table; less than `deadlock_timeout`, so that this gives way and no worker is ended
PAUSE: Final = 0.5  # seconds between two tries, for the work that had to wait
TRIES: Final = 120
NOT_GRANTED: Final = {"55P03", "40P01"}  # SQLSTATE of a lock that is not available, and of a deadlock


def take(*tables: str) -> None:
    """Lock the tables on PostgreSQL, all or none, until the transaction ends: the order is that of other transactions.

    Raises Conflict where other transactions hold one of them all the time.
    """
    connection, named = op.get_bind(), ", ".join(tables)
    if connection.dialect.name != "postgresql":
        return
    for _ in range(TRIES):
        try:
            with connection.begin_nested():
                connection.execute(sa.text(f"SET LOCAL lock_timeout = '{WAIT}'"))
                connection.execute(sa.text(f"LOCK TABLE {named} IN ACCESS EXCLUSIVE MODE"))
                connection.execute(sa.text("SET LOCAL lock_timeout = 0"))
        except OperationalError as failed:
            if getattr(failed.orig, "sqlstate", None) not in NOT_GRANTED:
                raise
            time.sleep(PAUSE)
        else:
            return
    raise Conflict(
        f"the tables {named} cannot be locked: another transaction has been using one of them for minutes, such as a "
        "backup; pg_stat_activity shows it. Migrate again once it has ended"
    )

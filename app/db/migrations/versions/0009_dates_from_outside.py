"""Dates that came from outside and are none, such as an expiry of the year 1, count as unknown.

Earlier releases stored them as they came. What reads them takes them for unknown anyway (`db/types.py`); here they go,
so that comparisons in SQL see none either.
"""

from typing import Final

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

FROM_OUTSIDE: Final = (("connections", "expires_at"), ("refreshes", "expires_at"), ("differences", "since"))
EARLIEST, LATEST = "1971-01-01 00:00:00", "3000-01-01 00:00:00"  # domain/timestamps.py
SHAPE: Final = "[12][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9] [0-2][0-9]:[0-5][0-9]:[0-5][0-9]*"


def upgrade() -> None:
    on_sqlite = op.get_bind().dialect.name == "sqlite"
    for table, column in FROM_OUTSIDE:
        # SQLite keeps text, and kept the year 1 without its zeros; PostgreSQL also knows infinity and years before 1.
        shapeless = f"{column} NOT GLOB '{SHAPE}' OR " if on_sqlite else ""
        zone = "" if on_sqlite else "+00"
        beyond = f"{column} < '{EARLIEST}{zone}' OR {column} >= '{LATEST}{zone}'"
        wrong = f"{column} IS NOT NULL AND ({shapeless}{beyond})"
        op.execute(f"UPDATE {table} SET {column} = NULL WHERE {wrong}")  # noqa: S608 - ours

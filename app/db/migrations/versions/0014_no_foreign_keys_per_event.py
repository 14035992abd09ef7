"""Tables that are written per event have no foreign keys on PostgreSQL (`app.db.models`).

Only the catalog changes. All tables are locked for that moment.
"""

from typing import Final

from alembic import op

from app.db.migrations import locks

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
LOCKED: Final = ("events", "connections", "organizations", "users", "links", "destinations", "jobs")


def upgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    locks.take(*LOCKED)
    for table, names in FOREIGN_KEYS.items():
        op.execute(f"ALTER TABLE {table} {', '.join(f'DROP CONSTRAINT IF EXISTS {name}' for name in names)}")

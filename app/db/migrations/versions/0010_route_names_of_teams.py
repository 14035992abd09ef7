"""A route's name is its team's own: the team is in the keys of routes, decisions and jobs.

Nothing is rewritten on PostgreSQL: decisions of before keep an empty team (app/db/decisions.py says whose they are). So
do those that workers of the release before, which may still run, write meanwhile.
"""

import re
from collections.abc import Mapping

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

LIVE = sa.text("until_set IS NULL")


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        _on_postgresql()
    else:
        _on_sqlite()
    op.create_index("uq_routes_live", "routes", ["team", "name"], unique=True, postgresql_where=LIVE, sqlite_where=LIVE)


def _on_postgresql() -> None:
    """What is new is there before the old goes. Where tables are large, make column and indexes beforehand by hand."""
    op.drop_index("uq_routes_live", "routes")
    op.execute(
        "ALTER TABLE routes DROP CONSTRAINT pk_routes, ADD CONSTRAINT pk_routes PRIMARY KEY (team, name, version)"
    )
    op.execute("ALTER TABLE decisions ADD COLUMN IF NOT EXISTS team TEXT NOT NULL DEFAULT ''")
    op.execute("CREATE UNIQUE INDEX IF NOT EXISTS pk_decisions_of_teams ON decisions (event_id, team, route)")
    op.execute(
        "ALTER TABLE decisions DROP CONSTRAINT pk_decisions,"
        " ADD CONSTRAINT pk_decisions PRIMARY KEY USING INDEX pk_decisions_of_teams"
    )
    op.execute("CREATE UNIQUE INDEX IF NOT EXISTS uq_jobs_event_id_team_route ON jobs (event_id, team, route)")
    op.execute(
        "ALTER TABLE jobs ADD CONSTRAINT uq_jobs_event_id_team_route UNIQUE USING INDEX uq_jobs_event_id_team_route,"
        " DROP CONSTRAINT uq_jobs_event_id_route"
    )


def _on_sqlite() -> None:
    """SQLite changes no key of a table, so each is copied."""
    _copied("routes", {"PRIMARY KEY (name, version)": "PRIMARY KEY (team, name, version)"}, without="uq_routes_live")
    op.add_column("decisions", sa.Column("team", sa.Text(), nullable=False, server_default=""))
    _copied("decisions", {"PRIMARY KEY (event_id, route)": "PRIMARY KEY (event_id, team, route)"})
    # With the table of jobs, its foreign key would delete their attempts.
    op.execute("CREATE TEMPORARY TABLE kept_attempts AS SELECT * FROM attempts")
    was, will = ("uq_jobs_event_id_route", "event_id, route"), ("uq_jobs_event_id_team_route", "event_id, team, route")
    _copied("jobs", {f"{was[0]} UNIQUE ({was[1]})": f"{will[0]} UNIQUE ({will[1]})"})
    op.execute("INSERT INTO attempts SELECT * FROM kept_attempts")
    op.execute("DROP TABLE kept_attempts")


def _copied(table: str, changes: Mapping[str, str], *, without: str = "") -> None:
    """The table with another definition, its rows, and its indexes but for one."""
    bind = op.get_bind()
    found = bind.execute(sa.text("SELECT type, name, sql FROM sqlite_master WHERE tbl_name = :name"), {"name": table})
    definitions = [(kind, name, sql) for kind, name, sql in found if sql]
    [definition] = [sql for kind, _, sql in definitions if kind == "table"]
    for old, new in changes.items():
        if old not in definition:
            raise RuntimeError(f"the table {table} is not as this migration expects it: {old}")
        definition = definition.replace(old, new)
    columns = ", ".join(bind.scalars(sa.text("SELECT name FROM pragma_table_info(:name)"), {"name": table}))
    bind.exec_driver_sql(re.sub(rf'^CREATE TABLE "?{table}"?', f"CREATE TABLE {table}_copy", definition))
    op.execute(f"INSERT INTO {table}_copy ({columns}) SELECT {columns} FROM {table}")  # noqa: S608 - names of ours
    op.execute(f"DROP TABLE {table}")
    op.execute(f"ALTER TABLE {table}_copy RENAME TO {table}")
    for kind, name, sql in definitions:
        if kind == "index" and name != without:
            bind.exec_driver_sql(sql)

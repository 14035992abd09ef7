"""A transaction that writes references to owners keeps owners before it locks or writes rows (`app.db.owner_locks`)."""

from contextlib import contextmanager

from sqlalchemy import event

KEEPS = "pg_advisory_xact_lock_shared"
TABLES = ("INSERT INTO links (", "INSERT INTO users (")
LOCKS_ROWS = ("INSERT", "UPDATE", "DELETE")


@contextmanager
def watched(engine):
    """Note all statements within the block, on PostgreSQL. Yields a list of what was wrong with their order."""
    wrong = []

    def begin(connection):
        connection.info.update(keeps=False, locked="")

    def note(connection, _cursor, statement, *_):
        found = connection.info
        if KEEPS in statement:
            found["keeps"] = True
            if found["locked"]:
                wrong.append(f"rows were locked before owners: {found['locked']}")
        elif _refers_to_owners(statement) and not found["keeps"]:
            wrong.append(f"owners were not kept: {statement}")
        elif statement.startswith(LOCKS_ROWS) or " FOR " in statement:
            found["locked"] = found["locked"] or statement

    event.listen(engine, "begin", begin)
    event.listen(engine, "before_cursor_execute", note)
    yield wrong
    event.remove(engine, "begin", begin)
    event.remove(engine, "before_cursor_execute", note)


def _refers_to_owners(statement):
    """By the bulk statement of services; rows that tests write by hand have VALUES."""
    return statement.startswith(TABLES) and "organization_id" in statement and "jsonb_to_recordset" in statement

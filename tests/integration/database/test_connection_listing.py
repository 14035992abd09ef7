"""Connections are found without reading all of them."""

from sqlalchemy import event, text

from app.db.read import connection_listing
from app.db.read.listing import ListFilters


def test_tags_are_found_by_an_index_where_the_database_has_one(database):
    asked = []

    def note(_connection, _cursor, sql, parameters, _context, _many):
        asked.append((sql, parameters))

    event.listen(database.engine, "before_cursor_execute", note)
    with database.read() as session:
        assert connection_listing.connections(session, ListFilters(tags={"plan": "pro", "region": "eu"})) == []
    event.remove(database.engine, "before_cursor_execute", note)
    [(sql, values)] = [query for query in asked if query[0].startswith("SELECT connections")]
    if database.is_sqlite:
        return
    with database.engine.connect() as connection:
        # The tables are empty, and then PostgreSQL reads them as a whole.
        connection.execute(text("SET enable_seqscan = off"))
        connection.execute(text("SET enable_indexscan = off"))
        plan = "\n".join(str(row) for row in connection.exec_driver_sql(f"EXPLAIN {sql}", values))
    assert "ix_connections_tags" in plan, plan

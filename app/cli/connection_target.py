"""The connection that a command names."""

from dataclasses import dataclass
from uuid import UUID

from app.db.engine import Database
from app.db.read import connection_listing
from app.errors import NotFound
from app.ids import CONNECTION, parse


@dataclass(frozen=True, slots=True)
class Target:
    """The connection that a command names, as `con_…` or by Nango's id."""

    connection: str
    integration: str | None
    environment: str | None

    def known(self, database: Database) -> UUID | None:
        """The connection's row id; None where Nango's id is not stored. Raises NotFound where it is of several."""
        if self.connection.startswith(f"{CONNECTION}_"):
            return parse(CONNECTION, self.connection)
        try:
            with database.read() as session:
                return connection_listing.find_connection(
                    session, self.connection, integration=self.integration, environment=self.environment
                )
        except NotFound as unknown:
            if unknown.kind != "connection":  # there are several
                raise
            return None

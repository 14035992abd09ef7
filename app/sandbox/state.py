"""State of a sandbox, in memory, with the writes that change it."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from app.sandbox.entities import (
    ApiKey,
    Authorization,
    SandboxConnection,
    SandboxIntegration,
    SandboxSession,
    SavedState,
)
from app.sandbox.replica import Replica


class Store:
    """`version` increases with every change that the state file should have."""

    def __init__(self, saved_state: SavedState, *, replica_lag: float) -> None:
        self.version = 0
        self.replica = Replica(lag=replica_lag)
        self.integrations = {integration.unique_key: integration for integration in saved_state.integrations}
        self._next_id = saved_state.next_id
        self._connections: dict[tuple[str, str], SandboxConnection] = {}
        self._sessions = {session.token: session for session in saved_state.sessions}
        self.keys = {key.key: key for key in saved_state.keys}
        self.signing_key = saved_state.signing_key
        self._authorizations: dict[str, Authorization] = {}  # by `state`; a restart ends them
        for connection in sorted(saved_state.connections, key=lambda kept: kept.id):
            self._connections[connection.integration, connection.connection_id] = connection
            self.replica.record(connection, id=connection.id, at=connection.created_at)

    def saved_state(self) -> SavedState:
        return SavedState(
            next_id=self._next_id,
            integrations=tuple(self.integrations.values()),
            connections=tuple(self._connections.values()),
            sessions=tuple(self._sessions.values()),
            keys=tuple(self.keys.values()),
            signing_key=self.signing_key,
        )

    def next_id(self) -> int:
        """Ids only increase: a recreated connection gets another one (Nango contract: Connection identity)."""
        self._next_id += 1
        return self._next_id - 1

    def find(self, integration: str, connection_id: str) -> SandboxConnection | None:
        return self._connections.get((integration, connection_id))

    def connections(self) -> list[SandboxConnection]:
        return list(self._connections.values())

    def connections_of(self, integration: str) -> list[SandboxConnection]:
        return [connection for connection in self._connections.values() if connection.integration == integration]

    def put(self, connection: SandboxConnection, *, now: datetime) -> SandboxConnection:
        self.version += 1
        self._connections[connection.integration, connection.connection_id] = connection
        self.replica.record(connection, id=connection.id, at=now)
        return connection

    def touch(self, connection: SandboxConnection, *, now: datetime) -> SandboxConnection:
        """Stamp a read. Neither the list nor the state file is updated for it."""
        touched = replace(connection, last_fetched_at=now)
        self._connections[connection.integration, connection.connection_id] = touched
        return touched

    def delete(self, connections: Iterable[SandboxConnection], *, now: datetime) -> None:
        for connection in connections:
            self.version += 1
            del self._connections[connection.integration, connection.connection_id]
            self.replica.record(None, id=connection.id, at=now)

    def put_integration(self, integration: SandboxIntegration) -> SandboxIntegration:
        self.version += 1
        self.integrations[integration.unique_key] = integration
        return integration

    def delete_integration(self, unique_key: str, *, now: datetime) -> None:
        self.delete(self.connections_of(unique_key), now=now)
        del self.integrations[unique_key]

    def put_key(self, key: ApiKey) -> ApiKey:
        self.version += 1
        self.keys[key.key] = key
        return key

    def delete_keys(self) -> int:
        self.version += 1
        count = len(self.keys)
        self.keys.clear()
        return count

    def put_signing_key(self, key: str) -> None:
        self.version += 1
        self.signing_key = key

    def begin_authorization(self, state: str, authorization: Authorization, *, now: datetime) -> None:
        live = {key: kept for key, kept in self._authorizations.items() if kept.session.expires_at > now}
        self._authorizations = {**live, state: authorization}

    def end_authorization(self, state: str) -> Authorization | None:
        """The flow that began under this state; it can be taken once."""
        return self._authorizations.pop(state, None)

    def put_session(self, session: SandboxSession, *, now: datetime) -> SandboxSession:
        self.version += 1
        self._drop_expired_sessions(now)
        self._sessions[session.token] = session
        return session

    def session(self, token: str, *, now: datetime) -> SandboxSession | None:
        """A live session. A successful connect does not use it up (Nango contract: Connect sessions)."""
        session = self._sessions.get(token)
        return session if session and session.expires_at > now else None

    def delete_session(self, session: SandboxSession) -> None:
        self.version += 1
        del self._sessions[session.token]

    def _drop_expired_sessions(self, now: datetime) -> None:
        """All sessions live equally long, so the oldest are first."""
        while (oldest := next(iter(self._sessions.values()), None)) and oldest.expires_at <= now:
            del self._sessions[oldest.token]

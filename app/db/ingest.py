"""Statements of ingest: a batch of deliveries in one statement (on SQLite three), whatever its size.

They go to the driver directly. SQLAlchemy would compile a multi-row VALUES again for every batch size; on PostgreSQL
the arrays are binary, which costs a third of the CPU of their text form. docs/benchmarks.md has the figures.

A key must not occur twice in a batch: PostgreSQL refuses that in an upsert (21000). Rows are sorted by key against
deadlocks between processes. The database decides on duplicates, by the first receipt; storing the same deliveries
again, after a commit with an unknown result, changes nothing.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import chain
from operator import attrgetter
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, text
from sqlalchemy.orm import Session

from app.db.async_statements import (
    BYTES,
    SMALL_INTEGERS,
    TEXTS,
    TIMES,
    UUIDS,
    LoopConnection,
    Statement,
    array,
    moment,
    open_connection,
)
from app.db.engine import Database
from app.domain.states import EventState, Origin

DeliveryKey = tuple[str, bytes]  # environment, fingerprint

NO_PROCESS: Final = UUID(int=0)  # in place of an unknown web process


class NewDelivery(NamedTuple):
    """A verified delivery to store. event_id: its own id, which becomes the event's if it is new.

    taken_by: the web process that received it. traceparent: the trace that it belongs to. signing_key: the number of
    the key that verified it, in the order of the environment's live keys.
    """

    event_id: UUID
    environment: str
    fingerprint: bytes
    body: bytes
    received_at: datetime
    taken_by: UUID = NO_PROCESS
    traceparent: str | None = None
    signing_key: int = 1


class KnownEvent(NamedTuple):
    """The event of a key with an open window, and the web process that received its first delivery."""

    event_id: UUID
    taken_by: UUID


class NewRepeat(NamedTuple):
    """A repeated delivery, with its event and the web processes that received the first delivery and this one."""

    event_id: UUID
    id: UUID
    first_by: UUID
    taken_by: UUID
    received_at: datetime
    traceparent: str | None = None


_sorted_key = attrgetter("environment", "fingerprint")
_NEW_EVENT: Final = f"'{Origin.WEBHOOK}', '{EventState.RECEIVED}', 0, 0, 0"
_FINISHED: Final = f"state <> '{EventState.RECEIVED}'"
# A finished event becomes due again, so that its connection is looked up once more.
_SEEN_AGAIN: Final = f"""
  state = '{EventState.RECEIVED}', failure = NULL,
  attempts = CASE WHEN {_FINISHED} THEN 0 ELSE attempts END,
  looks = CASE WHEN {_FINISHED} THEN 0 ELSE looks END
"""

_POSTGRESQL_STORE: Final = f"""
WITH input AS (
  SELECT * FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::timestamptz[], $5::bytea[], $8::text[], $9::int2[])
  AS input (id, environment, fingerprint, received_at, body, traceparent, signing_key)
), seen AS (
  INSERT INTO deliveries (environment, fingerprint, event_id, first_at, taken_by)
  SELECT environment, fingerprint, id, received_at, $7::uuid FROM input
  ON CONFLICT (environment, fingerprint) DO UPDATE SET
    event_id = CASE WHEN deliveries.first_at > $6::timestamptz THEN deliveries.event_id ELSE excluded.event_id END,
    first_at = CASE WHEN deliveries.first_at > $6::timestamptz THEN deliveries.first_at ELSE excluded.first_at END,
    taken_by = CASE WHEN deliveries.first_at > $6::timestamptz THEN deliveries.taken_by ELSE excluded.taken_by END
  RETURNING environment, fingerprint, event_id, taken_by
), stored AS (
  INSERT INTO events (id, environment, received_at, last_seen_at, next_at, body, traceparent, signing_key,
                      origin, state, duplicates, attempts, looks)
  SELECT input.id, input.environment, received_at, received_at, received_at, body, nullif(traceparent, ''),
         coalesce(signing_key, 1), {_NEW_EVENT}
  FROM input JOIN seen ON seen.event_id = input.id
  ON CONFLICT (id) DO NOTHING
)
SELECT seen.environment, seen.fingerprint, event_id, coalesce(taken_by, '{NO_PROCESS}')
FROM seen LEFT JOIN input ON input.id = event_id WHERE input.id IS NULL
"""  # noqa: S608 - only constants of this module
_POSTGRESQL_REPEAT: Final = f"""
WITH input AS (
  SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::timestamptz[], $7::text[]) WITH ORDINALITY
  AS input (event_id, id, first_by, taken_by, received_at, traceparent, place)
), counted AS (
  SELECT event_id, count(*) AS times FROM input GROUP BY event_id
), locked AS (
  SELECT events.id, times FROM events JOIN counted ON events.id = event_id ORDER BY events.id FOR UPDATE OF events
), again AS (
  UPDATE events SET duplicates = duplicates + times, last_seen_at = $6::timestamptz,
    next_at = CASE WHEN {_FINISHED} THEN $6::timestamptz ELSE next_at END, {_SEEN_AGAIN}
  FROM locked WHERE events.id = locked.id RETURNING events.id
)
INSERT INTO repeats (event_id, id, first_by, taken_by, received_at, traceparent)
SELECT event_id, input.id, first_by, taken_by, received_at, nullif(traceparent, '')
FROM input JOIN again ON again.id = event_id ORDER BY place
ON CONFLICT (id) DO NOTHING
"""  # noqa: S608 - only constants of this module

_SQLITE_KNOWN: Final = """
WITH input (environment, fingerprint) AS (VALUES {rows})
SELECT environment, fingerprint, event_id, taken_by FROM input JOIN deliveries USING (environment, fingerprint)
WHERE first_at > ?
"""
_SQLITE_SEEN: Final = """
INSERT INTO deliveries (environment, fingerprint, event_id, first_at, taken_by) VALUES {rows}
ON CONFLICT (environment, fingerprint)
DO UPDATE SET event_id = excluded.event_id, first_at = excluded.first_at, taken_by = excluded.taken_by
"""
_SQLITE_STORED: Final = """
INSERT INTO events (id, environment, received_at, last_seen_at, next_at, body, traceparent, signing_key,
                    origin, state, duplicates, attempts, looks) VALUES {rows}
ON CONFLICT (id) DO NOTHING
"""
_SQLITE_REPEAT: Final = f"""
UPDATE events SET duplicates = duplicates + ?1, last_seen_at = ?2,
  next_at = CASE WHEN {_FINISHED} THEN ?2 ELSE next_at END, {_SEEN_AGAIN}
WHERE id = ?3
"""  # noqa: S608 - only constants of this module
_SQLITE_NEW_REPEAT: Final = """
INSERT INTO repeats (event_id, id, first_by, taken_by, received_at, traceparent) VALUES (?,?,?,?,?,?)
ON CONFLICT (id) DO NOTHING
"""


# A write that changes nothing: a read-only server, a full disk or a lock refuses it.
_PROBE: Final = "UPDATE alembic_version SET version_num = version_num"


class PostgresStore:
    """The statements on a connection of the event loop: one round trip each, without threads, in autocommit."""

    def __init__(self, connection: LoopConnection) -> None:
        self.connection = connection
        self._store = Statement(connection, b"waylink_store", _POSTGRESQL_STORE.encode())
        self._repeat = Statement(connection, b"waylink_repeat", _POSTGRESQL_REPEAT.encode())
        self._probe = Statement(connection, b"waylink_probe", _PROBE.encode())

    @classmethod
    async def connect(cls, database: Database) -> "PostgresStore":
        """Open a connection. Raises psycopg.Error."""
        # A stopped worker may hold a duplicate's row, for which the commit's other deliveries must not wait.
        options = f"{database.driver_arguments['options']} -c lock_timeout=1s"
        return cls(await open_connection({**database.driver_arguments, "options": options}))

    @property
    def is_lost(self) -> bool:
        """Whether the connection has ended."""
        return self.connection.lost is not None

    def close(self) -> None:
        """Close the connection at once, in any state."""
        self.connection.close()

    async def store(self, deliveries: Sequence[NewDelivery], *, cutoff: datetime) -> dict[DeliveryKey, KnownEvent]:
        """Store deliveries of one web process. Returns the known events of keys with an open window.

        cutoff: a window is open if its first delivery is newer. Raises psycopg.Error.
        """
        ids, environments, fingerprints, bodies, times, takers, traces, keys = zip(
            *sorted(deliveries, key=_sorted_key), strict=True
        )
        answer = await self._store.run(
            array(UUIDS, [event_id.bytes for event_id in ids]),
            array(TEXTS, [environment.encode() for environment in environments]),
            array(BYTES, fingerprints),
            array(TIMES, [moment(received_at) for received_at in times]),
            array(BYTES, bodies),
            moment(cutoff),
            takers[0].bytes,
            _texts(traces),
            _numbers(keys),
        )
        return {
            (environment.decode(), fingerprint): KnownEvent(UUID(bytes=event_id), UUID(bytes=taken_by))
            for environment, fingerprint, event_id, taken_by in answer
        }

    async def repeat(self, repeated: Sequence[NewRepeat], *, now: datetime) -> None:
        """Add repeats in their order, and make their events due. Raises psycopg.Error."""
        event_ids, ids, firsts, takers, times, traces = zip(*repeated, strict=True)
        columns = [array(UUIDS, [value.bytes for value in column]) for column in (event_ids, ids, firsts, takers)]
        received = array(TIMES, [moment(received_at) for received_at in times])
        await self._repeat.run(*columns, received, moment(now), _texts(traces))

    async def probe(self) -> None:
        """Commit a write that changes nothing. Raises psycopg.Error."""
        await self._probe.run()


def store(session: Session, deliveries: Sequence[NewDelivery], *, cutoff: datetime) -> dict[DeliveryKey, KnownEvent]:
    """The same as PostgresStore.store on SQLite, in the session's transaction."""
    return _store_sqlite(_cursor(session.connection()), sorted(deliveries, key=_sorted_key), cutoff)


def probe(session: Session) -> None:
    """Execute a write that changes nothing, on SQLite."""
    session.execute(text(_PROBE))


def repeat(session: Session, repeated: Sequence[NewRepeat], *, now: datetime) -> None:
    """Add repeats in their order, and make their events due, on SQLite."""
    cursor, times = _cursor(session.connection()), Counter(new.event_id for new in repeated)
    cursor.executemany(_SQLITE_REPEAT, [(count, _text(now), event_id.hex) for event_id, count in times.items()])
    rows = [(*(column.hex for column in new[:4]), _text(new.received_at), new.traceparent) for new in repeated]
    cursor.executemany(_SQLITE_NEW_REPEAT, rows)


def _texts(values: Sequence[str | None]) -> bytes:
    """An array with empty texts in place of None. An array of None alone is empty: `unnest` fills it up with nulls."""
    return array(TEXTS, [(value or "").encode() for value in values] if any(values) else [])


def _numbers(keys: Sequence[int]) -> bytes:
    """An array of the keys' numbers. Where all are 1, as nearly always, an empty one: `unnest` fills it with nulls."""
    return array(SMALL_INTEGERS, [key.to_bytes(2, signed=True) for key in keys] if max(keys) > 1 else [])


def _cursor(connection: Connection) -> Any:
    return connection.connection.cursor()


def _store_sqlite(cursor: Any, rows: Sequence[NewDelivery], cutoff: datetime) -> dict[DeliveryKey, KnownEvent]:
    """Three statements under the write lock: known events, windows, new events.

    Few statements, because the driver releases Python's lock at each one, and the event loop competes for it.
    """
    rows = _filled_up(rows)
    pairs = chain.from_iterable((row.environment, row.fingerprint) for row in rows)
    cursor.execute(_statement(_SQLITE_KNOWN, "(?,?)", len(rows)), [*pairs, _text(cutoff)])
    known = {
        (environment, fingerprint): KnownEvent(UUID(event_id), UUID(taken_by) if taken_by else NO_PROCESS)
        for environment, fingerprint, event_id, taken_by in cursor
    }
    fresh = _filled_up([row for row in rows if (row.environment, row.fingerprint) not in known])
    if fresh:
        taken_by = fresh[0].taken_by.hex
        windows = chain.from_iterable(
            (row.environment, row.fingerprint, row.event_id.hex, _text(row.received_at), taken_by) for row in fresh
        )
        cursor.execute(_statement(_SQLITE_SEEN, "(?,?,?,?,?)", len(fresh)), list(windows))
        events = chain.from_iterable(
            (
                row.event_id.hex,
                row.environment,
                at := _text(row.received_at),
                at,
                at,
                row.body,
                row.traceparent,
                row.signing_key,
            )
            for row in fresh
        )
        cursor.execute(_statement(_SQLITE_STORED, f"(?,?,?,?,?,?,?,?,{_NEW_EVENT})", len(fresh)), list(events))
    return {
        (row.environment, row.fingerprint): event
        for row in rows
        if (event := known.get((row.environment, row.fingerprint))) and event.event_id != row.event_id
    }


def _filled_up(rows: Sequence[NewDelivery]) -> Sequence[NewDelivery]:
    """The rows, filled up to a multiple of eight with the last one, which changes nothing.

    This bounds the number of different statements, so that the driver's cache holds them all.
    """
    return [*rows, *[rows[-1]] * (-len(rows) % 8)] if rows else rows


def _statement(template: str, row: str, count: int) -> str:
    return template.format(rows=",".join([row] * count))


def _text(moment: datetime) -> str:
    """A point in time as SQLAlchemy writes it on SQLite."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")

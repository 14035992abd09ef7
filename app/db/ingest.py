"""The one hot write: a batch of deliveries, stored in one statement (on SQLite three) whatever its size.

Straight to the driver on both databases. Through SQLAlchemy a multi-row VALUES is compiled anew for every batch size;
on PostgreSQL the arrays go in binary, which cost a third of the CPU of their text form: docs/benchmarks.md has figures.

Deliveries are stored once each. The same key must not occur twice in a batch: PostgreSQL refuses that in one upsert
(21000). They are taken in sorted order, or two processes could deadlock. The database decides about duplicates, by the
first receipt; storing the same deliveries again, because nobody knows whether the first commit succeeded, changes
nothing.
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

Key = tuple[str, bytes]  # environment, fingerprint


NO_PROCESS: Final = UUID(int=0)  # instead of a web process that nothing is known of


class NewDelivery(NamedTuple):
    """A verified request, ready to be stored. `event_id` is its own, and the event's if it turns out to be a new one.

    taken_by: the web process.
    """

    event_id: UUID
    environment: str
    fingerprint: bytes
    body: bytes
    received_at: datetime
    taken_by: UUID = NO_PROCESS


class Known(NamedTuple):
    """The event of a key whose window is open, and the web process that took its first delivery."""

    event_id: UUID
    taken_by: UUID


class Repeated(NamedTuple):
    """A delivery of bytes that came before: its own id, that of the event, and the web processes that took the two."""

    event_id: UUID
    id: UUID
    first_by: UUID
    taken_by: UUID
    received_at: datetime


_sorted_key = attrgetter("environment", "fingerprint")
_NEW_EVENT: Final = f"'{Origin.WEBHOOK}', '{EventState.RECEIVED}', 0, 0, 0"
_SETTLED: Final = f"state <> '{EventState.RECEIVED}'"
# A settled event becomes due again, so that its connection is looked at once more.
_SEEN_AGAIN: Final = f"""
  state = '{EventState.RECEIVED}', failure = NULL,
  attempts = CASE WHEN {_SETTLED} THEN 0 ELSE attempts END,
  looks = CASE WHEN {_SETTLED} THEN 0 ELSE looks END
"""

_POSTGRESQL_STORE: Final = f"""
WITH input AS (
  SELECT * FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::timestamptz[], $5::bytea[])
  AS input (id, environment, fingerprint, received_at, body)
), seen AS (
  INSERT INTO deliveries (environment, fingerprint, event_id, first_at, taken_by)
  SELECT environment, fingerprint, id, received_at, $7::uuid FROM input
  ON CONFLICT (environment, fingerprint) DO UPDATE SET
    event_id = CASE WHEN deliveries.first_at > $6::timestamptz THEN deliveries.event_id ELSE excluded.event_id END,
    first_at = CASE WHEN deliveries.first_at > $6::timestamptz THEN deliveries.first_at ELSE excluded.first_at END,
    taken_by = CASE WHEN deliveries.first_at > $6::timestamptz THEN deliveries.taken_by ELSE excluded.taken_by END
  RETURNING environment, fingerprint, event_id, taken_by
), stored AS (
  INSERT INTO events (id, environment, received_at, last_seen_at, next_at, body,
                      origin, state, duplicates, attempts, looks)
  SELECT input.id, input.environment, received_at, received_at, received_at, body, {_NEW_EVENT}
  FROM input JOIN seen ON seen.event_id = input.id
  ON CONFLICT (id) DO NOTHING
)
SELECT seen.environment, seen.fingerprint, event_id, coalesce(taken_by, '{NO_PROCESS}')
FROM seen LEFT JOIN input ON input.id = event_id WHERE input.id IS NULL
"""  # noqa: S608 - nothing but constants of ours is put in
_POSTGRESQL_REPEAT: Final = f"""
WITH input AS (
  SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::timestamptz[]) WITH ORDINALITY
  AS input (event_id, id, first_by, taken_by, received_at, place)
), counted AS (
  SELECT event_id, count(*) AS times FROM input GROUP BY event_id
), locked AS (
  SELECT events.id, times FROM events JOIN counted ON events.id = event_id ORDER BY events.id FOR UPDATE OF events
), again AS (
  UPDATE events SET duplicates = duplicates + times, last_seen_at = $6::timestamptz,
    next_at = CASE WHEN {_SETTLED} THEN $6::timestamptz ELSE next_at END, {_SEEN_AGAIN}
  FROM locked WHERE events.id = locked.id RETURNING events.id
)
INSERT INTO repeats (event_id, id, first_by, taken_by, received_at)
SELECT event_id, input.id, first_by, taken_by, received_at FROM input JOIN again ON again.id = event_id ORDER BY place
ON CONFLICT (id) DO NOTHING
"""  # noqa: S608 - nothing but constants of ours is put in

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
INSERT INTO events (id, environment, received_at, last_seen_at, next_at, body,
                    origin, state, duplicates, attempts, looks) VALUES {rows}
ON CONFLICT (id) DO NOTHING
"""
_SQLITE_REPEAT: Final = f"""
UPDATE events SET duplicates = duplicates + ?1, last_seen_at = ?2,
  next_at = CASE WHEN {_SETTLED} THEN ?2 ELSE next_at END, {_SEEN_AGAIN}
WHERE id = ?3
"""  # noqa: S608 - nothing but constants of ours is put in
_SQLITE_REPEATED: Final = """
INSERT INTO repeats (event_id, id, first_by, taken_by, received_at) VALUES (?,?,?,?,?) ON CONFLICT (id) DO NOTHING
"""


# A real write and commit that changes nothing: a server that is read-only, a full disk or a lock refuses it.
_PROBE: Final = "UPDATE alembic_version SET version_num = version_num"


class PostgresStore:
    """The statements on one connection, for the event loop: one round trip each, no thread, committed at once."""

    def __init__(self, connection: LoopConnection) -> None:
        self.connection = connection
        self._store = Statement(connection, b"waylink_store", _POSTGRESQL_STORE.encode())
        self._repeat = Statement(connection, b"waylink_repeat", _POSTGRESQL_REPEAT.encode())
        self._probe = Statement(connection, b"waylink_probe", _PROBE.encode())

    @classmethod
    async def connect(cls, database: Database) -> "PostgresStore":
        """On a connection of its own. Raises psycopg.Error."""
        # A worker that stands still may hold a duplicate's row; the others of a commit do not wait for it.
        options = f"{database.driver_arguments['options']} -c lock_timeout=1s"
        return cls(await open_connection({**database.driver_arguments, "options": options}))

    @property
    def is_lost(self) -> bool:
        """Whether the connection has ended, so that another one is needed."""
        return self.connection.lost is not None

    def close(self) -> None:
        """At once, whatever the state of the connection."""
        self.connection.close()

    async def store(self, deliveries: Sequence[NewDelivery], *, cutoff: datetime) -> dict[Key, Known]:
        """Answers the events that were there before, for those whose window is still open. Raises psycopg.Error.

        All deliveries were taken by one process.
        """
        ids, environments, fingerprints, bodies, times, takers = zip(*sorted(deliveries, key=_sorted_key), strict=True)
        answer = await self._store.run(
            array(UUIDS, [one.bytes for one in ids]),
            array(TEXTS, [one.encode() for one in environments]),
            array(BYTES, fingerprints),
            array(TIMES, [moment(one) for one in times]),
            array(BYTES, bodies),
            moment(cutoff),
            takers[0].bytes,
        )
        return {
            (environment.decode(), fingerprint): Known(UUID(bytes=found), UUID(bytes=taken_by))
            for environment, fingerprint, found, taken_by in answer
        }

    async def repeat(self, repeated: Sequence[Repeated], *, now: datetime) -> None:
        """Note repeated deliveries, in their order."""
        event_ids, ids, firsts, takers, times = zip(*repeated, strict=True)
        ours = [array(UUIDS, [one.bytes for one in column]) for column in (event_ids, ids, firsts, takers)]
        await self._repeat.run(*ours, array(TIMES, [moment(one) for one in times]), moment(now))

    async def probe(self) -> None:
        """Commit a write that changes nothing. Raises psycopg.Error."""
        await self._probe.run()


def store(session: Session, deliveries: Sequence[NewDelivery], *, cutoff: datetime) -> dict[Key, Known]:
    """The same on SQLite, in the session's transaction."""
    return _store_sqlite(_cursor(session.connection()), sorted(deliveries, key=_sorted_key), cutoff)


def probe(session: Session) -> None:
    """Write what changes nothing, on SQLite."""
    session.execute(text(_PROBE))


def repeat(session: Session, repeated: Sequence[Repeated], *, now: datetime) -> None:
    """Note repeated deliveries, in their order, on SQLite."""
    cursor, times = _cursor(session.connection()), Counter(one.event_id for one in repeated)
    cursor.executemany(_SQLITE_REPEAT, [(count, _text(now), event_id.hex) for event_id, count in times.items()])
    rows = [(*(column.hex for column in one[:4]), _text(one.received_at)) for one in repeated]
    cursor.executemany(_SQLITE_REPEATED, rows)


def _cursor(connection: Connection) -> Any:
    return connection.connection.cursor()


def _store_sqlite(cursor: Any, rows: Sequence[NewDelivery], cutoff: datetime) -> dict[Key, Known]:
    """Three statements under the write lock, however many rows: what is known, the windows, the events.

    Python's lock is handed over and taken back at every step of the driver, and the event loop wants it too.
    """
    rows = _filled_up(rows)
    pairs = chain.from_iterable((one.environment, one.fingerprint) for one in rows)
    cursor.execute(_statement(_SQLITE_KNOWN, "(?,?)", len(rows)), [*pairs, _text(cutoff)])
    known = {
        (environment, fingerprint): Known(UUID(found), UUID(taken_by) if taken_by else NO_PROCESS)
        for environment, fingerprint, found, taken_by in cursor
    }
    fresh = _filled_up([one for one in rows if (one.environment, one.fingerprint) not in known])
    if fresh:
        taken_by = fresh[0].taken_by.hex
        windows = chain.from_iterable(
            (one.environment, one.fingerprint, one.event_id.hex, _text(one.received_at), taken_by) for one in fresh
        )
        cursor.execute(_statement(_SQLITE_SEEN, "(?,?,?,?,?)", len(fresh)), list(windows))
        events = chain.from_iterable(
            (one.event_id.hex, one.environment, at := _text(one.received_at), at, at, one.body) for one in fresh
        )
        cursor.execute(_statement(_SQLITE_STORED, f"(?,?,?,?,?,?,{_NEW_EVENT})", len(fresh)), list(events))
    return {
        (one.environment, one.fingerprint): found
        for one in rows
        if (found := known.get((one.environment, one.fingerprint))) and found.event_id != one.event_id
    }


def _filled_up(rows: Sequence[NewDelivery]) -> Sequence[NewDelivery]:
    """Up to a multiple of eight, by storing the last one again, which changes nothing.

    So there are few different statements, and the driver's cache holds them all.
    """
    return [*rows, *[rows[-1]] * (-len(rows) % 8)] if rows else rows


def _statement(template: str, row: str, count: int) -> str:
    return template.format(rows=",".join([row] * count))


def _text(moment: datetime) -> str:
    """A point in time as SQLAlchemy writes it on SQLite."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")

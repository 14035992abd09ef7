"""The one hot write: a batch of deliveries, stored in one statement.

Straight to the driver on both databases. Measured against the same upsert through SQLAlchemy, whose multi-row VALUES
are compiled anew for every batch size: ARCHITECTURE.md has the figures.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from app.domain.states import EventState, Origin


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """A verified request, ready to be stored. `event_id` is used if it turns out to be a new event."""

    event_id: UUID
    environment: str
    fingerprint: bytes
    body: bytes
    received_at: datetime


_WINDOW: Final = """
  event_id = CASE WHEN deliveries.first_at > {cutoff} THEN deliveries.event_id ELSE excluded.event_id END,
  first_at = CASE WHEN deliveries.first_at > {cutoff} THEN deliveries.first_at ELSE excluded.first_at END
"""
_NEW_EVENT: Final = f"'{Origin.WEBHOOK}', '{EventState.RECEIVED}', 0, 0, 0"

_POSTGRESQL: Final = f"""
WITH input AS (
  SELECT * FROM unnest(
    %(ids)s::uuid[], %(environments)s::text[], %(fingerprints)s::bytea[], %(times)s::timestamptz[], %(bodies)s::bytea[]
  ) AS input (id, environment, fingerprint, received_at, body)
), seen AS (
  INSERT INTO deliveries (environment, fingerprint, event_id, first_at)
  SELECT environment, fingerprint, id, received_at FROM input ORDER BY environment, fingerprint
  ON CONFLICT (environment, fingerprint) DO UPDATE SET {_WINDOW.format(cutoff="%(cutoff)s")}
  RETURNING environment, fingerprint, event_id
), stored AS (
  INSERT INTO events (id, environment, received_at, last_seen_at, next_at, body,
                      origin, state, duplicates, attempts, looks)
  SELECT input.id, input.environment, received_at, received_at, received_at, body, {_NEW_EVENT}
  FROM input JOIN seen ON seen.event_id = input.id
)
SELECT environment, fingerprint, event_id FROM seen
"""  # noqa: S608 - nothing but constants of ours is put in

_SQLITE_SEEN: Final = f"""
INSERT INTO deliveries (environment, fingerprint, event_id, first_at) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (environment, fingerprint) DO UPDATE SET {_WINDOW.format(cutoff="?5")}
RETURNING event_id
"""  # noqa: S608 - nothing but constants of ours is put in
_SQLITE_STORED: Final = f"""
INSERT INTO events (id, environment, received_at, last_seen_at, next_at, body,
                    origin, state, duplicates, attempts, looks)
VALUES (?1, ?2, ?3, ?3, ?3, ?4, {_NEW_EVENT})
"""  # noqa: S608 - nothing but constants of ours is put in


def store(session: Session, deliveries: Sequence[NewDelivery], *, window: timedelta, now: datetime) -> list[UUID]:
    """Store each delivery once; answer the event id of each, in order.

    The same keys must not occur twice in `deliveries`: PostgreSQL refuses that in one upsert (21000). They are taken
    in sorted order, or two processes could deadlock. The database decides about duplicates, by the first receipt.
    """
    connection = session.connection()
    rows = sorted(deliveries, key=lambda one: (one.environment, one.fingerprint))
    write = _write_postgresql if connection.dialect.name == "postgresql" else _write_sqlite
    known = write(connection, rows, now - window)
    return [known[one.environment, one.fingerprint] for one in deliveries]


def _write_postgresql(
    connection: Connection, rows: Sequence[NewDelivery], cutoff: datetime
) -> dict[tuple[str, bytes], UUID]:
    answers = connection.exec_driver_sql(
        _POSTGRESQL,
        {
            "ids": [one.event_id for one in rows],
            "environments": [one.environment for one in rows],
            "fingerprints": [one.fingerprint for one in rows],
            "times": [one.received_at for one in rows],
            "bodies": [one.body for one in rows],
            "cutoff": cutoff,
        },
    )
    return {(environment, bytes(fingerprint)): event_id for environment, fingerprint, event_id in answers}


def _write_sqlite(
    connection: Connection, rows: Sequence[NewDelivery], cutoff: datetime
) -> dict[tuple[str, bytes], UUID]:
    cursor: Any = connection.connection.cursor()
    try:
        known = {}
        for one in rows:
            values = (one.environment, one.fingerprint, one.event_id.hex, _text(one.received_at), _text(cutoff))
            known[one.environment, one.fingerprint] = UUID(cursor.execute(_SQLITE_SEEN, values).fetchone()[0])
        fresh = [one for one in rows if known[one.environment, one.fingerprint] == one.event_id]
        cursor.executemany(
            _SQLITE_STORED, [(one.event_id.hex, one.environment, _text(one.received_at), one.body) for one in fresh]
        )
    finally:
        cursor.close()
    return known


def _text(moment: datetime) -> str:
    """A point in time as SQLAlchemy writes it on SQLite."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")

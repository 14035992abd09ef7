"""Store verified deliveries, each once."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sqlalchemy.orm import Session

from app.db import ingest
from app.db.ingest import Key, Known, NewDelivery, PostgresStore, Repeated


class Receipt(NamedTuple):
    """What a stored delivery is answered with. `duplicate` means that the event was there before."""

    event_id: UUID
    duplicate: bool


def store(session: Session, deliveries: Sequence[NewDelivery], *, window: timedelta, now: datetime) -> list[Receipt]:
    """Store all in one transaction of SQLite's; answer each, in order (promise 4)."""
    first = _first_of_each(deliveries)
    known = ingest.store(session, list(first.values()), cutoff=now - window)
    receipts = _receipts(deliveries, first, known)
    if repeated := _repeated(deliveries, receipts, known):
        ingest.repeat(session, repeated, now=now)
    return receipts


async def store_at_once(
    database: PostgresStore, deliveries: Sequence[NewDelivery], *, window: timedelta, now: datetime
) -> list[Receipt]:
    """The same on PostgreSQL from the event loop.

    Duplicates are counted in a commit of their own. Nobody is answered before both, so a crash in between makes the
    sender repeat what was not counted yet.
    """
    first = _first_of_each(deliveries)
    known = await database.store(list(first.values()), cutoff=now - window)
    receipts = _receipts(deliveries, first, known)
    if repeated := _repeated(deliveries, receipts, known):
        await database.repeat(repeated, now=now)
    return receipts


def _first_of_each(deliveries: Sequence[NewDelivery]) -> dict[Key, NewDelivery]:
    """Equal deliveries are collapsed: one upsert may not touch a row twice."""
    first: dict[Key, NewDelivery] = {}
    for one in deliveries:
        first.setdefault((one.environment, one.fingerprint), one)
    return first


def _receipts(
    deliveries: Sequence[NewDelivery], first: Mapping[Key, NewDelivery], known: Mapping[Key, Known]
) -> list[Receipt]:
    if not known and len(first) == len(deliveries):
        return [Receipt(one.event_id, False) for one in deliveries]
    stored = {key: known[key].event_id if key in known else one.event_id for key, one in first.items()}
    receipts = []
    for one in deliveries:
        event_id = stored[one.environment, one.fingerprint]
        receipts.append(Receipt(event_id, event_id != one.event_id))
    return receipts


def _repeated(
    deliveries: Sequence[NewDelivery], receipts: Sequence[Receipt], known: Mapping[Key, Known]
) -> list[Repeated]:
    """Those that came before, in order. Of each a worker decides whether it is an event of its own."""
    return [
        Repeated(receipt.event_id, one.event_id, _first_by(one, known), one.taken_by, one.received_at)
        for one, receipt in zip(deliveries, receipts, strict=True)
        if receipt.duplicate
    ]


def _first_by(one: NewDelivery, known: Mapping[Key, Known]) -> UUID:
    """Who took the first of its bytes. Where that is none that is known, it came in the same batch."""
    first = known.get((one.environment, one.fingerprint))
    return first.taken_by if first else one.taken_by

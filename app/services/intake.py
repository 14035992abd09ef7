"""Store verified deliveries, each once."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sqlalchemy.orm import Session

from app.db import storing
from app.db.storing import Key, NewDelivery, PostgresStore


class Receipt(NamedTuple):
    """What a stored delivery is answered with. `duplicate` means that the event was there before."""

    event_id: UUID
    duplicate: bool


def store(session: Session, deliveries: Sequence[NewDelivery], *, window: timedelta, now: datetime) -> list[Receipt]:
    """Store all in one transaction of SQLite's; answer each, in order (promise 4)."""
    first = _first_of_each(deliveries)
    known = storing.store(session, list(first.values()), cutoff=now - window)
    receipts = _receipts(deliveries, first, known)
    if repeats := _repeats(receipts):
        storing.repeat(session, repeats, now=now)
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
    if repeats := _repeats(receipts):
        await database.repeat(repeats, now=now)
    return receipts


def _first_of_each(deliveries: Sequence[NewDelivery]) -> dict[Key, NewDelivery]:
    """Equal deliveries are collapsed: one upsert may not touch a row twice."""
    first: dict[Key, NewDelivery] = {}
    for one in deliveries:
        first.setdefault((one.environment, one.fingerprint), one)
    return first


def _receipts(
    deliveries: Sequence[NewDelivery], first: Mapping[Key, NewDelivery], known: Mapping[Key, UUID]
) -> list[Receipt]:
    if not known and len(first) == len(deliveries):
        return [Receipt(one.event_id, False) for one in deliveries]
    stored = {key: known.get(key, one.event_id) for key, one in first.items()}
    receipts = []
    for one in deliveries:
        event_id = stored[one.environment, one.fingerprint]
        receipts.append(Receipt(event_id, event_id != one.event_id))
    return receipts


def _repeats(receipts: Sequence[Receipt]) -> Counter[UUID]:
    return Counter(receipt.event_id for receipt in receipts if receipt.duplicate)

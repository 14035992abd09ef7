"""Store verified deliveries, each once."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.orm import Session

from app.db import events as event_rows
from app.db.storing import NewDelivery
from app.db.storing import store as write


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a stored delivery is answered with. `duplicate` means that the event was there before."""

    event_id: UUID
    duplicate: bool


def store(session: Session, deliveries: Sequence[NewDelivery], *, window: timedelta, now: datetime) -> list[Receipt]:
    """Store all in one insert; answer each, in order (promise 4).

    Equal deliveries within the call are collapsed first: one upsert may not touch a row twice.
    """
    first: dict[tuple[str, bytes], NewDelivery] = {}
    for one in deliveries:
        first.setdefault((one.environment, one.fingerprint), one)
    distinct = list(first.values())
    stored = write(session, distinct, window=window, now=now)
    ids = {(one.environment, one.fingerprint): event_id for one, event_id in zip(distinct, stored, strict=True)}
    receipts = []
    repeats: dict[UUID, int] = {}
    for one in deliveries:
        event_id = ids[one.environment, one.fingerprint]
        duplicate = one.event_id != event_id
        receipts.append(Receipt(event_id, duplicate))
        if duplicate:
            repeats[event_id] = repeats.get(event_id, 0) + 1
    event_rows.count_duplicates(session, list(repeats.items()), now=now)
    return receipts

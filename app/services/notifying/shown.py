"""Channels and what they were told, as lists show them: no address and no secret is among it."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy.orm import Session

from app.db import notifications as rows
from app.db.models import NotificationChannel
from app.db.notifications import ListedCheck
from app.domain.notifying import Channel
from app.domain.status import Level


def channels(session: Session, configured: Sequence[Channel]) -> list[dict[str, Any]]:
    """A row for each configured channel, with the checks that it knows of."""
    stored, checks = rows.channels(session), rows.listed(session)
    return [
        _channel(channel, stored.get(channel.name), [one for one in checks if one.channel == channel.name])
        for channel in configured
    ]


def _channel(channel: Channel, row: NotificationChannel | None, checks: Sequence[ListedCheck]) -> dict[str, Any]:
    state = "not_usable" if channel.fault else "failing" if row is not None and row.failures else "working"
    sent_at = row.sent_at if row is not None else None
    return {
        "channel": channel.name,
        "kind": str(channel.kind),
        "state": state,
        "problem": channel.fault or (row.error if row is not None else None),
        "failures": row.failures if row is not None else 0,
        "sent_at": sent_at.isoformat() if sent_at else None,
        "under_way": row is not None and row.message_id is not None,
        "levels": sorted(map(str, channel.rules.levels)),
        "after_seconds": round(channel.rules.after.total_seconds()),
        "checks": [_check(one) for one in checks],
    }


def _check(listed: ListedCheck) -> dict[str, Any]:
    known = listed.watched
    return {
        "id": known.id,
        "level": str(known.level),
        "since": known.since.isoformat(),
        "well_since": known.well_since.isoformat() if known.well_since else None,
        "told": str(known.told) if isinstance(known.told, Level) else None,
        "cause": known.cause,
    }

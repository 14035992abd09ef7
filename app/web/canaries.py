"""Canaries, one per installation and period: begun by the web process that finds one due, and stored like a webhook."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from app.db import canary as rows
from app.db.engine import Database
from app.db.ingest import NewDelivery
from app.domain import canary
from app.domain.signature import fingerprint
from app.services.events.intake import Receipt
from app.services.liveness.reporter import EVERY_SECONDS
from app.web.group_commit import GroupCommit, StoreUnavailable

# Reports come this far apart, and a canary that is due a moment after one would wait for the next.
_SLACK: Final = timedelta(seconds=EVERY_SECONDS / 2)


def _stored(_receipt: Receipt | None) -> None: ...


@dataclass(slots=True)
class Canaries:
    """Begun after the process's report, in a transaction of their own, and stored after it. every: zero begins none."""

    database: Database
    store: GroupCommit
    every: timedelta
    clock: Callable[[], datetime]
    _loop: asyncio.AbstractEventLoop | None = field(default=None, init=False)

    def start(self) -> None:
        """Let canaries begin. To be called on the event loop."""
        self._loop = asyncio.get_running_loop()

    def stop(self) -> None:
        self._loop = None

    def begin(self, last: bool) -> None:
        """Begin a canary if one is due. last: the process stops, and begins none."""
        loop = self._loop
        if last or not self.every or loop is None:
            return
        with self.database.read() as session:
            if not rows.is_due(session, now=self.clock()):
                return
        with self.database.write(durable=False) as session:
            event_id = rows.begin(session, now=self.clock(), period=max(self.every - _SLACK, timedelta(0)))
        if event_id is not None:
            with suppress(RuntimeError):  # the loop is closed: another process begins another one
                loop.call_soon_threadsafe(self._take, event_id)

    def _take(self, event_id: UUID) -> None:
        identity = fingerprint(canary.ENVIRONMENT, event_id.bytes)
        delivery = NewDelivery(event_id, canary.ENVIRONMENT, identity, canary.BODY, self.clock())
        now = asyncio.get_running_loop().time()
        with suppress(StoreUnavailable):  # too many webhooks wait, and each of their commits shows as much
            self.store.take(delivery, _stored, now=now, arrived=now)

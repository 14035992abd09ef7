"""The audit's Nango: unique signed webhooks with some repeated, tried again as Nango tries them, and booked."""

import asyncio
import hashlib
import json
import random
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle, pairwise
from typing import Final

from bench.audit_ledger import Ledger, Sent
from bench.load import KEY, PATH, body
from bench.openloop import Sender, on_schedule, signed_request

RETRY_WAITS: Final = (1.5, 3.0)  # seconds; Nango's are 3 and 6 (Nango contract: Delivery and retries)
REAUTHORIZED, REPEATED, BURSTS = 0.15, 0.1, 0.2  # shares of the connections, of the webhooks, and of the seconds
SOON: Final = 2.0  # seconds within which a re-authorization or a repetition follows
USERS, ORGANIZATIONS = 97, 7  # few, so that concurrent batches meet at the same rows
TYPES: Final = {"creation": "connection.created", "override": "connection.reauthorized"}


@dataclass(frozen=True, slots=True)
class Webhook:
    """`at`: seconds since the start."""

    at: float
    body: bytes
    sent: Sent

    @property
    def digest(self) -> str:
        return digest(self.body)


@dataclass(slots=True)
class Traffic:
    """Answers to the webhooks sent. Times are on the loop's clock, in seconds."""

    started_at: float = 0.0
    answers: Counter[str] = field(default_factory=Counter)  # by status, or by the name of the error
    accepted_at: list[float] = field(default_factory=list)
    slowest: float = 0.0  # of the answers 202
    given_up: int = 0  # webhooks that were not acknowledged in any of their attempts

    @property
    def longest_gap(self) -> float:
        """The longest time without a 202."""
        return max((later - sooner for sooner, later in pairwise([self.started_at, *self.accepted_at])), default=0.0)


def webhooks(*, seed: int, seconds: float, rate: float) -> list[Webhook]:
    """New connections at `rate` per second, in order of time. In a burst, a whole second's come at its beginning."""
    chance = random.Random(seed)
    bursts = {second for second in range(int(seconds) + 1) if chance.random() < BURSTS}
    planned = []
    for number in range(int(seconds * rate)):
        at = number / rate
        at = float(int(at)) if int(at) in bursts else at
        connection_id = str(uuid.UUID(int=chance.getrandbits(128), version=4))
        planned.append(webhook(at, connection_id, number, "creation"))
        if chance.random() < REAUTHORIZED:
            planned.append(webhook(at + chance.uniform(0, SOON), connection_id, number, "override"))
    for repeated in [webhook for webhook in planned if chance.random() < REPEATED]:
        planned.append(
            Webhook(repeated.at + chance.choice((0.0, chance.uniform(0, SOON))), repeated.body, repeated.sent)
        )
    return sorted(planned, key=lambda webhook: webhook.at)


async def send(ports: Iterable[int], planned: Sequence[Webhook], ledger: Ledger) -> Traffic:
    """Send all at their times, to each port in turn; returns when the last one is acknowledged or given up."""
    ledger.sent |= {webhook.digest: webhook.sent for webhook in planned}
    senders, traffic = [Sender(port) for port in ports], Traffic(started_at=asyncio.get_running_loop().time())
    turns = cycle(senders)

    async def begin(number: int) -> None:
        if not await _deliver(turns, planned[number], ledger, traffic):
            traffic.given_up += 1

    await on_schedule([traffic.started_at + webhook.at for webhook in planned], begin)
    for sender in senders:
        sender.close()
    return traffic


def digest(body: bytes) -> str:
    """The ledger's key of a body: its SHA-256, in hex."""
    return hashlib.sha256(body).hexdigest()


async def _deliver(turns: Iterator[Sender], webhook: Webhook, ledger: Ledger, traffic: Traffic) -> bool:
    """As Nango does: again after a 5xx or a broken connection, never after anything else."""
    request = signed_request(webhook.body, path=PATH, key=KEY)
    for wait in (*RETRY_WAITS, None):
        status = await _attempt(next(turns), request, webhook, ledger, traffic)
        if status is not None and status < 500:
            return 200 <= status < 300
        if wait is not None:
            await asyncio.sleep(wait)
    return False


async def _attempt(sender: Sender, request: bytes, webhook: Webhook, ledger: Ledger, traffic: Traffic) -> int | None:
    """The answer's status, or None when there was none."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    try:
        answer = await sender.post(request)
    except OSError as failed:  # TimeoutError is one
        traffic.answers[type(failed).__name__] += 1
        return None
    traffic.answers[str(answer.status)] += 1
    if 200 <= answer.status < 300:
        ledger.acknowledged.add((json.loads(answer.body)["event_id"], webhook.digest))
        traffic.accepted_at.append(loop.time())
        traffic.slowest = max(traffic.slowest, loop.time() - begun)
    return answer.status


def webhook(at: float, connection_id: str, number: int, operation: str) -> Webhook:
    """Of one of USERS, by its number."""
    user, organization = f"user-{number % USERS}", f"organization-{number % ORGANIZATIONS}"
    tags = {"end_user_id": user, "end_user_email": f"{user}@acme.example", "organization_id": organization}
    return Webhook(at, body(connection_id, operation=operation, tags=tags), Sent(connection_id, TYPES[operation]))

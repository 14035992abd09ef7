"""Reachability of destinations: connect to all without sending, or send one signed job that is marked as a test."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec

from app.db.models import Destination
from app.domain.delivery_answer import DeliveryAnswer
from app.errors import BrokerUnavailable, InvalidInput, Unreachable, WaylinkError
from app.ids import JOB, new_id, show
from app.outbound.sending import HttpSender, HttpTarget
from app.services.definitions.team_brokers import OwnBrokers, place_of

AT_ONCE: Final = 16
TEST: Final = "waylink.test"  # the type of a test's event, and the name of its job and route


@dataclass(frozen=True, slots=True)
class DestinationCheck:
    """The result for one destination: `ok`, `note` (works, with a remark) or `bad`."""

    team: str
    name: str
    result: str
    detail: str


def reach(
    destinations: Sequence[Destination], own: OwnBrokers, sender: Callable[[], HttpSender]
) -> list[DestinationCheck]:
    """Connect to all destinations, in parallel: to endpoints up to the end of TLS, and to teams' own brokers."""
    over_http = [destination for destination in destinations if destination.kind == "http"]
    others = [destination for destination in destinations if destination.kind != "http"]
    with ThreadPoolExecutor(AT_ONCE) as threads:
        of_brokers = threads.map(lambda destination: _reach_broker(destination, own), others)
        found = [*asyncio.run(_reach_endpoints(over_http, sender)), *of_brokers]
    return sorted(found, key=lambda reached: (reached.team, reached.name))


def test_document(*, now: datetime) -> dict[str, Any]:
    """The body of a test job, with an event in which everything else is null."""
    names = (
        "environment",
        "integration",
        "provider",
        "auth_mode",
        "operation",
        "success",
        "confirmed",
        "connection_id",
    )
    nothing: dict[str, Any] = dict.fromkeys((*names, "user", "organization", "previous_owner", "error", "payload"))
    event = {"id": "evt_test", "type": TEST, "origin": "system", "occurred_at": now.isoformat(), "tags": {}, **nothing}
    route = {"name": TEST, "version": 0}
    job_id = show(JOB, new_id())
    return {"id": job_id, "name": TEST, "attempt": 1, "created_at": now.isoformat(), "route": route, "event": event}


async def send_test(sender: HttpSender, target: HttpTarget, *, now: datetime) -> DeliveryAnswer:
    """POST a signed test job, and close the sender."""
    document = test_document(now=now)
    try:
        return await sender.send(target, message_id=document["id"], body=msgspec.json.encode(document))
    finally:
        await sender.aclose()


async def _reach_endpoints(
    destinations: Sequence[Destination], make: Callable[[], HttpSender]
) -> list[DestinationCheck]:
    if not destinations:
        return []
    sender, limit = make(), asyncio.Semaphore(AT_ONCE)

    async def limited(destination: Destination) -> DestinationCheck:
        async with limit:
            return await _reach_endpoint(destination, sender)

    try:
        return list(await asyncio.gather(*map(limited, destinations)))
    finally:
        await sender.aclose()


async def _reach_endpoint(destination: Destination, sender: HttpSender) -> DestinationCheck:
    url = destination.url or ""
    try:
        await sender.reach(url)
    except (Unreachable, InvalidInput) as failed:
        return DestinationCheck(destination.team, destination.name, "bad", f"{url}: {failed}")
    if url.startswith("https:"):
        return DestinationCheck(
            destination.team, destination.name, "ok", f"{url} takes connections, its certificate is trusted"
        )
    return DestinationCheck(
        destination.team, destination.name, "note", f"{url} takes connections, which are not encrypted"
    )


def _reach_broker(destination: Destination, own: OwnBrokers) -> DestinationCheck:
    if destination.broker_sealed is None:
        return DestinationCheck(
            destination.team, destination.name, "ok", f"queue {destination.queue} on the team broker"
        )
    where = f"queue {destination.queue} on {place_of(own.sealer, destination)}"
    try:
        broker = own.open(destination.broker_sealed, key=(destination.team, destination.name))
    except WaylinkError as refused:
        return DestinationCheck(destination.team, destination.name, "bad", f"{where}: {refused}")
    try:
        broker.ping()
    except BrokerUnavailable as away:
        return DestinationCheck(destination.team, destination.name, "bad", f"{where}: {away}")
    finally:
        broker.close()
    return DestinationCheck(destination.team, destination.name, "ok", f"{where}, which answers")

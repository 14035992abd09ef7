"""Is somebody there where jobs go? Connects and asks nothing; or sends one signed job that is marked as a test."""

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
TEST: Final = "waylink.test"  # the type of the event in a test, and the name of its job and route


@dataclass(frozen=True, slots=True)
class Reached:
    """Of one destination: `ok`, `note` (works, but know it) or `bad`."""

    team: str
    name: str
    result: str
    detail: str


def reach(destinations: Sequence[Destination], own: OwnBrokers, sender: Callable[[], HttpSender]) -> list[Reached]:
    """Try all of them, several at once: HTTP endpoints up to the end of TLS, and the brokers of teams' own."""
    over_http = [one for one in destinations if one.kind == "http"]
    others = [one for one in destinations if one.kind != "http"]
    with ThreadPoolExecutor(AT_ONCE) as threads:
        of_brokers = threads.map(lambda one: _reach_broker(one, own), others)
        found = [*asyncio.run(_reach_endpoints(over_http, sender)), *of_brokers]
    return sorted(found, key=lambda one: (one.team, one.name))


def test_document(*, now: datetime) -> dict[str, Any]:
    """A job as teams receive it, of an event that stands for nothing."""
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
    """Post a signed test, and close the sender."""
    document = test_document(now=now)
    try:
        return await sender.send(target, message_id=document["id"], body=msgspec.json.encode(document))
    finally:
        await sender.aclose()


async def _reach_endpoints(destinations: Sequence[Destination], make: Callable[[], HttpSender]) -> list[Reached]:
    if not destinations:
        return []
    sender, turns = make(), asyncio.Semaphore(AT_ONCE)

    async def one_by_one(one: Destination) -> Reached:
        async with turns:
            return await _reach_endpoint(one, sender)

    try:
        return list(await asyncio.gather(*map(one_by_one, destinations)))
    finally:
        await sender.aclose()


async def _reach_endpoint(one: Destination, sender: HttpSender) -> Reached:
    url = one.url or ""
    try:
        await sender.reach(url)
    except (Unreachable, InvalidInput) as failed:
        return Reached(one.team, one.name, "bad", f"{url}: {failed}")
    if url.startswith("https:"):
        return Reached(one.team, one.name, "ok", f"{url} takes connections, its certificate is trusted")
    return Reached(one.team, one.name, "note", f"{url} takes connections, which are not encrypted")


def _reach_broker(one: Destination, own: OwnBrokers) -> Reached:
    if one.broker_sealed is None:
        return Reached(one.team, one.name, "ok", f"queue {one.queue} on the team broker")
    where = f"queue {one.queue} on {place_of(own.sealer, one)}"
    try:
        broker = own.open(one.broker_sealed, key=(one.team, one.name))
    except WaylinkError as refused:
        return Reached(one.team, one.name, "bad", f"{where}: {refused}")
    try:
        broker.ping()
    except BrokerUnavailable as away:
        return Reached(one.team, one.name, "bad", f"{where}: {away}")
    finally:
        broker.close()
    return Reached(one.team, one.name, "ok", f"{where}, which answers")

"""Faults of an audit: drawn from a seed, then carried out on a running product."""

import random
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from sqlalchemy.exc import DBAPIError

from app.db.engine import Database
from bench.audit_rows import at_work, expire_leases
from bench.product import Product
from tests.acceptance.harness import status
from tests.faults import Place

WEB: Final = ("web-1", "web-2")
WORKERS: Final = ("events-1", "events-2", "io-1", "io-2")
VICTIMS: Final = (*WEB, *WORKERS, "beat")
BROKER: Final = ("flushed", "restarted empty")
DATABASE: Final = ("restarted", "killed", "sessions ended", "out of reach", "connections forgotten", "read-only")
MEAN_GAP: Final = 1.2  # seconds between two blows; a short course has them sooner, so that all come once
LONGEST: Final = {"stood still": 4.0, "overtaken": 3.0, "out of reach": 5.0, "read-only": 3.0}  # seconds
LONGEST_AWAY: Final = 1.0  # seconds, of the others; a process takes some more to start
PATIENCE: Final = 3.0  # seconds until a worker is struck that has nothing to do
BACK_WITHIN: Final = 30.0  # seconds until the one web process is struck while the other does not answer


@dataclass(frozen=True, slots=True)
class Blow:
    """`at` and `away` are seconds: since the start, and how long the target is down, out of reach or still."""

    at: float
    kind: str
    target: str
    away: float


def plan(*, seed: int, seconds: float, database: bool) -> list[Blow]:
    """Blows at random times, every one as often as any other: a deck is dealt out, then shuffled anew."""
    chance = random.Random(seed)
    deck = [(kind, name) for name in VICTIMS for kind in ("killed", "stood still")]
    deck += [("overtaken", name) for name in WORKERS] + [(kind, "broker") for kind in BROKER]
    deck += [(kind, "database") for kind in DATABASE] if database else []
    gap = min(MEAN_GAP, 0.8 * seconds / len(deck))
    blows = []
    for at, (kind, target) in zip(_times(chance, seconds, gap), _dealt(chance, deck), strict=False):
        away = chance.uniform(0.0, LONGEST.get(kind, LONGEST_AWAY)) * gap / MEAN_GAP
        blows.append(Blow(at, kind, target, away))
    return blows


def wreak(product: Product, database: Database, blows: Sequence[Blow]) -> None:
    """Carry the plan out. Each target is struck apart, so that one may fall while another is down."""
    started = time.monotonic()
    targets = sorted({blow.target for blow in blows})
    groups = [[blow for blow in blows if blow.target == target] for target in targets]
    with ThreadPoolExecutor(max(1, len(groups))) as pool:
        for ended in [pool.submit(_strike_all, product, database, group, started) for group in groups]:
            ended.result()


def _times(chance: random.Random, seconds: float, gap: float) -> Iterator[float]:
    at = 0.0
    while (at := at + chance.uniform(0.5, 1.5) * gap) < seconds:
        yield at


def _dealt(chance: random.Random, deck: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    while True:
        yield from chance.sample(deck, len(deck))


def _strike_all(product: Product, database: Database, blows: Sequence[Blow], started: float) -> None:
    for blow in blows:
        time.sleep(max(0.0, started + blow.at - time.monotonic()))
        match blow.target:
            case "broker":
                _strike_broker(product, blow)
            case "database" if product.place:
                _strike_database(product.place, blow)
            case _:
                _strike_process(product, database, blow)


def _strike_process(product: Product, database: Database, blow: Blow) -> None:
    if blow.target in WORKERS:
        _wait_for_work(database, blow.target.partition("-")[0])
    if blow.target in WEB:
        _wait_for_another_web(product, blow.target)
    match blow.kind:
        case "killed":
            product.kill(blow.target, away=blow.away)
        case "stood still":
            with product.processes[blow.target].standing_still():
                time.sleep(blow.away)
        case "overtaken":
            # It stands still for longer than its leases last, as it were: others take over, and it goes on after.
            with product.processes[blow.target].standing_still():
                with suppress(DBAPIError):  # the database is away just now
                    expire_leases(database)
                time.sleep(blow.away)


def _wait_for_work(database: Database, kind: str) -> None:
    """A worker that is struck while it idles shows nothing; but none is spared for long."""
    give_up = time.monotonic() + PATIENCE
    with suppress(DBAPIError):  # the database is away just now
        while not at_work(database, kind) and time.monotonic() < give_up:
            time.sleep(0.005)


def _wait_for_another_web(product: Product, name: str) -> None:
    """A machine that takes long to start a process would otherwise have none for most of the course."""
    others = [port for other, port in product.web_ports.items() if other != name]
    give_up = time.monotonic() + BACK_WITHIN
    while not any(status(port) == 200 for port in others) and time.monotonic() < give_up:
        time.sleep(0.05)


def _strike_broker(product: Product, blow: Blow) -> None:
    if blow.kind == "flushed":
        product.broker.flush()
        return
    product.broker.stop()
    product.broker.forget()
    time.sleep(blow.away)
    product.broker.start()


def _strike_database(place: Place, blow: Blow) -> None:
    match blow.kind:
        case "restarted":
            place.server.stop()
            time.sleep(blow.away)
            place.server.start()
        case "killed":
            place.kill()
            place.server.start()
        case "sessions ended":
            place.server.administer(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                f" WHERE datname = '{place.name}' AND random() < 0.5"
            )
        case "out of reach":
            place.proxy.stop_passing()
            time.sleep(blow.away)
            place.proxy.resume()
        case "connections forgotten":
            place.proxy.abandon()
        case "read-only":
            place.read_only("on")
            time.sleep(blow.away)
            place.read_only("off")

"""What is done to a running product during an audit: drawn from a seed, then carried out."""

import random
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from sqlalchemy.exc import DBAPIError

from app.db.engine import Database
from bench.audit_rows import at_work
from bench.product import Product

VICTIMS: Final = ("web", "events-1", "events-2", "io-1", "io-2", "beat")
WORKERS: Final = ("events", "io")
BROKER: Final = ("flushed", "restarted empty")
DATABASE: Final = ("restarted", "killed")
MEAN_GAP: Final = 1.2  # seconds between two blows; all kinds come within about twelve
LONGEST_AWAY: Final = 1.0  # seconds; a process takes some more to start
PATIENCE: Final = 3.0  # seconds until a worker is killed that has nothing to do


@dataclass(frozen=True, slots=True)
class Blow:
    """`at` and `away` are seconds: since the start, and how long the target stays down."""

    at: float
    kind: str
    target: str
    away: float


def plan(*, seed: int, seconds: float, database: bool) -> list[Blow]:
    """Blows at random times, every kind as often as any other: a deck is dealt out, then shuffled anew."""
    chance = random.Random(seed)
    deck = [("killed", name) for name in VICTIMS] + [(kind, "broker") for kind in BROKER]
    deck += [(kind, "database") for kind in DATABASE] if database else []
    blows = []
    for at, (kind, target) in zip(_times(chance, seconds), _dealt(chance, deck), strict=False):
        blows.append(Blow(at, kind, target, away=chance.uniform(0.0, LONGEST_AWAY)))
    return blows


def wreak(product: Product, database: Database, blows: Sequence[Blow]) -> None:
    """Carry the plan out. Each target is struck apart, so that one may fall while another is down."""
    started = time.monotonic()
    targets = sorted({blow.target for blow in blows})
    groups = [[blow for blow in blows if blow.target == target] for target in targets]
    with ThreadPoolExecutor(max(1, len(groups))) as pool:
        for ended in [pool.submit(_strike_all, product, database, group, started) for group in groups]:
            ended.result()


def _times(chance: random.Random, seconds: float) -> Iterator[float]:
    at = 0.0
    while (at := at + chance.uniform(0.5, 1.5) * MEAN_GAP) < seconds:
        yield at


def _dealt(chance: random.Random, deck: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    while True:
        yield from chance.sample(deck, len(deck))


def _strike_all(product: Product, database: Database, blows: Sequence[Blow], started: float) -> None:
    for blow in blows:
        time.sleep(max(0.0, started + blow.at - time.monotonic()))
        if blow.target.startswith(WORKERS):
            _wait_for_work(database, blow.target.partition("-")[0])
        _strike(product, blow)


def _wait_for_work(database: Database, kind: str) -> None:
    """A worker that is killed while it idles shows nothing; but none is spared for long."""
    give_up = time.monotonic() + PATIENCE
    with suppress(DBAPIError):  # the database is away just now
        while not at_work(database, kind) and time.monotonic() < give_up:
            time.sleep(0.005)


def _strike(product: Product, blow: Blow) -> None:
    match blow.target, blow.kind:
        case name, "killed" if name in VICTIMS:
            product.kill(name, away=blow.away)
        case "broker", "flushed":
            product.broker.flush()
        case "broker", "restarted empty":
            product.broker.stop()
            product.broker.forget()
            time.sleep(blow.away)
            product.broker.start()
        case "database", "restarted" if product.postgres:
            product.postgres.stop()
            time.sleep(blow.away)
            product.postgres.start()
        case "database", "killed" if product.postgres:
            product.postgres.kill()
            product.postgres.start()

"""Routing among many routes: what one event costs as the set grows, beside checking every route.

`python -m bench.routing [--quick]` runs it alone. Routes and events are drawn from a seed, with ten tags per event. In
every set, of any size, each event matches 50 routes: those of its own organization. The rest are those of others, and
broad ones that ask for a type and a prefix. Beside them, where it is installed, stands the package event-ruler, which
tests one pattern at a time.
"""

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from random import Random
from typing import Any, Final

from app.domain.patterns import compile_pattern
from app.domain.routing import Route, RouteSet
from bench.report import Figure, Report, figure, progress

SIZES: Final = (1_000, 10_000, 100_000)
QUICK_SIZES: Final = (1_000, 10_000)
MATCHES: Final = 50  # routes of one organization
BROAD: Final = 20  # routes without a value of their own, in a set of any size
ROUNDS, EVENTS = 7, 40
NAIVE_EVENTS: Final = 3
MOST_MS, MOST_GROWTH = 1.0, 3.0  # goals: milliseconds for an event, and times the smallest set's
CHANGED: Final = 10  # routes of one change

TYPES: Final = ("connection.created", "connection.linked", "connection.reauthorized", "connection.deleted")
PLANS: Final = ("free", "pro", "team", "enterprise")
REGIONS: Final = tuple(f"{place}-{number}" for place in ("eu", "us", "ap", "sa") for number in range(1, 5))


def event(random: Random, organization: int) -> dict[str, Any]:
    """A document with ten tags."""
    tags = {
        "organization_id": f"org-{organization}",
        "end_user_id": f"usr-{random.randrange(1_000_000)}",
        "end_user_email": f"u{random.randrange(1_000_000)}@example.com",
        "plan": random.choice(PLANS),
        "region": random.choice(REGIONS),
        "industry": f"industry-{random.randrange(20)}",
        "cohort": f"2026-{random.randrange(1, 13):02}",
        "channel": random.choice(("web", "sales", "partner")),
        "locale": random.choice(("en", "de", "fr", "ja")),
        "source": f"campaign-{random.randrange(300)}",
    }
    return {
        "type": TYPES[0],
        "origin": "webhook",
        "environment": "prod",
        "integration": f"integration-{random.randrange(40)}",
        "provider": "google-mail",
        "success": True,
        "confirmed": True,
        "connection_id": f"{random.getrandbits(128):032x}",
        "tags": tags,
        "user": {"external_id": tags["end_user_id"], "email": tags["end_user_email"]},
        "organization": {"external_id": tags["organization_id"], "name": None},
    }


def routes(size: int, random: Random) -> list[Route]:
    """MATCHES for each organization, as many organizations as fit, and BROAD ones that never match."""
    found = [
        _route(f"broad-{number}", {"type": [random.choice(TYPES)], "tags": {"region": [{"prefix": f"zz{number}"}]}})
        for number in range(BROAD)
    ]
    for number in range(size - BROAD):
        tags: dict[str, Any] = {"organization_id": [f"org-{number // MATCHES}"]}
        # What an organization's own events always have, asked for in the ways that patterns can.
        tags |= random.choice(
            (
                {},
                {"plan": list(PLANS)},
                {"region": [{"prefix": "eu"}, {"anything-but": {"prefix": "eu"}}]},
                {"source": [{"wildcard": "campaign-*"}]},
                {"churned": [{"exists": False}]},
            )
        )
        pattern = {"type": [TYPES[0], *random.sample(TYPES[1:], 1)], "tags": tags}
        found.append(_route(f"route-{number}", pattern))
    return found


def figures(quick: bool) -> dict[str, Figure]:
    found: dict[str, Figure] = {}
    cost: dict[int, float] = {}
    for size in QUICK_SIZES if quick else SIZES:
        cost[size] = _of_size(size, found)
    least, most = min(cost), max(cost)
    growth = cost[most] / cost[least]
    found[f"routing, {most:,} / {least:,} routes, {MATCHES} matches"] = figure(growth, "ratio", at_most=MOST_GROWTH)
    return found


def _of_size(size: int, found: dict[str, Figure]) -> float:
    random = Random(size)
    began = time.perf_counter()
    several = routes(size, random)
    compiled = time.perf_counter() - began
    began = time.perf_counter()
    routing = RouteSet(1, several)
    filed = time.perf_counter() - began
    organizations = (size - BROAD) // MATCHES
    events = [event(random, random.randrange(organizations)) for _ in range(EVENTS)]
    assert all(len(routing.match(event).decisions) == MATCHES for event in events)
    gc.collect()
    matched = _microseconds(routing.match, events, ROUNDS)
    naive = _microseconds(
        lambda document: [route for route in several if route.pattern.matches(document)], events[:NAIVE_EVENTS], 3
    )
    began = time.perf_counter()
    routing.changed(2, removed=[route.key for route in several[-CHANGED:]], added=several[-CHANGED:])
    changed = time.perf_counter() - began
    name = f"routing, {size:,} routes"
    goal = MOST_MS if size == SIZES[-1] else None
    found[f"{name}: an event with {MATCHES} matches"] = figure(matched / 1000, "ms", at_most=goal)
    found[f"{name}: every route checked / the index"] = figure(naive / matched, "ratio")
    found[f"{name}: compiled and filed"] = figure(compiled + filed, "s")
    found[f"{name}: {CHANGED} routes changed"] = figure(changed * 1000, "ms")
    other = _event_ruler(several, events[0])
    if other is not None:
        found[f"{name}: event-ruler, pattern by pattern / the index"] = figure(other / matched, "ratio")
    progress(f"{name}: {matched:.0f} µs, naive {naive:.0f} µs, changed in {changed * 1000:.1f} ms")
    return matched


def _microseconds(work: Callable[[Any], object], events: Sequence[Any], rounds: int) -> float:
    """For one event: the median of the rounds."""
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        for event in events:
            work(event)
        taken.append((time.perf_counter() - began) / len(events) * 1e6)
    return statistics.median(taken)


def _event_ruler(several: Sequence[Route], document: dict[str, Any]) -> float | None:
    """Microseconds for an event by the other package, from a sample of the routes; None where it is not installed."""
    try:
        test = import_module("event_ruler").test_event_pattern
    except ImportError:
        return None
    text = json.dumps(document)
    patterns = [json.dumps(route.pattern.source) for route in several[:1000]]
    return (
        _microseconds(lambda _: [test(text, pattern) for pattern in patterns], [None], 1) * len(several) / len(patterns)
    )


def _route(name: str, pattern: dict[str, Any]) -> Route:
    return Route(
        name=name, version=1, team="bench", destination="jobs", job="bench.job", pattern=compile_pattern(pattern)
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.routing", description="Measure routing.")
    parser.add_argument("--quick", action="store_true", help="up to 10,000 routes")
    report = Report()
    report.figures |= figures(parser.parse_args().quick)
    report.print()


if __name__ == "__main__":
    main()

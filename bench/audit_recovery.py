"""Checks after an audit's faults: each web process stores, each worker does its kind's work alone."""

import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import uvloop

from app.db.engine import Database
from bench.audit_ledger import Finding, Ledger
from bench.audit_rows import redeliver_one, unprocessed, unsettled
from bench.audit_sender import Traffic, send, webhook
from bench.product import Product
from tests.acceptance.harness import status

WITHIN: Final = 60.0  # seconds; what a dead twin has claimed is taken over after thirty


def stuck(product: Product, database: Database, ledger: Ledger, *, within: float = WITHIN) -> list[Finding]:
    """Every process that does not do its work any more, though nothing is wrong with what it needs."""
    return [*_webs(product, ledger, within), *_workers(product, database, ledger, within)]


def _webs(product: Product, ledger: Ledger, within: float) -> Iterator[Finding]:
    """A single webhook is the hardest: under load, the next one may wake what the last one left asleep."""
    for name, port in product.web_ports.items():
        _soon(partial(_answers, port), within)
        answers = _send_one(product, port, ledger).answers
        if answers != {"202": 1}:
            yield Finding("stuck", f"{name} does not take a webhook: {dict(answers)}", name)


def _workers(product: Product, database: Database, ledger: Ledger, within: float) -> Iterator[Finding]:
    port = next(iter(product.web_ports.values()))
    # A new job leaves with its event, from the events worker; one that is redelivered waits for an io worker.
    for kind, left, begin in (
        ("events", unprocessed, lambda: _send_one(product, port, ledger)),
        ("io", unsettled, lambda: redeliver_one(database)),
    ):
        names = [name for name in product.processes if name.startswith(kind)]
        for name in names:
            with product.without(set(names) - {name}):
                begin()
                if not _soon(partial(_nothing, left, database), within):
                    yield Finding("stuck", f"{name} does no work", name)


def _answers(port: int) -> bool:
    return status(port) == 200


def _nothing(left: Callable[[Database], int], database: Database) -> bool:
    return not left(database)


def _soon(holds: Callable[[], bool], within: float) -> bool:
    give_up = time.monotonic() + within
    while not (held := holds()) and time.monotonic() < give_up:
        time.sleep(0.1)
    return held


def _send_one(product: Product, port: int, ledger: Ledger) -> Traffic:
    """A new connection, registered at the sandbox where there is one."""
    probe = webhook(0.0, str(uuid.uuid4()), 0, "creation")
    if "sandbox" in product.processes:
        product.sandbox.register(probe.body)
    return uvloop.run(send([port], [probe], ledger))

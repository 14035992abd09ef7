"""Checks of the brokers, of the internal queues, and of the request budgets that the internal broker holds."""

from collections.abc import Iterator, Mapping
from contextlib import closing

from app.brokers.celery_broker import EVENTS_QUEUE, IO_QUEUE, Broker
from app.domain.status import Check, CheckKind, Level
from app.errors import BrokerUnavailable
from app.services.budget import Budget
from app.services.status.installation import Installation

INTERNAL, TEAM = "internal", "team"
_KINDS: Mapping[str, CheckKind] = {INTERNAL: CheckKind.INTERNAL_BROKER, TEAM: CheckKind.TEAM_BROKER}


def checks(installation: Installation) -> Iterator[Check]:
    """Ask each broker; nothing where their URLs are not usable."""
    for name, url in installation.brokers.items():
        yield from _broker_checks(name, url, (EVENTS_QUEUE, IO_QUEUE) if name == INTERNAL else ())
    if INTERNAL in installation.brokers:
        yield from _budget_checks(installation.brokers[INTERNAL], installation)


def told_of_eviction(name: str, policy: str) -> str:
    """The sentence about a broker that deletes queues by this policy."""
    lost = "jobs that count as delivered" if name == TEAM else "messages to workers, which the sweep sends again"
    return f"its maxmemory-policy is {policy}: once memory is short it deletes {lost}. Set it to noeviction"


def _broker_checks(name: str, url: str, queues: tuple[str, ...]) -> Iterator[Check]:
    with closing(Broker.at(name, url)) as broker:
        try:
            broker.ping()
            eviction = broker.eviction()
            lengths = {queue: broker.queue_length(queue) for queue in queues}
        except BrokerUnavailable as away:
            value = "takes no messages" if away.refuses else "away"
            yield Check(_KINDS[name], Level.RED, value, str(away), "waylink check")
            return
    if eviction is None:
        yield Check(_KINDS[name], Level.OK, "answers")
    else:
        yield Check(_KINDS[name], Level.HINT, "may delete messages", told_of_eviction(name, eviction), "waylink check")
    for queue, length in lengths.items():
        yield Check(CheckKind.QUEUE, Level.OK, length, "messages", subject=queue)


def _budget_checks(url: str, installation: Installation) -> Iterator[Check]:
    accounts = {environment.account for environment in installation.environments.values() if environment.has_api}
    with closing(Budget(url, default_limit=installation.nango_requests_per_minute)) as budget:
        for account in sorted(accounts):
            if (bucket := budget.bucket(account)) is not None:
                words = f"of {bucket.limit} calls to Nango this minute, {bucket.background} by background work"
                yield Check(CheckKind.BUDGET, Level.OK, bucket.used, words, subject=account)

"""Hints: the one sender of them, and its rest after a broker that did not answer."""

from collections.abc import Sequence
from typing import cast

import pytest

from app.brokers import hints as module
from app.brokers.celery_broker import Broker
from app.brokers.hints import BATCH, Hints
from app.brokers.messages import Message
from app.errors import BrokerUnavailable
from app.ids import new_id


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


class SlowBroker:
    """Takes seconds for each try; with `away` it fails after them."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.seconds, self.away = clock, 0.0, False
        self.tries: list[Sequence[Message]] = []

    def send(self, messages: Sequence[Message]) -> None:
        self.clock.now += self.seconds
        self.tries.append(messages)
        if self.away:
            raise BrokerUnavailable("internal", OSError())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def broker(clock: Clock) -> SlowBroker:
    return SlowBroker(clock)


@pytest.fixture
def hints(broker: SlowBroker) -> Hints:
    return Hints(cast("Broker", broker))


def test_no_ids_send_nothing(hints: Hints, broker: SlowBroker) -> None:
    hints.of_events([])
    hints.of_jobs([])
    hints.of_due_events(0)
    assert not broker.tries


def test_many_ids_go_in_batches_and_each_once(hints: Hints, broker: SlowBroker) -> None:
    ids = [new_id() for _ in range(BATCH + 1)]
    hints.of_events([*ids, *ids])
    [messages] = broker.tries
    assert len(messages) == 2


@pytest.mark.parametrize(("took", "rests"), [(2.0, 5.0), (0.1, 1.0), (0.0, 0.0)])
def test_after_a_failure_it_rests_as_long_as_the_try_deserves(
    hints: Hints, broker: SlowBroker, clock: Clock, took: float, rests: float
) -> None:
    broker.away, broker.seconds = True, took
    hints.of_jobs([new_id()])
    clock.now += max(rests - 0.01, 0.0)
    hints.of_events([new_id()])
    assert len(broker.tries) == (1 if rests else 2)
    clock.now += 0.02
    broker.away = False
    hints.of_events([new_id()])
    assert len(broker.tries) == (2 if rests else 3)

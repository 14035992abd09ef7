"""Commands that make work tell the workers of it."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

from app.brokers.celery_broker import Broker
from app.brokers.hints import Hints
from app.config.parts import HintSettings


@contextmanager
def open_hints(settings: HintSettings) -> Iterator[Hints]:
    with closing(Broker.at("internal", settings.broker)) as broker:
        yield Hints(broker)

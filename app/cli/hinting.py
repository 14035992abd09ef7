"""Commands that make work tell the workers of it."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

from app.broker import Broker
from app.hints import Hints
from app.part_settings import HintSettings


@contextmanager
def open_hints(settings: HintSettings) -> Iterator[Hints]:
    with closing(Broker.at("internal", settings.broker)) as broker:
        yield Hints(broker)

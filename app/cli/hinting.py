"""The sender of hints to workers, as commands open it; apart from the database, which listings open alone."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

from app.brokers.celery_broker import Broker
from app.brokers.hints import Hints
from app.config.settings_groups import HintSettings


@contextmanager
def open_hints(settings: HintSettings) -> Iterator[Hints]:
    """Send hints by the internal broker that the settings name, within the block."""
    with closing(Broker.at("internal", settings.broker)) as broker:
        yield Hints(broker)

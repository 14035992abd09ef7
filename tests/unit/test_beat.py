"""The end of Beat by a signal."""

import os
import signal
from collections.abc import Iterator

import pytest
from celery.beat import Service

from app.brokers.celery_broker import make_celery
from workers.scheduler import PatientScheduler, StoppableBeat


@pytest.fixture
def service() -> Iterator[Service]:
    """Beat's service with the signal handlers of the process, which are put back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    app = make_celery("memory://")
    app.conf.beat_schedule = {}
    found = Service(app, scheduler_cls=PatientScheduler)
    StoppableBeat(app=app, quiet=True).install_sync_handler(found)
    yield found
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_a_finalizer_is_not_lost(service: Service, number: int) -> None:
    class Finalized:
        def __del__(self) -> None:
            os.kill(os.getpid(), number)

    del [Finalized()][0]
    with pytest.raises(SystemExit):
        service.scheduler.tick()


def test_beat_that_cannot_connect_ends_at_its_next_try(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    class Connection:
        def ensure_connection(self, errback, **_options):
            errback(OSError("refused"), 0.0)
            os.kill(os.getpid(), signal.SIGTERM)
            errback(OSError("refused"), 2.0)

    scheduler = service.scheduler
    monkeypatch.setattr(type(scheduler), "connection", Connection())
    with pytest.raises(SystemExit):
        scheduler._ensure_connected()


def test_beat_that_no_signal_stops_goes_on(service: Service) -> None:
    assert service.scheduler.tick() > 0

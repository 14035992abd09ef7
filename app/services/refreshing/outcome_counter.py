"""The count of refreshes by integration and outcome, for `/metrics`: of a bounded number of integrations by name."""

from threading import Lock
from typing import Final

from app.domain.refreshing.facts import IntegrationKey
from app.domain.states import RefreshOutcome
from app.telemetry import REFRESHES

MOST: Final = 60  # integrations that a process counts by name, the first that it refreshes; with 15 outcomes each
OTHERS: Final = IntegrationKey("other", "other")  # all further ones

_named = set[IntegrationKey]()  # the counter is one of the process, too
_lock = Lock()


def count_refresh(key: IntegrationKey, outcome: RefreshOutcome) -> None:
    """Count a refresh, planned or by hand."""
    with _lock:
        if len(_named) < MOST:
            _named.add(key)
        shown = key if key in _named else OTHERS
    REFRESHES.labels(*shown, outcome).inc()

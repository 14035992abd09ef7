"""The order of acceptance tests: the longest files first, so that no process is left with one of them at the end."""

from typing import Final

import pytest

LONGEST: Final = (
    "test_liveness.py",
    "test_status_faults.py",
    "test_faults.py",
    "test_audit.py",
    "test_notifications.py",
    "test_metrics.py",
    "test_canaries.py",
    "test_web_faults.py",
    "test_upgrade_under_load.py",
    "test_reconcile.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort files; those that are not among the longest stay in their order.

    Several processes keep it with `--no-loadscope-reorder` alone.
    """
    names = dict(zip(LONGEST, range(len(LONGEST)), strict=True))
    items.sort(key=lambda item: names.get(item.path.name, len(LONGEST)) if "acceptance" in item.path.parts else -1)

"""The public form of checks."""

from typing import Any

from app.domain.status import Check


def shown(check: Check) -> dict[str, Any]:
    """A check as commands and the API show it; `repair` is None where nothing is to be done."""
    return {
        "id": check.id,
        "name": check.name,
        "level": str(check.level),
        "value": check.value,
        "cause": check.cause,
        "repair": check.repair or None,
    }

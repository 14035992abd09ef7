"""The catalogue of providers that Waylink ships, and how its lines are shown."""

from datetime import timedelta
from functools import cache
from importlib.resources import files
from typing import Any

from app.config.durations import shown_duration
from app.domain.refreshing.catalogue import FILE, Catalogue, ProviderLine, read_catalogue


@cache
def shipped_catalogue() -> Catalogue:
    """The catalogue in the package."""
    return read_catalogue((files("app.domain.refreshing") / FILE).read_text(encoding="utf-8"))


def shown_line(line: ProviderLine) -> dict[str, Any]:
    """A line with its spans as waylink.toml has them, such as `12h`."""
    return {
        "names": list(line.names),
        "access_life": _shown(line.access_life),
        "refresh_life": _shown(line.refresh_life),
        "idle_limit": _shown(line.idle_limit),
        "rotates": line.rotates,
        "reuse": line.reuse,
        "renews": line.renews,
        "nango_margin": _shown(line.nango_margin),
        "note": line.note,
        "source": line.source,
        "read": line.read.isoformat(),
    }


def _shown(span: timedelta | None) -> str | None:
    return None if span is None else shown_duration(span)

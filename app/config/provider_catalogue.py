"""The catalogue of providers that Waylink ships."""

from functools import cache
from importlib.resources import files

from app.domain.refreshing.catalogue import FILE, Catalogue, read_catalogue


@cache
def shipped_catalogue() -> Catalogue:
    """The catalogue in the package."""
    return read_catalogue((files("app.domain.refreshing") / FILE).read_text(encoding="utf-8"))

"""Bodies and documents of events for people: what may be a credential is masked, and counted.

Nango's own bodies are stored without credentials (`stored_bodies`). A provider's webhook that Nango forwards is stored
as its environment's policy says, so that it may hold some.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from app.domain.scrub import MAX_DEPTH, hide, scrub_object, scrub_value
from app.domain.secret_scanner import HIDDEN
from app.domain.stored_bodies import KNOWN, is_own

_OF_OTHERS: Final = frozenset({"payload", "error"})  # members of a document that others wrote
MAX_SHOWN: Final = 200_000  # characters of a body


@dataclass(frozen=True, slots=True)
class MaskedText:
    """A body as text, indented where it is JSON. count: masked parts of it. cut: there is more than is shown."""

    text: str
    count: int
    cut: bool = False


def masked_body(body: str) -> MaskedText:
    """A stored body. One that is not JSON is masked by its likeness to tokens alone."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return _bounded(hide(body[:MAX_SHOWN]), cut=len(body) > MAX_SHOWN)
    if isinstance(value, dict) and not is_own(value.get("from"), value.get("type")):
        value = {name: inner if name in KNOWN else scrub_value(inner) for name, inner in value.items()}
    try:
        return _bounded(json.dumps(value, indent=2, ensure_ascii=False), cut=False)
    except RecursionError:
        return MaskedText(f"It is nested deeper than {MAX_DEPTH} levels.", 0)


def masked_at(path: str, value: object) -> object:
    """A value of an event's document by its path, such as `payload.token`."""
    top, name = path.partition(".")[0].partition("[")[0], path.rpartition(".")[2].partition("[")[0]
    return scrub_object({name: value})[name] if top in _OF_OTHERS else value


def masked_document(document: Mapping[str, Any]) -> dict[str, Any]:
    """An event's document, with what a provider or Nango wrote of it masked."""
    return {name: scrub_value(value) if name in _OF_OTHERS else value for name, value in document.items()}


def _bounded(text: str, *, cut: bool) -> MaskedText:
    return MaskedText(text[:MAX_SHOWN], text.count(HIDDEN), cut or len(text) > MAX_SHOWN)

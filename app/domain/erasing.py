"""Erasure of a person from stored values: recognition of their names, and the value without them."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

ERASED: Final = "[erased]"
SHORTEST_WORD: Final = 5  # a shorter id such as "42" counts only where it is the whole text
_PERSONAL: Final = ("tags", "user", "previous_owner", "payload", "error")  # members of an event's document


@dataclass(frozen=True)
class Identity:
    """Names of a person: the application's id for them, and an e-mail address that no other user has.

    user: Waylink's own id, as it is shown. It is meaningless outside of Waylink, and stays.
    """

    user: str
    external_id: str | None
    email: str | None

    @property
    def words(self) -> Sequence[str]:
        return [word for word in (self.external_id, self.email) if word]

    def is_named_in(self, value: Any) -> bool:
        """Whether a text, or any text within a JSON value, equals one of the names or has it as a whole word."""
        if isinstance(value, str):
            whole = value == self.external_id or (self.email is not None and value.lower() == self.email.lower())
            return whole or bool(self._inside and self._inside.search(value))
        if isinstance(value, Mapping):
            return any(self.is_named_in(part) for pair in value.items() for part in pair)
        return isinstance(value, list) and any(self.is_named_in(item) for item in value)

    def is_named_in_body(self, body: bytes) -> bool:
        try:
            return self.is_named_in(json.loads(body))
        except (ValueError, RecursionError):
            return self.is_named_in(body.decode("utf-8", "replace"))

    def erased_from(self, value: Any) -> Any:
        """The value with every text that names them replaced, and with only the id left of their user object."""
        if isinstance(value, Mapping):
            if value.get("id") == self.user:
                return {name: inner if name == "id" else None for name, inner in value.items()}
            erased = {name: self.erased_from(inner) for name, inner in value.items()}
            return {ERASED if self.is_named_in(name) else name: inner for name, inner in erased.items()}
        if isinstance(value, list):
            return [self.erased_from(item) for item in value]
        return ERASED if isinstance(value, str) and self.is_named_in(value) else value

    def erased_document(self, document: Mapping[str, Any], *, own: bool) -> dict[str, Any]:
        """An event's document. own: the event is theirs, so tags, payload and description are removed as a whole."""
        kept: dict[str, Any] = self.erased_from(document)
        if own:
            error = document.get("error")
            kept |= {"tags": {}, "payload": None, "error": {**error, "description": ERASED} if error else None}
        return kept

    def erased_conditions(self, conditions: Sequence[Mapping[str, Any]], *, own: bool) -> list[dict[str, Any]]:
        """A decision's conditions. own: the event is theirs, so values of tags, owners and payload are removed."""
        return [
            {**self.erased_from(condition), "actual": ERASED}
            if own and _is_personal(condition)
            else self.erased_from(condition)
            for condition in conditions
        ]

    @cached_property
    def _inside(self) -> re.Pattern[str] | None:
        long = [re.escape(self.external_id)] if self.external_id and len(self.external_id) >= SHORTEST_WORD else []
        long += [f"(?i:{re.escape(self.email)})"] if self.email else []
        return re.compile(rf"(?<!\w)(?:{'|'.join(long)})(?!\w)") if long else None


def _is_personal(condition: Mapping[str, Any]) -> bool:
    return str(condition.get("path", "")).split(".")[0] in {*_PERSONAL, "$or"}

"""What names a person, and what is left of a value once they are taken out of it."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

ERASED: Final = "[erased]"
SHORTEST_WORD: Final = 5  # a shorter id names somebody only where it is the whole text: "42" is in every other one
_THEIRS: Final = ("tags", "user", "previous_owner", "payload", "error")  # members of an event's document


@dataclass(frozen=True)
class Identity:
    """By what a person is known: the application's id for them, and an e-mail that nobody else has.

    user: Waylink's own id, as it is shown. It names nobody outside of Waylink, and stays.
    """

    user: str
    external_id: str | None
    email: str | None

    @property
    def words(self) -> Sequence[str]:
        return [one for one in (self.external_id, self.email) if one]

    def is_named_in(self, value: Any) -> bool:
        """Whether a text, or any text within a JSON value, is one of the words or has it as a whole word."""
        if isinstance(value, str):
            whole = value == self.external_id or (self.email is not None and value.lower() == self.email.lower())
            return whole or bool(self._inside and self._inside.search(value))
        if isinstance(value, Mapping):
            return any(self.is_named_in(one) for pair in value.items() for one in pair)
        return isinstance(value, list) and any(self.is_named_in(one) for one in value)

    def is_named_in_body(self, body: bytes) -> bool:
        try:
            return self.is_named_in(json.loads(body))
        except (ValueError, RecursionError):
            return self.is_named_in(body.decode("utf-8", "replace"))

    def erased_from(self, value: Any) -> Any:
        """The value with every text that names them replaced, and what stands beside their id in a user taken out."""
        if isinstance(value, Mapping):
            if value.get("id") == self.user:
                return {name: one if name == "id" else None for name, one in value.items()}
            return {ERASED if self.is_named_in(name) else name: self.erased_from(one) for name, one in value.items()}
        if isinstance(value, list):
            return [self.erased_from(one) for one in value]
        return ERASED if isinstance(value, str) and self.is_named_in(value) else value

    def erased_document(self, document: Mapping[str, Any], *, own: bool) -> dict[str, Any]:
        """An event's document. Of one of their `own`, all goes that may be about them: tags, payload, description."""
        kept: dict[str, Any] = self.erased_from(document)
        if own:
            error = document.get("error")
            kept |= {"tags": {}, "payload": None, "error": {**error, "description": ERASED} if error else None}
        return kept

    def erased_conditions(self, conditions: Sequence[Mapping[str, Any]], *, own: bool) -> list[dict[str, Any]]:
        """A decision's conditions; those of their own events tell nothing of tags, owners and payload any more."""
        return [
            {**self.erased_from(one), "actual": ERASED} if own and _is_theirs(one) else self.erased_from(one)
            for one in conditions
        ]

    @cached_property
    def _inside(self) -> re.Pattern[str] | None:
        long = [re.escape(self.external_id)] if self.external_id and len(self.external_id) >= SHORTEST_WORD else []
        long += [f"(?i:{re.escape(self.email)})"] if self.email else []
        return re.compile(rf"(?<!\w)(?:{'|'.join(long)})(?!\w)") if long else None


def _is_theirs(condition: Mapping[str, Any]) -> bool:
    return str(condition.get("path", "")).split(".")[0] in {*_THEIRS, "$or"}

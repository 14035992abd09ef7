"""Request validation with the messages of zod 4, which Nango's clients get as `errors`.

(Nango contract: Tag errors; Requests and errors)
"""

import math
import re
from collections.abc import Collection, Mapping
from typing import Any, Final, cast

from app.domain import tags as tag_rules
from app.sandbox import override_hosts
from app.sandbox.wire import MISSING, Issue, RefusedError

CONNECTION_ID: Final = re.compile(r"""[a-zA-Z0-9,.;:=+~[\]|@${}"'\\/_ -]+""")  # quoted in Nango's message
INTEGRATION: Final = re.compile(r"[a-zA-Z0-9~:.@ _-]+")
TRUE: Final = frozenset({"true", "1", "yes", "on", "y", "enabled"})
FALSE: Final = frozenset({"false", "0", "no", "off", "n", "disabled"})
# In the order of Nango's message
_FLAG_WORDS: Final = ("true", "1", "yes", "on", "y", "enabled", "false", "0", "no", "off", "n", "disabled")

_TAG_CODES: Final = {
    "not_object": "invalid_type",
    "invalid_key": "invalid_key",
    "key_too_long": "invalid_key",
    "value_type": "invalid_type",
    "value_empty": "too_small",
    "value_too_long": "too_big",
    "too_many": "custom",
    "duplicate": "custom",
    "invalid_email": "custom",
}


class Checks:
    """Reads the members of one strict object and collects the faults, which `done` raises together.

    A faulty member is read as an empty value of its type, which is not used, since `done` raises.
    """

    def __init__(
        self, source: object, *, code: str, path: tuple[str, ...] = (), issues: list[Issue] | None = None
    ) -> None:
        self._code, self._path = code, path
        self.issues: list[Issue] = [] if issues is None else issues
        self._known: set[str] = set()
        self._source: Mapping[str, Any] = source if isinstance(source, Mapping) else {}
        self.is_object = isinstance(source, Mapping)
        if not self.is_object:
            message = f"Invalid input: expected object, received {received(source)}"
            self.issues.append({"code": "invalid_type", "message": message, "path": [*path]})

    def has(self, name: str) -> bool:
        self._known.add(name)
        return name in self._source

    def raw(self, name: str) -> Any:
        """The member as sent, None when it is missing; marks it as known."""
        self._known.add(name)
        return self._source.get(name)

    def text(self, name: str, *, pattern: re.Pattern[str] | None = None, maximum: int = 255) -> str:
        return self.optional_text(name, pattern=pattern, maximum=maximum, required=True) or ""

    def optional_text(
        self,
        name: str,
        *,
        pattern: re.Pattern[str] | None = None,
        minimum: int = 1,
        maximum: int = 255,
        required: bool = False,
        nullable: bool = False,
    ) -> str | None:
        value = self._source.get(name, MISSING)
        self._known.add(name)
        if (value is MISSING and not required) or (value is None and nullable):
            return None
        if not isinstance(value, str):
            self._wrong_type("string", value, name)
        elif len(value) < minimum:
            self._issue("too_small", f"Too small: expected string to have >={minimum} characters", name)
        elif len(value) > maximum:
            self._issue("too_big", f"Too big: expected string to have <={maximum} characters", name)
        elif pattern and not pattern.fullmatch(value):
            self._issue("invalid_format", f"Invalid string: must match pattern /^{pattern.pattern}$/", name)
        else:
            return value
        return None

    def email(self, name: str) -> str | None:
        """An e-mail address, or null. Form and length are two rules, reported separately."""
        value = self._source.get(name)
        if isinstance(value, str) and not tag_rules.is_email(value):
            self._issue("invalid_format", "Invalid email address", name)
        return self.optional_text(name, minimum=5, nullable=True)

    def record(self, name: str, *, required: bool = False) -> dict[str, Any] | None:
        value = self._source.get(name, MISSING)
        self._known.add(name)
        if value is MISSING and not required:
            return None
        if not is_record(value):
            self._wrong_type("record", value, name)
            return {}
        return dict(value)

    def flag(self, name: str, *, default: bool = False) -> bool:
        """A boolean, or one of the query texts that Nango accepts for one."""
        value = self._source.get(name, default)
        self._known.add(name)
        word = str(value).lower() if isinstance(value, str | bool) else ""
        if word not in TRUE | FALSE:
            words = "|".join(f'"{option}"' for option in _FLAG_WORDS)
            self._issue("invalid_value", f"Invalid option: expected one of {words}", name)
        return word in TRUE

    def number(self, name: str, *, default: float | None = None, minimum: float, maximum: float) -> float | None:
        """A number, also from query text; JSON null is read as None."""
        value = self._source.get(name, MISSING)
        self._known.add(name)
        if value is MISSING:
            return default
        if value is None:
            return None
        try:
            found = float(value) if not isinstance(value, bool | list) else math.nan
        except (TypeError, ValueError):
            found = math.nan
        if math.isnan(found):
            self._issue("invalid_type", "Invalid input: expected number, received NaN", name)
        elif found < minimum:
            self._issue("too_small", f"Too small: expected number to be >={minimum:g}", name)
        elif found > maximum:
            self._issue("too_big", f"Too big: expected number to be <={maximum:g}", name)
        else:
            return found
        return None

    def tags(self, name: str = "tags") -> dict[str, str] | None:
        """Tags in lower case, None when the member is missing. Text that only the database refuses passes here."""
        if not self.has(name):
            return None
        value = self._source[name]
        if isinstance(value, Mapping) and not is_record(value):
            self._wrong_type("record", value, name)
            return {}
        faults = [fault for fault in tag_rules.check(value) if fault.rule != "value_unstorable"]
        for fault in faults:
            entry = (fault.key,) if _TAG_CODES[fault.rule] not in {"custom"} and fault.rule != "not_object" else ()
            self._issue(_TAG_CODES[fault.rule], _tag_message(fault.rule, fault.key, value), name, *entry)
        return {} if faults else {key.lower(): text for key, text in cast("Mapping[str, str]", value).items()}

    def webhook_url(self, name: str = "webhook_url_override") -> str | None:
        """An http(s) URL of a public host; an empty text clears it (Nango contract: Webhook settings)."""
        value = self.optional_text(name, minimum=0, maximum=2048, nullable=True)
        if not value:
            return value
        if not value.startswith(("http://", "https://")):
            self._issue("invalid_union", "Invalid input", name)
        elif not override_hosts.is_public(value):
            self._issue("custom", "This webhook URL is not allowed.", name)
        return value

    def child(self, name: str) -> "Checks | None":
        """The checks of a nested object, whose faults are added to these; None when it is missing."""
        if not self.has(name):
            return None
        return Checks(self._source[name], code=self._code, path=(*self._path, name), issues=self.issues)

    def missing(self, expected: str, name: str) -> None:
        self._wrong_type(expected, MISSING, name)

    def custom(self, message: str, *path: str) -> None:
        self._issue("custom", message, *path)

    def strict(self) -> None:
        """Report unknown members."""
        if unknown := [name for name in self._source if name not in self._known]:
            names = ", ".join(f'"{name}"' for name in unknown)
            self._issue("unrecognized_keys", f"Unrecognized key{'s' if len(unknown) > 1 else ''}: {names}")

    def done(self, *, tolerated: Collection[str] = ()) -> None:
        self._known.update(tolerated)
        self.strict()
        if self.issues:
            raise RefusedError(400, self._code, issues=self.issues)

    def _wrong_type(self, expected: str, value: object, name: str) -> None:
        self._issue("invalid_type", f"Invalid input: expected {expected}, received {received(value)}", name)

    def _issue(self, code: str, message: str, *path: str) -> None:
        if self.is_object:  # a value that is no object has no further faults
            self.issues.append({"code": code, "message": message, "path": [*self._path, *path]})


def is_record(value: object) -> bool:
    """Whether zod accepts a value as a record: not an object with a member `constructor` (recorded)."""
    return isinstance(value, Mapping) and "constructor" not in value


def received(value: object) -> str:
    """zod's name for the type of a value."""
    if value is MISSING:
        return "undefined"
    words: dict[type, str] = {bool: "boolean", int: "number", float: "number", str: "string", type(None): "null"}
    return words.get(type(value), "array" if isinstance(value, list) else "object")


def _tag_message(rule: str, key: str, tags: object) -> str:
    if rule == "not_object":
        return f"Invalid input: expected record, received {received(tags)}"
    if rule == "value_type" and isinstance(tags, Mapping):
        return f"Invalid input: expected string, received {received(tags[key])}"
    return {
        "invalid_key": "Invalid key in record",
        "key_too_long": "Invalid key in record",
        "value_empty": "Too small: expected string to have >=1 characters",
        "value_too_long": "Tag values must be at most 255 characters",
        "too_many": f"Tags cannot contain more than {tag_rules.MAX_TAGS} keys",
        "duplicate": f'Duplicate tag key after case normalization: "{key}"',
        "invalid_email": f'Tag "{key}" must be a valid email',
    }[rule]

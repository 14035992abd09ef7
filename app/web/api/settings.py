"""The endpoint for the settings in force."""

from typing import Final

from msgspec import Struct

from app.domain.access import Scope
from app.web.api.endpoint import Call, Endpoint, endpoint, record


class SettingRow(Struct, frozen=True, kw_only=True):
    """A variable. `value`: null where it is unset; `(hidden)` stands for a secret or a part of one.

    `set`: whether the web process found it set, and uses it. `fault`: why it is not in force; null where nothing is
    wrong. A variable named like a setting that is none is among them, with its value hidden.
    """

    variable: str
    value: str | float | bool | None
    default: str | float | bool | None
    set: bool
    fault: str | None
    meaning: str


class SettingsInForce(Struct, frozen=True, kw_only=True):
    """All variables, by name, as the answering web process read them when it started."""

    data: list[SettingRow]


@endpoint("GET /settings", scope=Scope.VIEWER)
def list_settings(call: Call) -> SettingsInForce:
    """List the settings in force, without secrets."""
    return SettingsInForce(data=[record(row, SettingRow) for row in call.context.settings])


ENDPOINTS: Final[tuple[Endpoint, ...]] = (list_settings,)

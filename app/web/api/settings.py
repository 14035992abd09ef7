"""The endpoint for the settings in force."""

from typing import Final

from msgspec import Struct

from app.domain.access import Scope
from app.web.api.endpoint import Call, Endpoint, endpoint, record


class SettingRow(Struct, frozen=True, kw_only=True):
    """A variable. `value`: null where it is unset; `(hidden)` stands for a secret or a part of one.

    `set`: whether the web process found it set.
    """

    variable: str
    value: str | float | bool | None
    default: str | float | bool | None
    set: bool
    meaning: str


class SettingsInForce(Struct, frozen=True, kw_only=True):
    """All variables, by name, as the answering web process read them when it started."""

    data: list[SettingRow]


@endpoint("GET /settings", scope=Scope.VIEWER)
def list_settings(call: Call) -> SettingsInForce:
    """List the settings in force, without secrets."""
    return SettingsInForce(data=[record(row, SettingRow) for row in call.context.settings])


ENDPOINTS: Final[tuple[Endpoint, ...]] = (list_settings,)

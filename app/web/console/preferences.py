"""Choices of a viewer for one browser, kept in its cookies: how often pages renew themselves, and keys."""

from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from app.web.browser_sessions import write_partitioned

EVERY: Final = (5, 15, 60)  # seconds between two renewals
_EVERY: Final = "waylink-every"
_KEYS: Final = "waylink-keys"
_OFF: Final = "off"
_SECONDS: Final = 365 * 86_400  # that a cookie is kept


@dataclass(frozen=True, slots=True)
class Preferences:
    """every: seconds between two renewals of a page; None where it is not renewed. keys: whether keys lead to pages."""

    every: int | None = None
    keys: bool = True


def preferences_of(request: Request) -> Preferences:
    """Those of the request's cookies; of what no page of ours has set, the defaults."""
    chosen = request.cookies.get(_EVERY)
    every = next((each for each in EVERY if chosen == str(each)), None)
    return Preferences(every, keys=request.cookies.get(_KEYS) != _OFF)


def keep(response: Response, preferences: Preferences, *, is_secure: bool, is_embedded: bool) -> None:
    """Have the browser keep them for a year. is_secure: it sends the cookies over TLS alone. is_embedded: those of
    pages within another site's page, apart from those of Waylink's own.
    """
    values = {_EVERY: str(preferences.every or _OFF), _KEYS: "on" if preferences.keys else _OFF}
    for name, value in values.items():
        if is_embedded:
            write_partitioned(response, name, value, seconds=_SECONDS, path="/console")
            continue
        response.set_cookie(
            name, value, max_age=_SECONDS, path="/console", secure=is_secure, httponly=True, samesite="lax"
        )

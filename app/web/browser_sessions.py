"""Cookies of sessions, and the check that a request comes from a page of ours.

Over https a cookie's name begins with `__Host-`: browsers take it from this host alone, for all paths, over TLS.

A session within another site's page is a cookie of that page's site alone (`Partitioned`), which browsers send across
sites (`SameSite=None`). Forms of the embedded page itself come from our own origin; those of the page around it do not,
and are refused as any other site's.
"""

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
SESSION: Final = "waylink-session"
EMBEDDED: Final = "waylink-embedded"  # a session of a team's portal within another site's page
EMBEDDER: Final = "waylink-embedder"  # that page's origin and the team, for what is told once the session has ended
EMBEDDER_SECONDS: Final = 30 * 86_400
_FRAMES: Final = frozenset({"iframe", "frame"})
OIDC: Final = "waylink-oidc"  # the seed of a sign-in that is under way at the identity provider
OIDC_SECONDS: Final = 600


@dataclass(frozen=True, slots=True)
class Browsers:
    """Cookies and origins of browsers. console_url: the console's origin, where it is configured."""

    console_url: str | None = None

    def origin(self, request: Request) -> str:
        """The origin that the request was sent to. Its host was checked against the list of those allowed."""
        host = request.headers.get("host", "").lower()
        return f"{'https' if self.is_secure(request) else 'http'}://{host}"

    def is_secure(self, request: Request) -> bool:
        """Whether the browser sent it over TLS: as a trusted proxy says, or as the console's own URL does."""
        if request.url.scheme == "https":
            return True
        configured = urlsplit(self.console_url or "")
        return configured.scheme == "https" and configured.netloc.lower() == request.headers.get("host", "").lower()

    def is_own(self, request: Request) -> bool:
        """Whether a page of ours sent the request; a browser says so in headers that no page can set.

        Browsers without TLS off loopback send no `Sec-Fetch-Site`, but `Origin`.
        """
        site = request.headers.get("sec-fetch-site")
        if site is not None:
            return site == "same-origin"
        return request.headers.get("origin", "").lower() == self.origin(request)

    def session(self, request: Request) -> tuple[str, str] | None:
        """The name of the cookie with the request's session, and its secret; None without one.

        A page within another site's page has the embedded session alone, and other requests that one first, whose
        rights are fewer: a script's request does not say where its page is. A page of its own has the operator's first.
        """
        destination = request.headers.get("sec-fetch-dest")
        names = (EMBEDDED,) if destination in _FRAMES else (EMBEDDED, SESSION)
        ordered = names[::-1] if destination == "document" else names
        found = ((name, self.read(request, name)) for name in ordered)
        return next(((name, secret) for name, secret in found if secret), None)

    def read(self, request: Request, name: str) -> str | None:
        return request.cookies.get(self._full(request, name))

    def embedder(self, request: Request) -> tuple[str, str] | None:
        """The team and the origin of the page around, for a page within it that was a team's portal; else None."""
        if request.headers.get("sec-fetch-dest") not in _FRAMES:
            return None
        team, _, origin = (self.read(request, EMBEDDER) or "").partition("|")
        return (team, origin) if origin else None

    def write(self, request: Request, response: Response, name: str, value: str, *, seconds: int) -> None:
        if name in {EMBEDDED, EMBEDDER}:
            write_partitioned(response, self._full(request, name), value, seconds=seconds, path="/")
            return
        response.set_cookie(
            self._full(request, name),
            value,
            max_age=seconds,
            path="/",
            secure=self.is_secure(request),
            httponly=True,
            samesite="lax",
        )

    def clear(self, request: Request, response: Response, name: str) -> None:
        self.write(request, response, name, "", seconds=0)

    def _full(self, request: Request, name: str) -> str:
        return f"__Host-{name}" if self.is_secure(request) else name


def write_partitioned(response: Response, name: str, value: str, *, seconds: int, path: str) -> None:
    """A cookie of pages within one other site's page. Python's own cookies have no `Partitioned` before 3.14."""
    kept = f"{name}={value}; HttpOnly; Max-Age={seconds}; Path={path}"
    response.headers.append("set-cookie", f"{kept}; SameSite=None; Secure; Partitioned")

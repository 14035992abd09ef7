"""Serves the pages: checks of host, origin and rights, then the page's function; errors become pages."""

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, quote, urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from app.db.engine import Database
from app.db.errors import is_away
from app.domain.access import Access, GroupRights
from app.errors import WaylinkError
from app.openid.provider import Provider
from app.outage_causes import of_database
from app.services.operators.sessions import Lives, Portal, SignedIn, Visitor
from app.services.status.installation import Installation
from app.telemetry import get_logger
from app.web.access_table import PAGES, Needs
from app.web.api.authentication import Authenticator
from app.web.api.endpoint import Call, Context
from app.web.api.pool import CallPool
from app.web.api.problems import TOO_MANY_CALLS, ApiRefusal, refusal_for
from app.web.api.reading import read_content
from app.web.api.serving import literal_first
from app.web.browser_sessions import SAFE_METHODS, Browsers
from app.web.client_address import client_address
from app.web.console import notices
from app.web.console.embedding import closed, embedding_origin
from app.web.console.navigation import entries, may
from app.web.console.preferences import EVERY, preferences_of
from app.web.console.rendering import framed, message, page, see_other, unless_known
from app.web.hosts import host_of

FORM_LIMIT: Final = 8 * 1024  # bytes
MAX_FIELDS: Final = 20
FORM: Final = "application/x-www-form-urlencoded"
SCRIPTED: Final = "hx-request"  # a header of requests by scripts, which no redirect is to lead to another page
RENEWAL: Final = "waylink-renewal"  # a header of those that a timer sends
MAX_OWN: Final = 4  # sign-ins of one address at the same time
HASHING_THREADS: Final = 2  # each takes 64 MiB
THEMES: Final = "/console/theme"  # style sheets of teams' portals

log = get_logger(__name__)
Read = TypeVar("Read")


class FormNotRead(Exception):
    """A form, or a link of a page, that is not as the console writes it."""


def read_as(kind: Callable[[str], Read], text: str) -> Read:
    """A field that the console wrote itself, such as a number of rows. Raises FormNotRead."""
    try:
        return kind(text)
    except ValueError:
        raise FormNotRead from None


@dataclass(slots=True)
class ConsoleContext:
    """Dependencies of the pages; made once per process. api: those of the REST API's functions, which pages call.
    groups: rights by groups of the provider. installation: the configuration as it is now.
    """

    api: Context
    database: Database
    clock: Callable[[], datetime]
    authenticator: Authenticator
    provider: Provider | None
    groups: Sequence[GroupRights]
    installation: Callable[[], Installation]
    rows: CallPool = field(default_factory=lambda: CallPool(2, "console"), init=False)
    patterns: CallPool = field(default_factory=lambda: CallPool(1, "console-patterns"), init=False)
    nango_calls: CallPool = field(default_factory=lambda: CallPool(4, "console-nango"), init=False)
    hashing: CallPool = field(default_factory=lambda: CallPool(HASHING_THREADS, "sign-in"), init=False)
    provider_calls: CallPool = field(default_factory=lambda: CallPool(2, "single-sign-on"), init=False)
    _own: Counter[str] = field(default_factory=Counter, init=False)

    @property
    def browsers(self) -> Browsers:
        return self.authenticator.browsers

    @property
    def lives(self) -> Lives:
        return self.authenticator.lives

    @contextmanager
    def one_of_few(self, address: str) -> Iterator[None]:
        """Bound the sign-ins of an address at the same time, so that one client does not occupy the threads."""
        if self._own[address] >= MAX_OWN:
            raise ApiRefusal(TOO_MANY_CALLS, "Several sign-ins from your address are under way. Try again.")
        self._own[address] += 1
        try:
            yield
        finally:
            self._own[address] -= 1
            if not self._own[address]:
                del self._own[address]

    async def embedding_origin(self, request: Request) -> str | None:
        """The origin of the page around, as `embedding.embedding_origin`."""
        return await embedding_origin(self.browsers, request, self.database, self.rows)

    def close(self) -> None:
        for pool in (self.rows, self.patterns, self.nango_calls, self.hashing, self.provider_calls):
            pool.close()
        if self.provider is not None:
            self.provider.close()


@dataclass(frozen=True, slots=True)
class Visit:
    """One request for a page. `signed_in` is there on pages that need it, and may be on others."""

    request: Request
    signed_in: SignedIn | None

    @property
    def here(self) -> str:
        """The path and query that were asked for."""
        url = self.request.url
        return url.path + (f"?{url.query}" if url.query else "")

    @property
    def visitor(self) -> Visitor:
        return Visitor(client_address(self.request), self.request.headers.get("user-agent", ""))

    @property
    def portal(self) -> Portal | None:
        """The team's portal that the visitor has opened by a link; None for operators and strangers."""
        return self.signed_in.portal if self.signed_in is not None else None

    @property
    def access(self) -> Access:
        """The rights of the operator; of pages that need some."""
        assert self.signed_in is not None  # noqa: S101 - the access table asks for it
        return self.signed_in.access

    def may(self, operation: str) -> bool:
        """Whether the operator has the right to an operation of the access table, such as `POST /console/jobs/act`."""
        return may(self.access, operation)

    def call(self, context: ConsoleContext) -> Call:
        """A call of the REST API's functions with the operator's rights, who is the actor in the audit."""
        return Call(self.access, context.api)

    @property
    def is_renewal(self) -> bool:
        """Whether a page asks for its own content again by itself, and not the operator."""
        return RENEWAL in self.request.headers

    def page(
        self, template: str, *, status: int = 200, headers: dict[str, str] | None = None, **values: Any
    ) -> Response:
        """A page with the navigation, and with the notice of the act that led to it; its content alone for a script,
        and not even that for a renewal that would change nothing."""
        made = self.framed(page(template, status=status, headers=headers, **self.frame, **values))
        is_whole = status != 200 or not self.is_renewal
        return made if is_whole else unless_known(made, self.request.headers.get("if-none-match"))

    def message(self, title: str, *paragraphs: str, status: int, **values: Any) -> Response:
        """A page with the navigation that says one thing."""
        return self.framed(message(title, *paragraphs, status=status, **self.frame, **values))

    def framed(self, answer: Response) -> Response:
        """The answer, which a page may embed where the visitor's portal allows that."""
        return answer if self.portal is None else framed(answer, self.portal.origin)

    @property
    def frame(self) -> dict[str, Any]:
        """The values of the frame around a page, for the operator; for strangers none."""
        if self.signed_in is None:
            return {}
        chosen = preferences_of(self.request)
        return {
            "partial": self.request.headers.get("hx-request-type") == "partial",
            "every": chosen.every,
            "choices_of_every": (None, *EVERY),
            "keys": chosen.keys,
            "here": self.here,
            "visitor": self.signed_in.name,
            "navigation": entries(self.access, self.request.url.path),
            "notice": notices.text_of(self.request.query_params.get(notices.PARAMETER)),
            "may": self.may,
            **self._look,
        }

    @property
    def _look(self) -> dict[str, Any]:
        """The values of the frame that a team's portal has of its own."""
        if self.portal is None:
            return {}
        theme = f"{THEMES}/{self.portal.team}.css" if self.portal.look.color else None
        return {"brand": self.portal.look.title, "theme": theme}

    async def form(self, limit: int = FORM_LIMIT) -> dict[str, str]:
        """The fields of a form of `limit` bytes at most; of repeated ones the first. Raises Refusal, FormNotRead."""
        if self.request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
            raise FormNotRead
        content = await read_content(self.request, limit)
        try:
            pairs = parse_qsl(content.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
        except ValueError:
            raise FormNotRead from None
        return dict(reversed(pairs))


PageFunction = Callable[[ConsoleContext, Visit], Awaitable[Response]]


class Console:
    """Serves pages by `GET /path`, as the access table has them. hosts: the Host names that are accepted."""

    def __init__(self, context: ConsoleContext, pages: Mapping[str, PageFunction], hosts: Collection[str]) -> None:
        self.context, self._pages, self._hosts = context, pages, frozenset(hosts)

    def routes(self) -> list[BaseRoute]:
        """Routes for Starlette, one per path. Raises KeyError for a page that the access table does not have."""
        paths: dict[str, dict[str, tuple[Needs, PageFunction]]] = {}
        for operation, function in self._pages.items():
            method, _, path = operation.partition(" ")
            paths.setdefault(path, {})[method] = (PAGES[operation], function)
        return [
            Route(path, partial(self._serve, methods), methods=list(methods))
            for path, methods in sorted(paths.items(), key=literal_first)
        ]

    def close(self) -> None:
        self.context.close()

    async def _serve(self, methods: Mapping[str, tuple[Needs, PageFunction]], request: Request) -> Response:
        needs, function = methods["GET" if request.method == "HEAD" else request.method]
        visit = Visit(request, None)
        try:
            refused = self._unsafe(request)
            if refused is not None:
                return refused
            signed_in = await self.context.authenticator.signed_in(request, is_use=not visit.is_renewal)
            visit = Visit(request, signed_in)
            if signed_in is None and needs.scope is not None:
                origin = await self.context.embedding_origin(request)
                if origin is not None:
                    return closed(origin)
            return self._not_allowed(needs, visit) or await function(self.context, visit)
        except ApiRefusal as refusal:
            return _refused(visit, refusal)
        except WaylinkError as failed:
            known = refusal_for(failed)
            if known is None:
                raise
            return _refused(visit, known)
        except FormNotRead:
            log.info("form_not_read")  # the path of a link is a secret
            return visit.message("The form cannot be read", "Go back, and send it again.", status=400)
        except Exception as failed:
            if not is_away(failed):
                raise
            log.warning("console_database_away", problem=of_database(failed))
            return visit.message("The database does not answer", "Try again in a moment.", status=503)

    def _unsafe(self, request: Request) -> Response | None:
        """The refusal of a host that is not allowed, or of another site's form; None where there is neither."""
        host = host_of(request.headers.get("host", ""))
        if host not in self._hosts and "*" not in self._hosts:
            told = "The console is not served under this host name; WAYLINK_ALLOWED_HOSTS lists those it is."
            return message("Not under this name", told, status=421)
        if request.method not in SAFE_METHODS and not self.context.browsers.is_own(request):
            told = "The form was not sent by a page of Waylink's own, so nothing was done. Open the console anew."
            return message("The request came from another site", told, status=403)
        return None

    @staticmethod
    def _not_allowed(needs: Needs, visit: Visit) -> Response | None:
        """The way to the sign-in, or the refusal of an operator without the right; None where all is well."""
        if needs.scope is None:
            return None
        if visit.signed_in is None:
            if SCRIPTED in visit.request.headers:
                return message("Signed out", "Sign in again.", status=401, action=("Sign in", "/console/sign-in"))
            returns = visit.request.method in SAFE_METHODS and visit.request.url.path != "/console"
            return see_other("/console/sign-in" + (f"?next={quote(visit.here, safe='/')}" if returns else ""))
        if not visit.signed_in.access.allows(needs.scope, teams=needs.teams):
            told = f"This page needs the right `{needs.scope}`, which your account does not have."
            return visit.message("Not allowed", told, status=403)
        return None


def _refused(visit: Visit, refused: ApiRefusal) -> Response:
    """The page of a refusal, which leads back to the page with the form."""
    came_from = urlsplit(visit.request.headers.get("referer", ""))
    is_console = came_from.path.startswith("/console/") and came_from.netloc == visit.request.headers.get("host")
    back = f"{came_from.path}?{came_from.query}" if came_from.query else came_from.path
    values = {"action": ("Back", back)} if is_console and visit.request.method not in SAFE_METHODS else {}
    kind = refused.kind
    return visit.message(kind.title, refused.detail, status=kind.status, headers=refused.headers, **values)

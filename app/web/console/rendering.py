"""Pages from templates, with the headers that every page has."""

import json
import re
from datetime import datetime
from hashlib import sha256
from importlib.resources import files
from typing import Any, Final
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.responses import Response

from app.web.console.marks import mark_of
from app.web.static_files import static
from app.wording import counted

HEADERS: Final = {
    "content-security-policy": "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    # Not `no-referrer`, with which browsers send `Origin: null` with a form.
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
}

ID_LENGTH: Final = 36  # of a public id
LARGE: Final = 100_000  # smaller numbers, ports among them, are read without marks
_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|\+00:00))", re.ASCII)
_ABSENT: Final = "\u2013"  # an en dash
_TEMPLATES: Final = Environment(
    loader=FileSystemLoader(str(files("app.web.console") / "templates")),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def coded(text: str) -> Markup:
    """A sentence for people: its parts between backticks are set as code, and times of ISO 8601 as `moment` does."""
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if number % 2 else _with_times(part)
        for number, part in enumerate(text.split("`"))
    )


def _with_times(text: str) -> Markup:
    parts = _TIME.split(text)  # every other one is a time
    return Markup("").join(moment(part) if number % 2 else escape(part) for number, part in enumerate(parts))


def moment(at: str | datetime | None) -> Markup:
    """A time in UTC, to the second or to the minute; of an absent one a dash. The whole of it is in `datetime`."""
    if at is None:
        return escape(_ABSENT)
    whole = at if isinstance(at, str) else at.isoformat()
    return Markup('<time datetime="{}">{} UTC</time>').format(
        whole, whole[:19].partition("+")[0].rstrip("Z").replace("T", " ")
    )


def plain_json(value: Any, indent: int | None = None) -> str:
    """JSON for people, which the template escapes like any text."""
    return json.dumps(value, ensure_ascii=False, indent=indent, default=str)


def words(text: str) -> str:
    """A word of the API as people read it: `needs_reconnect` is `needs reconnect`."""
    return text.replace("_", " ")


def grouped(number: float) -> str:
    """A number for people: a whole one without decimals, and from 100,000 on with its thousands apart."""
    shown = int(number) if isinstance(number, float) and number.is_integer() else number
    return f"{shown:,}" if abs(shown) >= LARGE else str(shown)


def breakable(name: str) -> Markup:
    """A name of several parts, such as `crm.import_contacts`, that a line may end within: behind a part's mark."""
    return escape(name).replace(".", Markup(".<wbr>")).replace("_", Markup("_<wbr>")).replace("/", Markup("/<wbr>"))


def short(of: Any) -> Any:
    """One of Waylink's ids, such as `con_01a2…c0ffee`; any other value as it is."""
    is_id = isinstance(of, str) and len(of) == ID_LENGTH and of[3:4] == "_" and of[:3].isalpha()
    return f"{of[:8]}\u2026{of[-6:]}" if is_id else of


def is_moment(text: str) -> bool:
    """Whether a text is a whole time of ISO 8601 with its zone, as the API writes them."""
    if len(text) < len("2026-01-01T00:00:00Z") or text[10:11] != "T":
        return False
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def span(seconds: float | None) -> str:
    """A length of time for people, such as `4 ms`, `2.5 s`, `3 min`, `5 h` or `2 d`; of an absent one a dash."""
    if seconds is None:
        return _ABSENT
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def plural(noun: str) -> str:
    """The plural of a noun, as `counted` has it."""
    return counted(2, noun).removeprefix("2 ")


def link(path: str, **query: object) -> str:
    """A path with a query, without the parameters that are None or empty."""
    given = [(name, value) for name, value in query.items() if value not in (None, "")]
    return f"{path}?{urlencode(given)}" if given else path


_TEMPLATES.filters.update(
    breakable=breakable, coded=coded, grouped=grouped, moment=moment, span=span, tojson_plain=plain_json
)
_TEMPLATES.filters.update(is_moment=is_moment, mark_of=mark_of, short=short, words=words)
_TEMPLATES.globals.update(link=link, counted=counted, plural=plural, static=static)
# The values of the frame where no operator is signed in.
_NO_FRAME: Final = {
    "visitor": None,
    "navigation": (),
    "notice": None,
    "partial": False,
    "every": None,
    "brand": None,
    "theme": None,
}


def page(template: str, *, status: int = 200, headers: dict[str, str] | None = None, **values: Any) -> Response:
    """A page of this template, for pages without a visitor; `Visit.page` makes those with the navigation."""
    html = _TEMPLATES.get_template(template).render({**_NO_FRAME, **values})
    return Response(html, status, {**HEADERS, **(headers or {})}, media_type="text/html")


def unless_known(response: Response, known: str | None) -> Response:
    """The response with an ETag of its content, or 304 where the browser has the same. known: its `If-None-Match`."""
    etag = f'"{sha256(response.body).hexdigest()[:32]}"'
    if known == etag:
        return Response(status_code=304, headers={**HEADERS, "etag": etag})
    response.headers["etag"] = etag
    return response


def message(
    title: str, *paragraphs: str, status: int, headers: dict[str, str] | None = None, **values: Any
) -> Response:
    """A page that says one thing. It leads to the console, or to `action`, a label and a path; None: nowhere."""
    values = {"action": ("To the console", "/console"), "groups": None, **values}
    return page("message.html", status=status, headers=headers, title=title, paragraphs=paragraphs, **values)


def framed(answer: Response, origin: str | None) -> Response:
    """The answer, which pages of this origin may embed; without one none may."""
    policy = answer.headers.get("content-security-policy")
    if origin is not None and policy is not None:
        answer.headers["content-security-policy"] = policy.replace(
            "frame-ancestors 'none'", f"frame-ancestors {origin}"
        )
    return answer


def see_other(path: str) -> Response:
    """An answer that leads a browser on by GET."""
    return Response(status_code=303, headers={**HEADERS, "location": path})

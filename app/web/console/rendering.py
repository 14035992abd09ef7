"""Pages from templates, with the headers that every page has."""

from importlib.resources import files
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.responses import Response

HEADERS: Final = {
    "content-security-policy": "default-src 'none'; style-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    # Not `no-referrer`, with which browsers send `Origin: null` with a form.
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
}

_TEMPLATES: Final = Environment(
    loader=FileSystemLoader(str(files("app.web.console") / "templates")),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def coded(text: str) -> Markup:
    """Text whose parts between backticks are set as code."""
    parts = (escape(part) for part in text.split("`"))
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if number % 2 else part for number, part in enumerate(parts)
    )


_TEMPLATES.filters["coded"] = coded


def page(template: str, *, status: int = 200, headers: dict[str, str] | None = None, **values: Any) -> Response:
    """A page of this template. `visitor`, the operator's name, is None unless a template gets one."""
    html = _TEMPLATES.get_template(template).render({"visitor": None, **values})
    return Response(html, status, {**HEADERS, **(headers or {})}, media_type="text/html")


def message(
    title: str, *paragraphs: str, status: int, headers: dict[str, str] | None = None, **values: Any
) -> Response:
    """A page that says one thing. It leads to the console, or to `action`, a label and a path."""
    values = {"action": ("To the console", "/console"), "groups": None, **values}
    return page("message.html", status=status, headers=headers, title=title, paragraphs=paragraphs, **values)


def see_other(path: str) -> Response:
    """An answer that leads a browser on by GET."""
    return Response(status_code=303, headers={**HEADERS, "location": path})

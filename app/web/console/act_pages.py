"""Acts: a page that says what will be done, with the fields that it needs, and the act itself by its form.

An act calls a function of the REST API. Where that refuses a value, the page is shown again with what is wrong at its
field, and with everything that was typed. What is done leads back by 303, with a notice; an answer with a secret is
shown once instead.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.responses import Response

from app.errors import FieldFault, InvalidFields, NangoError, NotFound, WaylinkError
from app.web.api.endpoint import Endpoint
from app.web.api.problems import ApiRefusal, refusal_for
from app.web.console import notices
from app.web.console.calling import ask
from app.web.console.rendering import link, see_other
from app.web.console.serving import ConsoleContext, PageFunction, Visit

FORM_LIMIT: Final = 128 * 1024  # bytes, for documents and patterns
_BROKEN: Final = 422

Parts = Mapping[str, str]  # of the path, by name
Form = Mapping[str, str]


def json_of(form: Form, name: str) -> Any:
    """The JSON of a field. Raises InvalidFields, with line and column."""
    try:
        return json.loads(form.get(name, ""))
    except json.JSONDecodeError as wrong:
        told = f"is not JSON: {wrong.msg} at line {wrong.lineno}, column {wrong.colno}"
        raise InvalidFields([FieldFault(name, "json", told)]) from None
    except (ValueError, RecursionError):
        raise InvalidFields([FieldFault(name, "json", "is not JSON that can be read")]) from None


@dataclass(frozen=True, slots=True)
class Field:
    """A field of an act's form. kind: `text`, `long`, `pattern`, `password`, `check`, `hidden`; with choices it is a
    selection.
    """

    name: str
    label: str
    hint: str = ""
    kind: str = "text"
    value: str = ""
    choices: Sequence[str] = ()
    required: bool = True


REASON: Final = Field("reason", "Reason", "It is recorded in the audit.")


@dataclass(frozen=True, slots=True)
class Told:
    """The content of an act's page: sentences, facts about the row by their names, and the fields of the form."""

    sentences: Sequence[str] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    fields: Sequence[Field] = ()
    possible: bool = True


def _nothing(_form: Form) -> dict[str, Any]:
    return {}


@dataclass(frozen=True, slots=True)
class Act:
    """An act on a row. tell: what the page says, with the row read for it. back: the path that it leads back to.

    query, body, parts: from the fields of the form, as the endpoint takes them; parts are of its path. notice: its
    code. once: names and values of an answer with a secret, which is shown in place of leading back. count: the
    member of the answer that the notice counts.
    """

    endpoint: Endpoint
    title: str
    button: str
    tell: Callable[[ConsoleContext, Visit, Parts], Any]  # an awaitable Told
    back: Callable[[Parts], str]
    notice: str | None = None
    query: Callable[[Form], dict[str, Any]] = _nothing
    body: Callable[[Form], dict[str, Any]] = _nothing
    parts: Callable[[Form], dict[str, str]] = _nothing
    once: Callable[[Any], Sequence[tuple[str, str]]] | None = None
    is_danger: bool = False
    count: str | None = None

    async def show(self, context: ConsoleContext, visit: Visit) -> Response:
        """The page before the act."""
        told = await self.tell(context, visit, visit.request.path_params)
        return self._page(visit, told, {}, {}, status=200)

    async def do(self, context: ConsoleContext, visit: Visit) -> Response:
        """Carry the act out, and lead back."""
        form, parts = await visit.form(FORM_LIMIT), visit.request.path_params
        try:
            query, body = self.query(form), self.body(form)
            found = {**parts, **self.parts(form)}
            answer = await ask(context, visit, self.endpoint, **found, query=query, body=body)
        except (ApiRefusal, WaylinkError) as failed:
            refused = failed if isinstance(failed, ApiRefusal) else refusal_for(failed)
            if refused is None or isinstance(failed, NotFound):
                raise
            told = await self.tell(context, visit, parts)
            status = refused.kind.status if isinstance(failed, NangoError) or refused.kind.status >= 403 else _BROKEN
            return self._page(visit, told, form, _problems(refused, told), status=status)
        if self.once is not None:
            return visit.page("once.html", values=self.once(answer), title=self.title, back=self.back(parts))
        return see_other(self._onward(answer, parts))

    def _onward(self, answer: Any, parts: Parts) -> str:
        if self.notice is None:
            return self.back(parts)
        count = int(getattr(answer, self.count)) if self.count else None
        back = self.back(parts)
        done = link("", **{notices.PARAMETER: notices.code(self.notice, count)})
        return f"{back}&{done[1:]}" if "?" in back else f"{back}{done}"

    def _page(self, visit: Visit, told: Told, form: Form, problems: Mapping[str, str], *, status: int) -> Response:
        return visit.page(
            "act.html",
            status=status,
            title=self.title,
            button=self.button,
            told=told,
            form=form,
            problems=problems,
            path=visit.request.url.path,
            back=self.back(visit.request.path_params),
            is_danger=self.is_danger,
        )


def _problems(refused: ApiRefusal, told: Told) -> dict[str, str]:
    """The faults by their field's name; under the empty name where no field of the form has it."""
    names = {each.name for each in told.fields}
    found: dict[str, str] = {}
    for error in refused.errors:
        name = str(error["field"])
        short = next((part for part in (name, name.partition(".")[0], name.partition("[")[0]) if part in names), "")
        found[short] = f"{found[short]} {error['detail']}" if short in found else str(error["detail"])
    return found or {"": refused.detail}


def pages_of(acts: Mapping[str, Act]) -> dict[str, PageFunction]:
    """The pages of acts by their paths: one to look at, and one to carry out."""
    found: dict[str, PageFunction] = {}
    for path, act in acts.items():
        found |= {f"GET {path}": act.show, f"POST {path}": act.do}
    return found


def telling(*sentences: str, fields: Sequence[Field] = ()) -> Callable[[ConsoleContext, Visit, Parts], Any]:
    """The same content for each row, without reading it."""

    async def tell(_context: ConsoleContext, _visit: Visit, _parts: Parts) -> Told:
        return Told(sentences, fields=fields)

    return tell


def with_sentences(tell: Any, *sentences: str, fields: tuple[Field, ...] = ()) -> Any:
    """The same content, with sentences before it and fields after it."""

    async def told(context: ConsoleContext, visit: Visit, parts: Parts) -> Told:
        found = await tell(context, visit, parts)
        return Told((*sentences, *found.sentences), found.facts, (*found.fields, *fields))

    return told


def optional(form: Form, *names: str) -> dict[str, Any]:
    """The fields of these names that are filled in, without blanks around them."""
    return {name: form[name].strip() for name in names if form.get(name, "").strip()}

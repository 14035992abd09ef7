"""Acts on many rows: a page that says which and counts them, and the act with a reason for the audit.

The rows are those of a filter, or a selection by ids. An act calls a function of the REST API: with `dry_run` for the
page, then with the count that the page showed. Where more match by then, the page is shown anew.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import parse_qsl

from starlette.responses import Response

from app.domain.bulk_runs import BulkState
from app.errors import Conflict
from app.services.bulk_runs.run_requests import LONGEST_REASON
from app.web.api.endpoint import Endpoint
from app.web.console import bulk_runs, notices
from app.web.console.act_pages import FORM_LIMIT
from app.web.console.calling import ask
from app.web.console.fields import REFUSALS, Fields, Problems, given_in
from app.web.console.rendering import link, see_other
from app.web.console.serving import ConsoleContext, FormNotRead, Visit, read_as
from app.web.console.tables import Column
from app.wording import counted

NO_REASON: Final = "Give a reason: the audit records it."
SELECTION: Final = "selection"  # a field of the list's form: its boxes, named `id`, are meant, not a filter
IDS: Final = "ids"  # the same in the form of the act, with blanks between them
MOST_PAIRS: Final = 1100
_PAGING: Final = frozenset({"cursor", "limit"})

Given = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting of an act, beside its filter. choices: texts by their values; without any it takes a text."""

    name: str
    label: str
    choices: Mapping[str, str] = field(default_factory=dict)
    hint: str = ""


def _no_settings(_given: Given) -> dict[str, Any]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkActPage:
    """An act on many rows. noun: of the rows. tell: what will be done, as the end of a sentence that begins with their
    count. nothing: what is said where no row matches.

    fixed: hidden fields of its forms. renamed: filters of the list, and their names in the act; left_out: those that it
    has not. defaults: of the filter. needs, needs_setting: filters and a setting that it has to have, and `asks` for.
    settings, body: the settings, and the members of the endpoint's body by them. samples: paths and texts of some rows;
    columns, groups: the count in parts. notice: its code. kept: filters that lead back to the list.
    """

    endpoint: Endpoint
    path: str
    rows_path: str
    list_name: str
    title: str
    verb: str
    noun: str
    counted_as: str
    fields: Fields
    tell: Callable[[Any, Given], str]
    nothing: str
    samples: Callable[[Any], Sequence[tuple[str, str]]]
    back: Callable[[Given], str]
    fixed: Given = field(default_factory=dict)
    renamed: Given = field(default_factory=dict)
    left_out: Collection[str] = ()
    defaults: Given = field(default_factory=dict)
    needs: Collection[str] = ()
    needs_setting: str = ""
    asks: str = ""
    settings: Sequence[Setting] = ()
    body: Callable[[Given], dict[str, Any]] = _no_settings
    columns: Sequence[Column] = ()
    groups: Callable[[Any], Sequence[Mapping[str, Any]]] = lambda _: ()
    notice: str | None = None
    kept: Collection[str] = ()
    is_danger: bool = False

    async def show(self, context: ConsoleContext, visit: Visit) -> Response:
        """The rows that the act would take, with their number; the filter can be changed."""
        given = self._given(visit)
        if given.get(IDS) == "":
            # Nothing is asked: without ids and filters the act would be one on all rows.
            return self._shown(visit, {}, None, problem="Nothing is selected: tick rows of the list.", status=422)
        return await self._page(context, visit, given if IDS in given else {**self.defaults, **given})

    async def do(self, context: ConsoleContext, visit: Visit) -> Response:
        """Carry out the act on the rows of the page; where more match by now, show the page anew."""
        return await self.carry_out(context, visit, await visit.form(FORM_LIMIT))

    async def carry_out(self, context: ConsoleContext, visit: Visit, form: Given) -> Response:
        """The same, with the form that was read."""
        given = {name: text.strip() for name, text in form.items() if text.strip() and name not in self.fixed}
        reason, expected = given.pop("reason", ""), given.pop("expected", "")
        again = partial(self._page, context, visit, given, reason=reason)
        if not reason or len(reason) > LONGEST_REASON:
            told = f"The reason has {counted(len(reason), 'character')}: at most {LONGEST_REASON} are kept."
            return await again(problem=told if reason else NO_REASON, status=422)
        try:
            done = await self._ask(context, visit, given, expected=read_as(int, expected), reason=reason)
        except Conflict as changed:
            return await again(problem=str(changed), status=409)
        except REFUSALS as refused:
            return await again(refused=refused)
        if done.run is not None and (self.notice is None or done.run.state != BulkState.DONE):
            return see_other(f"{bulk_runs.PATH}/{done.run.id}")
        code = notices.code(self.notice, done.changed) if self.notice is not None else None
        return see_other(link(self.rows_path, **{name: given[name] for name in self.kept if name in given}, done=code))

    def _given(self, visit: Visit) -> dict[str, str]:
        pairs = read_as(partial(parse_qsl, max_num_fields=MOST_PAIRS), visit.request.url.query)
        if any(name == SELECTION for name, _ in pairs):
            return {IDS: " ".join(text for name, text in pairs if name == "id")}
        left_out = {*_PAGING, *self.left_out, *self.fixed}
        given = {name: text for name, text in given_in(visit).items() if name not in left_out}
        return {self.renamed.get(name, name): text for name, text in given.items()}

    async def _ask(
        self,
        context: ConsoleContext,
        visit: Visit,
        given: Given,
        *,
        expected: int | None = None,
        reason: str | None = None,
    ) -> Any:
        """The answer of the API; without `expected` of a dry run."""
        settings = {each.name for each in self.settings}
        chosen = {name: text for name, text in given.items() if name not in settings}
        which = {"ids": chosen[IDS].split()} if IDS in chosen else {"filter": self.fields.read(chosen)}
        how = {"dry_run": True} if expected is None else {"expected": expected, "reason": reason}
        return await ask(context, visit, self.endpoint, body={**which, **how, **self.body(given)})

    async def _page(
        self,
        context: ConsoleContext,
        visit: Visit,
        given: Given,
        *,
        problem: str | None = None,
        refused: Exception | None = None,
        reason: str = "",
        status: int = 200,
    ) -> Response:
        found = None
        problems: Problems = {}
        needs = {*(() if IDS in given else self.needs), *((self.needs_setting,) if self.needs_setting else ())}
        asks = not given.keys() >= needs
        try:
            found = await self._ask(context, visit, given)
        except REFUSALS as wrong:
            problems, status = ({}, status) if asks else (self.fields.problems(wrong), 422)
        if refused is not None and found is not None:  # the act was refused, and its dry run was not
            problem, status = " ".join(self.fields.problems(refused).values()), 422
        shown = partial(self._shown, visit, given, found, problem=problem, reason=reason, status=status)
        return shown(problems=problems, asks=asks)

    def _shown(
        self,
        visit: Visit,
        given: Given,
        found: Any,
        *,
        problem: str | None = None,
        reason: str = "",
        status: int = 200,
        problems: Problems = MappingProxyType({}),
        asks: bool = False,
    ) -> Response:
        return visit.page(
            "bulk_act.html",
            status=status,
            told=self,
            found=found,
            sentence=self.tell(found, given) if found is not None else "",
            samples=self.samples(found) if found is not None else (),
            groups=self.groups(found) if found is not None else (),
            filters=self.fields.shown(given, problems),
            wrong=problems.get(""),
            asks=asks,
            given=given,
            is_selection=IDS in given,
            left_alone=getattr(found, "left_alone", ()),
            problem=problem,
            reason=reason,
            back=self.back(given),
        )


@dataclass(frozen=True, slots=True)
class OneOf:
    """Pages at one path, told apart by a field of their forms."""

    name: str
    pages: Mapping[str, BulkActPage]
    default: str | None = None

    async def show(self, context: ConsoleContext, visit: Visit) -> Response:
        """The page of the act that the URL names."""
        return await self._named(given_in(visit).get(self.name, self.default)).show(context, visit)

    async def do(self, context: ConsoleContext, visit: Visit) -> Response:
        """Carry out the act that the form names."""
        form = await visit.form(FORM_LIMIT)
        return await self._named(form.get(self.name)).carry_out(context, visit, form)

    def _named(self, name: str | None) -> BulkActPage:
        """Raises FormNotRead for an act that there is not."""
        page = self.pages.get(name or "")
        if page is None:
            raise FormNotRead
        return page

"""The trial of a pattern: on a sample or a stored event, and on the newest events, also while it is typed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from starlette.responses import Response

from app.errors import WaylinkError
from app.web.api import dry_runs
from app.web.api.dry_runs import History
from app.web.api.problems import ApiRefusal, refusal_for
from app.web.console.act_pages import FORM_LIMIT, Form, json_of
from app.web.console.calling import ask
from app.web.console.serving import SCRIPTED, ConsoleContext, Visit

NEWEST: Final = 1_000  # stored events that a pattern is tried on
_PATTERN: Final = '{"type": ["connection.created"]}'
_SAMPLE: Final = """{
  "type": "connection.created",
  "integration": "google-mail",
  "tags": {"plan": "pro"}
}"""
_ALL: Final = "3650d"
_NAMES: Final = ("pattern", "document", "event")
_EDITING: Final = "POST /console/routes/add"  # who may add a route may try its pattern on what happened


@dataclass(frozen=True, slots=True)
class Tried:
    """The result of a trial. sample: conditions and whether all hold; None without a sample. history: None for those
    who may not add routes. problems: by the field, and under the empty name those of none.
    """

    sample: Any
    history: History | None
    problems: Mapping[str, str]


async def show_trial(_context: ConsoleContext, visit: Visit) -> Response:
    """The form to try a pattern on a pasted sample or a stored event, and on the newest events."""
    return _page(visit, dict(visit.request.query_params), None)


async def try_pattern(context: ConsoleContext, visit: Visit) -> Response:
    """Try a pattern: each condition with its expected and its actual value, and the matching events.

    Nothing is changed. A script asks while the pattern is typed: a fault of it is then no failed request.
    """
    form = await visit.form(FORM_LIMIT)
    tried = await _tried(context, visit, form)
    return _page(visit, form, tried, status=422 if tried.problems and SCRIPTED not in visit.request.headers else 200)


async def _tried(context: ConsoleContext, visit: Visit, form: Form) -> Tried:
    problems: dict[str, str] = {}
    given, sample, history = {"pattern": form.get("pattern", "")}, None, None
    is_editing = visit.may(_EDITING)
    event, document = form.get("event", "").strip(), form.get("document", "").strip()
    try:
        if event or document or not is_editing:
            source = {"event": event} if event else {"document": json_of(form, "document")}
            sample = await ask(context, visit, dry_runs.try_pattern, body=given | source)
    except (ApiRefusal, WaylinkError) as failed:
        problems |= _problems(failed)
    try:
        if is_editing and "pattern" not in problems:
            past = {"since": _ALL, "limit": NEWEST, "own": visit.access.team is not None}
            history = (await ask(context, visit, dry_runs.try_pattern, body=given | past)).history
    except (ApiRefusal, WaylinkError) as failed:
        problems |= _problems(failed)
    return Tried(sample, history, problems)


def _problems(failed: ApiRefusal | WaylinkError) -> dict[str, str]:
    """The faults by their field. Raises the error again where it is a fault of Waylink."""
    refused = failed if isinstance(failed, ApiRefusal) else refusal_for(failed)
    if refused is None:
        raise failed
    found = {
        next((name for name in _NAMES if str(error["field"]).startswith(name)), "pattern"): _told(error)
        for error in refused.errors
    }
    return found or {"": refused.detail}


def _told(error: Mapping[str, object]) -> str:
    """A fault, with its place where that is a part of the pattern."""
    field, detail = str(error["field"]), str(error["detail"])
    return detail if field in {"", *_NAMES} else f"{field}: {detail}"


def _page(visit: Visit, form: Form, tried: Tried | None, *, status: int = 200) -> Response:
    values = {"pattern": _PATTERN, "document": _SAMPLE, "event": "", **form}
    problems = tried.problems if tried else {}
    is_editing = visit.may(_EDITING)
    return visit.page(
        "trial.html", status=status, values=values, tried=tried, problems=problems, is_editing=is_editing, newest=NEWEST
    )

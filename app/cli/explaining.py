"""`waylink routes explain` and `waylink routes test`: decisions with their conditions; a pattern tried on events."""

import json
import sys
from collections.abc import Mapping
from contextlib import closing, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import click

from app.cli.interrupts import interrupts
from app.cli.opening import open_current
from app.cli.options import AS_JSON, read_duration
from app.cli.output import print_one, print_rows
from app.clock import utc_now
from app.config.loading import load_database
from app.domain.json_errors import why_not_json
from app.domain.json_keys import repeated_key
from app.domain.json_values import read_with_repeats
from app.domain.patterns import Condition, Pattern, compile_pattern
from app.domain.routing import RoutingDecision
from app.domain.shortening import shortened
from app.domain.tags import in_lower_case
from app.errors import InvalidInput, InvalidPattern
from app.ids import EVENT, parse, show
from app.qualified_names import split_target, within
from app.services.routing.explanations import (
    AGAIN,
    DecisionRenderer,
    Explanation,
    RouteSelection,
    Trial,
    document_of,
    explain,
    pattern_of,
    shown,
    shown_sample,
    try_on_history,
)
from app.text_input import decoded
from app.wording import counted

MAX_EVENTS: Final = 10_000_000
MAX_BYTES: Final = 64 * 1024 * 1024  # of a file: the largest body that can be taken
MAX_SAID: Final = 20  # conditions in one line


@click.command("explain")
@click.argument("event_id", metavar="EVENT")
@click.option("--now", is_flag=True, help="By the routes in force now, instead of those of its time.")
@click.option("--route", metavar="TEAM/NAME", help="This route alone.")
@click.option("--team", help="The routes of this team.")
@AS_JSON
def explain_event(event_id: str, *, now: bool, route: str | None, team: str | None, as_json: bool) -> None:
    """Explain why each route matched an event or did not: every condition, what it expected and what it found."""
    owner, name = within(team, "route", route)
    with closing(open_current(load_database())) as database:
        found = explain(database, parse(EVENT, event_id), now=now, selection=RouteSelection(team=owner, route=name))
    if as_json:
        print_one(shown(found, now=now), as_json=True)
        return
    click.echo(_headline(found, now=now))
    columns = ("team", "route", "version", "job", "matched", "why")
    print_rows([_summary(decision) for decision in found.decisions], columns, as_json=False)


@click.command("test")
@click.argument("pattern")
@click.option("--event", "event", metavar="FILE", help="An event document: a file, `-`, or the id of a stored event.")
@click.option("--since", metavar="DURATION", help="The stored events of so long, such as 7d.")
@click.option("--against", metavar="TEAM/NAME", help="With --since: what changes against this route.")
@click.option("--limit", type=click.IntRange(1, MAX_EVENTS), default=100_000, show_default=True, help="Events at most.")
@AS_JSON
@click.pass_context
def test_pattern(
    context: click.Context,
    /,
    *,
    pattern: str,
    event: str | None,
    since: str | None,
    against: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """Try a pattern: JSON, or a file of it. Exit 0: it matches; 1: it does not; 2: it cannot be used, and why."""
    if (event is None) == (since is None):
        raise click.UsageError("give either --event or --since")
    if against is not None and since is None:
        raise click.UsageError("--against goes with --since")
    compiled = _pattern(pattern)
    if event is not None:
        conditions = compiled.explain(_document(event))
        matched = all(condition.matched for condition in conditions)
        told = DecisionRenderer().conditions(conditions)
        if as_json:
            print_one({"matched": matched, **told}, as_json=True)
        else:
            click.echo("matches" if matched else "does not match")
            print_rows(told["conditions"], ("path", "expected", "actual", "matched"), as_json=False)
            if left_out := told.get("left_out"):
                click.echo(f"and {left_out} more conditions, for which there is no room")
    else:
        past = read_duration(context, context.command.params[0], since or "")
        matched = _on_history(compiled, past, against, limit, as_json=as_json)
    context.exit(0 if matched else 1)


def pattern_text(given: str) -> str:
    """The pattern's JSON: the argument if it begins with a brace, else the file of that name. Raises InvalidInput."""
    return given if given.lstrip().startswith("{") else _text(given)


def _pattern(given: str) -> Pattern:
    try:
        return compile_pattern(pattern_text(given))
    except InvalidPattern as refused:
        raise InvalidInput(f"the pattern is refused: {refused}") from None


def _text(name: str) -> str:
    try:
        with nullcontext(sys.stdin.buffer) if name == "-" else Path(name).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise InvalidInput(f"{name}: longer than {MAX_BYTES // 1024 // 1024} MiB, which no event is")
        return decoded(content)
    except (OSError, ValueError) as failed:
        reason = failed.strerror if isinstance(failed, OSError) else failed
        raise InvalidInput(f"{name}: cannot be read: {reason}") from None


def _document(event: str) -> Mapping[str, Any]:
    if event.startswith(f"{EVENT}_"):
        with closing(open_current(load_database())) as database, database.read() as session:
            return document_of(session, parse(EVENT, event))
    try:
        document, repeated = read_with_repeats(_text(event))
    except json.JSONDecodeError as wrong:
        raise InvalidInput(f"{event}: not JSON: {why_not_json(wrong)}") from None
    except (ValueError, RecursionError):
        raise InvalidInput(f"{event}: not usable JSON: a number or a nesting beyond all bounds") from None
    if repeated and (found := repeated_key(document)):
        raise InvalidInput(f"{event}: {found.place}: {found.reason}")
    if not isinstance(document, dict):
        raise InvalidInput(f"{event}: an event document is an object")
    return in_lower_case(document)


def _on_history(pattern: Pattern, since: timedelta, against: str | None, limit: int, *, as_json: bool) -> bool:
    trial, stopped = Trial(), False
    shows_progress = sys.stderr.isatty()
    compared = None if against is None else split_target("route", against)
    with closing(open_current(load_database())) as database:
        route = None
        if compared is not None:
            with database.read() as session:
                route = pattern_of(session, team=compared[0], name=compared[1])
        try:
            with interrupts() as ctrl_c:
                for trial in try_on_history(
                    database, pattern, now=utc_now(), since=since, against=route, at_most=limit
                ):
                    if shows_progress:
                        click.echo(f"\r{counted(trial.scanned, 'event')}, {trial.matched} match", err=True, nl=False)
                    ctrl_c.check()
        except KeyboardInterrupt:
            stopped = True
    if shows_progress:
        click.echo(err=True)
    _print_trial(trial, against, stopped=stopped, limit=limit, as_json=as_json)
    return trial.matched > 0


def _print_trial(trial: Trial, against: str | None, *, stopped: bool, limit: int, as_json: bool) -> None:
    counts: dict[str, Any] = {"looked_at": trial.scanned, "matched": trial.matched}
    if against is not None:
        counts |= {"against": against, "gained": trial.gained, "lost": trial.lost, "unchanged": trial.unchanged}
    if trial.undecided:
        counts["undecided"] = trial.undecided
    counts |= {"oldest": trial.oldest.isoformat() if trial.oldest else None, "complete": trial.complete}
    samples = [shown_sample(kind, event) for kind, events in sorted(trial.samples.items()) for event in events]
    if as_json:
        print_one({**counts, "samples": samples}, as_json=True)
        return
    print_one(counts, as_json=False)
    if not trial.complete:
        click.echo("stopped by you" if stopped else f"stopped after --limit: {counted(limit, 'event')}")
    if samples:
        print_rows(samples, ("sample", "id", "type", "integration", "connection_id", "tags"), as_json=False)


def _headline(found: Explanation, *, now: bool) -> str:
    matched = sum(decision.matched for decision in found.decisions)
    by = "the routes in force now" if now else "the routes of its time"
    routes = counted(len(found.decisions), "route")
    line = f"{show(EVENT, found.event_id)}  {found.type}  matched by {matched} of {routes}, by {by}"
    return f"{line} (set {found.route_set})" + (f"\nnot routed: {found.suppressed}" if found.suppressed else "")


def _summary(decision: RoutingDecision) -> dict[str, Any]:
    route = decision.route
    told = [each for each in decision.conditions if not each.matched] or decision.conditions
    why = "; ".join(map(_said, told[:MAX_SAID]))
    if len(told) > MAX_SAID:
        why += f"; and {len(told) - MAX_SAID} more"
    row = {
        "team": route.team,
        "route": route.name,
        "version": route.version,
        "job": route.job,
        "matched": decision.matched,
    }
    return {**row, "why": why if route.enabled else f"disabled; {why}"}


def _said(condition: Condition) -> str:
    expected = json.dumps(shortened(condition.expected, AGAIN), ensure_ascii=False)
    found = json.dumps(shortened(condition.actual, AGAIN), ensure_ascii=False) if condition.present else "not there"
    where = condition.path or "the whole"
    return f"{where}: is {found}" if condition.matched else f"{where}: expected {expected}, found {found}"

"""`waylink connections bulk`: one act on many connections, as a bulk run."""

import sys
from contextlib import closing
from dataclasses import replace
from typing import Any, Final

import click

from app.cli import bulk_runs
from app.cli.bulk_actions import require_consent
from app.cli.connection_operations import require_usable
from app.cli.hinting import open_hints
from app.cli.opening import cli_actor, open_current
from app.cli.options import AS_JSON, choice, filters_of_connections, read_pairs
from app.cli.output import print_one
from app.clock import utc_now
from app.config.loading import load_environments
from app.db.read import chosen_connections, connection_search
from app.db.read.chosen_connections import ConnectionFilters
from app.domain import tags as tag_rules
from app.domain.bulk_runs import OF_CONNECTIONS, BulkAct, BulkState
from app.ids import CONNECTION, parse, show
from app.runtime.wiring import open_clients, policy_of
from app.services.bulk_runs.connection_acts import ConnectionActs, ConnectionsWanted
from app.services.bulk_runs.row_acts import written
from app.services.bulk_runs.run_requests import RunWanted
from app.services.routing.cache import RouteCache
from app.wording import counted

ACTS: Final = {act.partition(".")[2].replace("_", "-"): act for act in sorted(OF_CONNECTIONS)}
SAMPLES: Final = 5


@click.command("bulk")
@click.argument("act", type=choice(ACTS), metavar="ACT")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "everything", is_flag=True, help="All connections.")
@filters_of_connections
@click.option("--set-tag", "added", multiple=True, metavar="K=V", help="With add-tags: a tag to set; may be repeated.")
@click.option("--remove-tag", "removed", multiple=True, metavar="KEY", help="With remove-tags; may be repeated.")
@click.option("--reason", help="Recorded in the audit.")
@click.option("--dry-run", is_flag=True, help="Say how many, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@AS_JSON
def act_on_connections(
    *,
    act: str,
    ids: tuple[str, ...],
    everything: bool,
    tagged: tuple[str, ...],
    added: tuple[str, ...],
    removed: tuple[str, ...],
    reason: str | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Act on many connections: refresh, add-tags, remove-tags, unlink or delete them.

    By our `con_…` ids, or all that the options mean, as a bulk run. What asks Nango is within the request budget.
    """
    filters = _filters(ids, tagged, given, everything=everything)
    settings = load_environments([])  # those of the connections decide
    with closing(open_current(settings)) as database, open_hints(settings) as hints, open_clients(settings) as clients:
        with database.read() as session:
            if filters.q is not None:
                filters = replace(filters, q=str(connection_search.read(session, filters.q)) or None)
            groups = chosen_connections.count(session, filters)
            samples = chosen_connections.samples(session, filters, limit=SAMPLES)
        require_usable(settings, {group.environment for group in groups})
        wanted, count = _wanted(ACTS[act], added, removed, filters), sum(group.count for group in groups)
        if not as_json:
            for group in groups:
                click.echo(f"{group.count:>9,}  {group.environment}  {group.integration}  {group.status}", err=True)
        if dry_run:
            shown = [show(CONNECTION, sample.id) for sample in samples]
            print_one({"dry_run": True, "count": count, "samples": shown}, as_json=as_json)
            return
        run, stopped = None, False
        if count:
            require_consent(f"{act.replace('-', ' ').capitalize()}: {counted(count, 'connection')}?", yes=yes)
            asked = RunWanted(
                act=ACTS[act],
                chosen=written(wanted),
                shown=wanted.audited,
                counted=count,
                reason=reason,
                actor=cli_actor(),
            )
            acts = ConnectionActs(database, policy_of(settings), clients, RouteCache(), utc_now)
            run, stopped = bulk_runs.carry_out(database, hints, asked, of_connections=acts)
    print_one(bulk_runs.result(run, "done", more=False, stopped=stopped), as_json=as_json)
    sys.exit(1 if stopped or (run and (run.state != BulkState.DONE or run.failed)) else 0)


def _filters(
    ids: tuple[str, ...], tagged: tuple[str, ...], given: dict[str, Any], *, everything: bool
) -> ConnectionFilters:
    """Raises UsageError unless ids, options or --all say which connections are meant."""
    tags = tag_rules.normalize(read_pairs(tagged))
    if bool(ids) + bool(tags or any(given.values())) + everything != 1:
        raise click.UsageError("which connections? Either ids, or options that say which, or --all")
    if ids:
        return ConnectionFilters(ids=tuple(dict.fromkeys(parse(CONNECTION, shown) for shown in ids)))
    return ConnectionFilters(tags=tags, **given)


def _wanted(
    act: BulkAct, added: tuple[str, ...], removed: tuple[str, ...], filters: ConnectionFilters
) -> ConnectionsWanted:
    """Raises UsageError for tags that do not belong to the act, or that it lacks; InvalidTags."""
    if bool(added) is not (act is BulkAct.ADD_TAGS) or bool(removed) is not (act is BulkAct.REMOVE_TAGS):
        raise click.UsageError("add-tags takes --set-tag, remove-tags takes --remove-tag, other acts take neither")
    tag_rules.normalize(dict.fromkeys(removed, "a@b.example"))  # checks the keys; the value is a dummy
    tags = tag_rules.normalize(read_pairs(added))
    return ConnectionsWanted(filters=filters, add_tags=tags, remove_tags=list(removed))

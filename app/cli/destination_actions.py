"""`waylink destinations`: add, change and remove them, rotate their signing secrets, check and test them."""

import asyncio
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from typing import IO, Any, Final, TypeVar

import click

from app.cli.opening import cli_actor, open_current
from app.cli.options import AS_JSON, DESTINATION, choice, read_duration
from app.cli.output import print_one, print_rows
from app.clock import utc_now
from app.config.loading import load_database, load_sealing
from app.db import audit, destinations
from app.db.models import DestinationSecret
from app.db.read.definitions import shown_destination
from app.domain.retrying import AnswerClass, classify
from app.errors import Conflict, NotFound
from app.ids import SECRET, show
from app.outbound.sending import TIMEOUT, HttpTarget
from app.qualified_names import split_target
from app.runtime.wiring import definition_context, own_brokers_of, sealer_of, sender_of
from app.services.definitions import destinations as defining
from app.services.definitions import signing_secrets
from app.services.definitions.connectivity import reach, send_test
from app.services.definitions.destination_alerts import Alerts
from app.services.definitions.editor import Editor
from app.services.definitions.signing_secrets import Keyring

Command = TypeVar("Command", bound=Callable[..., Any])

_CLEARED: Final = {"broker": "broker_url", "rate": "rate_per_second", "timeout": "timeout_seconds"}


def _described(command: Command) -> Command:
    for option, kind, told in (
        ("--rate", click.FLOAT, "Jobs per second at most."),
        ("--timeout", click.FLOAT, "Seconds for one try, over HTTP."),
        ("--broker-url-file", click.File(), "Of Celery: a file with the URL of a broker of the team's own, or `-`."),
        ("--url", click.STRING, "Of HTTP: where jobs are posted to."),
        ("--queue", click.STRING, "Of Celery: the team's queue. Starts with `team.<team>.`."),
    ):
        command = click.option(option, type=kind, help=told)(command)
    return command


def _fields(
    *, queue: str | None, url: str | None, timeout: float | None, rate: float | None, broker_url_file: IO[str] | None
) -> dict[str, Any]:
    """The options that were set, as fields of a destination."""
    given = {"queue": queue, "url": url, "timeout_seconds": timeout, "rate_per_second": rate}
    fields = {field: value for field, value in given.items() if value is not None}
    if broker_url_file is not None:
        fields["broker_url"] = broker_url_file.read().strip()
    return fields


@click.command("add")
@DESTINATION
@_described
@AS_JSON
def add_destination(place: str, *, as_json: bool, **options: Any) -> None:
    """Add a destination of a team: over Celery with --queue, over HTTP with --url.

    One that takes HTTP gets the secret that its deliveries are signed with. It is shown this once.
    """
    team, name = split_target("destination", place)
    fields = {"kind": "http" if options["url"] is not None else "celery", **_fields(**options)}
    settings = load_sealing()
    with closing(open_current(settings)) as database, database.write() as session:
        made = defining.add(
            session,
            definition_context(settings),
            fields,
            team=team,
            name=name,
            editor=Editor(cli_actor()),
            now=utc_now(),
        )
        shown = shown_destination(made.row) | ({"secret": made.secret} if made.secret else {})
    print_one(shown, as_json=as_json)


@click.command("change")
@DESTINATION
@_described
@click.option(
    "--clear", multiple=True, type=choice(sorted(_CLEARED)), help="Take the default, or the team broker, again."
)
@click.option(
    "--version", type=click.IntRange(min=1), help="The version this is about: refused where another is there by now."
)
@AS_JSON
def change_destination(
    place: str, *, clear: tuple[str, ...], version: int | None, as_json: bool, **options: Any
) -> None:
    """Change a destination. Jobs that wait go where it says from then on."""
    team, name = split_target("destination", place)
    fields = _fields(**options)
    cleared = {_CLEARED[option] for option in clear}
    if both := fields.keys() & cleared:
        raise click.UsageError(f"{', '.join(sorted(both))}: either a new value or --clear")
    fields |= dict.fromkeys(cleared)
    if not fields:
        raise click.UsageError("nothing to change: give an option")
    settings = load_sealing()
    with closing(open_current(settings)) as database, database.write() as session:
        changed = defining.change(
            session,
            definition_context(settings),
            fields,
            team=team,
            name=name,
            version=version,
            editor=Editor(cli_actor()),
            now=utc_now(),
        )
        shown = shown_destination(changed)
    print_one(shown, as_json=as_json)


@click.command("enable")
@DESTINATION
@AS_JSON
def enable_destination(place: str, *, as_json: bool) -> None:
    """Let the jobs of a destination go out again, parked ones too."""
    team, name = split_target("destination", place)
    with closing(open_current(load_database())) as database, database.write() as session:
        destination = defining.enable(
            session, Alerts(), team=team, name=name, editor=Editor(cli_actor()), now=utc_now()
        )
        shown = shown_destination(destination)
    print_one(shown, as_json=as_json)


@click.command("disable")
@DESTINATION
@click.option("--reason", help="Why, for whoever reads it later.")
@AS_JSON
def disable_destination(place: str, *, reason: str | None, as_json: bool) -> None:
    """Park the jobs of a destination until it is enabled. None is lost, and no attempt is used up."""
    team, name = split_target("destination", place)
    editor = Editor(cli_actor())
    with closing(open_current(load_database())) as database, database.write() as session:
        destination = defining.disable(
            session, Alerts(), team=team, name=name, reason=reason, editor=editor, now=utc_now()
        )
        shown = shown_destination(destination)
    print_one(shown, as_json=as_json)


@click.command("remove")
@DESTINATION
@click.option("--yes", is_flag=True, help="Do not ask.")
@AS_JSON
def remove_destination(place: str, *, yes: bool, as_json: bool) -> None:
    """Retire a destination that no route in force feeds. Jobs that are there are still delivered."""
    team, name = split_target("destination", place)
    editor = Editor(cli_actor())
    with closing(open_current(load_database())) as database:
        with database.read() as session:
            found = defining.get(session, team=team, name=name, editor=editor)
        if not yes and not click.confirm(f"Retire {place} ({found.kind}, version {found.version})?", err=True):
            sys.exit(1)
        with database.write() as session:
            gone = defining.remove(session, team=team, name=name, version=found.version, editor=editor, now=utc_now())
            shown = shown_destination(gone)
    print_one(shown, as_json=as_json)


@click.command("rotate-secret")
@DESTINATION
@click.option(
    "--overlap", callback=read_duration, default="24h", show_default=True, help="How long older secrets sign on."
)
@AS_JSON
def rotate_secret(place: str, *, overlap: timedelta, as_json: bool) -> None:
    """Make a new signing secret. It is shown this once; deliveries are signed with the older ones, too, meanwhile.

    One that waylink.toml names is set again by the next `waylink migrate`: change it there instead.
    """
    team, name = split_target("destination", place)
    settings = load_sealing()
    sealer = sealer_of(settings)
    with closing(open_current(settings)) as database, database.write() as session:
        made = signing_secrets.rotate(
            session, sealer, team=team, destination=name, actor=cli_actor(), now=utc_now(), overlap=overlap
        )
    shown = {
        "destination": place,
        "id": show(SECRET, made.id),
        "replaces": [show(SECRET, secret) for secret in made.replaced],
        "overlap_ends_at": made.overlap_ends_at.isoformat(timespec="seconds") if made.overlap_ends_at else None,
        "secret": made.value,
    }
    print_one(shown, as_json=as_json)


@click.command("secrets")
@DESTINATION
@AS_JSON
def list_secrets(place: str, *, as_json: bool) -> None:
    """List the signing secrets of a destination, newest first: ids and times, never what they are."""
    team, name = split_target("destination", place)
    with closing(open_current(load_database())) as database, database.read() as session:
        rows = [_shown(secret) for secret in signing_secrets.listed(session, team=team, destination=name)]
    print_rows(rows, ("id", "in_force", "created_at", "expires_at"), as_json=as_json)


@click.command("expire-secret")
@DESTINATION
@click.argument("secret_id", metavar="ID")
@AS_JSON
def expire_secret(place: str, secret_id: str, *, as_json: bool) -> None:
    """End a signing secret at once, such as one that leaked."""
    team, name = split_target("destination", place)
    with closing(open_current(load_database())) as database, database.write() as session:
        ended = signing_secrets.expire(
            session, secret_id, team=team, destination=name, actor=cli_actor(), now=utc_now()
        )
    print_one({"destination": place, "id": show(SECRET, ended), "expired": True}, as_json=as_json)


def _shown(secret: DestinationSecret) -> dict[str, Any]:
    return {
        "id": show(SECRET, secret.id),
        "in_force": secret.expires_at is None or secret.expires_at > utc_now(),
        "created_at": secret.created_at.isoformat(timespec="seconds"),
        "expires_at": secret.expires_at.isoformat(timespec="seconds") if secret.expires_at else None,
    }


@click.command("check")
@click.argument("place", metavar="[TEAM/NAME]", required=False)
@AS_JSON
def check_destinations(place: str | None, *, as_json: bool) -> None:
    """Connect to destinations, and send nothing. Exit 1 if one cannot be reached or may not be."""
    settings = load_sealing()
    with closing(open_current(settings)) as database, database.read() as session:
        known = destinations.get_all(session)
    chosen = None if place is None else split_target("destination", place)
    if chosen is not None and chosen not in known:
        raise NotFound("destination", f"{place}")
    wanted = [
        destination
        for key, destination in sorted(known.items())
        if (key == chosen if chosen else destination.retired_at is None)
    ]
    found = reach(wanted, own_brokers_of(settings), lambda: sender_of(settings))
    rows = [{"destination": f"{one.team}/{one.name}", "result": one.result, "detail": one.detail} for one in found]
    print_rows(rows, ("destination", "result", "detail"), as_json=as_json)
    sys.exit(1 if any(reached.result == "bad" for reached in found) else 0)


@click.command("test")
@DESTINATION
@AS_JSON
def test_destination(place: str, *, as_json: bool) -> None:
    """Send a signed test job over HTTP and show what is answered. Exit 1 if it is not taken.

    The job's name and its event's type are `waylink.test`: the team ignores it.
    """
    team, name = split_target("destination", place)
    settings, now = load_sealing(), utc_now()
    keyring = Keyring(sealer_of(settings))
    with closing(open_current(settings)) as database, database.write() as session:
        destination = destinations.get(session, team=team, destination=name)
        if destination is None:
            raise NotFound("destination", place)
        if destination.kind != "http":
            raise Conflict(f"{place} takes jobs over Celery, where a test would fail as an unknown task: use `check`")
        keys = keyring.of(session, [(team, name)], now=now)[team, name]
        target = HttpTarget(destination.url or "", keys, destination.timeout_seconds or TIMEOUT)
        audit.record(session, actor=cli_actor(), action="destination.tested", subject=place, now=now)
    answer = asyncio.run(send_test(sender_of(settings), target, now=now))
    taken = classify(answer) is AnswerClass.ACCEPTED
    shown = {
        "destination": place,
        "taken": taken,
        "status": answer.status,
        "error": answer.error,
        "latency_ms": round(answer.latency_ms),
        "excerpt": answer.excerpt or None,
    }
    print_one(shown, as_json=as_json)
    sys.exit(0 if taken else 1)

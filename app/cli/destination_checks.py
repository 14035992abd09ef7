"""`waylink destinations check` and `test`: is somebody there, and does he take a job?"""

import asyncio
import sys
from contextlib import closing

import click

from app.cli.actors import cli_actor
from app.cli.opening import open_current
from app.cli.options import AS_JSON, DESTINATION
from app.cli.output import print_one, print_rows
from app.clock import utc_now
from app.config.loading import load_sealing
from app.db import audit, destinations
from app.domain.retrying import Verdict, judge
from app.errors import Conflict, NotFound
from app.outbound.sending import TIMEOUT, HttpTarget
from app.runtime.wiring import own_brokers_of, sealer_of, sender_of
from app.services.definitions.connectivity import reach, send_test
from app.services.definitions.signing_secrets import Keyring
from app.targets import split_target


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
    wanted = [one for key, one in sorted(known.items()) if (key == chosen if chosen else one.retired_at is None)]
    found = reach(wanted, own_brokers_of(settings), lambda: sender_of(settings))
    rows = [{"destination": f"{one.team}/{one.name}", "result": one.result, "detail": one.detail} for one in found]
    print_rows(rows, ("destination", "result", "detail"), as_json=as_json)
    sys.exit(1 if any(one.result == "bad" for one in found) else 0)


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
    taken = judge(answer) is Verdict.ACCEPTED
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

"""Each check is judged from facts alone: red with its cause and a command that exists, or well."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest
from pydantic import SecretStr

from app.cli.main import waylink
from app.cli.status_screen import screen
from app.config.nango_environment import Environment, SigningKeys, key_name
from app.db.bulk_runs import Standing
from app.db.models import NotificationChannel, Rejection, SigningKeyUse
from app.db.read.canary import StageAge
from app.db.read.destination_troubles import Trouble
from app.db.read.figures import AT_MOST, EventFigures, HeldEvents, JobFigures
from app.db.read.processes import SeenProcess
from app.db.read.refresh_dangers import Danger
from app.db.read.refresh_health import LateGroup
from app.db.read.unseen import DeadLetters, FailedEvents
from app.db.reconciliations import Run
from app.domain.arrivals import Silence
from app.domain.definitions import DefinedNames
from app.domain.liveness import ProcessKind, ProcessState, Work
from app.domain.notifying import Channel, ChannelKind, Endpoint, Rules
from app.domain.refreshing.keeping import GroupKey
from app.domain.status import Check, CheckKind, Level, headline, in_order
from app.errors import NangoRateLimited, NangoUnavailable, Problem
from app.ids import new_id
from app.services.definitions.orphans import Orphans
from app.services.delivery.results import GONE
from app.services.policy import Policy
from app.services.refreshing.lateness import Lateness
from app.services.status import environments, report
from app.services.status.bulk_runs import BulkRuns
from app.services.status.destinations import Troubles
from app.services.status.installation import Installation
from app.services.status.notifications import Notified
from app.services.status.processes import Processes
from app.services.status.reconciling import Runs
from app.services.status.refreshes import Refreshes
from app.services.status.report import Facts
from app.services.status.unseen import Unseen
from app.services.status.upkeep import Retained, Upkeep
from app.services.status.webhooks import Webhooks
from app.services.status.work import Work as WorkFigures

NOW = datetime(2026, 11, 30, 14, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
ROOT = Path(__file__).parents[2]
KEY, NEW_KEY = "an old key", "a new key"
# The kinds that only tell, or that other tests judge with a broker or without a database.
TELLING = {
    CheckKind.BUDGET,
    CheckKind.QUEUE,
    CheckKind.INTERNAL_BROKER,
    CheckKind.TEAM_BROKER,
    CheckKind.REJECTIONS,
    CheckKind.RETIRED_KEY,
    CheckKind.JOBS_RUNNING,
    CheckKind.JOBS_RETRYABLE,
}


def environment(*keys, api_key="k", **more):
    signing = SigningKeys(tuple(SecretStr(key) for key in keys))
    facts = {"name": "default", "base_url": "https://api.nango.dev", "account": "acme", "signing_keys": signing}
    return Environment(**facts, api_key=SecretStr(api_key) if api_key else None, **more)


def installed(**changes):
    policy = Policy(environments={"default": changes.pop("environment", environment(NEW_KEY, KEY))})
    given = {"policy": policy, "nango_requests_per_minute": 200, "reconcile_every": HOUR, "keep_events": 30 * DAY}
    return Installation(**given | changes)


def run_of(**changes):
    stages = {"stage": "done", "stage_since": NOW, "outcome": "completed", "next_at": NOW}
    facts = {"id": new_id(), "environment": "default", "trigger": "schedule", "dry_run": False}
    return Run(**facts, accept_deletions=False, created_at=NOW - HOUR, **stages | changes)


def use(key, *, first_at=NOW - 9 * DAY, last_at=NOW):
    return SigningKeyUse(
        environment="default", key=key_name(key), count=1, first_at=first_at, live_at=NOW, last_at=last_at
    )


def refused(cause, *, count=1, peak=1, at=NOW):
    row = {"minute": NOW, "environment": "default", "cause": cause, "status": 503, "count": count, "peak": peak}
    return Rejection(**row, window_at=NOW, window_count=count, last_at=at, last_peer="192.0.2.7", last_detail="")


def process(kind, *, state=ProcessState.RUNNING, **changes):
    ages = {"started_seconds": 9000.0, "seen_seconds": 1.0, "written_seconds": 1.0, "clock_ahead_seconds": 0.1}
    work = {str(work): 2.0 for work in Work}
    named = {"host": "h1", "pid": 7, "version": "0.2.0", "schema_revision": "0032", "stopped_at": None}
    facts = {"id": new_id(), "kind": kind, "state": state, "replaced": False, "started_at": NOW, "progress": work}
    return SeenProcess(**facts | named | ages | {"task": None, "task_seconds": None} | changes)


def canary(*, stored, processed, delivered, waits=(None, None, None)):
    passed = zip(("stored", "processed", "delivered"), (stored, processed, delivered), waits, strict=True)
    return [StageAge(*stage) for stage in passed]


def running(*others, without=None):
    """Facts with a process of each kind, and others; without: of this kind only the others."""
    seen = [process(kind) for kind in ProcessKind if kind is not without]
    return changed("processes", seen=[*others, *seen])


def late(count=1):
    return [LateGroup("default", "hubspot", "hubspot", count, NOW - HOUR)]


WELL = Facts(
    dialect="postgresql",
    trouble="",
    processes=Processes([process(kind) for kind in ProcessKind], "0032"),
    canary=canary(stored=8.0, processed=7.0, delivered=6.0),
    work=WorkFigures(EventFigures(0, None, leased=False), [], JobFigures({}, {}, None)),
    unseen=Unseen([], 0, None),
    bulk_runs=BulkRuns([], 0),
    destinations=Troubles([], 0),
    refreshes=Refreshes(Lateness([], [], [], NOW), [], {}, 0, 0, asks_nango=True),
    webhooks=Webhooks([], {("default", key_name(key)): use(key) for key in (KEY, NEW_KEY)}, {}, {"default": NOW}),
    reconciling={"default": Runs(run_of(), run_of())},
    upkeep=Upkeep({"events": Retained(30 * DAY, NOW)}, [], "", 0, None),
    notified=Notified({}, NOW),
)


def changed(part, **changes):
    return replace(WELL, **{part: replace(getattr(WELL, part), **changes)})


def destination(**changes):
    facts = {"failing_since": NOW - HOUR, "last_error": "HTTP 500", "disabled_at": None, "disabled_reason": None}
    return changed("destinations", named=[Trouble("crm", "hook", **facts | {"parked": 7} | changes)])


def lateness(**changes):
    return changed("refreshes", late=replace(WELL.refreshes.late, **changes))


def retained(ended_at=None, oldest_at=None):
    return changed("upkeep", retained={"events": Retained(30 * DAY, ended_at, oldest_at)})


def channel(*, fault=""):
    place = None if fault else Endpoint("https://hooks.example", b"k")
    return Channel(name="default", kind=ChannelKind.WEBHOOK, rules=Rules(), place=place, fault=fault)


def notified(*, looked_at=NOW, **changes):
    facts = {"attempts": 0, "next_at": NOW, "failures": 0, "failing_since": NOW - HOUR, "error": "answered 500"}
    row = NotificationChannel(name="default", looked_at=NOW, **facts | changes)
    return replace(WELL, notified=Notified({"default": row}, looked_at))


INSTALLED = installed(canary_every=timedelta(seconds=15), channels=[channel()])
PUBLIC = "https://waylink.example.com"
BY_HAND = {"failing_since": None, "disabled_at": NOW, "disabled_reason": "tidying"}
UNUSED = {
    ("default", key_name(KEY)): use(KEY),
    ("default", key_name(NEW_KEY)): use(NEW_KEY, first_at=NOW - 2 * DAY, last_at=None),
}


@dataclass(frozen=True)
class Fault:
    """Facts or an installation with one fault, and the check that tells it."""

    id: str
    facts: Facts = WELL
    installation: Installation = INSTALLED
    cause: str = ""


IO, WEB = ProcessKind.IO, ProcessKind.WEB
STANDING_STILL, SILENT, STOPPED = ProcessState.STANDING_STILL, ProcessState.SILENT, ProcessState.STOPPED


def bulk_runs(act):
    """A run of that act that stands still."""
    return replace(WELL, bulk_runs=BulkRuns([Standing(new_id(), act, NOW - HOUR)], 1))


RED = [
    Fault("processes:io", running(without=IO), cause="none has reported within a day"),
    Fault("processes:io", running(process(IO, state=SILENT, written_seconds=30.0), without=IO), cause="for 30 s"),
    Fault("processes:web", running(process(WEB, state=STANDING_STILL, seen_seconds=40.0), without=WEB), cause="40 s"),
    Fault("processes:io", running(process(IO, state=STOPPED, stopped_at=NOW), without=IO), cause="was stopped"),
    Fault("process:io@h1/8", running(process(IO, pid=8, state=SILENT, written_seconds=30.0)), cause="process 8 on h1"),
    Fault(
        "process:io@h1/8",
        running(process(IO, pid=8, state=STANDING_STILL, seen_seconds=40.0, task="sweep", task_seconds=40.0)),
        cause="works on sweep for 40 s",
    ),
    Fault(
        "progress:swept", running(process(IO, progress={"pruned": 2.0, "swept": 61.0}), without=IO), cause="61 s ago"
    ),
    Fault(
        "progress:ticked", running(process(ProcessKind.BEAT, progress={}), without=ProcessKind.BEAT), cause="not done"
    ),
    Fault("versions", running(process(IO, pid=8, version="0.1.0")), cause="of 0.1.0 io 8 on h1"),
    Fault("schema", running(process(IO, pid=8, schema_revision="0031")), cause="io 8 on h1 needs 0031"),
    Fault("clock:h2", running(process(IO, host="h2", clock_ahead_seconds=-30.0)), cause="30 s behind"),
    Fault("canary:stored", replace(WELL, canary=canary(stored=28.0, processed=26.0, delivered=26.0)), cause="28 s ago"),
    Fault("database", replace(WELL, trouble="locked", dialect="sqlite"), cause="holds the write lock of sqlite:"),
    Fault(
        "database",
        replace(WELL, trouble="locked", lock_holders=[7]),
        cause="holds a table's lock of postgresql (process 7 of the server)",
    ),
    Fault("database", replace(WELL, trouble="read-only"), cause="takes no writes"),
    Fault("configuration:WAYLINK_PORT", installation=installed(problems=[Problem("WAYLINK_PORT", "no number")])),
    Fault(
        "environment:default",
        installation=installed(public_url=PUBLIC, environment=environment(api_key="k", sandboxed=True)),
        cause="sandbox",
    ),
    Fault(
        "environment:default",
        installation=installed(public_url=PUBLIC, environment=environment(KEY, api_key="")),
        cause="WAYLINK_NANGO_API_KEY",
    ),
    Fault("events-waiting", changed("work", events=EventFigures(3, NOW - 2 * MINUTE, leased=True)), cause="for 2 min"),
    Fault("events-worker", changed("work", events=EventFigures(3, NOW - MINUTE, leased=False)), cause="lie still"),
    Fault(
        "events-held",
        changed("work", held=[HeldEvents(str(NangoUnavailable(status=500)), 4, NOW - MINUTE)]),
        cause="HTTP 500",
    ),
    Fault("events-held", changed("work", held=[HeldEvents(str(NangoRateLimited(retry_after=3)), 4, NOW - 6 * MINUTE)])),
    Fault(
        "events-failed",
        changed("unseen", events=FailedEvents(3, NOW - HOUR, NOW, "ValueError: no\nmore")),
        cause="ValueError: no. ",
    ),
    Fault(
        "jobs-available", changed("work", jobs=JobFigures({"available": 9}, {}, NOW - 2 * MINUTE)), cause="io worker"
    ),
    Fault(
        "jobs-discarded:crm/hook",
        changed("unseen", letters=[DeadLetters("crm", "hook", 3, NOW - HOUR, NOW, "HTTP 404")]),
        cause="HTTP 404",
    ),
    Fault("jobs-discarded:others", changed("unseen", more=3)),
    Fault("destinations", changed("destinations", more=3)),
    Fault("destination-failing:crm/hook", destination(), cause="7 jobs wait: HTTP 500"),
    Fault(
        "destination-disabled:crm/hook",
        destination(failing_since=None, disabled_at=NOW, disabled_reason=GONE, parked=0),
        cause="410",
    ),
    Fault("destination-disabled:crm/hook", destination(**BY_HAND, parked=1), cause="1 job waits: tidying"),
    Fault("refreshes-overdue", lateness(overdue=late())),
    Fault("tokens-lapsed", lateness(lapsed=late()), cause="waylink refreshes run"),
    Fault(
        "refreshes-too-late",
        changed("refreshes", dangers=[Danger("default", "hubspot", "grant", 2, NOW + HOUR)]),
        cause="hubspot 2 (grant)",
    ),
    Fault("integrations-paused", lateness(paused=[("default", "hubspot")])),
    Fault("connections-kept-alive-only", changed("refreshes", fallen={GroupKey("default", "hubspot", None): 5})),
    Fault("refresh-scheduler", lateness(tick=NOW - 4 * MINUTE), cause="no io worker"),
    Fault("storing", changed("webhooks", rejections=[refused("database_away")]), cause="database_away"),
    # The canary was stored 8 s ago: since the last one that was lost, but others may be lost all the time.
    Fault("storing", changed("webhooks", rejections=[refused("overload", at=NOW - MINUTE / 5)]), cause="overload"),
    Fault(
        "storing",
        replace(
            changed("webhooks", rejections=[refused("fault", at=NOW - MINUTE / 2)]),
            canary=canary(stored=None, processed=None, delivered=None),
        ),
        cause="fault",
    ),
    Fault(
        "signatures:default",
        changed("webhooks", rejections=[refused("bad_signature", count=3)], last={"default": NOW - MINUTE}),
        cause="none was taken since 2026-11-30T13:59:00",
    ),
    Fault("signatures:default", changed("webhooks", rejections=[refused("bad_signature", count=3)], last={})),
    Fault("breaker:default", changed("webhooks", rejections=[refused("bad_signature", count=6, peak=6)])),
    Fault(
        "reconcile:default",
        replace(WELL, reconciling={"default": Runs(run_of(outcome="failed", problem="HTTP 401"), None)}),
        cause="HTTP 401",
    ),
    Fault(
        "reconcile:default",
        replace(WELL, reconciling={"default": Runs(run_of(outcome=None, next_at=NOW - HOUR), None)}),
        cause="no io worker",
    ),
    Fault(
        "reconcile:default",
        replace(WELL, reconciling={"default": Runs(*2 * [replace(run_of(), created_at=NOW - 4 * HOUR)])}),
    ),
    Fault("retention:events", retained(ended_at=NOW - 7 * HOUR), cause="not since"),
    Fault("retention:events", retained(oldest_at=NOW - 32 * DAY), cause="none was deleted"),
    Fault("secrets", changed("upkeep", unreadable=["broker URL of crm/jobs"]), cause="does not open"),
    Fault("secrets", changed("upkeep", no_key="WAYLINK_SECRET_KEY: is needed"), cause="is needed"),
    Fault("bulk-runs", bulk_runs("jobs.retry"), cause="no io worker carries on blk_"),
    Fault("bulk-runs", bulk_runs("jobs.polish"), cause="this release does not know"),
    Fault("notifications:default", notified(failures=2), cause="2 attempts failed: answered 500"),
    Fault("notifications:default", installation=installed(channels=[channel(fault="KEY is not set")]), cause="KEY"),
    Fault("notifications", notified(looked_at=NOW - 3 * MINUTE), cause="no process has looked"),
]
HINTS = [
    Fault(
        "storing",
        changed("webhooks", rejections=[refused("database_away", at=NOW - MINUTE / 2)]),
        cause="events are stored since 2026-11-30T13:59:52",
    ),
    Fault("processes:beat", running(process(ProcessKind.BEAT, pid=8)), cause="process 8 on h1, process 7 on h1"),
    Fault("process:io@h1/8", running(process(IO, pid=8, state=SILENT, written_seconds=4000.0))),
    Fault("jobs-parked:breaker", changed("work", jobs=JobFigures({}, {"breaker": 4}, None))),
    Fault("destination-disabled:crm/hook", destination(**BY_HAND, parked=0)),
    Fault("connections-needing-reconnect", changed("refreshes", needing_reconnect=3)),
    Fault("grants-ending", changed("refreshes", grants_ending=3)),
    Fault(
        "webhooks-missing:default", changed("webhooks", silences={"default": Silence(HOUR, 40)}), cause="at least 40"
    ),
    Fault("key:default/1", changed("webhooks", uses=UNUSED), cause=key_name(KEY)),
    Fault("acts-without-an-end", changed("upkeep", acts=2)),
    Fault(
        "waylink.toml",
        changed("upkeep", left=Orphans(DefinedNames(teams=frozenset({"crm"})), Path("waylink.toml"))),
        cause="teams crm",
    ),
]


def judged(fault: Fault) -> dict[str, Check]:
    found = [*report.checks(fault.facts, fault.installation, now=NOW)]
    found += report.configuration_checks(fault.installation)
    assert len({check.id for check in found}) == len(found), "ids tell checks apart"
    return {check.id: check for check in found}


def test_nothing_is_red_or_a_hint_where_all_is_well():
    found = judged(Fault(""))
    assert {check.level for check in found.values()} == {Level.OK}
    assert headline([*found.values()]) == "nothing needs a person"


@pytest.mark.parametrize("fault", RED, ids=[fault.id for fault in RED])
def test_each_fault_is_red_by_its_name_with_its_cause_and_a_command(fault):
    found = judged(fault)
    assert {check.id for check in found.values() if check.level is Level.RED} == {fault.id}
    assert fault.cause in found[fault.id].cause
    assert found[fault.id].cause
    assert found[fault.id].repair
    assert headline([*found.values()]) == "1 thing needs a person"


@pytest.mark.parametrize(
    ("stages", "levels"),
    [
        (canary(stored=3.0, processed=18.0, delivered=18.0, waits=(None, 3.0, 3.0)), ["ok", "ok", "ok"]),
        (canary(stored=13.0, processed=26.0, delivered=26.0, waits=(None, 13.0, 13.0)), ["ok", "red", "hint"]),
        (canary(stored=13.0, processed=12.0, delivered=26.0, waits=(None, None, 13.0)), ["ok", "ok", "red"]),
        (canary(stored=60.0, processed=60.0, delivered=60.0), ["red", "hint", "hint"]),
        (canary(stored=60.0, processed=None, delivered=None, waits=(None, 60.0, 60.0)), ["ok", "red", "hint"]),
        (canary(stored=60.0, processed=60.0, delivered=75.0, waits=(None, None, 60.0)), ["ok", "ok", "red"]),
        ([], []),
    ],
    ids=[
        "on its way",
        "not processed",
        "not delivered",
        "not stored",
        "never processed",
        "not delivered for long",
        "off",
    ],
)
def test_the_first_stage_that_the_canary_does_not_pass_is_red(stages, levels):
    found = judged(Fault("", replace(WELL, canary=stages)))
    told = [found[f"canary:{stage.stage}"] for stage in stages]
    assert [str(check.level) for check in told] == levels
    assert all(check.cause and check.repair for check in told if check.level is not Level.OK)


@pytest.mark.parametrize("fault", HINTS, ids=[fault.id for fault in HINTS])
def test_what_needs_no_repair_is_a_hint_with_its_cause_and_a_command(fault):
    found = judged(fault)
    assert {check.id: check.level for check in found.values() if check.level is not Level.OK} == {fault.id: Level.HINT}
    assert fault.cause in found[fault.id].cause
    assert found[fault.id].repair


def test_every_kind_of_check_has_a_fault_that_these_tests_know():
    known = {fault.id.partition(":")[0] for fault in (*RED, *HINTS)}
    assert known | set(TELLING) == set(CheckKind)
    assert not known & set(TELLING)


@pytest.mark.parametrize(
    "well",
    [
        running(process(IO, pid=8, state=SILENT, written_seconds=30.0, replaced=True)),
        running(process(IO, pid=8, state=STOPPED, stopped_at=NOW)),
        running(process(IO, progress={"pruned": 2.0, "swept": 59.0}), without=IO),
        running(process(IO, started_seconds=9.0, progress={}), without=IO),
        running(process(IO, pid=8, clock_ahead_seconds=4.0)),
        changed("work", events=EventFigures(3, NOW - MINUTE, leased=True)),
        changed("work", held=[HeldEvents(str(NangoUnavailable(status=500)), 4, NOW - MINUTE / 6)]),
        changed("work", held=[HeldEvents(str(NangoRateLimited(retry_after=3)), 4, NOW - 4 * MINUTE)]),
        changed("work", jobs=JobFigures({"available": 9}, {}, NOW - MINUTE)),
        lateness(tick=NOW - 2 * MINUTE),
        lateness(tick=None),
        replace(WELL, reconciling={"default": Runs(None, None)}),
        replace(WELL, reconciling={"default": Runs(run_of(outcome=None, next_at=NOW - MINUTE), None)}),
        retained(ended_at=NOW - 5 * HOUR),
        retained(oldest_at=NOW - 30 * DAY),
        notified(failures=1),
        notified(looked_at=NOW - MINUTE),
        changed(
            "webhooks",
            uses={
                ("default", key_name(KEY)): use(KEY),
                ("default", key_name(NEW_KEY)): use(NEW_KEY, first_at=NOW - DAY / 2, last_at=None),
            },
        ),
        changed(
            "webhooks",
            uses={
                ("default", key_name(KEY)): use(KEY, last_at=NOW - 2 * DAY),
                ("default", key_name(NEW_KEY)): use(NEW_KEY, first_at=NOW - 2 * DAY, last_at=None),
            },
        ),
        changed(
            "webhooks",
            uses={
                ("default", key_name(KEY)): use(KEY, first_at=NOW - 9 * DAY, last_at=None),
                ("default", key_name(NEW_KEY)): use(NEW_KEY, first_at=NOW - 5 * DAY),
            },
        ),
    ],
)
def test_within_its_bound_nothing_is_red(well):
    assert {check.level for check in judged(Fault("", well)).values()} == {Level.OK}


def test_counts_end_at_their_bounds():
    found = judged(Fault("", changed("work", events=EventFigures(AT_MOST + 1, None, leased=True))))
    assert found["events-waiting"].value == "10000+"


@pytest.mark.parametrize(
    ("url", "public"),
    [
        (None, False),
        ("http://localhost:8080", False),
        ("http://127.0.0.1:8080", False),
        ("http://[::1]:8080", False),
        ("http://10.1.2.3", False),
        ("http://waylink", False),
        ("http://waylink.internal", False),
        ("https://waylink.example.com", True),
        ("https://waylink.example.com/nango", True),
        ("https://8.8.8.8", True),
    ],
)
def test_production_is_known_by_a_public_host(url, public):
    assert environments.is_public(url) is public


def test_signing_keys_only_are_well_where_the_host_is_not_public():
    keys_only = installed(environment=environment(KEY, api_key=""), public_url="http://127.0.0.1:8080")
    assert judged(Fault("", installation=keys_only))["environment:default"].level is Level.OK


# The commands


def texts(source: str) -> Iterator[str]:
    """The texts of a module, with an example in place of what differs."""
    parts = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            parts.update(map(id, node.values))
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else example(part) for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield node.value


def example(part: ast.FormattedValue) -> str:
    return {"name": "crm/hook", "cause": "overload"}.get(ast.unparse(part.value), "7")


def named_commands() -> Iterator[str]:
    """Every command that a repair or a cause names."""
    for path in sorted((ROOT / "app" / "services" / "status").glob("*.py")):
        for text in texts(path.read_text()):
            if text.startswith("waylink ") and "\n" not in text:
                yield text
            else:
                yield from re.findall(r"`(waylink [^`\n]+)`", text)


COMMANDS = sorted(set(named_commands()))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_a_check_names_exists_and_is_taken_as_it_stands(command, monkeypatch):
    monkeypatch.setattr(click.Command, "invoke", lambda *_: None)
    waylink.main(command.split()[1:], prog_name="waylink", standalone_mode=False)


def test_the_commands_of_checks_are_found():
    assert {"waylink ack events --all", "waylink destinations enable crm/hook", "waylink worker io"} <= set(COMMANDS)
    for fault in (*RED, *HINTS):
        repair = judged(fault)[fault.id].repair
        words = repair.replace("crm/hook", "…").replace("default", "…")
        assert words in {command.replace("crm/hook", "…") for command in COMMANDS} or repair in COMMANDS, repair


# The screen


def on_screen(*faults, everything=False, height=24):
    found = [check for fault in faults for check in judged(fault).values() if check.level is not Level.OK]
    well = [check for check in judged(Fault("")).values() if check.id not in {one.id for one in found}]
    return screen(in_order([*found, *well]), width=80, height=height, everything=everything)


def test_what_needs_a_person_comes_first_with_cause_and_repair():
    lines = on_screen(*HINTS[:2], *[fault for fault in RED if fault.id in {"events-failed", "jobs-available"}])
    assert lines[0] == "2 things need a person"
    assert lines[1].startswith("RED  events-failed: 3")
    assert "     -> waylink ack events --all" in lines
    assert [line[:4] for line in lines if line[:4] in {"RED ", "hint"}] == ["RED ", "RED ", "hint", "hint"]
    assert all(len(line) <= 80 for line in lines)


def test_one_screen_is_enough_where_nothing_needs_a_person_however_many_hints_there_are():
    lines = on_screen(*HINTS)
    assert lines[0] == "nothing needs a person"
    assert len(lines) <= 23
    assert "hints not shown)" in lines[-1]


def test_every_red_check_is_shown_however_small_the_screen():
    lines = on_screen(*RED, height=10)
    assert sum(line.startswith("RED ") for line in lines) == len(RED) > 10


def test_all_checks_are_shown_on_demand():
    lines = on_screen(everything=True)
    assert sum(line.startswith("ok ") for line in lines) == len(judged(Fault("")))


def test_text_from_outside_cannot_control_the_terminal():
    evil = changed("unseen", events=FailedEvents(1, NOW, NOW, "\x1b[2J\u202eevil"))
    shown = "\n".join(on_screen(Fault("events-failed", evil)))
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "evil" in shown

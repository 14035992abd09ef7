"""A command loads what it needs: what is wrong elsewhere in the configuration does not stop it.

Each command of the command line is tried with each fault. What it needs stops it with exit code 2 and a line that names
the fault; anything else leaves its answer as it is.
"""

import io
import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import chdir, closing, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from unittest import mock

import click
import pytest

from app.cli.main import waylink as root
from app.clock import utc_now
from app.db.engine import connect
from app.db.models import Connection
from app.errors import ConfigurationError, refuse
from app.ids import BULK_RUN, CONNECTION, EVENT, JOB, RECONCILIATION, SECRET, SESSION, TEAM_LINK, new_id, show
from tests.integration.cli.test_cli import Command
from workers.__main__ import run

FILE = """
[environments.prod]
base_url = "http://127.0.0.1:1"
api_key_env = "PROD_KEY"
signing_keys_file = "keys"

[environments.other]
base_url = "http://127.0.0.1:1"
signing_keys_env = "OTHER_KEYS"

[teams.crm.destinations.hook]
kind = "http"
url = "http://127.0.0.1:1025/"
secret_file = "hook-secret"
"""
SQL = """
[directory.sql]
url_env = "APP_URL"
user_query = "SELECT id AS external_id FROM people WHERE id = :end_user_id"
"""
SECRET_TEXT = "whsec_QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo="
KEY = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU="
GOOD = {
    "PROD_KEY": "k",
    "OTHER_KEYS": "k2",
    "WAYLINK_SECRET_KEY_FILE": "secret-key",
    "WAYLINK_BROKER_URL": "redis://127.0.0.1:1/0",
    "WAYLINK_ALLOWED_DESTINATION_RANGES": "127.0.0.0/8",
    "WAYLINK_PORT": "1",  # a closed port: `send` must not reach a Waylink that runs on this machine
}


@dataclass(frozen=True)
class Fault:
    """A wrong configuration: variables that are set or unset, a file that has another content or is gone."""

    names: str  # what a refusal names
    variables: tuple[tuple[str, str | None], ...] = ()
    file: str | None = None
    content: str | None = None


FAULTS = {
    "a secret of an environment is absent": Fault("PROD_KEY", (("PROD_KEY", None),)),
    "a secret file of an environment is gone": Fault("signing_keys_file", file="keys"),
    "a secret of another environment is empty": Fault("OTHER_KEYS", (("OTHER_KEYS", ""),)),
    "a secret file of a destination is gone": Fault("teams.crm.destinations.hook", file="hook-secret"),
    "the file is broken": Fault("waylink.toml", file="waylink.toml", content=FILE + "[["),
    "the file says what cannot be": Fault("waylink.toml", file="waylink.toml", content=FILE + "\n[teams.crm]\nx = 1\n"),
    "the file that is named is gone": Fault("WAYLINK_CONFIG", (("WAYLINK_CONFIG", "gone.toml"),)),
    "the secret key's file is gone": Fault("WAYLINK_SECRET_KEY_FILE", file="secret-key"),
    "the secret key is wrong": Fault("WAYLINK_SECRET_KEY", (("WAYLINK_SECRET_KEY", "x"),)),
    "the authority's file is gone": Fault("WAYLINK_DESTINATION_CA_FILE", (("WAYLINK_DESTINATION_CA_FILE", "gone"),)),
    "the database's URL is wrong": Fault("WAYLINK_DATABASE_URL", (("WAYLINK_DATABASE_URL", "nonsense"),)),
    "the database's URL is no text": Fault("WAYLINK_DATABASE_URL", (("WAYLINK_DATABASE_URL", "sqlite:///a b"),)),
    "the application's database is not named": Fault(
        "WAYLINK_DIRECTORY_POLICY", (("WAYLINK_DIRECTORY_POLICY", "sql"),)
    ),
    "the application's database cannot be asked": Fault(
        "directory.sql.url",
        (("WAYLINK_DIRECTORY_POLICY", "sql"), ("APP_URL", "postgresql://reader@db.example:x/app")),
        file="waylink.toml",
        content=FILE + SQL,
    ),
    "the broker's URL is wrong": Fault("WAYLINK_BROKER_URL", (("WAYLINK_BROKER_URL", "nonsense"),)),
    "the port is wrong": Fault("WAYLINK_PORT", (("WAYLINK_PORT", "x"),)),
    "a period is wrong": Fault("WAYLINK_KEEP_EVENTS", (("WAYLINK_KEEP_EVENTS", "soon"),)),
}
PROD = {"a secret of an environment is absent", "a secret file of an environment is gone"}
FILES = {"the file is broken", "the file says what cannot be", "the file that is named is gone"}
SEALING = {"the secret key's file is gone", "the secret key is wrong", "the authority's file is gone"}
BROKER = {"the broker's URL is wrong"}
DATABASE = {"the database's URL is wrong", "the database's URL is no text"}
DIRECTORY = {"the application's database is not named", "the application's database cannot be asked"}
PORT = {"the port is wrong"}
DESTINATION = {"a secret file of a destination is gone"}
OTHER = {"a secret of another environment is empty"}

NOTHING: set[str] = set()
LISTING = DATABASE
TELLING = DATABASE | BROKER  # workers, of what is due
LINKING = DATABASE | FILES
OPENING = TELLING | SEALING  # what is stored encrypted, and the broker that no destination may be
DEFINING = OPENING | FILES | DESTINATION
ASKING = TELLING | FILES | PROD  # Nango, of one environment
SERVING = ASKING | OTHER | SEALING | DIRECTORY | PORT | {"a period is wrong"}

KINDS = (BULK_RUN, CONNECTION, EVENT, JOB, RECONCILIATION, SECRET, SESSION, TEAM_LINK)
BLK, CON, EVT, JOB_ID, REC, SEC, SES, TLK = (show(kind, new_id()) for kind in KINDS)
PATTERN = '{"type": ["connection.created"]}'
FACTS = ("--destination", "hook", "--job", "crm.do", "--pattern", PATTERN)

# Every command, with arguments that leave everything as it is, and the faults that stop it.
COMMANDS: dict[str, tuple[tuple[str, ...], set[str]]] = {
    "ack all": (("--dry-run",), LISTING),
    "ack events": ((EVT,), LISTING),
    "ack jobs": ((JOB_ID,), LISTING),
    "ack list": ((), LISTING),
    "audit": ((), LISTING),
    "bulk-runs": ((), LISTING),
    "bulk-runs cancel": ((BLK,), TELLING),
    "bulk-runs pause": ((BLK,), TELLING),
    "bulk-runs resume": ((BLK,), TELLING),
    "bulk-runs show": ((BLK,), LISTING),
    "completion": (("bash",), NOTHING),
    "healthz": (("web",), NOTHING),
    "connections": ((), LISTING),
    "connections connect": (("--environment", "prod", "--tag", "1bad=x"), ASKING),
    "connections delete": (("known", "--yes"), ASKING),
    "connections explain": (("known",), LINKING),
    "connections get": (("known",), LISTING),
    "connections import": (("apikey", "empty.csv", "--environment", "prod", "--tag", "1bad=x"), ASKING),
    "connections metadata get": (("known",), ASKING),
    "connections metadata set": (("known", '{"a": 1}'), ASKING),
    "connections metadata update": (("known", '{"a": 1}'), ASKING),
    "connections reconnect": (("known", "--tag", "1bad=x"), ASKING),
    "connections refresh": (("known",), ASKING),
    "connections relink": (("known",), LINKING),
    "connections repairs": ((), LISTING),
    "connections restore-tags": (("known",), ASKING),
    "connections show": (("known",), LISTING),
    "connections bulk": (("add-tags", "--all", "--set-tag", "1bad=x"), ASKING),
    "connections supersede": (("--yes",), LINKING),
    "connections tags add": (("known", "1bad=x"), ASKING),
    "connections tags remove": (("known", "1bad"), ASKING),
    "connections tags set": (("known", "1bad=x"), ASKING),
    "connections unlink": (("known", "--yes"), LINKING),
    "destinations": ((), LISTING),
    "destinations add": (("crm/No", "--queue", "x"), OPENING),
    "destinations change": (("crm/nothing", "--rate", "1"), OPENING),
    "destinations check": (("crm/nothing",), OPENING),
    "destinations disable": (("crm/nothing",), LISTING),
    "destinations enable": (("crm/nothing",), LISTING),
    "destinations expire-secret": (("crm/nothing", SEC), LISTING),
    "destinations remove": (("crm/nothing", "--yes"), LISTING),
    "destinations rotate-secret": (("crm/nothing",), OPENING),
    "destinations secrets": (("crm/nothing",), LISTING),
    "destinations test": (("crm/nothing",), OPENING),
    "events": ((), LISTING),
    "events replay": ((EVT,), TELLING),
    "events retry": ((EVT,), TELLING),
    "events show": ((EVT,), LISTING),
    "integrations": (("--environment", "prod"), ASKING),
    "jobs": ((), LISTING),
    "jobs cancel": ((JOB_ID,), TELLING),
    "jobs redeliver": ((JOB_ID,), TELLING),
    "jobs retry": ((JOB_ID,), TELLING),
    "jobs show": ((JOB_ID,), LISTING),
    "jobs summary": ((), LISTING),
    "orgs": ((), LISTING),
    "orgs add": (("o1", "--name", "\x00"), LINKING),
    "orgs change": (("absent", "--name", "x"), LINKING),
    "orgs import": (("empty.csv",), LINKING),
    "orgs remove": (("absent",), LISTING),
    "orgs show": (("absent",), LISTING),
    "processes": ((), LISTING),
    "queues": (("--json",), LISTING),
    "reconcile": (("--environment", "prod"), ASKING),
    "reconcile list": ((), LISTING),
    "reconcile show": ((REC,), LISTING),
    "refreshes": ((), LISTING),
    "refreshes catalogue": ((), NOTHING),
    "refreshes forecast": (("--environment", "prod"), ASKING),
    "refreshes learnt": ((), LISTING),
    "refreshes simulate": (("--environment", "prod"), ASKING),
    "refreshes pause": (("prod/absent",), LISTING),
    "refreshes paused": ((), LISTING),
    "refreshes resume": (("prod/absent",), LISTING),
    "refreshes run": (("known",), ASKING),
    "refreshes sweep": (("absent", "--within", "1h", "--environment", "prod"), ASKING),
    "refreshes show": (("known",), LISTING),
    "figures": (("webhooks",), LISTING),
    "rejections": ((), LISTING),
    "routes": (("--team", "absent"), LISTING),
    "routes add": (("crm/No", *FACTS), LISTING),
    "routes apply": ((), DEFINING),
    "routes backfill": (("crm/nothing", "--since", "1d"), LISTING),
    "routes change": (("crm/nothing", "--job", "x"), LISTING),
    "routes disable": (("crm/nothing",), LISTING),
    "routes enable": (("crm/nothing",), LISTING),
    "routes explain": ((EVT,), LISTING),
    "routes plan": ((), DEFINING),
    "routes remove": (("crm/nothing", "--yes"), LISTING),
    "routes show": (("crm/nothing",), LISTING),
    "routes test": ((PATTERN, "--since", "1d"), LISTING),
    "secrets": ((), OPENING),
    "secrets new-key": ((), NOTHING),
    "secrets reseal": ((), OPENING),
    "send": (("auth_creation_success_tags", "--environment", "prod"), ASKING | PORT),
    "teams": (("--removed",), LISTING),
    "teams add": (("No",), LISTING),
    "teams remove": (("absent",), LISTING),
    "teams end-session": (("absent", SES), LISTING),
    "teams link": (("absent",), LISTING | PORT),
    "teams links": (("absent",), LISTING),
    "teams portal": (("absent",), LISTING),
    "teams revoke-link": (("absent", TLK), LISTING),
    "teams sessions": (("absent",), LISTING),
    "notify": ((), DATABASE | FILES),
    "notify test": ((), DATABASE | FILES),
    "operator add": (("No", "--role", "viewer"), LISTING | PORT),
    "operator disable": (("absent",), LISTING),
    "operator enable": (("absent",), LISTING),
    "operator link": (("absent",), LISTING | PORT),
    "operator list": ((), LISTING),
    "operator remove": (("absent",), LISTING),
    "operator role": (("absent", "--role", "viewer"), LISTING),
    "operator sessions": (("absent",), LISTING),
    "operator sign-out": (("absent",), LISTING),
    "token create": (("t", "--team", "absent"), LISTING),
    "token list": ((), LISTING),
    "token revoke": (("nothing",), LISTING),
    "users": ((), LISTING),
    "users add": (("u1", "--name", "\x00"), LINKING),
    "users change": (("absent", "--name", "x"), LINKING),
    "users erase": (("absent", "--yes"), LISTING),
    "users import": (("empty.csv",), LINKING),
    "users remove": (("absent",), LISTING),
    "users show": (("absent",), LISTING),
    "migrate": ((), DEFINING),
}
# These run until a signal stops them, so only faults that stop them can be tried.
SERVERS: dict[str, tuple[tuple[str, ...], set[str]]] = {
    "beat": ((), TELLING),
    "up": ((), SERVING | DESTINATION),
    "web": ((), SERVING),
    "worker": (("io",), SERVING),
}
DIAGNOSING = ("check", "status")
APART = {"sandbox", "settings"}  # a Nango of its own, which reads none of it; all that can be used, with the faults


def leaves(group: click.Group, path: str = "") -> set[str]:
    """The commands that do something by themselves."""
    found = set[str]()
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        here = f"{path} {name}".strip()
        if isinstance(command, click.Group):
            found |= leaves(command, here)
        if not isinstance(command, click.Group) or command.invoke_without_command:
            found.add(here)
    return found


def test_every_command_is_in_the_table() -> None:
    assert leaves(root) == {*COMMANDS, *SERVERS, *DIAGNOSING, *APART}


@pytest.fixture(scope="module")
def waylink(tmp_path_factory) -> Command:
    """A whole configuration, and one connection, of the environment `prod`."""
    command = Command(tmp_path_factory.mktemp("needs"), dict(GOOD))
    files = {
        "waylink.toml": FILE,
        "keys": "k",
        "hook-secret": SECRET_TEXT,
        "secret-key": KEY,
        "empty.csv": "external_id\n",
    }
    for name, content in files.items():
        (command.folder / name).write_text(content)
    done = command.inside("migrate")
    assert done.returncode == 0, done.stderr
    insert_connection(command)
    return command


def insert_connection(command: Command) -> None:
    now = utc_now()
    with closing(connect(command.database_url)) as database, database.write() as session:
        session.add(
            Connection(
                id=new_id(), environment="prod", integration="github", connection_id="known", status="deleted",
                tags={}, tags_disagree=False, absences=0, created_at=now, updated_at=now,
            )
        )  # fmt: skip


@contextmanager
def with_faults(waylink: Command, *faults: str) -> Iterator[Command]:
    """The command, with these faults at once; put right afterwards."""
    several = [FAULTS[fault] for fault in faults]
    kept = {fault.file: (waylink.folder / fault.file).read_text() for fault in several if fault.file}
    variables: dict[str, str | None] = dict(waylink.variables)
    for fault in several:
        variables |= dict(fault.variables)
        if fault.file and fault.content is None:
            (waylink.folder / fault.file).unlink()
        elif fault.file:
            (waylink.folder / fault.file).write_text(fault.content or "")
    if "WAYLINK_SECRET_KEY" in variables:
        variables["WAYLINK_SECRET_KEY_FILE"] = None
    try:
        yield Command(waylink.folder, {name: value for name, value in variables.items() if value is not None})
    finally:
        for name, content in kept.items():
            (waylink.folder / name).write_text(content)


def is_refused(done: subprocess.CompletedProcess[str], fault: str) -> None:
    """With exit code 2 and one line, which names the fault."""
    assert (done.returncode, done.stdout) == (2, ""), (done.returncode, done.stdout, done.stderr)
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert FAULTS[fault].names in line


def as_process(command: Command, kind: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m workers`, which such a command becomes; its output and exit code."""
    out, err = io.StringIO(), io.StringIO()
    environ = mock.patch.dict(os.environ, command.environ(), clear=True)
    alone = mock.patch("workers.__main__.create_privately")  # it is about the whole process
    with environ, alone, chdir(command.folder), redirect_stdout(out), redirect_stderr(err):
        with pytest.raises(ConfigurationError) as refused:
            run(kind)
        code = refuse(refused.value)
    return subprocess.CompletedProcess([kind], code, out.getvalue(), err.getvalue())


def said(command: Command, name: str, arguments: tuple[str, ...]) -> tuple[int, str, list[str]]:
    done = command.inside(*name.split(), *arguments)
    by_chance = name in {"secrets new-key", "audit"}  # a new key is another one each time; actions add to the audit
    told_apart = ("file_not_read", "budget_not_shared")  # of a file that is not read; of a budget, with its time
    lines = [line for line in done.stderr.splitlines() if not any(event in line for event in told_apart)]
    # A listing marks what came from a file that is not read; its columns are as wide as what stands in them.
    shown = re.sub(r" {2,}", "  ", done.stdout.replace("file, not read here", "file"))
    return done.returncode, "" if by_chance else shown, lines


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_stopped_by_what_it_needs_and_by_nothing_else(waylink: Command, name: str) -> None:
    arguments, needs = COMMANDS[name]
    said(waylink, name, arguments)  # the second time, what the first one began is there
    answer = said(waylink, name, arguments)
    # What is wrong in one place hides what is wrong in another, so of each place one fault.
    elsewhere = [fault for fault in FAULTS if fault not in needs]
    for others in (elsewhere[::2], elsewhere[1::2]) if elsewhere else ():
        with with_faults(waylink, *others) as command:
            assert said(command, name, arguments) == answer, others
    for fault in needs:
        with with_faults(waylink, fault) as command:
            is_refused(command.inside(*name.split(), *arguments), fault)


@pytest.mark.parametrize("name", ["connections show", "connections refresh"])
def test_every_environment_is_needed_to_ask_nango_for_a_connection_that_is_not_known(
    waylink: Command, name: str
) -> None:
    for fault in ASKING | OTHER:
        with with_faults(waylink, fault) as command:
            is_refused(command.inside(*name.split(), "absent"), fault)
    with with_faults(waylink, *OTHER) as command:
        done = command.inside(*name.split(), "absent", "--environment", "prod")
    assert done.returncode == 1
    assert "Nango" in done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_a_variable_that_nothing_reads_is_reported_once(waylink: Command, name: str) -> None:
    arguments, needs = COMMANDS[name]
    command = Command(waylink.folder, waylink.variables | {"WAYLINK_DATABSE_URL": "x"})
    told = command.inside(*name.split(), *arguments).stderr.count('"unknown_variable"')
    assert told == (1 if needs else 0)


@pytest.mark.parametrize("name", SERVERS)
def test_a_process_is_stopped_by_what_it_needs(waylink: Command, name: str) -> None:
    arguments, needs = SERVERS[name]
    for fault in needs:
        with with_faults(waylink, fault) as command:
            if name in {"worker", "beat"}:  # the command becomes that process, which would be this one
                is_refused(as_process(command, *(arguments or (name,))), fault)
            else:
                is_refused(command.inside(name, *arguments), fault)


@pytest.mark.parametrize("name", DIAGNOSING)
@pytest.mark.parametrize("fault", FAULTS)
def test_status_and_check_report_what_is_wrong_among_all_else(waylink: Command, name: str, fault: str) -> None:
    with with_faults(waylink, fault) as command:
        done = command.inside(name, "--json")
    assert done.returncode == 1
    rows = json.loads(done.stdout)
    bad = [row for row in rows if row.get("level", row.get("result")) in {"red", "bad"}]
    told = [row for row in bad if FAULTS[fault].names in " ".join(map(str, row.values()))]
    assert bool(told) is (name == "check" or fault not in DESTINATION), bad
    asked_by = BROKER if name == "check" else DATABASE  # which has the budget of calls, and the uses of keys
    parts = {"database": DATABASE, "internal broker": BROKER, "environment other": FILES | OTHER | asked_by}
    shown = {row.get("name", row.get("what")) for row in rows}
    assert shown & {*parts} == {part for part, needs in parts.items() if fault not in needs}


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault not in DESTINATION])
def test_settings_in_force_are_shown_beside_what_is_wrong(waylink: Command, fault: str) -> None:
    with with_faults(waylink, fault) as command:
        done = command.inside("settings", "--json")
    assert done.returncode == 0
    assert FAULTS[fault].names in done.stderr
    assert {row["variable"] for row in json.loads(done.stdout)} >= {"WAYLINK_PORT", "WAYLINK_DATABASE_URL"}

"""`waylink up`: everything in one command. Brings its own broker and, without keys, its own Nango."""

import json
import os
import socket
import sys
import threading
import time
import uuid
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Final

import click
import httpx

from app.cli.migrating import prepare
from app.cli.opening import cli_actor
from app.cli.web_address import console_origin, is_free, require_free, require_metrics_free, web_origin, webhook_url
from app.clock import utc_now
from app.config.loading import load, load_all
from app.config.nango_environment import Environment, key_name
from app.config.nango_environments import SANDBOX_FILE
from app.config.settings import Settings
from app.db import key_uses
from app.db.engine import Database, connect, sqlite_file
from app.errors import ConfigurationError, Problem
from app.runtime import embedded_broker
from app.runtime.database_wait import wait_for_database
from app.runtime.private_files import exposed
from app.runtime.supervisor import Child, Supervisor, take_lock
from app.sandbox.config import DEFAULT_ENVIRONMENT_ID
from app.sandbox.scenario import play
from app.services.operators import accounts, links
from app.telemetry import configure_logs, get_logger

READY_SECONDS: Final = 20.0
LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})

log = get_logger("up")


@click.command()
@click.option("--no-scenario", is_flag=True, help="In sandbox mode: do not play the small scenario.")
def up(*, no_scenario: bool) -> None:
    """Run web, workers and Beat together; by default with SQLite and a bundled Valkey in the data folder."""
    settings, defined = load_all()
    configure_logs(style=settings.log_format, level=settings.log_level)
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    for file in exposed(settings.data_dir, sqlite_file(settings.database)):
        log.warning("open_to_others", path=str(file.path), problem=file.what)
    with take_lock(settings.data_dir):
        require_free(settings.host, settings.port)
        require_metrics_free(settings.metrics_listen)
        with closing(connect(settings.database)) as database:
            prepared = wait_for_database(partial(prepare, database, settings, defined))
            if settings.uses_sandbox:
                _require_sandbox_data(database, settings)
                _prepare_sandbox(settings)
                settings = load()
        if prepared.orphaned:
            log.warning("not_in_file", hint=str(prepared.orphaned))
        supervisor = Supervisor(
            _children(settings), log=log, on_started=lambda: _started(settings, scenario=not no_scenario)
        )
        code = supervisor.run()
        if settings.broker_url is None:
            embedded_broker.remove_socket_dir(settings.data_dir)
    sys.exit(code)


def _children(settings: Settings) -> list[Child]:
    children = []
    if settings.broker_url is None:
        data_dir = settings.data_dir
        children.append(
            Child("broker", embedded_broker.valkey_argv(data_dir), ready=lambda: embedded_broker.broker_ready(data_dir))
        )
    if settings.uses_sandbox:
        children.append(_sandbox(settings))
    style = settings.log_format
    if style == "auto" and sys.stderr.isatty():
        style = "console"
    for name, arguments in (
        ("web", ("app.cli", "web")),
        ("events", ("workers", "events")),
        ("io", ("workers", "io")),
        ("beat", ("workers", "beat")),
    ):
        # Their output goes through this process, so it decides about colours.
        children.append(Child(name, [sys.executable, "-m", *arguments], env={"WAYLINK_LOG_FORMAT": style}))
    return children


def _sandbox(settings: Settings) -> Child:
    known = _read(settings.data_dir / SANDBOX_FILE)
    base_url = known["base_url"]
    return Child(
        "sandbox",
        [sys.executable, "-m", "app.cli", "sandbox"],
        # Keys go by environment variables: every user of the machine can read a command line.
        env={
            "WAYLINK_SANDBOX_PORT": base_url.rpartition(":")[2],
            "WAYLINK_SANDBOX_API_KEY": known["api_key"],
            "WAYLINK_SANDBOX_SIGNING_KEY": known["signing_key"],
            "WAYLINK_SANDBOX_ACCOUNT_KEY": known["account_key"],
            "WAYLINK_SANDBOX_WEBHOOK_URL": webhook_url(settings, "default"),
            "WAYLINK_SANDBOX_STATE_FILE": str(settings.data_dir / "sandbox-state.json"),
        },
        ready=lambda: _answers(base_url),
    )


def _prepare_sandbox(settings: Settings) -> None:
    """Create the sandbox's keys once, and find a free port for it."""
    file = settings.data_dir / SANDBOX_FILE
    known = _read(file)
    port = settings.sandbox_port
    if not is_free("127.0.0.1", port):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
    known = {
        "base_url": f"http://127.0.0.1:{port}",
        "api_key": known.get("api_key") or str(uuid.uuid4()),
        "signing_key": known.get("signing_key") or str(uuid.uuid4()),
        "account_key": known.get("account_key") or str(uuid.uuid4()),
        "environment_id": DEFAULT_ENVIRONMENT_ID,
    }
    draft = file.with_name(f".{file.name}.{os.getpid()}")  # a file that was there may be open to others
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        json.dump(known, opened)
    draft.replace(file)


def _require_sandbox_data(database: Database, settings: Settings) -> None:
    """Keep the sandbox away from the connections of a real Nango: it knows none of them, so they would count as gone.

    It would begin in their place where the keys' variables, or waylink.toml with its environments, are missing. Raises
    ConfigurationError.
    """
    sandbox = {
        key_name(key) for environment in settings.environments.values() for key in environment.signing_keys.live()
    }
    with database.read() as session:
        newest = max(key_uses.all_uses(session), key=lambda use: use.live_at, default=None)
    if newest is not None and newest.key not in sandbox:
        what = (
            f"not set, and the database last served a Nango that is not the sandbox (environment {newest.environment}):"
            " set its keys again, or try the sandbox with another WAYLINK_DATA_DIR and no WAYLINK_DATABASE_URL"
        )
        raise ConfigurationError([Problem("WAYLINK_NANGO_SIGNING_KEYS", what, "new-key,old-key")])


def _read(file: Path) -> dict[str, Any]:
    try:
        known = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _started(settings: Settings, *, scenario: bool) -> None:
    """Print the addresses as soon as web answers, then play the scenario."""
    threading.Thread(target=_announce, args=(settings, scenario), daemon=True).start()


def _announce(settings: Settings, scenario: bool) -> None:
    origin = web_origin(settings)
    ends_at = time.monotonic() + READY_SECONDS
    while not _answers(f"{origin}/healthz"):
        if time.monotonic() > ends_at:
            log.warning("web_not_ready", url=origin)
            return
        time.sleep(0.1)
    click.echo("\n  Waylink is up.")
    for environment in settings.environments.values():
        click.echo(f"  Webhook URL             {webhook_url(settings, environment.name)}")
        click.echo(f"  Nango                   {_mode(environment)}")
    click.echo(f"  Console                 {console_origin(settings)}/console")
    if (link := _first_link(settings)) is not None:
        click.echo(f"  Sign in, once           {console_origin(settings)}{link}")
    first = next(iter(settings.environments))
    named = "" if "default" in settings.environments else f" --environment {first}"
    click.echo(f"  Try, in another window  waylink send auth_creation_success_tags{named}")
    click.echo("                          waylink events\n")
    if scenario and settings.uses_sandbox:
        _play(settings.environments["default"])


def _first_link(settings: Settings) -> str | None:
    """The path by which a first operator sets a password; None where one has signed in before, or others reach it.

    Only on the embedded default that listens on loopback: its output is seen by the person who started it.
    """
    if settings.database_url is not None or settings.host not in LOOPBACK:
        return None
    now = utc_now()
    with closing(connect(settings.database)) as database, database.write() as session:
        operator = accounts.first(session, actor=cli_actor(), now=now)
        if operator is None:
            return None
        return f"{links.PATH}/{links.issue(session, operator, actor=cli_actor(), now=now)}"


def _mode(environment: Environment) -> str:
    if environment.sandboxed:
        return f"the sandbox at {environment.base_url}"
    if not environment.has_api:
        return "signing keys only: nothing is confirmed with Nango, no token is refreshed"
    return environment.base_url


def _play(environment: Environment) -> None:
    key = environment.api_key.get_secret_value() if environment.api_key else ""
    try:
        play(environment.base_url, key, log=log.info)
    except httpx.HTTPError as failed:
        log.warning("scenario_stopped", problem=str(failed))


def _answers(url: str) -> bool:
    try:
        httpx.get(url, timeout=1.0, trust_env=False)
    except httpx.HTTPError:
        return False
    return True

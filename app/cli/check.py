"""`waylink check`: is the configuration right, and is everything it names there?"""

import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Final

import click
from sqlalchemy.exc import SQLAlchemyError

from app.brokers.celery_broker import Broker
from app.cli.environment_checks import nango_answer, webhook_settings
from app.cli.finding import Finding
from app.cli.integrity import check_references
from app.cli.options import AS_JSON
from app.cli.output import print_rows
from app.cli.web_address import host_problem
from app.config.checks import unknown_variables
from app.config.loading import Diagnosis, destination_problems, diagnose, usable
from app.config.operator_settings import OperatorSettings
from app.config.settings import Settings
from app.config.settings_groups import BrokerSettings, DatabaseSettings, SealingSettings
from app.config.waylink_toml import ConfigFile
from app.db import destinations as destination_rows
from app.db import routes as route_rows
from app.db import secrets as secret_rows
from app.db.engine import connect, sqlite_file, unverified
from app.db.schema_version import require_current, takes_writes
from app.domain.owner_queries import COLUMNS
from app.errors import (
    BrokerUnavailable,
    ConfigurationError,
    DatabaseNotMigrated,
    ProviderUnavailable,
)
from app.outage_causes import of_database
from app.runtime.private_files import exposed
from app.runtime.wiring import directory_of, own_brokers_of, provider_of, sealer_of, sender_of
from app.sealing import KEY_FILE
from app.services.definitions import resealing
from app.services.definitions.connectivity import reach
from app.services.definitions.orphans import orphans
from app.services.routing.cache import refused_patterns
from app.services.status.brokers import told_of_eviction
from app.wording import counted

NAMED: Final = 10  # routes of one kind


@click.command()
@click.option("--integrity", is_flag=True, help="Search the database for broken references instead; takes minutes.")
@AS_JSON
def check(*, integrity: bool, as_json: bool) -> None:
    """Check configuration, database, brokers and each Nango environment. Exit 1 if anything is bad.

    With --integrity: whether all rows exist that others name. That can be run at any time.
    """
    if integrity:
        sys.exit(0 if check_references(as_json=as_json) else 1)
    findings = [*_findings(diagnose())]
    rows = [{"what": one.what, "result": one.result, "detail": one.detail} for one in findings]
    print_rows(rows, ("what", "result", "detail"), as_json=as_json)
    sys.exit(1 if any(finding.result == "bad" for finding in findings) else 0)


def _findings(diagnosis: Diagnosis) -> Iterator[Finding]:
    """Faults of the configuration, then the findings of every check that does not depend on them."""
    settings, problems = diagnosis.settings, diagnosis.problems
    brokers, sealing = usable(BrokerSettings), usable(SealingSettings)
    named = destination_problems(sealing, settings.file) if sealing else []
    host = host_problem(settings.host)
    for wrong in dict.fromkeys([*problems, *named, *([host] if host else ())]):
        yield Finding(wrong.where, "bad", wrong.what)
    yield from _unknown_variables(settings)
    database = _database(settings) if usable(DatabaseSettings) else None
    answers = database is not None and database.result != "bad"
    if database is not None:
        yield database
        for file in exposed(settings.data_dir, sqlite_file(settings.database)):
            yield Finding("files", "bad", str(file))
    if sealing is not None:
        yield _secret_key(sealing, database_answers=answers)
    if brokers is not None:
        yield _broker("internal", brokers.broker)
        yield _broker("team", brokers.team_broker)
    yield from _directory(settings)
    if operators := usable(OperatorSettings):
        yield from _identity_provider(operators, settings.file)
    if not settings.environments and not problems:
        detail = "none yet: `waylink up` starts a sandbox, or set WAYLINK_NANGO_SIGNING_KEYS"
        yield Finding("environments", "note", detail)
    for name, environment in settings.environments.items() if brokers else ():
        yield nango_answer(settings, name, environment)
        yield from webhook_settings(settings, environment)
    if answers:
        if diagnosis.file_read:
            yield _file(settings)
        yield from _patterns(settings)
        if sealing is not None:
            yield from _destinations(sealing)


def _unknown_variables(settings: Settings) -> Iterator[Finding]:
    for name, meant in unknown_variables(settings.file_path):
        yield Finding(name, "note", f"not a setting of Waylink{f'; {meant} is' if meant else ''}")


def _database(settings: Settings) -> Finding:
    with closing(connect(settings.database)) as database:
        kind = database.engine.dialect.name
        try:
            require_current(database)
            with database.read() as session:
                if not takes_writes(session):
                    return Finding("database", "bad", f"{kind} takes no writes: it is read-only, or a standby")
        except DatabaseNotMigrated as behind:
            return Finding("database", "bad", str(behind))
        except SQLAlchemyError as away:
            return Finding("database", "bad", f"{kind} does not answer: {of_database(away)}")
    if wrong := unverified(settings.database):
        return Finding("database", "note", f"{kind}, schema up to date; {wrong}")
    return Finding("database", "ok", f"{kind}, schema up to date")


def _secret_key(settings: SealingSettings, *, database_answers: bool) -> Finding:
    """Check that the key opens the stored secrets."""
    what, sealer = "secret key", sealer_of(settings)
    file = settings.data_dir / KEY_FILE
    own = settings.secret_key is None and settings.secret_key_file is None
    try:
        if database_answers:
            with closing(connect(settings.database)) as database:
                with database.read() as session:
                    used = secret_rows.any_sealed(session)
                found = resealing.count(database, sealer) if used else None
            if found is not None:
                if found.unreadable:
                    closed = counted(len(found.unreadable), "stored secret")
                    detail = f"{closed} cannot be opened by any of the keys: put the old one beside the new"
                    return Finding(what, "bad", detail)
                return Finding(what, "ok", f"opens all stored secrets, {found.newest + found.older}")
        if own and settings.database_url is not None:
            return Finding(what, "note", "none: needed for HTTP destinations and for teams' own brokers")
        if own and not file.exists():
            return Finding(what, "ok", f"none yet: made in {file} when it is needed first")
        return Finding(what, "ok", f"{counted(sealer.check(), 'key')}, the newest seals")
    except ConfigurationError as unusable:
        return Finding(what, "bad", "; ".join(map(str, unusable.problems)))


def _file(settings: Settings) -> Finding:
    """Note definitions that left waylink.toml: they stay in force until `waylink routes apply` removes them."""
    with closing(connect(settings.database)) as database, database.read() as session:
        found = orphans(session, settings.file.names, settings.file_path)
    if found:
        return Finding("waylink.toml", "note", str(found))
    if settings.file_path is None:
        return Finding("waylink.toml", "ok", "there is none, and nothing in force came from one")
    return Finding("waylink.toml", "ok", f"{settings.file_path} has all that is in force from it")


def _patterns(settings: Settings) -> Iterator[Finding]:
    """Find routes without a usable pattern, which make no jobs. Patterns beyond a limit are older than the limit."""
    with closing(connect(settings.database)) as database, database.read() as session:
        rows = route_rows.live(session)
    unusable, kept = refused_patterns(rows)
    for found, result, words in (
        (unusable, "bad", "cannot be used"),
        (kept, "note", "is beyond a limit, and in force"),
    ):
        for name, why in [*found.items()][:NAMED]:
            yield Finding(f"route {name}", result, f"its pattern {words}: {why}")
        if len(found) > NAMED:
            yield Finding("routes", result, f"{len(found) - NAMED} more, whose pattern {words}")


def _destinations(settings: SealingSettings) -> Iterator[Finding]:
    with closing(connect(settings.database)) as database, database.read() as session:
        known = [
            destination for destination in destination_rows.get_all(session).values() if destination.retired_at is None
        ]
    for reached in reach(known, own_brokers_of(settings), lambda: sender_of(settings)):
        yield Finding(f"destination {reached.team}/{reached.name}", reached.result, reached.detail)


def _directory(settings: Settings) -> Iterator[Finding]:
    """Run each query of the application's database with NULL for every tag, and check its columns."""
    directory = directory_of(settings)
    if directory is None:
        if settings.file.directory.sql is not None:
            yield Finding("directory.sql", "note", "not asked: WAYLINK_DIRECTORY_POLICY is not `sql`")
        return
    with closing(directory):
        for kind, query in directory.queries.items():
            what = f"directory.sql {kind}_query"
            try:
                columns = directory.database.columns(query)
            except SQLAlchemyError as failed:
                yield Finding(what, "bad", of_database(failed))
                continue
            if "external_id" not in columns:
                yield Finding(what, "bad", f"has no column external_id; its columns: {', '.join(columns)}")
                continue
            ignored = [name for name in columns if name not in COLUMNS[kind]]
            detail = f"runs, read-only; not read: {', '.join(ignored)}" if ignored else "runs, read-only"
            yield Finding(what, "note" if ignored else "ok", detail)


def _identity_provider(settings: OperatorSettings, file: ConfigFile) -> Iterator[Finding]:
    """Ask the provider of single sign-on for its metadata and keys. The client's secret is tried by a sign-in only."""
    provider = provider_of(settings)
    if provider is None:
        return
    what = f"single sign-on at {provider.name}"
    with closing(provider):
        try:
            keys = provider.count_keys()
        except ProviderUnavailable as refused:
            yield Finding(what, "bad", refused.reason)
            return
    if not keys:
        yield Finding(what, "bad", "publishes no signing key that can be used: every sign-in is refused")
    elif not file.operators.groups:
        yield Finding(what, "note", "answers; no group has a role (`[[operators.groups]]`): every sign-in is refused")
    else:
        yield Finding(what, "ok", f"answers, {counted(keys, 'signing key')}; the client's secret is not tried")


def _broker(name: str, url: str) -> Finding:
    broker = Broker.at(name, url)
    try:
        broker.ping()
        eviction = broker.eviction()
    except BrokerUnavailable as away:
        return Finding(f"{name} broker", "bad", str(away))
    finally:
        broker.close()
    if eviction is not None:
        return Finding(f"{name} broker", "note", told_of_eviction(name, eviction))
    if "ssl_cert_reqs=none" in url:
        return Finding(f"{name} broker", "note", "answers; its URL says that its certificate is not verified")
    return Finding(f"{name} broker", "ok", "answers")

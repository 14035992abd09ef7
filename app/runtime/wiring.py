"""Construction of the services' values and clients from settings."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from app.brokers.celery_broker import Broker
from app.clock import utc_now
from app.config.forward_proxy import proxy_for
from app.config.nango import NangoSettings
from app.config.operator_settings import OperatorSettings
from app.config.refresh_tables import policies_of, tables_of
from app.config.settings import Settings
from app.config.settings_groups import PolicySettings, SealingSettings
from app.config.waylink_toml import ConfigFile
from app.db import secrets as secret_rows
from app.db.application_database import ApplicationDatabase
from app.db.engine import Database, connect
from app.db.routes import RouteDefinition
from app.domain.people import OwnerKind
from app.domain.refreshing.policy import RefreshPolicies
from app.openid.fetching import Fetcher
from app.openid.provider import Client, Provider
from app.outbound.network import trusting
from app.outbound.sending import HttpSender
from app.sealing import Sealer, sealer_of_file, sealer_of_folder, sealer_with, sealer_without_key
from app.services.budget import Budget
from app.services.definitions.config_plan import DestinationDefinition
from app.services.definitions.destinations import DefinitionContext
from app.services.definitions.signing_secrets import Keyring
from app.services.definitions.team_brokers import OwnBrokers
from app.services.delivery.deliverer import Deliverer, Http
from app.services.liveness.reporter import version
from app.services.nango_clients import NangoClients
from app.services.operators.sessions import Lives
from app.services.policy import Policy
from app.services.reconciliation.reconciler import Reconciler
from app.services.sql_directory import SqlDirectory
from app.text_input import read_text, unwrapped

if TYPE_CHECKING:
    from app.traces.process import ProcessTraces


def policy_of(settings: NangoSettings) -> Policy:
    """The configuration as the services see it."""
    return replace(linking_policy_of(settings), environments=settings.environments)


def linking_policy_of(settings: PolicySettings) -> Policy:
    """The policy without environments, for work that does not call Nango."""
    return Policy(
        environments={},
        directory=settings.directory_policy,
        owner_change=settings.owner_change_policy,
        tag_keys=settings.file.directory.tag_keys,
        refresh=refresh_policies_of(settings.file),
        duplicates=settings.file.duplicates,
    )


def reconciler_of(settings: NangoSettings, database: Database, clients: NangoClients) -> Reconciler:
    """The reconciler of the environments that have an API key; others have no list to compare with."""
    environments = [name for name, environment in settings.environments.items() if environment.has_api]
    return Reconciler(database, clients, environments, utc_now, every=settings.reconcile_every)


def clients_of(settings: NangoSettings) -> NangoClients:
    """Clients of all environments, limited by the budget that all processes share. The caller closes them."""
    return NangoClients(settings.environments, budget_of(settings))


def budget_of(settings: NangoSettings) -> Budget:
    """The budget that all processes share. The caller closes it."""
    return Budget(settings.broker, default_limit=settings.nango_requests_per_minute)


@contextmanager
def open_clients(settings: NangoSettings) -> Iterator[NangoClients]:
    """Clients of all environments, closed at the end of the block."""
    clients = clients_of(settings)
    try:
        yield clients
    finally:
        clients.close()


def sealer_of(settings: SealingSettings) -> Sealer:
    """The sealer for secrets at rest. A missing key raises when it is first needed."""
    if settings.secret_key is not None:
        return sealer_with(settings.secret_key.get_secret_value())
    if settings.secret_key_file is not None:
        return sealer_of_file(settings.secret_key_file)
    if settings.database_url is not None:
        return sealer_without_key()
    return sealer_of_folder(settings.data_dir, is_used=partial(_any_sealed, settings.database))


def _any_sealed(url: str) -> bool:
    with closing(connect(url)) as database, database.read() as session:
        return secret_rows.any_sealed(session)


def definition_context(settings: SealingSettings) -> DefinitionContext:
    """Sealer, allowed networks and internal broker, for defining destinations."""
    return DefinitionContext(sealer_of(settings), settings.destination_ranges, settings.broker)


def sender_of(settings: SealingSettings) -> HttpSender:
    """The HTTP sender of jobs. It belongs to the event loop of its first use, and has to be closed there."""
    return HttpSender(allowed=settings.destination_ranges, tls=trusting(settings.destination_ca_file))


def deliverer_of(
    settings: SealingSettings,
    database: Database,
    teams: Broker,
    *,
    over_http: bool,
    traces: "ProcessTraces | None" = None,
) -> Deliverer:
    """The deliverer for the teams' default broker, teams' own brokers and, with `over_http`, endpoints."""
    http = Http(partial(sender_of, settings), Keyring(sealer_of(settings))) if over_http else None
    spans, own_broker = traces.attempts if traces is not None else None, own_brokers_of(settings).of
    return Deliverer(database, teams, utc_now, own_broker=own_broker, http=http, spans=spans)


def traces_of(settings: Settings, kind: str) -> "ProcessTraces | None":
    """The traces of a process of this kind; None while they are off. The caller closes them.

    Only then is OpenTelemetry imported: it is an extra, and takes a tenth of a second.
    """
    if not settings.traces:
        return None
    made: ProcessTraces = import_module("app.traces.process").ProcessTraces(kind, version())
    return made


def own_brokers_of(settings: SealingSettings) -> OwnBrokers:
    """Brokers that teams have of their own."""
    return OwnBrokers(
        sealer_of(settings), settings.destination_ranges, settings.destination_ca_file, internal=settings.broker
    )


def lives_of(settings: OperatorSettings) -> Lives:
    """The lives of operators' sessions."""
    return Lives(settings.session_idle, settings.session_life)


def provider_of(settings: OperatorSettings) -> Provider | None:
    """The identity provider; None without one. The caller closes it."""
    issuer, file = settings.oidc_issuer, settings.oidc_client_secret_file
    if issuer is None:
        return None
    secret = settings.oidc_client_secret.get_secret_value() if settings.oidc_client_secret else None
    client = Client(
        issuer=issuer,
        client_id=settings.oidc_client_id or "",
        secret=unwrapped(read_text(file)) if file else secret,
        scopes=settings.oidc_scopes,
        groups_claim=settings.oidc_groups_claim,
    )
    return Provider(client, Fetcher(proxy=proxy_for(issuer, None), tls=trusting(settings.oidc_ca_file)))


def directory_of(settings: Settings) -> SqlDirectory | None:
    """The application's own database as a directory; None unless the directory policy is `sql`."""
    entry, url = settings.file.directory.sql, settings.directory_url
    if entry is None or url is None:
        return None
    timeout = entry.timeout.total_seconds()
    database = ApplicationDatabase(url.get_secret_value(), timeout=timeout, pool_size=entry.pool_size)
    configured = {OwnerKind.USER: entry.user_query, OwnerKind.ORGANIZATION: entry.organization_query}
    queries = {kind: query for kind, query in configured.items() if query is not None}
    return SqlDirectory(database, queries, settings.file.directory.tag_keys)


def destinations_of(file: ConfigFile) -> dict[tuple[str, str], DestinationDefinition]:
    """Destinations of waylink.toml by (team, name)."""
    return {
        (team, name): DestinationDefinition(**entry.columns)
        for team, owner in file.teams.items()
        for name, entry in owner.destinations.items()
    }


def routes_of(file: ConfigFile) -> list[RouteDefinition]:
    """Routes of waylink.toml."""
    return [
        RouteDefinition(
            name=route.name,
            team=route.team,
            destination=route.destination,
            job=route.job,
            pattern=route.pattern if isinstance(route.pattern, dict) else {},
            enabled=route.enabled,
        )
        for route in file.routes
    ]


def refresh_policies_of(file: ConfigFile) -> RefreshPolicies:
    """The refresh policies of waylink.toml, with the catalogue."""
    return policies_of(tables_of(file))

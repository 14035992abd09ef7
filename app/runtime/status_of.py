"""The configuration as the checks of Waylink's status see it."""

from collections.abc import Callable
from contextlib import closing
from datetime import timedelta

from app.clock import utc_now
from app.config.loading import Diagnosis, diagnose, usable
from app.config.settings import Settings
from app.config.settings_groups import BrokerSettings
from app.db.engine import connect
from app.domain.status import Check
from app.runtime.notifications import channels_of
from app.runtime.wiring import policy_of, sealer_of
from app.services.status.brokers import INTERNAL, TEAM
from app.services.status.installation import DefinitionFile, Installation
from app.services.status.report import report


def diagnosed(*, warn: bool) -> Installation:
    """The installation as variables and files are now. warn: log unknown variables."""
    found = diagnose(warn=warn)
    return _installation(found.settings, found, has_brokers=usable(BrokerSettings) is not None)


def running(settings: Settings) -> Installation:
    """The installation that a process runs, with the faults that variables and files have now."""
    return _installation(settings, diagnose(warn=False), has_brokers=True)


def look_of(settings: Settings) -> Callable[[], list[Check]]:
    """A function that makes the report of the installation that a process runs, over a connection of its own."""

    def look() -> list[Check]:
        with closing(connect(settings.database, pool_size=1)) as database:
            return report(database, running(settings), now=utc_now())

    return look


def _installation(settings: Settings, found: Diagnosis, *, has_brokers: bool) -> Installation:
    file = found.settings
    return Installation(
        problems=found.problems,
        policy=policy_of(settings),
        brokers={INTERNAL: settings.broker, TEAM: settings.team_broker} if has_brokers else {},
        sealer=sealer_of(settings),
        file=DefinitionFile(file.file.names, file.file_path) if found.file_read else None,
        public_url=settings.public_url,
        canary_every=settings.canary_every,
        reconcile_every=settings.reconcile_every or timedelta(0),
        keep_events=settings.keep_events or None,
        keep_refreshes=settings.keep_refreshes or None,
        channels=channels_of(settings),
        nango_requests_per_minute=settings.nango_requests_per_minute,
    )

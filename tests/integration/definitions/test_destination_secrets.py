"""Promises 7 and 10: signing secrets are shown once, kept encrypted, and rotated without a refused delivery."""

import time
from datetime import timedelta

import pytest
from pydantic import SecretStr
from sqlalchemy import select
from standardwebhooks import Webhook

from app.config.secret_sources import ConfiguredSecrets
from app.db import destinations
from app.db import secrets as rows
from app.db.models import Audit, Destination, DestinationSecret
from app.domain.addresses import read_networks
from app.domain.standard_webhooks import SHORTEST, read_secret, signed_headers
from app.errors import ConfigurationError, Conflict, InvalidInput, NotFound, Unreachable
from app.ids import SECRET, show
from app.sealing import new_key, sealer_with, sealer_without_key
from app.services.definitions import config_sync, resealing, signing_secrets, team_brokers
from app.services.definitions.config_plan import DestinationDefinition
from app.services.definitions.signing_secrets import Keyring
from app.services.definitions.team_brokers import OwnBrokers
from tests.integration.world import dump

KEY = new_key()
HOOK = ("crm", "hook")
ROW = DestinationDefinition("http", url="https://hooks.example/in")
DAY = 24 * 3600


@pytest.fixture
def sealer():
    return sealer_with(KEY)


@pytest.fixture
def apply(world, sealer):
    """Make these the destinations of waylink.toml: the row, and what the file gives of its secrets."""

    def apply(destinations, secrets=None, *, sealer=sealer):
        with world.database.write() as session:
            return config_sync.apply_file(
                session, destinations=destinations, routes=[], secrets=secrets, sealer=sealer, now=world.clock.now
            )

    return apply


@pytest.fixture
def hook(apply, world):
    """An HTTP destination of the file, with the secret that it got when it was recorded."""
    apply({HOOK: ROW})
    return kept(world)[0]


@pytest.fixture
def rotate(world, sealer):
    def rotate(**options):
        with world.database.write() as session:
            return signing_secrets.rotate(
                session, sealer, team="crm", destination="hook", actor="cli:op", now=world.clock.now, **options
            )

    return rotate


def kept(world):
    """Newest first."""
    with world.database.read() as session:
        return rows.of_destination(session, team="crm", destination="hook")


def keys(world, sealer):
    with world.database.read() as session:
        return Keyring(sealer).of(session, [HOOK], now=world.clock.now)[HOOK]


def audited(world):
    with world.database.read() as session:
        return [(row.action, row.subject) for row in session.scalars(select(Audit).order_by(Audit.id))]


def test_an_http_destination_has_a_secret_from_the_start_and_an_unchanged_file_changes_nothing(apply, world, sealer):
    assert apply({HOOK: ROW}).destinations_added == ("crm/hook",)
    [secret] = kept(world)
    assert len(keys(world, sealer)[0]) >= SHORTEST
    assert not apply({HOOK: ROW})
    assert [secret.id for secret in kept(world)] == [secret.id]


def test_a_rotation_shows_the_new_secret_once_and_both_sign_for_the_overlap(hook, rotate, world, sealer, clock):
    made = rotate()
    assert made.replaced == (hook.id,)
    assert made.value not in repr(made)
    assert made.value not in dump(world.database)
    now_signing = keys(world, sealer)
    assert now_signing[0] == read_secret(made.value)
    assert len(now_signing) == 2
    headers = signed_headers(b"{}", message_id="job_1", timestamp=int(time.time()), keys=now_signing)
    Webhook(made.value).verify(b"{}", dict(headers))
    clock.move(DAY - 1)
    assert len(keys(world, sealer)) == 2
    clock.move(2)
    assert keys(world, sealer) == (read_secret(made.value),)
    assert audited(world) == [("destination.secret_made", "crm/hook"), ("destination.secret_rotated", "crm/hook")]


def test_a_rotation_without_overlap_ends_the_older_ones_at_once(hook, rotate, world, sealer):
    made = rotate(overlap=timedelta(0))
    assert keys(world, sealer) == (read_secret(made.value),)


def test_a_second_rotation_does_not_prolong_the_first_ones_overlap(hook, rotate, world, sealer, clock):
    rotate()
    clock.move(DAY / 2)
    rotate()
    ends = [secret.expires_at for secret in kept(world)]
    assert ends[0] is None
    assert ends[1] > ends[2]


def test_so_many_secrets_in_force_are_refused_and_ended_ones_forgotten_in_time(hook, rotate, world, clock):
    for _ in range(signing_secrets.MOST_LIVE - 1):
        rotate()
    with pytest.raises(Conflict, match="end one first"):
        rotate()
    clock.move(40 * DAY)
    rotate()
    assert len(kept(world)) == 2


def test_a_leaked_secret_is_ended_at_once_but_never_the_last_one(hook, rotate, world, sealer, clock):
    def expire(secret_id):
        with world.database.write() as session:
            return signing_secrets.expire(
                session, secret_id, team="crm", destination="hook", actor="cli:op", now=clock.now
            )

    with pytest.raises(Conflict, match="only secret"):
        expire(show(SECRET, hook.id))
    made = rotate()
    expire(show(SECRET, hook.id))
    assert keys(world, sealer) == (read_secret(made.value),)
    assert audited(world)[-1] == ("destination.secret_expired", "crm/hook")
    with pytest.raises(NotFound):
        expire(show(SECRET, hook.id))
    with pytest.raises(InvalidInput):
        expire("nonsense")


def test_destinations_that_are_not_there_or_take_no_http_have_no_secrets(apply, world, sealer, clock):
    apply({("crm", "jobs"): DestinationDefinition("celery", "team.crm.jobs")})
    for name, error in (("jobs", Conflict), ("hook", NotFound)):
        with world.database.write() as session, pytest.raises(error):
            signing_secrets.rotate(session, sealer, team="crm", destination=name, actor="a", now=clock.now)
        with world.database.read() as session, pytest.raises(error):
            signing_secrets.listed(session, team="crm", destination=name)


# Configured in the file


def test_a_configured_secret_is_the_newest_one_and_a_changed_one_rotates(apply, world, sealer):
    first, second = (f"whsec_{letter * 43}=" for letter in "ab")
    apply({HOOK: ROW}, {HOOK: ConfiguredSecrets(signing=SecretStr(first))})
    assert keys(world, sealer) == (read_secret(first),)
    assert not apply({HOOK: ROW}, {HOOK: ConfiguredSecrets(signing=SecretStr(first))})
    changes = apply({HOOK: ROW}, {HOOK: ConfiguredSecrets(signing=SecretStr(second))})
    assert changes.destinations_changed == ("crm/hook",)
    assert keys(world, sealer) == (read_secret(second), read_secret(first))
    assert first not in dump(world.database)


def test_a_broker_of_its_own_is_recorded_encrypted_and_a_changed_or_dropped_one_is_seen(apply, world, sealer):
    jobs = ("crm", "jobs")
    row = {jobs: DestinationDefinition("celery", "team.crm.jobs", rate_per_second=5.0)}
    first, second = "redis://:hunter2@one.example/1", "amqps://u:hunter2@two.example/crm"

    def stored():
        with world.database.read() as session:
            return destinations.get_all(session)[jobs]

    for url in (first, second):
        assert apply(row, {jobs: ConfiguredSecrets(broker_url=SecretStr(url))})
        assert team_brokers.url_of(sealer, stored()) == url
        assert "hunter2" not in dump(world.database)
        assert not apply(row, {jobs: ConfiguredSecrets(broker_url=SecretStr(url))})
    assert team_brokers.place_of(sealer, stored()) == "amqps://two.example:5671/crm"
    assert apply(row).destinations_changed == ("crm/jobs",)
    assert stored().broker_sealed is None
    assert stored().rate_per_second == 5.0


def test_without_a_key_nothing_is_recorded_that_would_need_one(apply, world):
    with pytest.raises(ConfigurationError, match="WAYLINK_SECRET_KEY"):
        apply({HOOK: ROW}, sealer=sealer_without_key())
    with world.database.read() as session:
        assert session.scalars(select(Destination)).all() == []
    assert apply({("crm", "jobs"): DestinationDefinition("celery", "team.crm.jobs")}, sealer=sealer_without_key())


# Keys


def test_a_secret_that_no_key_opens_signs_nothing_and_is_reported(hook, world, capsys):
    assert keys(world, sealer_with(new_key())) == ()


def test_resealing_moves_everything_to_the_newest_key(apply, hook, rotate, world, clock):
    rotate()
    jobs = ("crm", "jobs")
    apply(
        {HOOK: ROW, jobs: DestinationDefinition("celery", "team.crm.jobs")},
        {jobs: ConfiguredSecrets(broker_url=SecretStr("redis://one.example/1"))},
    )
    newest = new_key()
    both = sealer_with(f"{newest},{KEY}")
    before = keys(world, both)
    found = resealing.count(world.database, both)
    assert (found.newest, found.older, found.unreadable) == (0, 3, [])
    assert keys(world, sealer_with(newest)) == ()
    done = resealing.reseal(world.database, both, actor="cli:op", now=clock.now)
    assert (done.newest, done.older) == (0, 3)
    assert keys(world, sealer_with(newest)) == before
    assert resealing.count(world.database, sealer_with(newest)).newest == 3
    assert audited(world)[-1] == ("secrets.resealed", "secrets")
    stranger = resealing.count(world.database, sealer_with(new_key()))
    assert sorted(set(stranger.unreadable)) == ["broker URL of crm/jobs", "signing secret of crm/hook"]


def test_a_secret_moved_to_another_destination_does_not_sign_there(apply, hook, world, sealer):
    apply({HOOK: ROW, ("erp", "hook"): ROW})
    with world.database.write() as session:
        session.get(DestinationSecret, hook.id).team = "erp"
    with world.database.read() as session:
        found = Keyring(sealer).of(session, [HOOK, ("erp", "hook")], now=world.clock.now)
    assert found[HOOK] == ()
    assert len(found["erp", "hook"]) == 1


# Brokers of teams' own


def opened(sealer, url, **options):
    own = OwnBrokers(sealer, read_networks("127.0.0.0/8 ::1"), **options)
    return own.open(sealer.seal(url, purpose=team_brokers.broker_purpose(("crm", "jobs"))), key=("crm", "jobs"))


def test_a_broker_of_a_teams_own_is_checked_when_it_is_used(sealer, valkey):
    valkey.start()
    broker = opened(sealer, valkey.url(3))
    broker.ping()
    broker.close()
    for url, error in (("redis://localhost:6379/1", Unreachable), ("redis://127.0.0.1:6379/1", InvalidInput)):
        sealed = sealer.seal(url, purpose=team_brokers.broker_purpose(("crm", "jobs")))
        with pytest.raises(error, match=r"refused \(loopback"):
            OwnBrokers(sealer).open(sealed, key=("crm", "jobs"))


def test_the_internal_brokers_database_is_no_teams_own_in_any_spelling(sealer):
    for url in ("redis://127.0.0.1:6379/0", "redis://localhost", "redis://:pass@localhost:6379/00"):
        with pytest.raises(InvalidInput, match="internal broker's database"):
            opened(sealer, url, internal="redis://localhost:6379/0")

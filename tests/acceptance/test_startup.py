"""Causes that keep a process from starting: reported at once, in lines that name the remedy, never as a traceback."""

import json
import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.acceptance.harness import Waylink, installation, until
from tests.ports import free_port

SECRETS = ("hunter2", "key-nobody-may-see", "4d70f328-6b39-451e-b92f-21969323b448")
TEAM = """
[teams.crm.destinations.jobs]
kind = "celery"
queue = "{queue}"
[[routes]]
name = "import"
team = "{team}"
destination = "jobs"
job = "crm.import"
pattern = '{pattern}'
"""
GOOD = {"queue": "team.crm.jobs", "team": "crm", "pattern": '{"type": ["connection.created"]}'}


@pytest.fixture
def waylink() -> Iterator[Waylink]:
    with installation(WAYLINK_NANGO_SIGNING_KEYS=SECRETS[1]) as waylink:
        yield waylink


def refused(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Exit 2, nothing on standard output, no traceback, no secret; the lines."""
    assert done.returncode == 2, done
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert not any(secret in done.stderr for secret in SECRETS)
    return done.stderr.splitlines()


@pytest.mark.parametrize("command", ["web", "worker events", "worker io", "beat", "events"])
def test_an_unmigrated_database_is_refused_by_name_of_the_command(waylink: Waylink, command: str) -> None:
    (line,) = refused(waylink.run(*command.split()))
    assert re.match(r"error: database \S+/waylink\.db: .* run `waylink migrate`", line)


@pytest.mark.parametrize("command", ["migrate", "events"])
def test_a_database_that_is_away_is_reported_in_one_line(waylink: Waylink, command: str) -> None:
    url = f"postgresql://waylink:{SECRETS[0]}@127.0.0.1:{free_port()}/waylink"
    done = waylink.run(*command.split(), WAYLINK_DATABASE_URL=url)
    assert done.returncode == 1
    assert re.fullmatch(r"error: the database .+: .+\n", done.stderr)
    assert SECRETS[0] not in done.stderr


def test_web_starts_without_its_database_and_says_so(waylink: Waylink) -> None:
    waylink.env["WAYLINK_DATABASE_URL"] = f"postgresql://waylink:{SECRETS[0]}@127.0.0.1:{free_port()}/waylink"
    process = waylink.spawn("web")
    process.says("database_away")
    until("it answers", lambda: waylink.status("/healthz") == 200)
    assert waylink.status("/readyz") == 503
    assert process.running()
    assert "Traceback" not in process.output
    assert SECRETS[0] not in process.output


def test_a_database_of_another_release_is_refused(waylink: Waylink) -> None:
    assert waylink.run("migrate").returncode == 0
    waylink.sql("UPDATE alembic_version SET version_num = '0000_older'")
    (line,) = refused(waylink.run("events"))
    assert "0000_older" in line
    assert "waylink migrate" in line


def test_migrate_may_run_twice(waylink: Waylink) -> None:
    (waylink.folder / "waylink.toml").write_text(_config())
    first, second = waylink.run("migrate"), waylink.run("migrate")
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert "routes added: crm/import" in first.stdout
    assert second.stdout.splitlines() == first.stdout.splitlines()[:1]
    assert waylink.run("events").returncode == 0


def test_check_says_that_the_database_is_not_migrated(waylink: Waylink) -> None:
    done = waylink.run("check")
    assert done.returncode == 1
    assert re.search(r"^database +bad +.*waylink migrate", done.stdout, re.M), done.stdout
    assert not any(secret in done.stdout + done.stderr for secret in SECRETS)


@pytest.mark.parametrize("command", ["up", "worker events", "web"])
def test_all_wrong_settings_are_reported_at_once(waylink: Waylink, command: str) -> None:
    wrong = {
        "WAYLINK_PORT": "eighty",
        "WAYLINK_BODY_LIMIT_BYTES": "1",
        "WAYLINK_DEDUPE_WINDOW_SECONDS": "-3",
        "WAYLINK_NANGO_BASE_URL": "ftp://hunter2@nango.example",
        "WAYLINK_LOG_FORMAT": "xml",
        "WAYLINK_DIRECTORY_POLICY": "maybe",
    }
    lines = refused(waylink.run(*command.split(), **wrong))
    assert sorted(re.match(r"error: (WAYLINK_\w+): .+ \(for example .+\)$", line)[1] for line in lines) == sorted(wrong)


def test_urls_and_keys_that_do_not_fit_together_are_reported_at_once(waylink: Waylink) -> None:
    wrong = {
        "WAYLINK_BROKER_URL": "mysql://waylink:hunter2@broker.example/0",
        "WAYLINK_NANGO_API_KEY": SECRETS[2],
        "WAYLINK_NANGO_SIGNING_KEYS": " , ",
        "WAYLINK_DATABASE_URL": "oracle://waylink:hunter2@db.example/x",
    }
    expected = {"WAYLINK_BROKER_URL", "WAYLINK_NANGO_SIGNING_KEYS", "WAYLINK_DATABASE_URL"}
    lines = refused(waylink.run("web", **wrong))
    assert {re.match(r"error: (WAYLINK_\w+): ", line)[1] for line in lines} == expected
    assert {name for name in _bad(waylink.run("check", "--json", **wrong)) if name.startswith("WAYLINK_")} == expected


def test_teams_may_not_share_the_internal_brokers_database(waylink: Waylink) -> None:
    url = "redis://:hunter2@broker.example:6379/0"
    same = {"WAYLINK_BROKER_URL": url, "WAYLINK_TEAM_BROKER_URL": url}
    (line,) = refused(waylink.run("web", **same))
    assert line.startswith("error: WAYLINK_TEAM_BROKER_URL: is the internal broker's database")
    bad = _bad(waylink.run("check", "--json", **same))
    assert bad["WAYLINK_TEAM_BROKER_URL"].startswith("is the internal broker's database")


@pytest.mark.parametrize(
    ("config", "position", "reason"),
    [
        ("[teams.crm\n", "line 1, column", "not valid TOML"),
        ("[refresh.oauth2]\nforce_evry = '1d'\n", "refresh.oauth2.force_evry", "is no key that Waylink knows"),
        ("{pattern}", "routes.0.pattern", "tags.plan: 'prefxi' is not an operator"),
        ("{queue}", "teams.crm.destinations.jobs.queue", "has to start with `team.crm.`"),
        ("{team}", "routes.sales/import", "no team 'sales'"),
        ("[environments.prod]\n", "environments.prod", "signing keys"),
        ("[environments.prod]\nsigning_keys_env = 'UNSET_KEYS'\n", "environments.prod", "UNSET_KEYS is not set"),
    ],
    ids=["broken TOML", "unknown key", "bad pattern", "another team's queue", "unknown team", "no keys", "unset keys"],
)
def test_a_wrong_configuration_file_is_refused_with_its_position(
    waylink: Waylink, config: str, position: str, reason: str
) -> None:
    wrong = {"{pattern}": '{"tags": {"plan": [{"prefxi": "ent"}]}}', "{queue}": "team.support.jobs", "{team}": "sales"}
    if config in wrong:
        config = _config(**{config.strip("{}"): wrong[config]})
    (waylink.folder / "waylink.toml").write_text(config)
    (line,) = refused(waylink.run("web"))
    assert line.startswith("error: ")
    assert position in line
    assert reason in line


def test_web_without_any_environment_says_what_is_missing() -> None:
    with installation() as waylink:
        assert waylink.run("migrate").returncode == 0
        (line,) = refused(waylink.run("web"))
    assert line.startswith("error: WAYLINK_NANGO_SIGNING_KEYS: ")


def test_a_missing_sample_and_a_wrong_option_are_wrong_use(waylink: Waylink) -> None:
    assert "is neither a file nor a sample" in refused(waylink.run("send", "nothing-like-it"))[0]
    refused(waylink.run("events", "--state", "lost"))
    refused(waylink.run("worker", "everything"))
    refused(waylink.run("no-such-command"))


def _bad(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """The `bad` rows of `check --json`, by subject; no output holds a secret."""
    assert done.returncode == 1, done
    assert "Traceback" not in done.stderr
    assert not any(secret in done.stdout + done.stderr for secret in SECRETS)
    return {row["what"]: row["detail"] for row in json.loads(done.stdout) if row["result"] == "bad"}


def _config(**changes: str) -> str:
    config = TEAM
    for name, value in (GOOD | changes).items():
        config = config.replace(f"{{{name}}}", value)
    return config

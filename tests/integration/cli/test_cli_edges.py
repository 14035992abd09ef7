"""Messages of the command about faults: in our words, and about the right subject."""

import json
import re
import sqlite3
import subprocess
import sys
from contextlib import closing

import click
import pytest

from app.cli.main import waylink as root
from app.config.settings import Settings
from app.db.engine import connect
from tests.integration.cli.test_cli import Command, one_line_error

LIBRARY_WORDS = re.compile(
    r"Input should be|valid (integer|string|boolean|number)|unable to parse|Field required|Extra input"
)


@pytest.fixture
def waylink(tmp_path):
    return Command(tmp_path, {"WAYLINK_NANGO_SIGNING_KEYS": "key"})


@pytest.fixture(scope="module")
def migrated(tmp_path_factory):
    command = Command(tmp_path_factory.mktemp("edges"), {"WAYLINK_NANGO_SIGNING_KEYS": "key"})
    assert command.inside("migrate").returncode == 0
    return command


def commands(group, path=()):
    """Every command and group there is, with its words."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


EVERY = dict(commands(root))


def test_all_commands_are_found():
    assert set(root.lazy) <= {path[0] for path in EVERY}
    assert ("jobs", "retry") in EVERY


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_a_word_of_an_option_is_taken_in_any_case(path):
    for parameter in EVERY[path].params:
        if isinstance(parameter.type, click.Choice):
            assert not parameter.type.case_sensitive, parameter.name
            assert all(type(choice) is str for choice in parameter.type.choices), parameter.name


@pytest.mark.parametrize("state", ["retryable", "RETRYABLE", "Retryable"])
def test_states_are_written_as_the_runbook_does(migrated, state):
    done = migrated.inside("jobs", "retry", "--state", state, "--dry-run")
    assert done.returncode == 0, done.stderr


class TestTheRightDatabase:
    @pytest.mark.parametrize("arguments", [("events",), ("status",), ("check",), ("users",), ("audit",), ("routes",)])
    def test_a_wrong_folder_is_reported_by_its_path_and_nothing_is_made_in_it(self, waylink, tmp_path, arguments):
        done = waylink.inside(*arguments)
        assert done.returncode in {1, 2}
        assert f"{tmp_path}/.waylink/waylink.db" in done.stdout + done.stderr
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("revision", ["9999", "other"])
    def test_a_schema_of_a_later_release_is_one_line_and_no_advice_that_leads_there_again(self, waylink, revision):
        assert waylink.inside("migrate").returncode == 0
        with closing(sqlite3.connect(waylink.folder / ".waylink/waylink.db")) as database, database:
            database.execute("UPDATE alembic_version SET version_num = ?", [revision])
        for arguments in (("migrate",), ("events",)):
            said = one_line_error(waylink.inside(*arguments), 2)
            assert f"revision {revision}" in said
            if revision.isdigit() or arguments == ("migrate",):
                assert "later release" in said or revision == "other"
        assert "Traceback" not in waylink("migrate").stderr

    def test_a_postgresql_database_is_named_without_its_password(self, waylink, postgres_url):
        waylink.variables["WAYLINK_DATABASE_URL"] = postgres_url.replace("+psycopg", "")
        said = one_line_error(waylink.inside("events"), 2)
        with closing(connect(postgres_url)) as database:
            url = database.engine.url
        assert f"database {url.database} at " in said
        assert url.password is None or url.password not in said


class TestWords:
    @pytest.mark.parametrize(
        ("variable", "value", "says"),
        [
            ("WAYLINK_PORT", "x", "is not a whole number"),
            ("WAYLINK_PORT", "0", "is less than 1"),
            ("WAYLINK_PORT", "70000", "is more than 65535"),
            ("WAYLINK_LOG_FORMAT", "xml", "is none of `auto`"),
            ("WAYLINK_DIRECTORY_POLICY", "x", "is none of `create`"),
            ("WAYLINK_OPEN_METRICS", "maybe", "is neither true nor false"),
            ("WAYLINK_DEDUPE_WINDOW_SECONDS", "x", "is not a number"),
            ("WAYLINK_KEEP_EVENTS", "x", "expected a duration such as 12h"),
            ("WAYLINK_NANGO_BASE_URL", "ftp://x", "does not have the form"),
        ],
    )
    def test_a_wrong_variable_is_reported_in_our_words(self, waylink, variable, value, says):
        waylink.variables[variable] = value
        said = waylink.inside("check").stdout
        assert variable in said
        assert says in said
        assert not LIBRARY_WORDS.search(said)

    @pytest.mark.parametrize(
        ("toml", "where", "says"),
        [
            ("[environments.prod]\nnope = 1", "2: environments.prod.nope", "is no key"),
            ("routes = 3", "1: routes", "is not a list"),
            ('[[routes]]\nname = "a"', "1: routes.0.team", "is missing"),
            ('[teams.crm.destinations.a]\nkind = "smoke"', "2: teams.crm.destinations.a.kind", "is none of `celery`"),
            ("teams = 1", "1: teams", "is not a table"),
            ("[duplicates]\nslack = 1", "2: duplicates.slack", "is none of"),
        ],
    )
    def test_a_wrong_key_is_reported_in_our_words(self, waylink, toml, where, says):
        (waylink.folder / "waylink.toml").write_text(toml)
        said = waylink.inside("routes", "plan").stderr
        assert f"waylink.toml:{where}: " in said
        assert says in said
        assert not LIBRARY_WORDS.search(said)

    @pytest.mark.parametrize("name", Settings.model_fields)
    def test_no_setting_speaks_in_a_librarys_words(self, waylink, name):
        waylink.variables[f"WAYLINK_{name.upper()}"] = "\x01 no value of anything"
        done = waylink.inside("check")
        assert not LIBRARY_WORDS.search(done.stderr)

    def test_a_wrong_address_is_reported_as_the_host(self, waylink):
        for host in ("203.0.113.1", "no.such.host.invalid", "x" * 300):
            waylink.variables["WAYLINK_HOST"] = host
            waylink.inside("migrate")
            assert "WAYLINK_HOST" in one_line_error(waylink.inside("web"), 2)

    def test_an_unknown_variable_is_reported_with_the_nearest_setting(self, waylink):
        assert waylink.inside("migrate").returncode == 0
        waylink.variables["WAYLINK_DATABSE_URL"] = "postgresql://secret@h/w"
        for arguments in (("events",), ("users",)):
            said = waylink(*arguments).stderr
            assert "WAYLINK_DATABSE_URL" in said
            assert "WAYLINK_DATABASE_URL" in said
            assert "secret" not in said

    def test_a_variable_that_the_file_names_is_known(self, waylink):
        (waylink.folder / "waylink.toml").write_text('[environments.prod]\nsigning_keys_env = "WAYLINK_MY_KEYS"\n')
        del waylink.variables["WAYLINK_NANGO_SIGNING_KEYS"]
        waylink.variables["WAYLINK_MY_KEYS"] = "key"
        assert waylink.inside("migrate").returncode == 0
        assert "WAYLINK_MY_KEYS" not in waylink("events").stderr


class TestTheSecretKey:
    def finding(self, waylink):
        rows = json.loads(waylink.inside("check", "--json").stdout)
        [found] = [row for row in rows if row["what"] == "secret key"]
        return found["result"], found["detail"]

    @pytest.fixture
    def used(self, waylink):
        """A data folder whose key has sealed something."""
        assert waylink.inside("migrate").returncode == 0
        assert waylink.inside("teams", "add", "crm").returncode == 0
        url = ("--url", "https://hooks.example/w")
        done = waylink.inside("destinations", "add", "crm/hook", *url)
        assert done.returncode == 0, done.stderr
        return waylink.folder / ".waylink/secret.key"

    def test_none_is_needed_yet_and_none_is_made_by_reading(self, waylink):
        assert waylink.inside("migrate").returncode == 0
        assert self.finding(waylink)[0] == "ok"
        assert not (waylink.folder / ".waylink/secret.key").exists()

    def test_one_that_opens_all_is_ok(self, waylink, used):
        assert self.finding(waylink)[0] == "ok"

    @pytest.mark.parametrize("content", [None, "", "broken", "QUJD"])
    def test_one_that_is_gone_or_broken_is_bad(self, waylink, used, content):
        used.unlink()
        if content is not None:
            used.write_text(content)
        result, detail = self.finding(waylink)
        assert (result, "secret.key" in detail) == ("bad", True)
        assert used.exists() is (content is not None)

    def test_another_one_is_bad(self, waylink, used):
        used.write_text(waylink.inside("secrets", "new-key").stdout)
        result, detail = self.finding(waylink)
        assert (result, "1 stored secret cannot be opened by any of the keys" in detail) == ("bad", True)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
@pytest.mark.parametrize("arguments", [("--help",), ("events",), ("connections", "--help"), ("check",), ("routes",)])
def test_a_stream_of_any_encoding_is_written_to(migrated, encoding, arguments):
    environ = migrated.environ() | {
        "PYTHONIOENCODING": encoding,
        "WAYLINK_BROKER_URL": "redis://127.0.0.1:1/0",
    }
    argv = [sys.executable, "-m", "app.cli", *arguments]
    done = subprocess.run(argv, cwd=migrated.folder, env=environ, capture_output=True, check=False)
    assert done.returncode in {0, 1}
    assert b"Traceback" not in done.stderr
    assert done.stdout

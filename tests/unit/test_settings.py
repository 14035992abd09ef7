"""Settings: every problem at once, each with its variable, cause and example; never a secret."""

import os
import traceback
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import certifi
import pytest
from pydantic import ValidationError

from app.config.loading import load_all
from app.config.settings import Settings
from app.domain.people import OwnerKind
from app.errors import ConfigurationError
from app.runtime.wiring import directory_of, sealer_of

SECRET = "hunter2"


PUBLIC = quote(certifi.where(), safe="")


@pytest.fixture
def configured(monkeypatch, tmp_path):
    """`configured(WAYLINK_PORT="8081")`: settings from these variables alone, `toml` being waylink.toml."""
    for name in [name for name in os.environ if name.startswith("WAYLINK_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)

    def read(*, toml: str | None = None, **variables: str) -> Settings:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        if toml is not None:
            Path("waylink.toml").write_text(toml)
        return load_all()[0]

    return read


def problems(configured, **variables: str) -> dict[str, str]:
    """Refused settings: variable or place to the whole line."""
    with pytest.raises(ConfigurationError) as refused:
        configured(**variables)
    assert SECRET not in "".join(traceback.format_exception(refused.value))
    assert SECRET not in repr(refused.value.problems)
    return {problem.where: str(problem) for problem in refused.value.problems}


def test_nothing_given_is_the_embedded_default(configured, tmp_path) -> None:
    settings = configured()
    assert settings.database == f"sqlite:///{tmp_path}/.waylink/waylink.db"
    assert settings.broker.startswith("redis+socket://")
    assert settings.broker != settings.team_broker
    assert (settings.host, settings.port) == ("127.0.0.1", 8080)
    assert settings.uses_sandbox
    assert settings.environments == {}


def test_every_problem_is_reported_at_once(configured) -> None:
    found = problems(
        configured,
        WAYLINK_PORT="abc",
        WAYLINK_LOG_FORMAT="xml",
        WAYLINK_BODY_LIMIT_BYTES="1",
        WAYLINK_CONFIG="/nowhere/waylink.toml",
        WAYLINK_BROKER_URL="amqp://broker",
        WAYLINK_DATABASE_URL="mysql://database/waylink",
        WAYLINK_NANGO_API_KEY=SECRET,
        WAYLINK_NANGO_BASE_URL="ftp://nango",
    )
    assert found.keys() == {
        "WAYLINK_PORT",
        "WAYLINK_LOG_FORMAT",
        "WAYLINK_BODY_LIMIT_BYTES",
        "WAYLINK_CONFIG",
        "WAYLINK_BROKER_URL",
        "WAYLINK_DATABASE_URL",
        "WAYLINK_NANGO_SIGNING_KEYS",
        "WAYLINK_NANGO_BASE_URL",
    }
    for name, line in found.items():
        assert line.startswith(f"{name}: ")
        assert "(for example " in line


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_every_variable_has_help_and_an_example(name: str) -> None:
    field = Settings.model_fields[name]
    assert field.description
    assert field.description.endswith(".")
    assert field.examples


@pytest.mark.parametrize(
    "variables",
    [
        {"WAYLINK_BROKER_URL": SECRET},
        {"WAYLINK_BROKER_URL": f"{SECRET}://host/0"},
        {"WAYLINK_BROKER_URL": f"redis://:{SECRET}@host:{SECRET}/0"},
        {"WAYLINK_BROKER_URL": f"redis://:{SECRET}@host/{SECRET}"},
        {"WAYLINK_TEAM_BROKER_URL": f"amqp://u:{SECRET}@host"},
        {"WAYLINK_DATABASE_URL": SECRET},
        {"WAYLINK_DATABASE_URL": f"postgresql://u:{SECRET}@h:{SECRET}/d"},
        {"WAYLINK_DATABASE_URL": f"mysql://u:{SECRET}@h/d"},
        {"WAYLINK_NANGO_API_KEY": SECRET},
        {"WAYLINK_NANGO_SIGNING_KEYS": SECRET, "WAYLINK_PORT": "0"},
        {"WAYLINK_NANGO_BASE_URL": f"{SECRET}"},
    ],
    ids=str,
)
def test_a_refusal_never_shows_a_secret(configured, variables: dict[str, str]) -> None:
    assert problems(configured, **variables)


def test_settings_never_show_a_secret(configured) -> None:
    settings = configured(
        WAYLINK_NANGO_API_KEY=f"api-{SECRET}",
        WAYLINK_NANGO_SIGNING_KEYS=f"one-{SECRET},two-{SECRET}",
        WAYLINK_DATABASE_URL=f"postgresql://u:{SECRET}@h/d",
        WAYLINK_BROKER_URL=f"redis://:{SECRET}@h/0",
        WAYLINK_TEAM_BROKER_URL=f"redis://:{SECRET}@h/1",
    )
    environment = settings.environments["default"]
    environment.signing_keys.live()
    shown = [
        repr(settings),
        str(settings),
        str(settings.model_dump()),
        settings.model_dump_json(),
        repr(settings.environments),
        str(environment),
        repr(environment.signing_keys),
        f"{environment.api_key}",
    ]
    assert not [line for line in shown if SECRET in line]


def test_settings_do_not_change_once_loaded(configured) -> None:
    settings = configured()
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1


# The three modes


def test_signing_keys_alone_confirm_nothing_and_bring_no_sandbox(configured) -> None:
    settings = configured(WAYLINK_NANGO_SIGNING_KEYS="new, old,,new")
    assert not settings.uses_sandbox
    assert not settings.environments["default"].has_api
    assert settings.environments["default"].signing_keys.live() == ("new", "old")


def test_both_turn_everything_on(configured) -> None:
    settings = configured(
        WAYLINK_NANGO_SIGNING_KEYS="key", WAYLINK_NANGO_API_KEY="api", WAYLINK_NANGO_BASE_URL="http://nango.test/"
    )
    environment = settings.environments["default"]
    assert environment.has_api
    assert environment.base_url == "http://nango.test"
    assert not settings.uses_sandbox


@pytest.mark.parametrize("keys", [None, ",", " , "])
def test_an_api_key_without_signing_keys_is_refused(configured, keys: str | None) -> None:
    variables = {"WAYLINK_NANGO_API_KEY": "api"} | ({"WAYLINK_NANGO_SIGNING_KEYS": keys} if keys else {})
    assert "every webhook would be refused" in problems(configured, **variables)["WAYLINK_NANGO_SIGNING_KEYS"]


def test_empty_variables_count_as_unset(configured) -> None:
    settings = configured(**{f"WAYLINK_{name.upper()}": "" for name in Settings.model_fields})
    assert settings.uses_sandbox
    assert settings.port == 8080


def test_the_sandbox_that_up_started_is_found(configured) -> None:
    Path(".waylink").mkdir()
    Path(".waylink/sandbox.json").write_text(
        '{"base_url": "http://127.0.0.1:3003", "api_key": "a", "signing_key": "k"}'
    )
    settings = configured()
    assert settings.uses_sandbox
    assert settings.environments["default"].sandboxed
    assert settings.environments["default"].signing_keys.live() == ("k",)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", "\x00", '{"base_url": "x"}'])
def test_a_damaged_sandbox_file_is_as_none(configured, text: str) -> None:
    Path(".waylink").mkdir()
    Path(".waylink/sandbox.json").write_text(text)
    assert configured().environments == {}


# waylink.toml

ENVIRONMENT = '[environments.{name}]\nsigning_keys_env = "KEYS"\n'


def test_environments_of_the_file_take_their_secrets_from_variables_and_files(configured, tmp_path) -> None:
    (tmp_path / "api").write_text("api-key\n")
    toml = (
        '[environments.prod]\nbase_url = "https://nango.test/"\naccount = "acme"\n'
        f'api_key_file = "{tmp_path}/api"\nsigning_keys_env = "KEYS"\n'
    )
    environment = configured(toml=toml, KEYS="one,two").environments["prod"]
    assert (environment.base_url, environment.account) == ("https://nango.test", "acme")
    assert environment.api_key.get_secret_value() == "api-key"
    assert environment.signing_keys.live() == ("one", "two")


def test_both_urls_is_a_setting_of_each_environment(configured) -> None:
    toml = ENVIRONMENT.format(name="once") + ENVIRONMENT.format(name="twice") + "both_urls = true\n"
    settings = configured(toml=toml, KEYS="k", WAYLINK_NANGO_SIGNING_KEYS="d", WAYLINK_NANGO_BOTH_URLS="true")
    assert {name: environment.both_urls for name, environment in settings.environments.items()} == {
        "once": False,
        "twice": True,
        "default": True,
    }


def test_both_urls_without_its_environment_is_refused(configured) -> None:
    found = problems(configured, toml=ENVIRONMENT.format(name="default"), KEYS="k", WAYLINK_NANGO_BOTH_URLS="true")
    assert "write it into the file" in found["WAYLINK_NANGO_BOTH_URLS"]


def test_default_in_the_file_and_in_variables_is_a_conflict(configured) -> None:
    found = problems(configured, toml=ENVIRONMENT.format(name="default"), KEYS="k", WAYLINK_NANGO_SIGNING_KEYS="k")
    assert "keep one" in found["WAYLINK_NANGO_SIGNING_KEYS"]


def test_other_environments_of_the_file_stand_beside_the_variables(configured) -> None:
    settings = configured(toml=ENVIRONMENT.format(name="prod"), KEYS="k", WAYLINK_NANGO_SIGNING_KEYS="d")
    assert settings.environments.keys() == {"prod", "default"}


@pytest.mark.parametrize(
    ("lines", "variables", "expected"),
    [
        ("", {}, "has no signing keys"),
        ('signing_keys_env = "KEYS"', {}, "the variable KEYS is not set"),
        ('signing_keys_env = "KEYS"', {"KEYS": " , "}, "has no signing keys"),
        ('signing_keys_file = "/nowhere"', {}, "/nowhere: No such file or directory"),
        ('signing_keys_env = "KEYS"\napi_key_env = "API"', {"KEYS": "k"}, "the variable API is not set"),
        ('signing_keys_env = "KEYS"\napi_key_file = "/nowhere"', {"KEYS": "k"}, "/nowhere cannot be read"),
        ('signing_keys_env = "KEYS"\napi_key_file = "empty"', {"KEYS": "k"}, "empty: is empty"),
        (
            'signing_keys_env = "KEYS"\napi_key_file = "binary"',
            {"KEYS": "k"},
            "binary cannot be read: byte 1 is not UTF-8",
        ),
        ('signing_keys_file = "binary"', {}, "binary: byte 1 is not UTF-8"),
        ('signing_keys_env = "KEYS"\nsigning_keys_file = "empty"', {"KEYS": "k"}, "keep one"),
        ('signing_keys_env = "KEYS"\napi_key_env = "A"\napi_key_file = "empty"', {"KEYS": "k", "A": "a"}, "keep one"),
    ],
)
def test_a_secret_that_cannot_be_had_is_refused(configured, lines: str, variables, expected: str) -> None:
    Path("empty").write_text("\n")
    Path("binary").write_bytes(b"\xff\x80")
    found = problems(configured, toml=f"[environments.prod]\n{lines}\n", **variables)
    assert any(expected in line and "environments.prod" in line for line in found.values()), found


def test_a_secret_written_into_the_file_is_refused_without_being_shown(configured) -> None:
    toml = f'[environments.prod]\nsigning_keys_env = "KEYS"\napi_key = "{SECRET}"\nsigning_keys = ["{SECRET}"]\n'
    found = problems(configured, toml=toml, KEYS="k")
    assert {where.rpartition(".")[2] for where in found} == {"api_key", "signing_keys"}


def test_a_file_that_is_not_toml_is_one_problem(configured) -> None:
    found = problems(configured, toml="[environments\n")
    assert "not valid TOML" in found["waylink.toml"]


def test_problems_of_file_and_variables_come_together(configured, tmp_path) -> None:
    (tmp_path / "other.toml").write_text("[nonsense]\n")
    found = problems(configured, WAYLINK_PORT="x", WAYLINK_CONFIG=str(tmp_path / "other.toml"))
    assert found.keys() == {"WAYLINK_PORT", f"{tmp_path}/other.toml:1: nonsense"}


# Database and brokers


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_way_to_write_postgresql_means_our_driver(configured, scheme: str) -> None:
    settings = configured(WAYLINK_DATABASE_URL=f"{scheme}://u:p%40x@db.test:5432/waylink?sslmode=require")
    assert settings.database == "postgresql+psycopg://u:p%40x@db.test:5432/waylink?sslmode=require"


@pytest.mark.parametrize(
    "url", ["mysql://h/d", "postgresql+asyncpg://h/d", "postgresql+psycopg2://h/d", "waylink.db", "://", "postgresql:"]
)
def test_a_database_of_another_kind_is_refused(configured, url: str) -> None:
    assert problems(configured, WAYLINK_DATABASE_URL=url).keys() == {"WAYLINK_DATABASE_URL"}


@pytest.mark.parametrize(
    ("internal", "team"),
    [
        ("redis://h:6379/0", "redis://h:6379/1"),
        ("redis://h", "redis://h/1"),
        ("redis://h/", "redis://h/1"),
        ("redis://u:p%2F@h:7000/3?ssl_cert_reqs=none", "redis://u:p%2F@h:7000/1?ssl_cert_reqs=none"),
        ("rediss://h/0", f"rediss://h/1?ssl_cert_reqs=required&ssl_check_hostname=true&ssl_ca_certs={PUBLIC}"),
        ("redis+socket:///run/redis.sock", "redis+socket:///run/redis.sock?virtual_host=1"),
        ("redis+socket:///run/redis.sock?virtual_host=0", "redis+socket:///run/redis.sock?virtual_host=1"),
        ("redis+socket:///r.sock?virtual_host=0&password=x", "redis+socket:///r.sock?password=x&virtual_host=1"),
    ],
)
def test_teams_default_to_database_one_of_the_same_server(configured, internal: str, team: str) -> None:
    assert configured(WAYLINK_BROKER_URL=internal).team_broker == team


SOCKET = "redis+socket:///run/redis.sock"


@pytest.mark.parametrize(
    ("internal", "team"),
    [
        ("redis://h/0", "redis://h/0"),
        ("redis://h", "redis://h/0"),
        ("redis://h/", "redis://h"),
        ("redis://h:6379/0", "redis://h/0"),
        ("redis://localhost/0", "redis://127.0.0.1/0"),
        ("redis://localhost/0", "redis://[::1]:6379"),
        ("redis://H.example/2", "redis://h.example/2"),
        ("redis://a:b@h/0", "redis://c:d@h/0"),
        ("redis://h/0", "rediss://h/0"),
        ("redis://h/0?socket_timeout=3", "redis://h/0"),
        ("redis://h/1", None),
        (SOCKET, f"{SOCKET}?virtual_host=0"),
        (SOCKET, "redis+socket:///run/../run/redis.sock?virtual_host=0"),
        (f"{SOCKET}?virtual_host=1", None),
        (f"{SOCKET}?password=x&virtual_host=1", None),
        (f"{SOCKET}?virtual_host=1&password=x", f"{SOCKET}?password=y&virtual_host=1"),
    ],
)
def test_teams_never_share_the_internal_database_however_it_is_written(
    configured, internal: str, team: str | None
) -> None:
    variables = {"WAYLINK_BROKER_URL": internal} | ({"WAYLINK_TEAM_BROKER_URL": team} if team else {})
    found = problems(configured, **variables)
    assert "visibility timeout" in found["WAYLINK_TEAM_BROKER_URL"]


@pytest.mark.parametrize(
    ("internal", "team"),
    [
        ("redis://h/0", "redis://h/1"),
        ("redis://h/0", "redis://other/0"),
        ("redis://h:6379/0", "redis://h:6380/0"),
        (SOCKET, "redis+socket:///run/other.sock"),
        (SOCKET, "redis://localhost/0"),
    ],
)
def test_other_databases_and_servers_are_other_places(configured, internal: str, team: str) -> None:
    assert configured(WAYLINK_BROKER_URL=internal, WAYLINK_TEAM_BROKER_URL=team).team_broker == team


@pytest.mark.parametrize("url", ["amqp://h", "redis", "redis://h/abc", "redis://h:port/0", "http://h/0", "memory://"])
@pytest.mark.parametrize("name", ["WAYLINK_BROKER_URL", "WAYLINK_TEAM_BROKER_URL"])
def test_what_is_no_redis_database_is_refused(configured, name: str, url: str) -> None:
    assert name in problems(configured, **{name: url})


SQL = """[directory.sql]
url_env = "APP_URL"
user_query = "SELECT id AS external_id FROM people WHERE id = :end_user_id"
"""


def test_the_policy_sql_has_its_database_from_a_variable_or_a_file(configured, tmp_path) -> None:
    url = f"postgresql://reader:{SECRET}@db.example/app"
    settings = configured(toml=SQL, WAYLINK_DIRECTORY_POLICY="sql", APP_URL=url)
    assert settings.directory_url.get_secret_value() == url
    assert SECRET not in repr(settings)
    (tmp_path / "url").write_text(f"{url}\n")
    settings = configured(toml=SQL.replace('url_env = "APP_URL"', 'url_file = "url"'))
    assert settings.directory_url.get_secret_value() == url
    assert directory_of(settings).queries.keys() == {OwnerKind.USER}


def test_the_table_alone_asks_no_server(configured) -> None:
    settings = configured(toml=SQL)
    assert (settings.directory_url, directory_of(settings)) == (None, None)


@pytest.mark.parametrize(
    ("toml", "where", "says"),
    [
        ("", "WAYLINK_DIRECTORY_POLICY", "needs [directory.sql]"),
        (SQL, "directory.sql.url_env", "APP_URL is not set"),
        (SQL.replace("APP_URL", "MYSQL_URL"), "directory.sql.url", "postgresql, postgres, sqlite"),
        (SQL.replace('url_env = "APP_URL"', ""), "waylink.toml:1: directory.sql", "needs url_env or url_file"),
        (SQL.replace("user_query", "# "), "waylink.toml:1: directory.sql", "needs user_query, organization_query"),
        (SQL.replace("SELECT id", "DELETE"), "waylink.toml:3: directory.sql.user_query", "is not a SELECT"),
        (SQL.replace(":end_user_id", "1"), "waylink.toml:3: directory.sql.user_query", "takes no tag"),
        (SQL + 'timeout = "10s"\n', "waylink.toml:4: directory.sql.timeout", "from 1s to 3s"),
        (SQL + "pool_size = 50\n", "waylink.toml:4: directory.sql.pool_size", "is more than 10"),
    ],
)
def test_a_directory_that_cannot_be_asked_is_refused(configured, toml, where, says) -> None:
    found = problems(
        configured, toml=toml, WAYLINK_DIRECTORY_POLICY="sql", MYSQL_URL=f"mysql://reader:{SECRET}@db.example/app"
    )
    assert says in found[where]


def test_history_is_kept_for_a_day_at_least_or_for_ever(monkeypatch):
    for name, value, kept in (
        ("EVENTS", "90d", timedelta(days=90)),
        ("REFRESHES", "7d", timedelta(days=7)),
        ("AUDIT", "0", timedelta(0)),
    ):
        monkeypatch.setenv(f"WAYLINK_KEEP_{name}", value)
        assert getattr(Settings(), f"keep_{name.lower()}") == kept
    assert Settings().keep_events == timedelta(days=90)
    monkeypatch.setenv("WAYLINK_KEEP_EVENTS", "")  # as good as unset, and not `0`
    assert Settings().keep_events == timedelta(days=30)
    monkeypatch.setenv("WAYLINK_KEEP_EVENTS", "1h")
    with pytest.raises(ValidationError, match="at least 1d"):
        Settings()


# Destinations


KEYS = "c2VjcmV0LWtleS1vZi10aGlydHktdHdvLWJ5dGVzISE="
BROKER = '[teams.crm.destinations.jobs]\nkind = "celery"\nqueue = "team.crm.jobs"\nbroker_url_env = "CRM_BROKER"\n'
HOOK = '[teams.crm.destinations.hook]\nkind = "http"\nurl = "https://hooks.example/"\nsecret_env = "HOOK_SECRET"\n'
SIGNING = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_a_secret_key_comes_from_a_variable_or_a_file_and_not_from_both(configured, tmp_path) -> None:
    assert sealer_of(configured(WAYLINK_SECRET_KEY=KEYS)).check() == 1
    (tmp_path / "key").write_text(f"{KEYS}\n")
    found = problems(configured, WAYLINK_SECRET_KEY_FILE="key")
    assert "beside WAYLINK_SECRET_KEY" in found["WAYLINK_SECRET_KEY_FILE"]


@pytest.mark.parametrize(
    ("variables", "where", "problem"),
    [
        ({"WAYLINK_SECRET_KEY": SECRET}, "WAYLINK_SECRET_KEY", "key 1 is not the base64 of 32 bytes"),
        ({"WAYLINK_SECRET_KEY_FILE": "nowhere"}, "WAYLINK_SECRET_KEY_FILE", "cannot be read"),
        ({"WAYLINK_ALLOWED_DESTINATION_RANGES": "10.0.0.1/8"}, "WAYLINK_ALLOWED_DESTINATION_RANGES", "10.0.0.1/8"),
        ({"WAYLINK_DESTINATION_CA_FILE": "nowhere"}, "WAYLINK_DESTINATION_CA_FILE", "cannot be read"),
        ({"WAYLINK_DESTINATION_CA_FILE": "waylink.toml"}, "WAYLINK_DESTINATION_CA_FILE", "no certificates"),
    ],
)
def test_what_destinations_need_is_checked_at_the_start(configured, variables, where, problem) -> None:
    Path("waylink.toml").write_text("")
    assert problem in problems(configured, **variables)[where]


def test_a_database_of_ones_own_needs_a_key_of_ones_own(configured) -> None:
    settings = configured(WAYLINK_DATABASE_URL="postgresql://db.example/waylink")
    with pytest.raises(ConfigurationError, match="WAYLINK_SECRET_KEY"):
        sealer_of(settings).check()


def test_the_file_names_secrets_of_destinations_and_their_values_show_nowhere(configured) -> None:
    configured(toml=BROKER + HOOK, CRM_BROKER="amqps://u:hunter2@mq.example/crm", HOOK_SECRET=SIGNING)
    found = load_all()[1].secrets
    assert found["crm", "jobs"].broker_url.get_secret_value() == "amqps://u:hunter2@mq.example/crm"
    assert found["crm", "hook"].signing.get_secret_value() == SIGNING
    assert SECRET not in repr(found)
    assert SIGNING not in repr(found)


@pytest.mark.parametrize(
    ("variables", "where", "problem"),
    [
        ({"CRM_BROKER": "filesystem:///hunter2"}, "jobs.broker_url", "starts with redis://"),
        ({"CRM_BROKER": "redis://:hunter2@127.0.0.1/1"}, "jobs.broker_url", "refused (loopback)"),
        ({"CRM_BROKER": "redis://:hunter2@10.1.2.3/0"}, "jobs.broker_url", "is the internal broker's database"),
        ({"HOOK_SECRET": "hunter2"}, "hook.secret", "starts with whsec_"),
        ({"HOOK_SECRET": ""}, "hook.secret_env", "HOOK_SECRET is not set"),
    ],
)
def test_a_secret_of_a_destination_that_cannot_be_used_is_reported_without_it(
    configured, variables, where, problem
) -> None:
    Path("waylink.toml").write_text(BROKER + HOOK)
    good = {"CRM_BROKER": "redis://redis.example/1", "HOOK_SECRET": SIGNING}
    ours = {"WAYLINK_BROKER_URL": "redis://10.1.2.3/0", "WAYLINK_ALLOWED_DESTINATION_RANGES": "10.0.0.0/8"}
    assert problem in problems(configured, **good | ours | variables)[f"teams.crm.destinations.{where}"]


def test_a_url_into_our_own_network_is_refused_until_an_operator_opens_it(configured) -> None:
    Path("waylink.toml").write_text(HOOK.replace("https://hooks.example/", "http://127.0.0.1:9000/"))
    assert "refused (loopback)" in problems(configured, HOOK_SECRET=SIGNING)["teams.crm.destinations.hook.url"]
    assert configured(WAYLINK_ALLOWED_DESTINATION_RANGES="127.0.0.0/8").destination_ranges

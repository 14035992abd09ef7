import tomllib
from datetime import timedelta

import pytest
from pydantic import ValidationError

from app.config.waylink_toml import ConfigFile
from app.domain.linking import TagKeys
from app.runtime.wiring import refresh_policies_of

TEAM = '[teams.crm.destinations.jobs]\nkind = "celery"\nqueue = "team.crm.jobs"\n'
ROUTE = """
[[routes]]
name = "import"
team = "crm"
destination = "jobs"
job = "crm.import_contacts"
pattern = '{"type": ["connection.created"]}'
"""


def read(text: str) -> ConfigFile:
    return ConfigFile.model_validate(tomllib.loads(text))


def refusals(text: str) -> str:
    with pytest.raises(ValidationError) as refused:
        read(text)
    return "; ".join(f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in refused.value.errors())


def test_an_empty_file_is_a_good_file() -> None:
    assert read("") == ConfigFile()


def test_a_pattern_is_the_same_as_json_and_as_a_table() -> None:
    table = ROUTE.replace("""'{"type": ["connection.created"]}'""", '{type = ["connection.created"]}')
    assert read(TEAM + ROUTE).routes == read(TEAM + table).routes
    assert read(TEAM + ROUTE).routes[0].pattern == {"type": ["connection.created"]}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('name = "import"', 'name = "Import All"', "routes.0.name"),
        ('team = "crm"', 'team = "sales"', "there is no team 'sales'"),
        ('destination = "jobs"', 'destination = "mail"', "team 'crm' has no destination 'mail'"),
        ('"crm.import_contacts"', '"waylink.sweep"', "reserved"),
        ('"crm.import_contacts"', '"celery.backend_cleanup"', "reserved"),
        ('"crm.import_contacts"', '"1 job"', "routes.0.job"),
        ('"crm.import_contacts"', '"job\\nforged"', "routes.0.job"),
        ("""'{"type": ["connection.created"]}'""", "'{'", "routes.0.pattern"),
        ("""'{"type": ["connection.created"]}'""", "'[]'", "routes.0.pattern"),
        ("""'{"type": ["connection.created"]}'""", "{}", "routes.0.pattern"),
        ('job = "crm', 'color = "red"\njob = "crm', "routes.0.color"),
    ],
)
def test_a_wrong_route_is_refused_where_it_is_wrong(old: str, new: str, expected: str) -> None:
    assert old in ROUTE
    assert expected in refusals(TEAM + ROUTE.replace(old, new))


def test_two_routes_of_one_name_are_refused_where_they_are_of_one_team() -> None:
    assert "routes.crm/import: is defined twice" in refusals(TEAM + ROUTE + ROUTE)
    both = read(TEAM + TEAM.replace("crm", "erp") + ROUTE + ROUTE.replace("crm", "erp"))
    assert both.names.routes == {("crm", "import"), ("erp", "import")}


@pytest.mark.parametrize(
    "queue", ["waylink.events", "celery", "team.sales.jobs", "team.crmjobs", "Team.crm.jobs", "team.crm.a b", ""]
)
def test_a_team_has_its_own_queues_only(queue: str) -> None:
    assert "queue" in refusals(TEAM.replace('"team.crm.jobs"', f'"{queue}"'))


HTTP = '[teams.crm.destinations.jobs]\nkind = "http"\nurl = "https://hooks.example/in"\n'


def test_an_http_destination_has_a_url_and_may_have_a_time_and_a_rate() -> None:
    more = 'timeout = "20s"\nrate_per_second = 2.5\nsecret_env = "HOOK_SECRET"\n'
    entry = read(HTTP + more).teams["crm"].destinations["jobs"]
    assert entry.columns == {
        "kind": "http",
        "queue": None,
        "url": "https://hooks.example/in",
        "timeout_seconds": 20.0,
        "rate_per_second": 2.5,
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (HTTP.replace('url = "https://hooks.example/in"\n', ""), "jobs.url: is missing"),
        (HTTP.replace("https://", "ftp://"), "jobs.url: cannot be used: a URL starts with"),
        (HTTP.replace("hooks.example", "u:p@hooks.example"), "jobs.url: cannot be used: a URL holds no user"),
        (HTTP + 'queue = "team.crm.jobs"\n', "jobs.queue: is for Celery"),
        (HTTP + 'timeout = "31s"\n', "jobs.timeout: takes 1 to 30 seconds"),
        (HTTP + 'timeout = "soon"\n', "expected a duration"),
        (HTTP + "rate_per_second = 0\n", "jobs.rate_per_second: takes 0.01"),
        (HTTP + 'broker_url_env = "B"\n', "jobs.broker_url_env: is not for destinations of the kind http"),
        (HTTP + 'secret_env = "S"\nsecret_file = "s"\n', "jobs.secret_env: is there beside secret_file"),
        (HTTP + 'secret = "whsec_x"\n', "jobs.secret: Extra inputs"),
        (TEAM + 'url = "https://hooks.example/"\n', "jobs.url: is for HTTP"),
        (TEAM + 'timeout = "5s"\n', "jobs.timeout: is for HTTP"),
        (TEAM + 'secret_env = "S"\n', "jobs.secret_env: is not for destinations of the kind celery"),
        (TEAM + 'broker_url_env = "B"\nbroker_url_file = "b"\n', "jobs.broker_url_env: is there beside"),
    ],
)
def test_a_wrong_destination_is_refused_where_it_is_wrong(text: str, expected: str) -> None:
    assert expected in refusals(text)


@pytest.mark.parametrize("kind", ["kafka", ""])
def test_an_unknown_kind_of_destination_is_refused(kind: str) -> None:
    assert "teams.crm.destinations.jobs.kind" in refusals(TEAM.replace("celery", kind))


@pytest.mark.parametrize("name", ["Prod", "a.b", "a/b", "", "-a", "a" * 64, "é"])
def test_names_are_such_as_fit_into_a_url(name: str) -> None:
    assert "environments" in refusals(f'[environments."{name}"]\nsigning_keys_env = "K"\n')


@pytest.mark.parametrize("url", ["api.nango.dev", "ftp://nango", "https://", "https://a b", "javascript:alert(1)"])
def test_a_base_url_that_is_none_is_refused(url: str) -> None:
    assert "base_url" in refusals(f'[environments.prod]\nbase_url = "{url}"\n')


@pytest.mark.parametrize("key", ["api_key", "signing_keys", "signing_key", "secret"])
def test_secrets_have_no_place_in_the_file_and_are_not_shown(key: str) -> None:
    with pytest.raises(ValidationError) as refused:
        read(f'[environments.prod]\n{key} = "hunter2"\n')
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('"900s"', timedelta(minutes=15)),
        ('"15m"', timedelta(minutes=15)),
        ('" 12 h "', timedelta(hours=12)),
        ('"7d"', timedelta(days=7)),
        ("900", timedelta(minutes=15)),
    ],
)
def test_durations_are_read(text: str, value: timedelta) -> None:
    assert read(f"[refresh.github]\nforce_every = {text}\n").refresh["github"].force_every == value


@pytest.mark.parametrize(
    "text",
    [
        '"14m"',
        '"0s"',
        '""',
        '"soon"',
        '"-1h"',
        '"1.5h"',
        '"1w"',
        "-900",
        "inf",
        '"99999999999999d"',
        '"365001d"',
        "31536086401",
        "true",
    ],
)
def test_a_duration_that_is_none_or_too_short_is_refused(text: str) -> None:
    assert "refresh.github.force_every" in refusals(f"[refresh.github]\nforce_every = {text}\n")


def test_tag_names_are_compared_as_nango_keeps_them() -> None:
    keys = read('[directory]\nuser_id_tag = "Member_ID"\n').directory.tag_keys
    assert keys.user_id == "member_id"
    assert keys.user_email == TagKeys().user_email


def test_what_is_misspelt_is_refused_everywhere() -> None:
    for text in ("[enviroments.prod]\n", "[directory]\nuser_tag = 'x'\n", "[refresh.a]\nforced = true\n"):
        assert "Extra inputs are not permitted" in refusals(text)


REFRESH = """
[refresh."*"]
warn_before = "10d"
margin = "10m"
margin_floor = "2m"
margin_share = 0.2
[refresh.crm]
enabled = false
windows = ["22:00-06:00"]
blackouts = ["sun 00:00-24:00"]
time_zone = "Europe/Berlin"
priority = "high"
keep_alive_share = 0.5
keep_alive_cap = "3d"
[refresh_providers.salesforce]
idle_limit = "14d"
refresh_life = "90d"
access_life = "2h"
[environments.prod.refresh.crm]
enabled = true
[environments.prod.refresh_providers.salesforce]
idle_limit = "7d"
"""


def test_refresh_policies_are_read_by_environment_provider_and_integration() -> None:
    policies = refresh_policies_of(read(REFRESH))
    assert policies.of("dev", "crm", None) is None
    crm, other = policies.of("prod", "crm", "salesforce"), policies.of("dev", "mail", "salesforce")
    assert crm is not None
    assert other is not None
    assert (crm.warn_before, crm.margin, crm.margin_floor, crm.margin_share) == (
        timedelta(days=10),
        timedelta(minutes=10),
        timedelta(minutes=2),
        0.2,
    )
    assert (crm.priority, crm.keep_alive_share, crm.keep_alive_cap) == ("high", 0.5, timedelta(days=3))
    assert crm.hours is not None
    assert (str(crm.hours.zone), len(crm.hours.windows), len(crm.hours.blackouts)) == ("Europe/Berlin", 1, 1)
    spans = [life.span if life else None for life in (crm.lives.access, crm.lives.refresh, crm.lives.idle)]
    assert spans == [timedelta(hours=2), timedelta(days=90), timedelta(days=7)]
    assert other.lives.idle is not None
    assert (other.lives.idle.span, other.hours) == (timedelta(days=14), None)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ('margin = "15m"', "less than 15m"),
        ('margin_floor = "14m"\nmargin = "10m"', "margin_floor is longer than margin"),
        ("margin_share = 0", "greater than 0"),
        ("margin_share = nan", "finite"),
        ('warn_before = "0s"', "longer than 0s"),
        ('idle_limit = "-1d"', "a duration such as"),
        ('force_every = "5m"', "at least 15m"),
        ('windows = ["8-9"]', "expected hours such as"),
        ('windows = ["08:00-09:00"]\nblackouts = ["00:00-24:00"]', "leave no hour of the week"),
        ('windows = ["08:00-09:00"]\ntime_zone = "Mars/Olympus"', "no time zone of this name"),
        ('windows = ["08:00-09:00"]\ntime_zone = "../../etc/passwd"', "no time zone of this name"),
        ('time_zone = "UTC"', "goes with windows or blackouts"),
        ('priority = "urgent"', "refresh.crm.priority"),
        ('blackout = ["08:00-09:00"]', "refresh.crm.blackout"),
    ],
)
def test_a_wrong_refresh_policy_is_refused_where_it_is_wrong(line: str, fault: str) -> None:
    assert fault in refusals(f"[refresh.crm]\n{line}\n")

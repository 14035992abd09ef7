"""The settings in force, as people may see them."""

import pytest

from app.config.effective import HIDDEN, effective
from app.config.loading import diagnose
from app.config.settings import Settings

CANARY = "canary-7f3a"


def shown(monkeypatch, **variables):
    for name, value in variables.items():
        monkeypatch.setenv(f"WAYLINK_{name}", value)
    return {row["variable"]: row for row in effective(diagnose().settings)}


def test_each_variable_is_shown_with_its_value_and_default(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    rows = shown(monkeypatch, PORT="9090", KEEP_EVENTS="90d")
    assert {row.removeprefix("WAYLINK_").lower() for row in rows} == set(Settings.model_fields)
    assert [*rows] == sorted(rows)
    port, kept, policy = (rows[f"WAYLINK_{name}"] for name in ("PORT", "KEEP_EVENTS", "OWNER_CHANGE_POLICY"))
    assert (port["value"], port["default"], port["set"]) == (9090, 8080, True)
    assert (kept["value"], kept["default"]) == ("90d", "30d")
    assert (policy["value"], policy["set"]) == ("reassign", False)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        (f"postgresql://waylink:{CANARY}@db.example:5432/waylink", f"postgresql://{HIDDEN}@db.example:5432/waylink"),
        (f"postgresql://db.example/waylink?password={CANARY}", "postgresql://db.example/waylink"),
        (f"postgresql://u:p@db.example/waylink?password={CANARY}@x", HIDDEN),
        (f"postgresql://u:{CANARY}/x@db.example/waylink", HIDDEN),
        (f"postgresql://u:{CANARY}?x@db.example/waylink", HIDDEN),
        (f"postgresql://u:x@{CANARY}@db.example/waylink", HIDDEN),
        (f"postgresql://u:x#{CANARY}@db.example/waylink", HIDDEN),
        ("sqlite:////var/lib/waylink.db", "sqlite:////var/lib/waylink.db"),
    ],
)
def test_a_url_is_shown_without_what_may_be_secret(monkeypatch, tmp_path, url, place):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WAYLINK_DATABASE_URL", url)
    settings = Settings()
    [row] = [row for row in effective(settings) if row["variable"] == "WAYLINK_DATABASE_URL"]
    assert row["value"] == place
    assert CANARY not in str(effective(settings))


def test_no_secret_is_shown(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    secrets = [name for name, field in Settings.model_fields.items() if "Secret" in str(field.annotation)]
    assert len(secrets) >= 7
    for name in secrets:
        value = f"http://u:{CANARY}@proxy.example" if name.endswith(("_url", "_proxy")) else f"scheme://{CANARY}/x"
        rows = effective(Settings.model_construct(**{name: Settings.model_fields[name].annotation.__args__[0](value)}))
        assert CANARY not in str(rows), name
        [row] = [row for row in rows if row["variable"] == f"WAYLINK_{name.upper()}"]
        assert HIDDEN in row["value"]


def test_a_variable_that_cannot_be_used_is_shown_as_not_set_with_its_fault(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WAYLINK_PORT", "eighty")  # cannot be read
    monkeypatch.setenv("WAYLINK_DATABASE_URL", f"mysql://u:{CANARY}@db.example/x")  # can be read, and not be used
    monkeypatch.setenv("WAYLINK_HOST", "127.0.0.1")
    found = diagnose()
    rows = {row["variable"]: row for row in effective(found.settings, found.problems, unknown=found.unknown)}
    told = {problem.where: problem.what for problem in found.problems}
    for name in ("WAYLINK_PORT", "WAYLINK_DATABASE_URL"):
        assert (rows[name]["set"], rows[name]["fault"]) == (False, told[name]), name
    assert rows["WAYLINK_PORT"]["value"] == rows["WAYLINK_PORT"]["default"]
    assert (rows["WAYLINK_HOST"]["set"], rows["WAYLINK_HOST"]["fault"]) == (True, None)
    assert CANARY not in str(rows)


def test_an_unknown_variable_is_shown_with_the_setting_that_is_probably_meant(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WAYLINK_PROT", CANARY)
    monkeypatch.setenv("WAYLINK_ELEPHANT", CANARY)
    found = diagnose()
    rows = {row["variable"]: row for row in effective(found.settings, found.problems, unknown=found.unknown)}
    assert (rows["WAYLINK_PROT"]["set"], rows["WAYLINK_PROT"]["value"]) == (False, HIDDEN)
    assert "WAYLINK_PORT is probably meant" in rows["WAYLINK_PROT"]["fault"]
    assert rows["WAYLINK_ELEPHANT"]["fault"] == "unknown, and ignored"
    assert CANARY not in str(rows)

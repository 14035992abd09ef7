"""Refresh tables that were written down are read again as the same policies."""

import pytest
from pydantic import ValidationError

from app.config.refresh_entries import MOST_TABLES
from app.config.refresh_tables import RefreshTables, policies_of, tables_of, written
from app.config.waylink_toml import ConfigFile

FILE = {
    "refresh": {
        "*": {"margin": "10m", "margin_floor": "5m", "margin_share": 0.2, "warn_before": "14d", "priority": "low"},
        "crm": {"enabled": False, "force_every": "12h", "keep_alive_share": 0.4, "keep_alive_cap": "3d"},
    },
    "refresh_providers": {"salesforce": {"access_life": "2h", "refresh_life": "90d", "idle_limit": "14d"}},
    "environments": {
        "staging": {
            "api_key_env": "STAGING_KEY",
            "refresh": {"crm": {"windows": ["22:00-06:00"], "blackouts": ["sun 00:00-24:00"], "time_zone": "UTC"}},
        },
        "prod": {"api_key_env": "PROD_KEY"},
    },
}


def test_tables_are_written_down_and_read_again_as_the_same():
    tables = tables_of(ConfigFile.model_validate(FILE))
    again = RefreshTables.model_validate(written(tables))
    assert again == tables
    assert policies_of(again).parts == policies_of(tables).parts
    assert len(policies_of(tables).parts) == 4
    assert set(tables.environments) == {"staging"}


def test_what_is_written_down_has_nothing_but_refresh_tables():
    assert "KEY" not in str(written(tables_of(ConfigFile.model_validate(FILE))))


def test_a_file_may_have_a_table_for_each_of_ten_thousand_integrations():
    many = {"refresh": {f"crm-{number}": {"margin": "10m"} for number in range(10_000)}}
    tables = tables_of(ConfigFile.model_validate(many))
    assert len(policies_of(RefreshTables.model_validate(written(tables))).parts) == 10_000


def test_more_tables_than_can_be_meant_are_refused_as_the_file_is_read():
    too_many = {"refresh": {str(number): {} for number in range(MOST_TABLES + 1)}}
    for which in (too_many, {"environments": {"prod": too_many}}):
        with pytest.raises(ValidationError, match="at most 20000 items"):
            ConfigFile.model_validate(which)

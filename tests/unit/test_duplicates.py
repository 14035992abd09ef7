from uuid import UUID

import pytest

from app.config.waylink_toml import ConfigFile
from app.domain.linking import DuplicatesPolicy, newest
from app.services.policy import Policy

ONE, TWO = UUID(int=1), UUID(int=2)


def test_nangos_greatest_id_is_the_newest_whatever_ours_say():
    assert newest({ONE: 7, TWO: 9}) == TWO
    assert newest({TWO: 7, ONE: 9}) == ONE
    assert newest({ONE: 7}) == ONE
    assert newest({}) is None


def test_the_policy_is_said_by_integration_and_keep_if_nothing_is():
    read = ConfigFile.model_validate({"duplicates": {"slack": "supersede"}}).duplicates
    policy = Policy({}, duplicates=read)
    assert (policy.supersedes("slack"), policy.supersedes("github")) == (True, False)
    everywhere = Policy({}, duplicates={"*": DuplicatesPolicy.SUPERSEDE, "slack": DuplicatesPolicy.KEEP})
    assert (everywhere.supersedes("slack"), everywhere.supersedes("github")) == (False, True)


def test_an_unknown_policy_is_refused():
    with pytest.raises(ValueError, match=r"duplicates\.slack"):
        ConfigFile.model_validate({"duplicates": {"slack": "delete"}})

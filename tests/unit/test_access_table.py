"""The table of rights has each endpoint and each page, with the rights that are checked."""

from itertools import combinations

from app.domain.definitions import wrong_name
from app.services.operators.accounts import NAME
from app.web import access_table
from app.web.access_table import Needs
from app.web.api.registry import ENDPOINTS
from app.web.console.registry import PAGES


def test_the_table_has_each_endpoint_of_the_api_with_its_scope():
    declared = {f"{each.method} {each.path}": Needs(each.scope, each.teams) for each in ENDPOINTS}
    assert dict(access_table.API) == declared, "add it to app/web/access_table.py"


def test_the_table_has_each_page():
    assert access_table.PAGES.keys() == PAGES.keys(), "add it to app/web/access_table.py"


NAMES = ("{team}", "{destination}", "{route}", "{name}", "{environment}")  # of any form that names may have


def test_no_page_is_hidden_behind_a_name():
    operations = [*access_table.PAGES, *(f"{name.replace(' ', ' /api/v1')}" for name in access_table.API)]
    split = [(name.partition(" ")[0], name.partition(" ")[2].split("/")) for name in operations]
    for (method, one), (other_method, other) in combinations(split, 2):
        if method != other_method or len(one) != len(other):
            continue
        pairs = [pair for pair in zip(one, other, strict=True) if pair[0] != pair[1]]
        assert not all(map(may_be_one, pairs)), f"{'/'.join(one)} and {'/'.join(other)} may be one path"


def may_be_one(parts: tuple[str, str]) -> bool:
    """Whether two parts of paths, of which one is a word, may be the same: where something may have that name."""
    [word, *more] = sorted(parts, key=lambda part: "{" in part)
    if "{" in word:
        return True
    return more[0] in NAMES and (NAME.fullmatch(word) is not None or wrong_name(word) is None)

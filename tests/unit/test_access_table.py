"""The table of rights has each endpoint and each page, with the rights that are checked."""

from app.web import access_table
from app.web.access_table import Needs
from app.web.api.registry import ENDPOINTS
from app.web.console.registry import PAGES


def test_the_table_has_each_endpoint_of_the_api_with_its_scope():
    declared = {f"{each.method} {each.path}": Needs(each.scope, each.teams) for each in ENDPOINTS}
    assert dict(access_table.API) == declared, "add it to app/web/access_table.py"


def test_the_table_has_each_page():
    assert access_table.PAGES.keys() == PAGES.keys(), "add it to app/web/access_table.py"

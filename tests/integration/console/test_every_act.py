"""Every act of the console is done by its form, without a script, and seen in the database.

The acts are the operations of the access table that change something. Each has a function in an `acts_on_…` module,
which opens the page that has the form, fills it in, submits it, and reads what was stored.
"""

import pytest

from app.clock import utc_now
from app.db.routes import RouteDefinition
from app.sealing import new_key
from app.services.definitions import config_sync
from app.services.definitions.config_plan import DestinationDefinition
from app.web.access_table import PAGES
from tests.integration.console import acts_on_accounts, acts_on_definitions, acts_on_rows
from tests.integration.console.acting import ACTS, Acting, operation_of
from tests.integration.console.forms import forms_of
from tests.integration.console.pages import open_console
from tests.integration.sandbox.sandbox_server import API_KEY, SIGNING_KEY

MODULES = (acts_on_rows, acts_on_definitions, acts_on_accounts)
CONFIG = '[duplicates]\n"*" = "supersede"\n'
ROUTE = RouteDefinition("created", "crm", "jobs", "crm.created", {"type": ["connection.created"]})


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def console(request, tmp_path_factory, valkey, _sandbox):
    folder, url = tmp_path_factory.mktemp("acts"), None
    valkey.start()
    if request.param == "postgresql":
        postgres = request.getfixturevalue("postgres")
        postgres.start()
        url = postgres.create_database()
    variables = {
        "WAYLINK_NANGO_API_KEY": API_KEY,
        "WAYLINK_NANGO_SIGNING_KEYS": SIGNING_KEY,
        "WAYLINK_NANGO_BASE_URL": str(_sandbox.base_url).rstrip("/"),
        "WAYLINK_SECRET_KEY": new_key(),
        "WAYLINK_ALLOWED_DESTINATION_RANGES": "127.0.0.0/8",
    }
    with open_console(
        database_url=url or f"sqlite:///{folder}/waylink.db",
        broker_url=valkey.url(0),
        folder=folder,
        config=CONFIG,
        **variables,
    ) as opened:
        places = {("crm", "jobs"): DestinationDefinition("celery", "team.crm.jobs")}
        with opened.database.write() as session:
            config_sync.apply_file(session, destinations=places, routes=[ROUTE], now=utc_now())
        yield opened
    if url is not None:
        postgres.drop_database(url)


def test_every_act_of_the_console_is_among_them():
    assert ACTS.keys() == {operation for operation in PAGES if not operation.startswith("GET ")}
    assert {function.__module__ for function in ACTS.values()} == {module.__name__ for module in MODULES}


@pytest.mark.parametrize("operation", sorted(ACTS))
def test_every_act_is_done_by_its_form_and_seen_in_the_database(console, nango, operation):
    acting = Acting(console, nango)
    ACTS[operation](acting)
    assert operation in acting.done, "the form was submitted, and the answer was the one for success"
    assert operation in acting.looked, "the database was read afterwards"


def test_a_form_is_submitted_as_a_browser_does_it():
    [form] = forms_of(
        """<form method="get"><input name="no"></form><form method="post">
        <input type="hidden" name="expected" value="3"><input name="reason" required>
        <input type="checkbox" name="force" value="true"><input type="checkbox" name="old" value="yes" checked>
        <select name="role"><option>viewer</option><option selected>team</option></select>
        <select name="how"><option value="a">As it is</option><option value="b">Anew</option></select>
        <textarea name="tags">\na=b\nc</textarea><button name="keys" value="off">Off</button></form>""",
        "/console/x",
    )
    assert form.action == "/console/x"
    sent = {"expected": "3", "reason": "r", "old": "yes", "role": "team", "how": "a", "tags": "a=b\nc"}
    assert form.filled({"reason": "r"}) == sent
    assert form.filled({"reason": "r", "force": "true", "role": "viewer", "keys": "off"}) == sent | {
        "force": "true",
        "role": "viewer",
        "keys": "off",
    }
    for typed in ({}, {"reason": "r", "absent": "x"}, {"reason": "r", "role": "owner"}):
        with pytest.raises(AssertionError):
            form.filled(typed)
    assert operation_of("/console/jobs/act") == "POST /console/jobs/act"
    assert operation_of("/console/jobs/job_1/retry") == "POST /console/jobs/{job_id}/retry"

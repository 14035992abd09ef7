"""Acts on many connections in the console: counted first, then a run, without a script; the sandbox is Nango."""

import pytest

from app.clock import utc_now
from app.runtime.wiring import policy_of
from app.services.bulk_runs.connection_acts import ConnectionActs
from app.services.bulk_runs.runner import BulkRunner
from app.services.nango_clients import NangoClients
from app.services.routing.cache import RouteCache
from tests.integration.console.test_connection_pages import audited, con, console, shown
from tests.integration.console.test_connection_pages import work as process
from tests.integration.sandbox.sandbox_server import fetch
from tests.waiting import PATIENCE

__all__ = ["con", "console"]
ACT = "/console/connections/act"


def work(console):
    """Carry out the runs, as a worker does."""
    settings = console.api.web.settings
    clients = NangoClients(settings.environments)
    acts = ConnectionActs(console.database, policy_of(settings), clients, RouteCache(), utc_now)
    BulkRunner(console.database, utc_now, RouteCache(), lambda _: None, lambda _: None, acts).work(seconds=PATIENCE)
    clients.close()
    process(console)


def confirm(console, preview, **more):
    fields = {name: value for name, value in preview.fields.items() if value and name != "reason"}
    return console.follow(console.post(ACT, reason="the customer left", **{**fields, **more}))


def test_connections_that_are_ticked_are_deleted_with_their_count_in_words(console, nango, con, connection_id):
    listed = console.get("/console/connections")
    assert f'value="{con}" form="selection"' in listed.html
    assert {"Delete…", "Refresh…", "Unlink…"} <= set(listed.buttons)
    preview = console.get(f"{ACT}?selection=yes&id={con}&act=delete")
    assert "1 connection will be deleted at Nango and closed here: this cannot be undone." in preview.text
    assert "Delete 1 connection" in preview.buttons
    assert fetch(nango, connection_id, "oauth2").status_code == 200, "nothing is done before"
    run = confirm(console, preview)
    assert "0 of 1 connection looked at" in run.text
    work(console)
    assert fetch(nango, connection_id, "oauth2").status_code == 404
    assert shown(console, con)["status"] == "deleted"
    entries = audited(console, "connection.deleted")
    assert [(actor, detail["reason"]) for actor, _, detail in entries] == [
        ("operator:operator", "the customer left")
    ] * 2


def test_all_that_match_are_tagged_after_the_tag_was_named(console, nango, con, connection_id):
    listed = console.get("/console/connections", connection_id=connection_id)
    asked = console.get(listed.links["Set a tag…"])
    assert "Fill in what is to be done" in asked.text
    assert "expected" not in asked.fields
    preview = console.get(ACT, act="add_tag", connection_id=connection_id, tag_key="plan", tag_value="pro")
    assert "1 connection will get the tag at Nango" in preview.text
    confirm(console, preview)
    work(console)
    assert fetch(nango, connection_id, "oauth2").json()["tags"]["plan"] == "pro"
    removal = console.get(ACT, act="remove_tag", tag="plan=pro", tag_key="plan")
    confirm(console, removal)
    work(console)
    assert "plan" not in fetch(nango, connection_id, "oauth2").json()["tags"]


def test_a_link_is_closed_at_once_and_a_renewal_by_a_worker(console, con):
    confirm(console, console.get(f"{ACT}?selection=yes&id={con}&act=refresh"))
    work(console)
    assert [row["requested_by"] for row in shown(console, con)["refreshes"] if row["forced"]] == ["operator:operator"]
    run = confirm(console, console.get(ACT, act="unlink", user="usr_1042"))
    assert "1 of 1 connection looked at: 1 done" in run.text
    assert shown(console, con)["user"] is None


def test_acts_on_connections_are_for_those_who_may(console, con):
    assert 'name="id"' not in console.get("/console/connections", who="viewer").html
    console.get(ACT, who="viewer", status=403, act="delete")
    console.get(ACT, who="team", status=403, act="delete")
    fields = {"act": "delete", "ids": con, "expected": "1", "reason": "mine"}
    console.post(ACT, who="viewer", status=403, **fields)
    console.post(ACT, who="team", status=403, **fields)
    assert console.api.json("/bulk-runs")["data"] == []


@pytest.mark.parametrize(
    ("query", "status", "told"),
    [
        ("act=delete&integration=nothing", 200, "No connection matches."),
        ("act=delete&selection=yes", 422, "Nothing is selected"),
        ("act=delete&selection=yes&id=con_1", 422, "con_"),
        ("act=delete&tag=plan", 422, "key=value"),
        ("act=forget", 400, "cannot be read"),
        ("act=add_tag&tag_key=%20bad%21&tag_value=x", 422, "tag"),
    ],
)
def test_what_cannot_be_done_is_told_and_nothing_is_begun(console, query, status, told):
    page = console.get(f"{ACT}?{query}", status=status)
    assert told in page.text
    assert "expected" not in page.fields


def test_all_that_a_search_finds_are_taken_with_its_words_resolved(console, con, connection_id):
    """A word that is a name means what has this name, also once nothing has it any more."""
    listed = console.get("/console/connections", q="usr_1042")
    assert con in listed.html
    preview = console.get(listed.links["Unlink…"])
    assert "1 connection will lose their owner here" in preview.text
    confirm(console, preview)
    [run] = console.api.json("/bulk-runs")["data"]
    assert run["filter"] == {"q": "name:usr_1042"}
    assert shown(console, con)["user"] is None
    assert "No connection matches" in console.get("/console/connections", q="user:usr_1042").text
    assert con in console.get("/console/connections", q=connection_id[1:-1]).html, "a part of its id"
    refused = console.get("/console/connections", status=422, q="type:connection.created")
    assert "character 1: there is no such field" in refused.text
    refused = console.get(ACT, status=422, act="delete", q="usr:x")
    assert "did you mean" in refused.text
    assert "expected" not in refused.fields

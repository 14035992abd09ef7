"""Saved views above the lists, their pages and acts, and the completion of the search without a script."""

import pytest

from app.clock import utc_now
from app.ids import new_id
from tests.integration.status.rows import add, an_event

ADD = "/console/views/-/add"


@pytest.fixture
def name(console):
    """A name that no other test has: the installation is one for all of them."""
    return f"Failed {new_id().hex[-8:]}"


def view_of(console, name, who="operator"):
    [found] = [view for view in console.api.json("/views", who="operator")["data"] if view["name"] == name]
    return found


def test_filters_are_saved_as_a_view_and_found_above_the_list(console, name):
    listed = console.get("/console/events", state="failed", q="origin:webhook since:7d", limit="5")
    form = console.get(listed.links["Save as a view…"])
    assert form.fields["query"] == "state=failed&q=origin%3Awebhook+since%3A7d"
    saved = console.post(ADD, page="events", name=name, query=form.fields["query"])
    page = console.follow(saved)
    assert "The view is saved." in page.text
    here = console.get("/console/events", q="origin:webhook since:7d", state="failed")
    assert "Save as a view…" not in here.links
    path = console.get("/console/events").links[name]
    assert path == "/console/events?state=failed&q=origin%3Awebhook+since%3A7d"
    assert console.get(path).fields["q"] == "origin:webhook since:7d"
    assert name not in console.get("/console/jobs").links
    for other in ("viewer", "team"):
        assert name not in console.get("/console/events", who=other).links


def test_a_shared_view_is_seen_by_all_of_no_team_and_changed_by_operators(console, name):
    console.post(ADD, page="jobs", name=name, query="state=discarded", shared="true")
    assert f"{name} shared" in console.get("/console/jobs", who="viewer").links
    assert f"{name} shared" not in console.get("/console/jobs", who="team").links
    shown = console.get(console.get("/console/views", who="viewer").links[name], who="viewer")
    assert shown.links["Open"] == "/console/jobs?state=discarded"
    assert "Change…" not in shown.links
    own = console.get("/console/views").links[name]
    console.get(own, who="team", status=404)
    change = console.get(console.get(own).links["Change…"])
    assert (change.fields["name"], change.fields["query"]) == (name, "state=discarded")
    console.follow(console.post(f"{own}/change", name=f"{name} x", query="state=cancelled"))
    assert f"{name} x shared" not in console.get("/console/jobs", who="viewer").links
    assert console.get("/console/jobs").links[f"{name} x"] == "/console/jobs?state=cancelled"
    console.get(own, who="viewer", status=404)
    assert "The view is removed." in console.follow(console.post(f"{own}/remove")).text
    console.get(own, status=404)


def test_what_cannot_be_saved_is_told_at_its_field(console, name):
    page = console.post(ADD, status=422, page="events", name=name, query="state=done")
    assert page.attributes["query"]["aria-invalid"] == "true"
    assert (page.fields["name"], page.fields["query"]) == (name, "state=done")
    assert "shared" not in console.get(ADD, who="viewer").fields
    console.post(ADD, who="viewer", status=403, page="events", name=name, query="state=failed", shared="true")


def test_the_search_is_completed_without_a_script(console):
    tag = f"plan-{new_id().hex[-8:]}"
    add(console.database, *(an_event(utc_now(), type="token.expiring", tags={"plan": tag}) for _ in range(30)))
    page = console.get("/console/events")
    assert f'<option value="tag.plan:{tag}">' in page.html
    assert page.attributes["q"]["list"] == "q-choices"
    narrowed = console.get(page.links["type:token.expiring"])
    assert narrowed.fields["q"] == "type:token.expiring"
    assert f'<option value="type:token.expiring tag.plan:{tag}">' in narrowed.html
    assert "type:token.expiring type:" not in narrowed.html

"""The pages of connections: the list, one of them, and each act, without a script; the sandbox is Nango."""

import pytest

from app.clock import utc_now
from app.db.models import Connection
from app.ids import new_id
from app.runtime.wiring import policy_of
from app.services.events.processor import Processor
from app.services.nango_clients import NangoClients
from app.web.console.marks import COLOURS, domain_of, mark_of
from app.web.console.rendering import link
from tests.integration.console.pages import open_console
from tests.integration.sandbox.sandbox_server import API_KEY, SIGNING_KEY, fetch, register
from tests.integration.world import DANA, TOKEN, auth

PERSON = {**DANA, "end_user_display_name": "Dana <Diaz>", "end_user_email": "dana@acme.example"}


@pytest.fixture(params=["sqlite", "postgresql"])
def console(request, broker_url, tmp_path, base_url):
    sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/waylink.db" if sqlite else request.getfixturevalue("postgres_url")
    keys = {
        "WAYLINK_NANGO_API_KEY": API_KEY,
        "WAYLINK_NANGO_SIGNING_KEYS": SIGNING_KEY,
        "WAYLINK_NANGO_BASE_URL": base_url,
    }
    with open_console(database_url=url, broker_url=broker_url, folder=tmp_path, **keys) as opened:
        yield opened


def work(console):
    """Process the stored events, as a worker does."""
    settings = console.api.web.settings
    clients = NangoClients(settings.environments)
    Processor(console.database, policy_of(settings), clients, utc_now).process()
    clients.close()


@pytest.fixture
def con(console, nango, connection_id):
    """Our id of a linked connection."""
    register(nango, connection_id, "oauth2", tags=PERSON)
    body = auth(connection_id=connection_id, tags=PERSON)
    assert console.api.web.post(body, key=SIGNING_KEY).status_code == 202
    work(console)
    [row] = console.api.json(f"/connections?connection_id={connection_id}")["data"]
    return row["id"]


def shown(console, con):
    return console.api.json(f"/connections/{con}")


def audited(console, action):
    return [
        (row["actor"], row["subject"], row["detail"]) for row in console.api.json(f"/audit?action={action}")["data"]
    ]


def test_the_list_has_people_by_their_names_and_marks_of_their_domains(console, con, connection_id):
    page = console.get("/console/connections", who="viewer")
    assert page.links["Dana <Diaz>"] == f"/console/connections/{con}"
    assert "dana@acme.example" in page.text
    assert 'aria-label="acme.example"' in page.html
    assert "usr_1042 of org_77" in page.text
    assert "Dana <Diaz>" not in page.html, "names are escaped"
    for query, found in (
        ({"tag": "end_user_id=usr_1042"}, True),
        ({"tag": "END_USER_ID = usr_1042"}, True),
        ({"tag": "plan=pro"}, False),
        ({"connection_id": connection_id, "status": "active"}, True),
        ({"unlinked": "true"}, False),
        ({"duplicates": "true"}, False),
        ({"user": "usr_1042", "organization": "org_77"}, True),
        ({"user": "usr_1042", "expires_before": "1h"}, False),
    ):
        assert ("Dana <Diaz>" in console.get(link("/console/connections", **query)).links) is found, query
    wrong = console.get("/console/connections", status=422, tag="plan", user="usr_1042")
    assert "write it as key=value" in wrong.text
    assert (wrong.fields["tag"], wrong.fields["user"]) == ("plan", "usr_1042")
    soon = console.get("/console/connections", status=422, grant_before="soon")
    assert soon.fields["grant_before"] == "soon"


def test_a_page_tells_why_a_connection_is_linked_or_not(console, con):
    page = console.get(f"/console/connections/{con}", who="viewer")
    assert "Why it is linked It is linked to the user usr_1042 of the organization org_77 , by end_user_id" in page.text
    for told in ("Token lapses", "Next renewal", "Refreshes", "Links", "end_user_display_name"):
        assert told in page.text
    assert not {"Refresh now", "Delete", "Unlink", "Change all"} & page.links.keys(), "a viewer changes nothing"
    assert "Audit" not in page.text
    assert TOKEN.findall(page.html) == []
    now = utc_now()
    stranger = new_id()
    with console.database.write() as session:
        session.add(
            Connection(
                id=stranger,
                environment="default",
                integration="slack",
                connection_id="lone",
                status="unconfirmed",
                tags={},
                tags_disagree=False,
                absences=0,
                created_at=now,
                updated_at=now,
            )
        )
    page = console.get(f"/console/connections/con_{stranger.hex}")
    assert "Why it is not linked No auth event of it is stored" in page.text
    assert "waylink reconcile" in page.text


def test_a_link_is_closed_with_a_reason_and_decided_anew(console, con):
    path = f"/console/connections/{con}"
    asked = console.get(console.get(path).links["Unlink"])
    assert "Dana <Diaz>" in asked.text
    page = console.post(f"{path}/unlink", status=422, reason=" ")
    assert "is missing" in page.text
    assert shown(console, con)["user"] == "usr_1042"
    page = console.follow(console.post(f"{path}/unlink", reason="they asked"))
    assert "The link is closed." in page.text
    assert (shown(console, con)["user"], shown(console, con)["unlinked_reason"]) == (None, "by_operator")
    assert audited(console, "connection.unlinked") == [("operator:operator", con, {"reason": "they asked"})]
    assert "they asked" in page.text
    again = console.post(f"{path}/unlink", status=409, reason="twice")
    assert "has no link to close" in again.text
    console.follow(console.post(f"{path}/relink"))
    assert shown(console, con)["user"] == "usr_1042"


def test_tags_are_set_added_removed_and_put_back_at_nango(console, con, nango, connection_id):
    path = f"/console/connections/{con}"

    def at_nango():
        return fetch(nango, connection_id, "oauth2").json()["tags"]

    console.post(f"{path}/tags/add", key="Plan", value="pro")
    assert at_nango() == {**PERSON, "plan": "pro"}
    console.post(f"{path}/tags/remove", key="plan")
    assert at_nango() == PERSON
    work(console)
    assert console.get(f"{path}/tags").html.count("end_user_id=usr_1042") == 1
    page = console.post(f"{path}/tags", status=422, tags="plan=pro\nnonsense")
    assert "line 2: the tag has no =" in page.text
    assert "nonsense" in page.html
    page = console.post(f"{path}/tags", status=422, tags="1x=y")
    assert "1x" in page.html
    console.follow(console.post(f"{path}/tags", tags="plan=free\n\nnote = a=b "))
    assert at_nango() == {"plan": "free", "note": "a=b"}
    work(console)
    page = console.get(path)
    assert "Drift." in page.text
    console.post(f"{path}/tags/restore")
    assert at_nango() == {**PERSON, "plan": "free", "note": "a=b"}


def test_credentials_are_renewed_and_never_shown(console, con):
    page = console.follow(console.post(f"/console/connections/{con}/refresh", force="true"))
    assert "Nango has renewed the credentials" in page.text
    assert "renewed" in page.text
    assert TOKEN.findall(page.html) == []
    console.post(f"/console/connections/{con}/refresh")
    done = audited(console, "connection.refreshed")
    assert [(actor, detail["forced"]) for actor, _, detail in done] == [
        ("operator:operator", False),
        ("operator:operator", True),
    ], "the box was ticked at first"


def test_metadata_is_replaced_at_nango(console, con, nango, connection_id):
    path = f"/console/connections/{con}/metadata"
    for wrong, told in (("{", "is not JSON"), ("[1]", "is not a JSON object"), ('{"a":' * 5_000, "is not JSON")):
        page = console.post(path, status=422, metadata=wrong)
        assert told in page.text
    console.post(path, metadata='{"folder": "inbox"}')
    assert fetch(nango, connection_id, "oauth2").json()["metadata"] == {"folder": "inbox"}
    assert "inbox" in console.get(path).html


def test_a_reconnect_link_is_shown_once(console, con):
    page = console.post(f"/console/connections/{con}/reconnect", status=200)
    assert "Shown once." in page.text
    assert page.html.count('value="http') == 1
    assert page.answer.headers["cache-control"] == "no-store"
    assert "end_user_id" in page.html
    [(_, _, detail)] = audited(console, "session.recreated")
    assert set(detail) == {"keys"}


def test_a_connection_is_deleted_at_nango_after_a_preview_and_with_a_reason(console, con, nango, connection_id):
    path = f"/console/connections/{con}"
    asked = console.get(console.get(path).links["Delete"])
    assert "Delete 1 connection, at Nango too" in asked.buttons
    console.post(f"{path}/delete", status=422)
    assert fetch(nango, connection_id, "oauth2").status_code == 200
    console.post(f"{path}/delete", reason="closed account")
    assert fetch(nango, connection_id, "oauth2").status_code == 404
    work(console)
    assert shown(console, con)["status"] == "deleted"
    [(actor, _, detail)] = audited(console, "connection.deleted")
    assert (actor, detail["reason"]) == ("operator:operator", "closed account")
    page = console.get(path)
    assert "Nango no longer has the connection" in page.text
    assert not {"Refresh now", "Unlink", "Change all"} & page.links.keys()


def test_viewers_and_teams_are_refused_the_acts(console, con):
    for name in ("unlink", "delete", "refresh", "tags", "metadata", "reconnect"):
        console.get(f"/console/connections/{con}/{name}", who="viewer", status=403)
        console.post(f"/console/connections/{con}/{name}", who="viewer", status=403, reason="x")
    console.get("/console/connections", who="team", status=403)
    assert shown(console, con)["status"] == "active"
    console.get("/console/connections/nonsense", status=404)


def test_marks_have_the_letter_of_the_domain_and_one_of_a_few_colours():
    assert domain_of("a@Acme.Example") == "acme.example"
    assert [domain_of(text) for text in (None, "", "nobody", "x@")] == [None] * 4
    mark = str(mark_of("dana@<b>.example"))
    assert "<b>" not in mark
    assert ">B<" in mark
    hues = {str(mark_of(f"x@d{n}.example")).partition("hue")[2][0] for n in range(200)}
    assert hues == set(map(str, range(COLOURS)))
    assert "<text" not in str(mark_of(None))

"""The pages of connections in a real Chromium, used without JavaScript on each screen."""

import pytest

from app.clock import utc_now
from app.db.models import Connection, Link, Organization, User
from app.domain.states import ConnectionStatus
from app.ids import CONNECTION, new_id, show
from tests.browser.conftest import Installation
from tests.browser.test_console import follow, sign_in
from tests.browser.visitor import Visitor


def connection(**given) -> Connection:
    now = utc_now()
    known = {
        "id": new_id(),
        "environment": "default",
        "integration": "google-mail",
        "provider": "google-mail",
        "auth_mode": "OAUTH2",
        "status": ConnectionStatus.ACTIVE,
        "tags": {},
        "tags_disagree": False,
        "absences": 0,
        "created_at": now,
        "updated_at": now,
    }
    return Connection(**known | given)


@pytest.fixture
def con(installed: Installation, operator) -> str:
    """A linked connection, and some beside it that are not. Our id of the first."""
    name, now = operator[0], utc_now()
    user, organization = f"usr-{name}", f"org-{name}"
    tags = {
        "end_user_id": user,
        "organization_id": organization,
        "end_user_display_name": "Dana Diaz",
        "end_user_email": "dana@acme.example",
        "plan": "enterprise",
    }
    person = User(id=new_id(), external_id=user, email="dana@acme.example", display_name="Dana Diaz", created_at=now)
    company = Organization(id=new_id(), external_id=organization, name="Acme", created_at=now)
    linked = connection(connection_id=f"c-{name}", tags=tags, wanted_user=user, wanted_organization=organization)
    link = Link(
        id=new_id(),
        connection_ref=linked.id,
        user_id=person.id,
        organization_id=company.id,
        linked_by="end_user_id",
        opened_at=now,
    )
    others = [
        connection(
            connection_id=f"lee-{name}",
            tags={"end_user_email": "lee@globex.example"},
            wanted_email="lee@globex.example",
            unlinked_reason="unknown_email",
        ),
        connection(
            connection_id=f"none-{name}",
            integration="slack",
            status=ConnectionStatus.NEEDS_RECONNECT,
            unlinked_reason="no_owner_tags",
            last_error_type="refresh_token_expired",
            last_error_at=now,
        ),
    ]
    with installed.database.write() as session:
        session.add_all([person, company, *others, linked])
        session.flush()
        session.add(link)
    return show(CONNECTION, linked.id)


def test_a_connection_is_found_explained_unlinked_and_linked_again(visit: Visitor, installed, operator, con):
    sign_in(visit, operator)
    visit.opens("Connections")
    visit.sees("Connections", "connections")
    visit.page.get_by_text("Filter", exact=True).click()
    visit.page.locator("#tag").fill(f"end_user_id=usr-{operator[0]}")
    visit.press("Show")
    visit.sees("Connections", "connections-found")
    follow(visit, "Dana Diaz")
    visit.sees("Dana Diaz", "connection")
    assert "It is linked to the user" in visit.page.locator("main").inner_text()

    follow(visit, "Unlink")
    visit.sees("Unlink the connection", "connection-unlink")
    visit.fill(reason="the customer asked for it")
    visit.press("Close the link")
    visit.sees("Dana Diaz", "connection-unlinked")
    assert visit.page.get_by_role("status").inner_text() == "Done. The link is closed."
    assert visit.page.get_by_role("heading", name="Why it is not linked").is_visible()
    explained = installed.run("connections", "show", con, "--json")
    assert '"unlinked_reason": "by_operator"' in explained

    follow(visit, "Link it again")
    visit.sees("Link it again", "connection-relink")
    visit.press("Decide the owner anew")
    visit.sees("Dana Diaz")
    assert f'"user": "usr-{operator[0]}"' in installed.run("connections", "show", con, "--json")


def test_an_act_that_cannot_be_done_says_why_and_keeps_what_was_typed(visit: Visitor, installed, operator, con):
    sign_in(visit, operator)
    for name, heading in (("tags/add", "Add or change a tag"), ("tags", "Change the tags")):
        visit.go(f"/console/connections/{con}/{name}")
        visit.sees(heading, f"connection-{name.replace('/', '-')}")
    visit.page.locator("#tags").fill("plan")
    visit.press("Set the tags")
    visit.sees("Change the tags", "connection-tags-wrong")
    assert "line 1: the tag has no =" in visit.page.locator("main").inner_text()
    assert visit.page.locator("#tags").input_value() == "plan"
    visit.go(f"/console/connections/{con}/delete")
    visit.sees("Delete the connection", "connection-delete")
    visit.fill(reason="closed account")
    visit.press("Delete 1 connection, at Nango too")
    assert "has no API key" in visit.page.get_by_role("alert").inner_text()
    assert visit.page.locator("#reason").input_value() == "closed account"
    assert '"status": "active"' in installed.run("connections", "show", con, "--json")


def test_the_reason_why_a_connection_is_not_linked_is_three_clicks_away(visit: Visitor, operator, con):
    sign_in(visit, operator)
    visit.opens("Connections")
    follow(visit, "Without an owner here")
    visit.sees("Connections", "connections-unlinked")
    visit.page.get_by_role("link", name="lee@globex.example").first.click()
    visit.page.wait_for_load_state("networkidle")
    visit.sees("lee@globex.example", "connection-not-linked")
    told = visit.page.locator("main").inner_text()
    assert "name a user by the e-mail" in told
    assert "waylink users add" in told

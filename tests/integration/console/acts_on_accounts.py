"""Each act of the console on people, operators, tokens, views, renewals and comparisons, done by its form."""

from app.db.models import (
    ApiToken,
    Operator,
    OperatorLink,
    OperatorSession,
    Organization,
    Reconciliation,
    RefreshPause,
    SavedView,
    User,
)
from app.ids import OPERATOR, VIEW, show
from tests.integration.console.acting import Acting, does
from tests.integration.operators import visitors

# People


@does("POST /console/organizations/add")
def add_organization(acting: Acting) -> None:
    name = acting.name()
    acting.act("/console/organizations/add", external_id=name, name="Acme")
    assert acting.one(Organization.name, external_id=name) == "Acme"


@does("POST /console/organizations/{organization_id}/change")
def change_organization(acting: Acting) -> None:
    name = acting.name()
    made = acting.make("/organizations", external_id=name, name="Acme")
    acting.act(f"/console/organizations/{made['id']}/change", name="Acme and sons")
    assert acting.one(Organization.name, external_id=name) == "Acme and sons"


@does("POST /console/organizations/{organization_id}/remove")
def remove_organization(acting: Acting) -> None:
    made = acting.make("/organizations", external_id=acting.name())
    acting.act(f"/console/organizations/{made['id']}/remove")
    assert acting.rows(Organization.external_id, id=acting.id_of(made["id"])) == []


@does("POST /console/users/add")
def add_user(acting: Acting) -> None:
    name = acting.name()
    acting.act("/console/users/add", external_id=name, email=f"{name}@acme.example", display_name="Dana")
    assert acting.one(User.email, User.display_name, external_id=name) == (f"{name}@acme.example", "Dana")


@does("POST /console/users/{user_id}/change")
def change_user(acting: Acting) -> None:
    name = acting.name()
    made = acting.make("/users", external_id=name, email=f"{name}@acme.example")
    acting.act(f"/console/users/{made['id']}/change", display_name="Dana", email="")
    assert acting.one(User.email, User.display_name, external_id=name) == (None, "Dana")


@does("POST /console/users/{user_id}/remove")
def remove_user(acting: Acting) -> None:
    made = acting.make("/users", external_id=acting.name())
    acting.act(f"/console/users/{made['id']}/remove", force="true")
    assert acting.rows(User.external_id, id=acting.id_of(made["id"])) == []


# Operators, their tokens, views and own accounts


def another(acting: Acting) -> tuple[str, str]:
    """Another operator: the name, and the path of the page."""
    name = acting.name()
    visitors.add(acting.console.database, name)
    return name, f"/console/operators/{show(OPERATOR, acting.one(Operator.id, name=name))}"


@does("POST /console/operators/-/add")
def add_operator(acting: Acting) -> None:
    name = acting.name()
    acting.act("/console/operators/-/add", name=name, role="team", team="crm")
    assert acting.one(Operator.role, Operator.team, Operator.credentials, name=name) == ("team", "crm", False)


@does("POST /console/operators/{name}/role")
def change_role(acting: Acting) -> None:
    name, path = another(acting)
    acting.act(f"{path}/role", role="viewer")
    assert acting.one(Operator.role, name=name) == "viewer"


@does("POST /console/operators/{name}/link")
def make_operator_link(acting: Acting) -> None:
    with acting.person() as (name, _):
        who = acting.one(Operator.id, name=name)
        assert acting.rows(OperatorLink.hash, operator_id=who) == []
        acting.act(f"/console/operators/{show(OPERATOR, who)}/link", status=200)
        assert len(acting.rows(OperatorLink.hash, operator_id=who)) == 1


@does("POST /console/operators/{name}/disable")
def disable_operator(acting: Acting) -> None:
    name, path = another(acting)
    acting.act(f"{path}/disable")
    assert acting.one(Operator.disabled_at, name=name) is not None


@does("POST /console/operators/{name}/enable")
def enable_operator(acting: Acting) -> None:
    name, path = another(acting)
    acting.act(f"{path}/disable")
    acting.act(f"{path}/enable")
    assert acting.one(Operator.disabled_at, name=name) is None


@does("POST /console/operators/{name}/remove")
def remove_operator(acting: Acting) -> None:
    name, path = another(acting)
    acting.act(f"{path}/remove")
    assert acting.rows(Operator.id, name=name) == []


@does("POST /console/operators/{name}/sign-out")
def sign_operator_out(acting: Acting) -> None:
    with acting.person() as (name, browser):
        who = acting.one(Operator.id, name=name)
        acting.act(f"/console/operators/{show(OPERATOR, who)}/sign-out")
        assert acting.rows(OperatorSession.id, operator_id=who) == []
        assert not visitors.is_signed_in(browser)


@does("POST /console/welcome/{secret}")
def set_password(acting: Acting) -> None:
    name = acting.name()
    link = visitors.add(acting.console.database, name)
    with visitors.browser(acting.console.api.web) as browser:
        acting.act(link, browser=browser, password=visitors.PASSWORD, repeated=visitors.PASSWORD)
    assert acting.one(Operator.password_hash, name=name).startswith("$argon2id$")


@does("POST /console/sign-in")
def sign_in(acting: Acting) -> None:
    with acting.person() as (name, _), visitors.browser(acting.console.api.web) as browser:
        acting.act("/console/sign-in", browser=browser, name=name, password=visitors.PASSWORD)
        methods = acting.rows(OperatorSession.method, operator_id=acting.one(Operator.id, name=name))
        assert sorted(methods) == ["link", "password"]


@does("POST /console/sign-out")
def sign_out(acting: Acting) -> None:
    with acting.person() as (name, browser):
        acting.act("/console/account", "/console/sign-out", browser=browser, status=200)
        assert acting.rows(OperatorSession.id, operator_id=acting.one(Operator.id, name=name)) == []


@does("POST /console/account/sessions")
def end_other_sessions(acting: Acting) -> None:
    with acting.person() as (name, browser), visitors.browser(acting.console.api.web) as other:
        assert visitors.sign_in(other, name).status_code == 303
        acting.act("/console/account", "/console/account/sessions", browser=browser)
        assert acting.rows(OperatorSession.method, operator_id=acting.one(Operator.id, name=name)) == ["link"]


@does("POST /console/account/password")
def change_password(acting: Acting) -> None:
    with acting.person() as (name, browser):
        before = acting.one(Operator.password_hash, name=name)
        new = {"password": "another long password", "repeated": "another long password"}
        acting.act("/console/account", "/console/account/password", browser=browser, present=visitors.PASSWORD, **new)
        assert acting.one(Operator.password_hash, name=name) != before


@does("POST /console/preferences")
def choose_preferences(acting: Acting) -> None:
    with acting.person() as (name, browser):
        before = acting.rows(OperatorSession.id, operator_id=acting.one(Operator.id, name=name))
        acting.act("/console/keys", "/console/preferences", browser=browser, keys="off")
        acting.act("/console/jobs", "/console/preferences", browser=browser, every="60")
        assert {"waylink-keys": "off", "waylink-every": "60"}.items() <= dict(browser.cookies).items()
        after = acting.rows(OperatorSession.id, operator_id=acting.one(Operator.id, name=name))
        assert after == before, "they are the browser's, and kept in its cookies alone"


@does("POST /console/tokens/-/add")
def make_token(acting: Acting) -> None:
    name = acting.name()
    acting.act("/console/tokens/-/add", status=200, name=name, scope_viewer="true", expires_in="7d")
    assert acting.one(ApiToken.scopes, ApiToken.team, name=name) == (["viewer"], None)


@does("POST /console/tokens/{token}/revoke")
def revoke_token(acting: Acting) -> None:
    name = acting.name()
    made = acting.make("/tokens", name=name, scopes=["viewer"])
    acting.act(f"/console/tokens/{made['id']}/revoke")
    assert acting.one(ApiToken.revoked_at, name=name) is not None


@does("POST /console/views/-/add")
def add_view(acting: Acting) -> None:
    name = acting.name()
    acting.act("/console/views/-/add", page="jobs", name=name, query="state=discarded", shared="true")
    stored = acting.one(SavedView.page, SavedView.query, SavedView.shared, SavedView.actor, name=name)
    assert stored[:3] == ("jobs", "state=discarded", True)
    assert stored[3].startswith("operator:")


def a_view(acting: Acting) -> str:
    """The page of a view of the operator's own."""
    name = acting.name()
    acting.act("/console/views/-/add", page="jobs", name=name, query="state=discarded")
    return f"/console/views/{show(VIEW, acting.one(SavedView.id, name=name))}"


@does("POST /console/views/{view_id}/change")
def change_view(acting: Acting) -> None:
    path, name = a_view(acting), acting.name()
    acting.act(f"{path}/change", name=name, query="state=cancelled")
    assert acting.one(SavedView.query, name=name) == "state=cancelled"


@does("POST /console/views/{view_id}/remove")
def remove_view(acting: Acting) -> None:
    path = a_view(acting)
    acting.act(f"{path}/remove")
    assert acting.rows(SavedView.id, id=acting.id_of(path.rpartition("/")[2])) == []


# Refreshes and comparisons


@does("POST /console/refreshes/pauses/add")
def pause_refreshes(acting: Acting) -> None:
    acting.connection()
    acting.act("/console/refreshes/pauses/add", integration="oauth2", reason="an outage")
    stored = acting.one(RefreshPause.cause, RefreshPause.actor, RefreshPause.reason, integration="oauth2")
    assert stored == ("operator", "operator:operator", "an outage")
    assert acting.console.api("DELETE", "/refreshes/pauses/default/oauth2").status_code == 200


@does("POST /console/refreshes/pauses/{environment}/{integration:path}/resume")
def resume_refreshes(acting: Acting) -> None:
    acting.connection()
    acting.make("/refreshes/pauses", integration="oauth2", environment="default")
    acting.act("/console/refreshes/pauses/default/oauth2/resume")
    assert acting.rows(RefreshPause.cause, integration="oauth2") == []


@does("POST /console/reconciliations/add")
def ask_for_comparison(acting: Acting) -> None:
    acting.act("/console/reconciliations/add", dry_run="true")
    asked = acting.one(Reconciliation.environment, Reconciliation.trigger, Reconciliation.dry_run)
    assert asked == ("default", "demand", True)

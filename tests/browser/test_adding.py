"""Tokens, destinations, saved views and bulk runs in a real Chromium: added and changed, with and without a script."""

import httpx
from sqlalchemy import select

from app.db.models import ApiToken, BulkRun, Destination, SavedView
from app.ids import BULK_RUN, JOB, parse, show
from tests.browser.conftest import Installation
from tests.browser.test_console import follow, rows, said, sign_in
from tests.browser.visitor import Visitor
from tests.integration.status.rows import add_bulk_run
from tests.waiting import PATIENCE

__all__ = ["rows"]


def one(installed: Installation, *columns, **where):
    """Of the one row with these values, the columns."""
    with installed.database.read() as session:
        return session.execute(select(*columns).filter_by(**where)).one()


def test_a_token_is_made_works_and_ends(visit: Visitor, installed: Installation, operator):
    name = f"t-{operator[0]}"
    sign_in(visit, operator)
    visit.opens("Tokens")
    visit.sees("API tokens", "tokens")
    follow(visit, "Make a token")
    visit.sees("Make a token", "token-add")
    visit.fill(name=name, expires_in="soon")
    visit.page.get_by_label("Reads everything but credentials of connections").check()
    visit.press("Make the token")
    visit.sees("Make a token", "token-add-wrong")
    assert "expected a duration" in visit.page.locator("#expires_in-problem").inner_text()
    assert visit.page.get_by_label("Reads everything but credentials of connections").is_checked()
    visit.fill(expires_in="7d")
    visit.press("Make the token")
    visit.sees("Make a token", "token-made")
    headers = {"authorization": f"Bearer {visit.page.locator('#value1').input_value()}"}
    with httpx.Client(base_url=installed.origin, headers=headers, trust_env=False, timeout=PATIENCE) as program:
        assert program.get("/api/v1/teams").status_code == 200
        assert one(installed, ApiToken.scopes, name=name) == (["viewer"],)
        follow(visit, "Back")
        follow(visit, name)
        visit.sees(name, "token")
        follow(visit, "Revoke")
        visit.sees("Revoke the token", "token-revoke")
        visit.press("Revoke 1 token")
        assert said(visit) == "Done. The token has ended."
        assert program.get("/api/v1/teams").status_code == 401
    assert one(installed, ApiToken.revoked_at, name=name) != (None,)


def test_destinations_of_both_kinds_are_added_and_a_secret_rotated(visit: Visitor, installed: Installation, operator):
    team = operator[0].replace(".", "-")
    installed.run("teams", "add", team)
    sign_in(visit, operator)
    visit.opens("Destinations")
    follow(visit, "Add a Celery queue")
    visit.sees("Add a Celery queue", "destination-add-celery")
    visit.fill(team=team, name="jobs", queue="elsewhere")
    visit.press("Add the destination")
    visit.sees("Add a Celery queue", "destination-add-celery-wrong")
    visit.fill(queue=f"team.{team}.jobs")
    visit.press("Add the destination")
    assert said(visit).startswith("Done. The destination is there")
    assert one(installed, Destination.queue, team=team, name="jobs") == (f"team.{team}.jobs",)
    follow(visit, "Add an HTTP endpoint")
    visit.sees("Add an HTTP endpoint", "destination-add-http")
    visit.fill(team=team, name="hook", url="https://93.184.216.34/hook", rate_per_second="2")
    visit.press("Add the destination")
    visit.sees("Add an HTTP endpoint", "destination-added")
    secrets = [visit.page.locator("#value1").input_value()]
    visit.go(f"/console/destinations/{team}/hook")
    visit.sees(f"{team}/hook", "destination-http")
    follow(visit, "Rotate the secret")
    visit.sees("Rotate the signing secret", "destination-rotate")
    visit.press("Make a new secret")
    secrets.append(visit.page.locator("#value1").input_value())
    assert [secret[:6] for secret in secrets] == ["whsec_", "whsec_"]
    assert secrets[0] != secrets[1]
    kept = one(installed, Destination.kind, Destination.rate_per_second, team=team, name="hook")
    assert kept == ("http", 2.0)


def test_filters_are_saved_as_a_view_opened_changed_and_removed(visit: Visitor, installed: Installation, operator):
    name = f"Gone {operator[0]}"
    sign_in(visit, operator)
    visit.go("/console/jobs?state=discarded")
    follow(visit, "Save as a view…")
    visit.sees("Save a view", "view-add")
    visit.fill(name=name)
    visit.press("Save the view")
    visit.go("/console/jobs")
    follow(visit, name)
    assert visit.page.url.endswith("/console/jobs?state=discarded")
    assert one(installed, SavedView.query, SavedView.shared, name=name) == ("state=discarded", False)
    follow(visit, "Saved views")
    visit.sees("Saved views", "views")
    follow(visit, name)
    visit.sees(name, "view")
    follow(visit, "Remove…")
    visit.press("Remove 1 view")
    with installed.database.read() as session:
        assert session.scalar(select(SavedView.id).filter_by(name=name)) is None


def test_a_bulk_run_is_paused_resumed_and_cancelled(visit: Visitor, installed: Installation, operator, rows):
    run = add_bulk_run(installed.database, parse(JOB, rows["job"]))
    sign_in(visit, operator)
    visit.opens("Bulk runs")
    visit.sees("Bulk runs", "bulk-runs")
    visit.go(f"/console/bulk-runs/{show(BULK_RUN, run)}")
    for button, state in (("Pause", "paused"), ("Resume", "waiting"), ("Cancel", "cancelled")):
        visit.press(button)
        visit.sees("jobs: retry", f"bulk-run-{state}")
        assert one(installed, BulkRun.state, id=run) == (state,)
